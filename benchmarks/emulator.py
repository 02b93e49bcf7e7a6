"""The emulated endpoint under many streams at once, and its clients' times beside the simulation's.

    python benchmarks/emulator.py [--streams 300] [--seconds 20] [--workers 1] [--rate 4]

Prints tokens per second, errors, and how late tokens were, as the emulator itself measures it. The deployment emits
some 25 tokens per second and stream, so that 300 streams are 7,500 tokens per second. Then random arrivals at a
moderate rate: what clients saw, and what the simulation of the same arrivals gives. Which iteration a request meets
depends on fractions of a millisecond, so the simulation is repeated with arrivals moved within one, and its spread is
printed too. Client and server share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import ridgeline as rl
from ridgeline.workloads.traffic import Traffic

DEPLOYMENT = ("--model", "meta-llama/Llama-3.1-70B", "--on", "4x h100-sxm", "--tp", "4")
PROMPT_TOKENS = 64


def main() -> None:
    """Start an emulator, load it, ask it how it did; then again at a moderate rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4.0)
    asked = parser.parse_args()
    with emulated(asked.workers) as (server, url):
        tokens, errors, took_s = asyncio.run(load(url, asked.streams, asked.seconds))
        page = urllib.request.urlopen(f"{url}/metrics").read().decode()
        cpu_s = _cpu_s(server.pid)
    late = {name: float(re.search(rf"^ridgeline:{name}\{{.*\}} (\S+)$", page, re.MULTILINE)[1]) for name in LATE}
    print(f"{asked.streams} streams for {took_s:.0f} s: {tokens / took_s:,.0f} tokens/s, {errors} errors")
    print(f"{tokens / took_s / asked.streams:.1f} tokens/s and stream; a process took {cpu_s / took_s:.2f} of a core")
    print(f"late: p50 {late['lateness_p50_seconds'] * 1e3:.2f} ms, p99 {late['lateness_p99_seconds'] * 1e3:.2f} ms")
    print(f"p99 over the time between tokens: {late['lateness_p99_over_tpot']:.1%} (a run is valid up to 5 %)")
    with emulated(1) as (_, url):
        agreement(url, asked.rate, asked.seconds)
    if errors:
        sys.exit(1)


@contextmanager
def emulated(workers: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An emulator, and its address."""
    flags = [*DEPLOYMENT, "--port", "0", "--workers", str(workers), "--replicas", str(workers)]
    command = [sys.executable, "-c", "from ridgeline.apps.cli import main; main()", "emulate", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield server, re.search(r"http://\S+?(?=/v1)", server.stderr.readline()).group()
        finally:
            server.send_signal(signal.SIGINT)


def agreement(url: str, rate: float, seconds: float) -> None:
    """Clients of random arrivals beside the simulation of the same."""
    rng, count = np.random.default_rng(5), max(int(rate * seconds), 2)
    arrivals = np.cumsum(rng.exponential(1.0 / rate, count))
    prompts = np.clip(rng.lognormal(np.log(800), 0.6, count), 50, 4000).astype(int)
    outputs = np.clip(rng.lognormal(np.log(150), 0.5, count), 20, 600).astype(int)
    sent, first, last = np.array(asyncio.run(clients(url, arrivals, prompts, outputs))).T
    seen = _statistics(first - sent, (last - first) / (outputs - 1))
    found = []
    for _ in range(SIMULATIONS):
        moved = sent - sent.min() + rng.uniform(0.0, ITERATION_S, count)
        order = np.argsort(moved)
        case = {"model": DEPLOYMENT[1], "on": DEPLOYMENT[3], "tp": int(DEPLOYMENT[5])}
        run = rl.simulate(trace=Traffic.of(moved[order], prompts[order], outputs[order]), **case).played
        between_s = (run.last_s - run.first_s) / (outputs[order] - 1)
        found.append(_statistics(run.first_s - run.arrival_s, between_s))
    middle, spread = np.mean(found, axis=0), np.std(found, axis=0)
    print(f"{count} requests at {rate:g}/s; over {SIMULATIONS} simulations with arrivals moved within an iteration:")
    for name, client, mean, deviation in zip(STATISTICS, seen, middle, spread, strict=True):
        told = f"clients {client * 1e3:7.1f} ms, simulated {mean * 1e3:7.1f} ms"
        print(f"{name}: {told} ({client / mean - 1:+.1%}; spread of simulations {deviation / mean:.1%})")


def _statistics(ttft_s: np.ndarray, tpot_s: np.ndarray) -> list[float]:
    return [float(np.quantile(column, level)) for column in (ttft_s, tpot_s) for level in (0.5, 0.99)]


STATISTICS = ("TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99")
SIMULATIONS, ITERATION_S = 20, 0.02
LATE = ("lateness_p50_seconds", "lateness_p99_seconds", "lateness_p99_over_tpot")


def _cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(url: str, streams: int, seconds: float) -> tuple[int, int, float]:
    """(tokens, errors, seconds) of so many streams at once, each a new request when its last has ended."""
    host, port = url.removeprefix("http://").split(":")
    started = time.perf_counter()
    counts = await asyncio.gather(*(stream(host, int(port), i, started + seconds) for i in range(streams)))
    return sum(c for c, _ in counts), sum(e for _, e in counts), time.perf_counter() - started


async def clients(url: str, arrivals: np.ndarray, prompts: np.ndarray, outputs: np.ndarray) -> list[tuple[float, ...]]:
    """(when the request was sent, when its first token came, and its last) of each."""
    host, port = url.removeprefix("http://").split(":")
    start = time.perf_counter() + 0.5

    async def one(i: int) -> tuple[float, ...]:
        body = {"prompt": [i] * int(prompts[i]), "max_tokens": int(outputs[i]), "stream": True}
        data = json.dumps(body).encode()
        await asyncio.sleep(start + arrivals[i] - time.perf_counter() - 0.01)
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
        await asyncio.sleep(start + arrivals[i] - time.perf_counter())
        sent = time.perf_counter()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        await reader.readuntil(b'"text"')
        first = time.perf_counter()
        await reader.readuntil(b"[DONE]")
        writer.close()
        return sent, first, time.perf_counter()

    return list(await asyncio.gather(*(one(i) for i in range(len(arrivals)))))


async def stream(host: str, port: int, number: int, until: float) -> tuple[int, int]:
    """(tokens, errors) of one client."""
    tokens = errors = 0
    await asyncio.sleep(0.005 * number)
    reader, writer = await asyncio.open_connection(host, port)
    while (left := until - time.perf_counter()) > 0:
        body = {"prompt": [number] * PROMPT_TOKENS, "max_tokens": max(min(int(left * 25), 2000), 1), "stream": True}
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        errors += b" 200 " not in await reader.readline()
        while True:
            piece = await reader.read(65536)
            tokens += piece.count(b'"text"')
            if b"[DONE]" in piece:
                if not piece.endswith(b"0\r\n\r\n"):
                    await reader.readuntil(b"0\r\n\r\n")
                break
            if not piece:
                errors += 1
                return tokens, errors
    writer.close()
    return tokens, errors


if __name__ == "__main__":
    main()
