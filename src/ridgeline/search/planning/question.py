"""What is asked: a load, objectives of service, machines that may be used, and what is to be best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.hardware.chip import Value
from ridgeline.hardware.topology import Machine

Column = NDArray[np.float64]
Columns = Mapping[str, Column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Limits on times of a request, in seconds; inf: none. They hold for means (`predict` knows nothing else)."""

    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf

    def __post_init__(self) -> None:
        """Refuse limits that nothing keeps."""
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            if not getattr(self, name) > 0:
                raise SpecError("a limit on a time is positive", at=name, got=getattr(self, name), fix="leave it out")
        if self.ttft_s > self.e2e_s:
            raise SpecError(
                "the first token may come later than the last one",
                at="ttft, e2e",
                got=f"ttft {self.ttft_s:g} s > e2e {self.e2e_s:g} s",
                fix="give a ttft below e2e, or only one of them",
            )

    def excess(self, times: Columns) -> Column:
        """Largest ratio of a time to its limit, row by row: at most 1 where all limits hold, NaN where a time is."""
        limits = {name: getattr(self, name) for name in ("ttft_s", "tpot_s", "e2e_s")}
        ratios = [times[name] / limit for name, limit in limits.items() if limit < math.inf]
        return np.asarray(np.maximum.reduce(ratios) if ratios else 0.0 * times["ttft_s"])

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return min(self.ttft_s, self.tpot_s, self.e2e_s) < math.inf


BURST = 3.0
"""Standard deviations of a Poisson number that a batch has room for."""


def most_sequences(slots: Value) -> Column:
    """Mean number of sequences of a lane at random arrivals that leaves room for bursts: n + 3 sqrt(n) = slots.

    The number moves at least as a Poisson one does. The closed form knows no wait for a slot, so it holds below this.
    """
    return np.asarray(((np.sqrt(BURST**2 + 4.0 * np.asarray(slots)) - BURST) / 2.0) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Machines of one kind that may be used, all of them or fewer.

    Attributes:
        machine: as many chips as there are.
        node: name of the node that holds them, as a case says it ("": the chip's default node).
        usd_per_s: price of one chip; NaN: not known.
    """

    machine: Machine
    node: str
    usd_per_s: float

    @property
    def chips(self) -> int:
        """How many there are."""
        return self.machine.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What is tried; "" and 0 are what the model, the runtime or the plan has by default."""

    modes: tuple[str, ...] = ("agg", "disagg")
    runtimes: tuple[str, ...] = ("vllm",)
    weights: tuple[str, ...] = ("",)
    kv: tuple[str, ...] = ("",)
    max_batches: tuple[int, ...] = (0, 512, 256, 128, 64, 32)
    token_budgets: tuple[int, ...] = (0, 2048, 16384)
    prefill_batches: tuple[int, ...] = (1, 2, 4, 8)
    context_parallel: tuple[int, ...] = (1,)
    draft_tokens: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything that is asked.

    Attributes:
        rate_per_s: of random arrivals that must be served; 0: as many as the objectives of service allow.
        concurrency: requests in flight instead (a closed loop); 0: none.
        prefix_hit_frac, acceptance_frac: assumptions on the traffic.
        objectives: what is to be best, the most important first.
        power_w, usd_per_s: limits on rated power and price of all chips together.
        pue, carbon_kg_per_j: of the site; NaN without one.
    """

    model: str
    machines: tuple[Allowed, ...]
    isl: float
    osl: float
    rate_per_s: float = 0.0
    concurrency: float = 0.0
    prefix_hit_frac: float = 0.0
    acceptance_frac: float = 0.0
    slo: Slo = Slo()
    objectives: tuple[str, ...] = ()
    choices: Choices = field(default_factory=Choices)
    power_w: float = math.inf
    usd_per_s: float = math.inf
    pue: float = math.nan
    carbon_kg_per_j: float = math.nan

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        if self.rate_per_s > 0 and self.concurrency > 0:
            raise SpecError(
                "a load is a rate or a number of requests in flight, not both",
                at="rate, concurrency",
                got=f"{self.rate_per_s:g}/s and {self.concurrency:g}",
                fix="give one of them",
            )
        if not 1 <= len(self.objectives) <= 3:
            raise SpecError("one to three objectives are ranked", at="objective", got=list(self.objectives))
        for name in self.objectives:
            if name not in OBJECTIVES:
                fix = did_you_mean(name, OBJECTIVES, listing=f"objectives: {', '.join(OBJECTIVES)}")
                raise UnknownNameError(f"unknown objective {name!r}", at="objective", fix=fix)
        if len(set(self.objectives)) != len(self.objectives):
            raise SpecError(
                "an objective is named twice", at="objective", got=list(self.objectives), fix="name it once"
            )

    @property
    def free(self) -> bool:
        """Whether the load is whatever the deployment can serve."""
        return not (self.rate_per_s > 0 or self.concurrency > 0)

    @property
    def wants_energy(self) -> bool:
        """Whether an objective needs the energy of every candidate."""
        return bool({"energy", "carbon"} & set(self.objectives))


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective: `value` gives what is to be small; words and unit are for people."""

    words: str
    value: Callable[[Columns, Question], Column]


def _tokens_per_s(c: Columns, q: Question) -> Column:
    return np.asarray(np.maximum(c["request_per_s"] * q.osl, 1e-300))


OBJECTIVES: Mapping[str, Objective] = {
    "throughput": Objective("most output tokens/s", lambda c, q: 1.0 / _tokens_per_s(c, q)),
    "per-chip": Objective("most output tokens/s per chip", lambda c, q: c["chips"] / _tokens_per_s(c, q)),
    "cost": Objective("least USD per output token", lambda c, q: c["usd_per_s"] / _tokens_per_s(c, q)),
    "chips": Objective("fewest chips", lambda c, q: c["chips"]),
    "ttft": Objective("least time to the first token", lambda c, q: c["ttft_s"]),
    "tpot": Objective("least time between tokens", lambda c, q: c["tpot_s"]),
    "latency": Objective("least time to the last token", lambda c, q: c["e2e_s"]),
    "energy": Objective("least energy per output token", lambda c, q: c["energy_j_per_output_token"]),
    "carbon": Objective(
        "least carbon per output token",
        lambda c, q: c["energy_j_per_output_token"] * q.pue * q.carbon_kg_per_j,
    ),
}
"""What can be best, as numbers to be minimised."""
