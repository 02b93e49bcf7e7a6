"""Requests per second of the serving engine, beside an eager engine that runs one iteration at a time.

`python benchmarks/serving.py`. Both serve the same requests on the same step times; the eager one is the reference of
the tests, so that the ratio is what skipping and counting save.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

from _timing import measure, report
from ridgeline.api.tasks import predict_table
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.serving.reference import simulate

GOAL_REQUESTS_PER_S = 40_000.0
# Constants of a large model on eight chips: what counts here is the shape, not the size.
TIMES = StepTimes(
    tokens=[1, 64, 256, 1024, 8192],
    body_s=[8e-3, 9e-3, 13e-3, 33e-3, 250e-3],
    sequences=[1, 64, 256],
    decode_s=[9e-3, 10e-3, 15e-3],
    context_s=[15e-9, 15e-9, 15e-9],
    chunks=[16, 512, 8192],
    extra_s=[1e-4, 1e-3, 30e-3],
    prefix_s=[1e-8, 1e-7, 1e-6],
    launch_s=1e-4,
    width=1.0,
    host_s=5e-4,
    host_sequence_s=1e-5,
)


def requests_of(count: int, clients: int, low: float) -> Requests:
    """A closed loop of prompts near 1024 and outputs near 256 tokens."""
    draw = stream(0, "benchmark")
    prompts = draw.integers(int(1024 * low), 1025, count).tolist()
    outputs = draw.integers(int(256 * low), 257, count).tolist()
    return Requests(prompts=prompts, outputs=outputs, clients=clients)


def run(rules: Rules, requests: Requests) -> None:
    """Serve them all."""
    serve(Engine(TIMES, rules, requests, Log(len(requests.prompts))), requests)


def main() -> None:
    rules = Rules(slots=256, token_budget=8192.0, lag=1.0)
    for name, low, clients in (("varied lengths", 0.8, 64), ("equal lengths", 1.0, 64), ("eight clients", 0.8, 8)):
        few, many = requests_of(400, clients, low), requests_of(4000, clients, low)
        slow = measure(partial(simulate, TIMES, rules, few), repeats=3)
        report(f"eager reference, {name}", slow, count=400, unit="requests")
        fast = measure(partial(run, rules, many), repeats=3)
        report(f"engine, {name}", fast, count=4000, unit="requests", goal_per_s=GOAL_REQUESTS_PER_S)
        print(f"{'':<44} {slow.median_s * 10 / fast.median_s:>23,.0f}x the eager reference per request")
    rows = 400
    draw = stream(0, "rows")
    table = {
        "model": np.array(["meta-llama/Llama-3.1-70B"] * rows, object),
        "chip": np.array(["h100-sxm"] * rows, object),
        "tp": np.full(rows, 8.0),
        "isl": draw.integers(500, 4000, rows).astype(float),
        "osl": draw.integers(50, 1000, rows).astype(float),
        "concurrency": draw.integers(1, 128, rows).astype(float),
        "procedure": np.array(["inferencemax"] * rows, object),
    }
    report(
        "predict serving, named procedure",
        measure(lambda: predict_table("serving", table), repeats=2),
        count=rows,
        unit="rows",
    )


if __name__ == "__main__":
    main()
