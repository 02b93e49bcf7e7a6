"""Runs per second of what a simulated run is summed up to: windows, gaps, energy, answers, each on one core."""

from __future__ import annotations

import tempfile
from array import array
from pathlib import Path

import numpy as np

from _timing import measure, report
from ridgeline.core.seeding import stream
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.machine import machine_of
from ridgeline.plans import Plan
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.energy import attributed
from ridgeline.serving.record.gaps import gaps_of
from ridgeline.serving.record.perfetto import write_trace
from ridgeline.serving.record.played import Lane, Played, run_ends_s, runs_of
from ridgeline.serving.record.power_table import sample_power
from ridgeline.serving.record.run_statistics import RunStatistics
from ridgeline.serving.record.series import windows_of
from ridgeline.serving.runtime import runtime
from ridgeline.serving.stepper import Stepper
from ridgeline.workloads.catalogue import model

RUNS = 1_000_000
PER_REQUEST = 1.3
"""Runs per request, as near saturation."""


def lane_of(count: int) -> Lane:
    draw = stream(0, "runs")
    u, v = draw.uniform(0.01, 0.03, count), draw.uniform(0.0, 1e-5, count)
    k, n = draw.integers(1, 40, count).astype(float), draw.integers(1, 200, count).astype(float)
    lasting = k * u + v * k * (k - 1) / 2
    start = np.concatenate([[0.0], np.cumsum(lasting)])[:-1]
    tokens = draw.integers(0, 2, count) * 512.0
    columns = (start, u, v, k, n, n * 1000.0, tokens, tokens > 0, draw.uniform(0, 9000, count))
    runs = runs_of(array("d", np.array(columns, dtype=np.float64).T.tobytes()))
    end = float(run_ends_s(runs)[-1])
    return Lane(
        pool="serving", replica=0, runs=runs, alive_s=((0.0, end),), blocks=1e4, block_tokens=16, slots=256, chips=8.0,
        busy_s=float(lasting.sum()),
    )  # fmt: skip


def played_of(lane: Lane, requests: int) -> Played:
    draw, end = stream(0, "requests"), lane.alive_s[0][1]
    arrival = np.sort(draw.uniform(0, end * 0.99, requests))
    starts = lane.runs["start_s"]
    places = np.minimum(np.searchsorted(starts, arrival) + 1, starts.size - 1)
    ends = np.minimum(places + draw.integers(2, 60, requests), starts.size - 1)
    ints = np.ones(requests, np.int64)
    return Played(
        arrival_s=np.minimum(arrival, starts[places]), admitted_s=starts[places], first_s=starts[places],
        last_s=starts[ends], prompt_tokens=512 * ints, output_tokens=200 * ints, found_tokens=0 * ints,
        preemptions=np.zeros(requests, np.int32), end=np.zeros(requests, np.int8), lane=np.zeros(requests, np.int32),
        lanes=(lane,), end_s=end,
    )  # fmt: skip


def main() -> None:
    lane = lane_of(RUNS)
    played = played_of(lane, int(RUNS / PER_REQUEST))
    machines = MachineColumns((machine_of(chip("h100-sxm"), 8),))
    stepper = Stepper(
        model=model("meta-llama/Llama-3.1-70B"), plan=Plan(tp=8), machines=machines, runtime=runtime("vllm"),
        setting=Setting(runtime="vllm", sustained=True, fused=True),
    )  # fmt: skip
    power = sample_power(stepper, low=100, high=4000, tokens=2048)
    powers = {"serving": power}

    def streamed() -> None:
        RunStatistics(window_s=played.end_s / 500).add(lane.runs, blocks=lane.blocks, block_tokens=16, power_w=1.0)

    gaps = gaps_of(lane.runs, played.first_s)
    calls = {
        "sampling a table of power": (lambda: sample_power(stepper, low=100, high=4000, tokens=2048), 1),
        "streaming: windows and histogram of gaps": (streamed, RUNS),
        "power of runs": (lambda: power.power_w(lane.runs), RUNS),
        "exact quantiles of gaps (4 levels)": (lambda: gaps.quantiles((0.5, 0.9, 0.95, 0.99)), RUNS),
        "series over 500 windows, with power": (
            lambda: windows_of(played, width_s=played.end_s / 500, powers=powers),
            RUNS,
        ),
        "whose energy it is": (lambda: attributed(played, powers), RUNS),
        "all answers, with energy": (lambda: answers(played, powers=powers), RUNS),
    }
    for name, (call, count) in calls.items():
        report(name, measure(call, repeats=3), count=count, unit="runs")
    with tempfile.TemporaryDirectory() as folder:
        report(
            "a trace of 100,000 runs",
            measure(lambda: write_trace(played, Path(folder) / "t.json", powers=powers), repeats=1, warm_up=0),
            count=100_000,
            unit="runs",
        )


if __name__ == "__main__":
    main()
