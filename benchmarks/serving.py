"""Requests per second that the serving simulator plays, in Python and compiled, beside an eager engine.

`python benchmarks/serving.py`. The eager engine is the reference of the tests: it advances token by token, on the same
step times, so that the ratio is what skipping and counting save. Lengths are drawn from lognormal laws fitted to the
Azure conversation trace of 2023, arrivals are Poisson; load is the share of the rate at which one replica is full.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from _timing import Timing, measure, report
from ridgeline.api.tables.tasks import predict_table
from ridgeline.core.seeding import stream
from ridgeline.serving.compiled.play import installed
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.fleet.playing import play
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.routers import PowerOfChoices
from ridgeline.workloads.traffic import Traffic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.serving.reference import simulate

# With the rates that one core of a shared machine should give; a quiet one is about twice as fast.
PYTHON_GOAL, COMPILED_GOAL = 40_000.0, 500_000.0
FLEET_PYTHON_GOAL, FLEET_COMPILED_GOAL = 30_000.0, 300_000.0
COLD_GOAL = 5_000.0

EAGER_REQUESTS, LANES, FLEET_REQUESTS, COLD_REQUESTS = 2_000, 100, 1_000_000, 8_800
FULL_REQUESTS_PER_S = 18.0
"""Of one replica with these step times and rules, all requests at once."""

RULES = Rules(slots=256, token_budget=2048.0, cache_tokens=82_000.0 * 16, block_tokens=16)
# Constants as of a 70 B model on eight chips, not calibrated: what counts here is the shape, not the size.
TIMES = StepTimes(
    tokens=[1, 8192],
    body_s=[0.0, 30e-6 * 8191],
    sequences=[1, 256],
    decode_s=[20e-6, 20e-6 * 256],
    context_s=[15e-9, 15e-9],
    chunks=[1, 8192],
    extra_s=[1.5e-3, 1.5e-3],
    prefix_s=[15e-9, 15e-9],
    launch_s=1.5e-3,
    width=1.0,
    host_s=10.5e-3,
    host_sequence_s=0.0,
)

COLD = """
import ridgeline as rl
rl.simulate(model="meta-llama/Llama-3.1-70B", on="8x h100-sxm", tp=8, trace={trace!r})
"""


def traffic_of(count: int, rate_per_s: float) -> Traffic:
    draw = stream(0, "benchmark")
    prompts = np.clip(np.exp(draw.normal(6.633, 0.985, count)), 2, 14_050).astype(np.int64)
    outputs = np.clip(np.exp(draw.normal(5.019, 0.859, count)), 1, 1_000).astype(np.int64)
    return Traffic.of(np.cumsum(draw.exponential(1.0 / rate_per_s, count)), prompts, outputs)


def fleet_of(traffic: Traffic, lanes: int) -> Fleet:
    requests = Requests(prompts=traffic.prompt_tokens.data, outputs=traffic.output_tokens.data)
    log = Log(len(traffic))
    members = [Member(Engine(TIMES, RULES, requests, log), replica=i, chips=8.0) for i in range(lanes)]
    router = PowerOfChoices(Facts(prompt_tokens=(), output_tokens=()))
    return Fleet(traffic, requests, log, [Pool(name="serving", members=members, router=router)])


def play_through(traffic: Traffic, lanes: int, engine: str) -> None:
    play(fleet_of(traffic, lanes), engine=engine)


def eager(traffic: Traffic) -> None:
    columns = (traffic.prompt_tokens.tolist(), traffic.output_tokens.tolist(), traffic.arrival_s.tolist())
    simulate(TIMES, RULES, Requests(prompts=columns[0], outputs=columns[1], arrivals=columns[2]))


def ratio(slow: Timing, slow_count: int, fast: Timing, fast_count: int) -> None:
    """Print how much faster a request is in the second."""
    times = slow.median_s / slow_count / (fast.median_s / fast_count)
    print(f"{'':<44} {times:>23,.0f}x   (as fast as the eager reference)")


def one_replica() -> None:
    """Loads from idle to nearly full."""
    for load in (0.1, 0.3, 0.6, 0.9):
        few, some, many = (traffic_of(count, load * FULL_REQUESTS_PER_S) for count in (EAGER_REQUESTS, 10_000, 100_000))
        slow = measure(partial(eager, few), repeats=1, warm_up=0)
        report(f"one replica, load {load}: eager", slow, count=EAGER_REQUESTS, unit="requests")
        fast = measure(partial(play_through, some, 1, "python"), repeats=3)
        report(f"one replica, load {load}: Python", fast, count=10_000, unit="requests", goal_per_s=PYTHON_GOAL)
        ratio(slow, EAGER_REQUESTS, fast, 10_000)
        if installed():
            fast = measure(partial(play_through, many, 1, "compiled"), repeats=3)
            name = f"one replica, load {load}: compiled"
            report(name, fast, count=100_000, unit="requests", goal_per_s=COMPILED_GOAL)
            ratio(slow, EAGER_REQUESTS, fast, 100_000)


def fleets() -> None:
    """A hundred replicas behind a router that looks at two of them."""
    rate = 0.9 * FULL_REQUESTS_PER_S * LANES
    count = FLEET_REQUESTS // 10
    timing = measure(partial(play_through, traffic_of(count, rate), LANES, "python"), repeats=1, warm_up=0)
    name = f"{LANES} replicas, two choices"
    report(f"{name}: Python", timing, count=count, unit="requests", goal_per_s=FLEET_PYTHON_GOAL)
    if installed():
        timing = measure(partial(play_through, traffic_of(FLEET_REQUESTS, rate), LANES, "compiled"), repeats=2)
        report(f"{name}: compiled", timing, count=FLEET_REQUESTS, unit="requests", goal_per_s=FLEET_COMPILED_GOAL)


def cold_process() -> None:
    """From the shell and back: imports, a trace read, simulated and summed up."""
    traffic, names = traffic_of(COLD_REQUESTS, 5.0), ("arrival_s", "prompt_tokens", "output_tokens")
    columns = zip(*(getattr(traffic, name).tolist() for name in names), strict=True)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        lines = [",".join(names), *(f"{a:.6f},{p},{o}" for a, p, o in columns)]
        trace.write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-c", COLD.format(trace=str(trace))]
        timing = measure(lambda: subprocess.run(command, check=True), repeats=2)
    report("a cold process, trace to answers", timing, count=COLD_REQUESTS, unit="requests", goal_per_s=COLD_GOAL)


def closed_loops() -> None:
    """A closed loop of prompts near 1024 and outputs near 256 tokens, as load generators send them."""
    rules = Rules(slots=256, token_budget=8192.0, lag=1.0)
    for name, low, clients in (("varied lengths", 0.8, 64), ("equal lengths", 1.0, 64), ("eight clients", 0.8, 8)):
        few, many = _closed(400, clients, low), _closed(4000, clients, low)
        slow = measure(partial(simulate, TIMES, rules, few), repeats=1, warm_up=0)
        fast = measure(_alone(rules, many), repeats=3)
        report(f"engine alone, {name}", fast, count=4000, unit="requests", goal_per_s=PYTHON_GOAL)
        ratio(slow, 400, fast, 4000)


def _closed(count: int, clients: int, low: float) -> Requests:
    draw = stream(0, "benchmark")
    prompts = draw.integers(int(1024 * low), 1025, count).tolist()
    outputs = draw.integers(int(256 * low), 257, count).tolist()
    return Requests(prompts=prompts, outputs=outputs, clients=clients)


def _alone(rules: Rules, requests: Requests) -> Callable[[], None]:
    return lambda: serve(Engine(TIMES, rules, requests, Log(len(requests.prompts))), requests)


def named_procedure() -> None:
    """Rows of a table, each a run of a load generator."""
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
    timing = measure(lambda: predict_table("serving", table), repeats=2)
    report("predict serving, named procedure", timing, count=rows, unit="rows")


def main() -> None:
    one_replica()
    fleets()
    if not installed():
        print("compiled: numba is not installed (pip install ridgeline[jit])")
    cold_process()
    closed_loops()
    named_procedure()


if __name__ == "__main__":
    main()
