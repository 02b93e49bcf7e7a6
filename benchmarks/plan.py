"""How long `ridgeline plan` takes from a cold process, and how many candidates it ranks per second on one core.

The question is that of the peers (`peers.py`): Qwen3-32B in fp8 on up to 32 H200, one pool and separate pools.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

from _timing import measure, report
from ridgeline.api.planning.plan import serving_intake
from ridgeline.api.planning.plan_question import asked_of
from ridgeline.search.planning import Predictor, find

COLD_GOAL_S, MILLION_GOAL_S = 2.0, 5.0
QUESTION = {"model": "Qwen/Qwen3-32B-FP8", "isl": 4000, "osl": 1000, "ttft": "1s", "tpot": "40ms"}
FLAGS = [word for name, value in QUESTION.items() for word in (f"--{name}", str(value))]


def cold() -> None:
    """A fresh process, from the interpreter's start to its end."""
    code = "from ridgeline.apps.cli import main; main()"
    command = [sys.executable, "-c", code, "plan", "--on", "32x h200-sxm", *FLAGS]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cold_cpu_s() -> float:
    """CPU seconds of a fresh process, which other processes of the machine stretch less than its wall time."""

    def used_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before_s = used_s()
    cold()
    return used_s() - before_s


def warm(on: str) -> tuple[int, float]:
    """(candidates, CPU seconds) of one search in this process."""
    question = asked_of({**QUESTION, "on": on}).question
    start = time.process_time()
    with np.errstate(all="ignore"):
        found = find(question, Predictor(intake=serving_intake))
    return found.seen, time.process_time() - start


def main() -> None:
    report("ridgeline plan, cold process", measure(cold, repeats=5), goal_s=COLD_GOAL_S)
    print(f"{'its CPU time':<44} {min(cold_cpu_s() for _ in range(3)) * 1e3:>21,.1f} ms")
    warm("8x h200-sxm")
    for on in ("8x h200-sxm", "32x h200-sxm", "64x h200-sxm", "64x h200-sxm, 64x h100-sxm"):
        seen, cpu_s = min((warm(on) for _ in range(3)), key=lambda one: one[1])
        goal = f" (goal: a million in < {MILLION_GOAL_S:g} s)" if seen >= 1e6 else ""
        print(f"{on:<44} {seen:>14,} candidates in {cpu_s:.2f} s of CPU: {seen / cpu_s:,.0f}/s{goal}")


if __name__ == "__main__":
    main()
