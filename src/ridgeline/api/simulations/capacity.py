"""`rl.capacity`: the highest rate of a load at which a deployment still keeps its objectives.

Each rate is the same load, scaled in time: the same requests in the same order, so that two rates differ in nothing but
the rate (common random numbers). Rates are bracketed by doubling and halving and then bisected. A generated load is
drawn anew with further seeds while the share of requests in time is too close to the target to tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.api.simulations.simulate import Progress, Simulated, simulate
from ridgeline.api.simulations.simulate_case import Asked, parted
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.sim import Bracket, highest, mean_interval
from ridgeline.workloads.traffic import Traffic

if TYPE_CHECKING:
    from rich.console import RenderableType

TARGET = 0.99
"""Share of the requests of each class that keep all their objectives."""

SEEDS = 5
"""Draws of a load at one rate, at most."""

DRAWN = ("arrivals", "prompt", "output", "requests", "duration_s", "request_rate_per_s", "rate", "concurrency")
"""Arguments that make a load."""

CLEAR = 0.005
"""Distance of the share from the target at which one draw is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One rate: the share of requests in time (of the worst class), its interval, draws, and whether it held."""

    rate_per_s: float
    share: float
    low: float
    high: float
    draws: int
    holds: bool


@dataclass(frozen=True, eq=False)
class Capacity:
    """The highest rate that keeps the objectives.

    Attributes:
        rate_per_s: it; NaN if no rate tried held.
        fails_per_s: the lowest rate tried above it that did not hold.
        target: share of the requests of each class that keep all their objectives.
        tried: every rate, rising.
        at_rate: the simulation at `rate_per_s` (None if there is none).
    """

    rate_per_s: float
    fails_per_s: float
    target: float
    tried: tuple[Tried, ...]
    at_rate: Simulated | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        from ridgeline.serving.record.latency import finite

        results = {
            "rate_per_s": finite(self.rate_per_s),
            "fails_per_s": finite(self.fails_per_s),
            "target": self.target,
            "tried": [{name: getattr(one, name) for name in Tried.__slots__} for one in self.tried],
            "at_rate": None if self.at_rate is None else self.at_rate.to_dict(),
        }
        return {"verb": "capacity", "task": "serving", "results": results}

    def __rich__(self) -> RenderableType:
        """The rates tried, and what limits the best."""
        from ridgeline.api.simulations.capacity_view import capacity_view

        return capacity_view(self)


def capacity(
    *,
    on: str = "",
    plan: str = "",
    target: float = TARGET,
    tolerance: float = 0.02,
    plugins: bool = True,
    progress: Progress | None = None,
    **case: Any,
) -> Capacity:
    """Search the highest rate at which the share `target` of the requests of each class keeps all its objectives.

    Args:
        on: machines.
        plan: the plan's notation.
        target: share of the requests.
        tolerance: relative width of the bracket at which the search ends.
        plugins: whether policies of installed distributions count.
        progress: told how far each simulation is.
        case: as of `simulate`; the load's mean rate is what is searched.
    Raises: as `simulate`; SpecError: no objective, or a load without a rate (a closed loop).
    """
    if not 0 < target <= 1 or not 0 < tolerance < 1:
        raise DomainError(
            "target and tolerance are shares", at="target", got=(target, tolerance), fix="give 0.99, 0.02"
        )
    rest, words, _ = parted(case, plugins=plugins, keep_runs=True)
    drawn = bool(words.arrivals) or not words.trace
    values = {"request_rate_per_s": 1.0, **Asked.of(case).values(rest, on=on, plan=plan)}
    loads: dict[int, Traffic] = {}

    def traffic(draw: int) -> Traffic:
        if draw not in loads:
            loads[draw] = _checked(replace(words, seed=words.seed + draw).traffic(values))
        return loads[draw]

    tried: dict[float, tuple[Tried, Simulated]] = {}
    # Arrivals and lengths are in the load that is handed over; what is left says how the fleet is run.
    fleet = {name: value for name, value in case.items() if name not in ("trace", *DRAWN)}

    def holds(rate: float) -> bool:
        shares: list[float] = []
        while True:
            scaled = traffic(len(shares)).at_rate(rate)
            run = simulate(on=on, plan=plan, plugins=plugins, progress=progress, trace=scaled, **fleet)
            shares.append(worst_share(run))
            low = high = shares[0]
            if len(shares) > 1:
                interval = mean_interval(shares, batches=len(shares))
                low, high = max(interval.low, 0.0), min(interval.high, 1.0)
            mean = float(np.mean(shares))
            certain = abs(mean - target) > CLEAR if len(shares) == 1 else not low <= target <= high
            if certain or not drawn or len(shares) == SEEDS:
                break
        made = Tried(rate_per_s=rate, share=mean, low=low, high=high, draws=len(shares), holds=mean >= target)
        tried[rate] = (made, run)
        return made.holds

    found: Bracket = highest(holds, 1e-6, 1e7, tolerance=tolerance, start=_start(traffic(0), on, plan, rest))
    rates = tuple(tried[rate][0] for rate in sorted(tried))
    best = tried.get(found.holds)
    return Capacity(found.holds, found.fails, target, rates, best[1] if best else None)


def _checked(traffic: Traffic) -> Traffic:
    if traffic.clients:
        fix = "give --arrivals 'poisson(1/s)' or --trace FILE"
        raise SpecError("a closed loop has no rate to search", at="capacity", got=traffic.name, fix=fix)
    if all(math.isinf(x) for one in traffic.classes for x in (one.ttft_s, one.tpot_s, one.e2e_s)):
        raise SpecError("no objective to keep", at="capacity", fix="give --ttft 1s, --tpot 40ms or --e2e 30s")
    return traffic


def worst_share(run: Simulated) -> float:
    """Share of the requests that kept all objectives at steady state, of the class that did worst."""
    stretch = run.answers.steady
    classes = stretch.classes or (stretch.overall,)
    return min((one.slo_met_frac for one in classes if one.requests), default=0.0)


def _start(traffic: Traffic, on: str, plan: str, case: Mapping[str, Any]) -> float:
    """A first guess: half the rate at which the closed form is saturated."""
    from ridgeline.api.predictions.predict import predict
    from ridgeline.core.errors import RidgelineError

    means = {"isl": float(traffic.prompt_tokens.mean()), "osl": float(traffic.output_tokens.mean())}
    whole = {name: max(round(value), 1) for name, value in means.items()}
    given = {name: value for name, value in case.items() if name not in ("concurrency", "request_rate_per_s", "rate")}
    try:
        return float(predict(on=on, plan=plan, **{**given, **whole, "load": "saturated"}).request_per_s) / 2.0
    except RidgelineError:
        return 1.0
