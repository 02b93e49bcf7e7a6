"""POLCA: more servers in a row than its power could feed at once, because inference seldom asks for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ridgeline as rl
from ridgeline.api.impacts.row_demand import row_demand
from ridgeline.core.seeding import stream
from ridgeline.hardware import chip
from ridgeline.impact.row import RowRun, default_policy, play_row
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

WORKLOADS = {
    "summarise": ((2048, 8192), (256, 512)),
    "search": ((512, 2048), (1024, 2048)),
    "chat": ((2048, 4096), (128, 2048)),
}
"""Tokens of prompts and outputs, uniform between both ends."""
SHARES = {"summarise": 1, "search": 1, "chat": 2}
"""Of the servers; summaries have low priority, searches high, and every second chat."""
SERVER: dict[str, Any] = {"model": "bloom-176b", "runtime": "vllm", "tp": 8}
BOARD = "a100-80gb-sxm"
RUNS, SECONDS = 2, 240.0
MORE = "servers added to a row, %"
STEPS = np.arange(0.0, 0.61, 0.05)
Array = NDArray[np.float64]


def _rates(workload: str, **more: Any) -> Array:
    """Requests/s that a server can serve."""
    prompt, output = WORKLOADS[workload]
    lengths = {"isl": sum(prompt) / 2, "osl": sum(output) / 2}
    return sweep("serving", chip=BOARD, load="saturated", **lengths, **SERVER, **more)["request_per_s"]


@cache
def _demands(load: float) -> tuple[dict[str, Array], float, float]:
    """Power of servers of each workload at a share of what they could serve, (runs, seconds) W; idle and largest."""
    found: dict[str, Array] = {}
    idle = most = 0.0
    for name, (prompt, output) in WORKLOADS.items():
        case = {"on": f"8x {BOARD}", "prompt": f"uniform{prompt}", "output": f"uniform{output}", **SERVER}
        rate = f"poisson({float(_rates(name)[0]) * load}/s)"
        runs = [rl.simulate(arrivals=rate, duration_s=SECONDS, seed=seed, **case) for seed in range(RUNS)]
        found[name], idle, most = row_demand(runs)
    return found, idle, most


def _row(servers: int, load: float) -> tuple[Array, NDArray[np.bool_]]:
    """Demands and priorities: each server plays one of the runs from another second on."""
    demands, _, _ = _demands(load)
    draw = stream(1, "servers of a row")
    kinds = [name for name, count in SHARES.items() for _ in range(count)]
    rows = []
    for server in range(servers):
        run = demands[kinds[server % len(kinds)]][int(draw.integers(RUNS))][: int(SECONDS)]
        rows.append(np.roll(run, int(draw.integers(run.size))))
    return np.array(rows), np.isin(np.arange(servers) % len(kinds), (1, 2))


def _slower() -> Array:
    """Share of its speed that a server of the worst workload loses under the caps of low priority, and of high."""
    policy, most = default_policy(), chip(BOARD).tdp_w
    caps = most * np.array([1.0, policy.low_cap, policy.low_hard_cap, policy.high_cap])
    rates = np.array([_rates(name, power_cap_w=caps) for name in WORKLOADS])
    return np.asarray(np.max(1.0 - rates[:, 1:] / rates[:, :1], axis=0))


def _losses(run: RowRun, slower: Array) -> tuple[float, float]:
    """Mean share of its speed that each priority loses, (low, high): what each cap costs while it holds."""
    low, high = run.capped_frac
    return float((low - run.hard_frac) * slower[0] + run.hard_frac * slower[1]), float(high * slower[2])


def _keeps(run: RowRun, losses: tuple[float, float], assumed: Mapping[str, float]) -> bool:
    """The brake is never pulled, the breaker holds, and neither priority loses more speed than it may."""
    low, high = losses
    within = low <= assumed["low may lose"] and high <= assumed["high may lose"]
    return run.brakes == 0 and np.isnan(run.opened_s) and within


def run(assumed: Mapping[str, float]) -> Outcome:
    """Rows with 0 to 60 % more servers under the power that was planned for them."""
    planned = int(assumed["servers planned"])
    limit = planned * assumed["rated power"]
    _, idle, most = _demands(assumed["load"])
    kept, peaks, lost = [], [], []
    slower = _slower()
    for more in STEPS:
        demand, high = _row(round(planned * (1.0 + more)), assumed["load"])
        played = play_row(demand, high, limit_w=limit, idle_w=idle, most_w=most, policy=default_policy())
        losses = _losses(played, slower)
        kept.append(_keeps(played, losses, assumed))
        peaks.append(100.0 * played.peak_w / limit)
        lost.append(100.0 * losses[0])
    reached = int(np.argmin(kept)) if not all(kept) else len(kept)
    return Outcome(
        results={MORE: 100.0 * float(STEPS[max(reached - 1, 0)])},
        figure=Figure(
            title="A row under the power of its planned servers",
            x=(100.0 * STEPS).tolist(),
            lines={"highest power, % of the limit": peaks, "speed that low priority loses, %": lost},
            x_label="servers added, %",
            y_label="%",
        ),
    )


STUDY = Study(
    name="polca",
    n=31,
    area="energy-power",
    paper="Patel et al., POLCA: Power Oversubscription in LLM Cloud Providers (arXiv 2308.12908; ASPLOS 2024)",
    idea="Prompts draw peaks, decoding little and long, and peaks of many servers do not meet. Add servers until their "
    "power meets the row's, and cap low priority before that. Here servers are simulated, and `impact.row` plays "
    "thresholds, delays and the brake over their power.",
    claims=(
        Claim(
            metric=MORE,
            value=30.0,
            kind="absolute",
            baseline="as many as the rated power feeds",
        ),
    ),
    assumptions=(
        Assumption(
            name="load",
            value=0.8,
            uncertain=True,
            source="share of what a server can serve: the busiest hour of a service that keeps a fifth in reserve. The "
            "paper replays a production row, whose load is not public",
        ),
        Assumption(
            name="rated power",
            value=6500.0,
            unit="W",
            source="NVIDIA DGX A100 datasheet, maximum system power; rows are planned for it",
            uncertain=True,
        ),
        Assumption(name="servers planned", value=40, source="ten racks of four DGX; the paper's row, as recalled"),
        Assumption(name="low may lose", value=0.05, source="objective of low priority, median, section 6 as recalled"),
        Assumption(name="high may lose", value=0.01, source="the same of high priority"),
    ),
    run=run,
)
