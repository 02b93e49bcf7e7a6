"""The question of `plan.py` asked of other planners, each in an environment of its own, beside ours.

    python benchmarks/peers.py --aiconfigurator PEER/bin/python --genz PEER/bin/python

A peer is named by the interpreter of the environment that it is installed in; without one it is left out. Printed are
wall and CPU time of a fresh process, configurations evaluated (as the peer counts them), and the answer, as rows of
docs/peers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

MODEL, CHIPS, ISL, OSL, TTFT_MS, TPOT_MS = "Qwen/Qwen3-32B-FP8", 32, 4000, 1000, 1000, 40

# GenZ prices one prefill or decode step; the loop over cuts and batches, and the limits, are ours. It has no Qwen3: the
# shapes of Qwen2.5-32B are the nearest. H200 from its datasheet, at an efficiency of 1, as GenZ assumes by itself.
GENZ = """
import json, time
from GenZ.LLM_inference import decode_moddeling, prefill_moddeling
chip = {"Flops": 989, "Memory_size": 141, "Memory_BW": 4800, "ICN": 450, "real_values": True}
common = {"model": "Qwen/Qwen2.5-32B", "system_name": chip, "bits": "int8"}
start, count, best = time.perf_counter(), 0, {}
for tp in (1, 2, 4, 8):
    hierarchy = f"TP{{{tp}}}_EP{{1}}_PP{{1}}"
    cut = {**common, "tensor_parallel": tp, "parallelism_heirarchy": hierarchy}
    prefill = float(prefill_moddeling(batch_size=1, input_tokens=ISL, **cut)["Latency"])
    count += 1
    for batch in (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256):
        try:
            told = decode_moddeling(batch_size=batch, input_tokens=ISL, output_tokens=OSL, Bb=1, **cut)
            step = float(told["Latency"])
        except Exception:  # it does not fit
            continue
        count += 1
        rate = batch / (step * (OSL - 1) + batch * prefill) * 1e3
        if prefill <= TTFT and step <= TPOT and rate * OSL / tp > best.get("per_chip", 0.0):
            best = {"per_chip": rate * OSL / tp, "ttft_ms": prefill, "tpot_ms": step, "plan": f"tp{tp} batch {batch}"}
print(json.dumps({"count": count, "own_s": time.perf_counter() - start, **best}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished process: what it printed, and its times in seconds."""

    output: str
    wall_s: float
    cpu_s: float


def run(command: list[str]) -> Run:
    """A command to its end, on one thread."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(output=done.stdout + done.stderr, wall_s=time.perf_counter() - start, cpu_s=cpu_s)


def row(name: str, ran: Run, count: int, answer: str) -> str:
    """One row of the table of docs/peers.md."""
    rate = f"{count / ran.cpu_s:,.0f}"
    return f"| {name} | {ran.wall_s:.1f} s | {ran.cpu_s:.1f} s | {count:,} | {rate} | {answer} |"


def ours(runtime: str) -> str:
    code = "from ridgeline.apps.cli import main; main()"
    load = ["--isl", str(ISL), "--osl", str(OSL), "--ttft", f"{TTFT_MS}ms", "--tpot", f"{TPOT_MS}ms", "--json"]
    runtimes = ["--runtime", runtime] if runtime else []
    words = ["plan", "--model", MODEL, "--on", f"{CHIPS}x h200-sxm", *load, *runtimes]
    ran = run([sys.executable, "-c", code, *words])
    told = json.JSONDecoder().raw_decode(ran.output)[0]
    best = told["winner"]["results"]
    answer = (
        f"{told['winner']['deployment']}: {best['output_tokens_per_s_per_chip']:,.0f} tokens/s/chip, TTFT "
        f"{best['ttft_s'] * 1e3:.0f} ms, TPOT {best['tpot_s'] * 1e3:.1f} ms, "
        f"{best['cost_usd_per_1m_output_tokens']:.2f} USD/1M, {best['energy_j_per_output_token']:.2f} J/token"
    )
    return row(f"ridgeline, {runtime or 'all runtimes'}", ran, told["search"]["candidates"], answer)


def aiconfigurator(python: str) -> str:
    load = ["--isl", str(ISL), "--osl", str(OSL), "--ttft", str(TTFT_MS), "--tpot", str(TPOT_MS)]
    where = ["--system", "h200_sxm", "--total-gpus", str(CHIPS), "--backend", "vllm", "--no-color"]
    code = "from aiconfigurator.main import main; import sys; sys.exit(main())"
    ran = run([python, "-c", code, "cli", "default", "--model-path", MODEL, *where, *load])
    count = sum(int(found) for found in re.findall(r"completed with (\d+) results", ran.output))
    chosen = re.search(r"Best Experiment Chosen: (\w+)", ran.output)
    values = [_number(ran.output, name) for name in ("Per-GPU Throughput", "TTFT", "TPOT")]
    answer = f"{chosen[1] if chosen else '?'}: {values[0]} tokens/s/chip, TTFT {values[1]} ms, TPOT {values[2]} ms"
    return row("aiconfigurator, vllm", ran, count, answer)


def genz(python: str) -> str:
    asked = f"ISL, OSL, TTFT, TPOT = {ISL}, {OSL}, {TTFT_MS}, {TPOT_MS}\n"
    ran = run([python, "-c", asked + GENZ])
    told = json.loads(ran.output[ran.output.index('{"count"') :].splitlines()[0])
    answer = (
        f"{told['plan']}: {told['per_chip']:,.0f} tokens/s/chip, TTFT {told['ttft_ms']:.0f} ms, "
        f"TPOT {told['tpot_ms']:.1f} ms"
    )
    return row("genz-llm, our loop", ran, told["count"], answer)


def _number(text: str, name: str) -> str:
    found = re.search(rf"{name}: ([\d,.]+)", text)
    return found[1] if found else "?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aiconfigurator", metavar="PYTHON")
    parser.add_argument("--genz", metavar="PYTHON")
    given = parser.parse_args()
    print("| planner | wall | CPU | configurations | per CPU second | answer |\n|---|---|---|---|---|---|")
    print(ours("vllm"))
    print(ours(""))
    if given.aiconfigurator:
        print(aiconfigurator(given.aiconfigurator))
    if given.genz:
        print(genz(given.genz))


if __name__ == "__main__":
    main()
