"""What a simulated run answers: latencies, rates, goodput, load of the fleet, energy and cost, and what limits it.

Everything is told twice: over the whole run, and in the steady state, from the end of the warm-up to the last arrival.
TTFT, TPOT and E2E start at the arrival; TPOT is a request's mean gap between tokens, the first left out. Tokens of a
request count evenly between its first and its last. Power and energy are those of boards alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ridgeline.serving.record.bound import Bound
from ridgeline.serving.record.latency import Latency, Objectives, WarmUp, finite


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAnswer:
    """Requests of one class, or of all, in a stretch of time.

    Attributes:
        name: of the class; `all` for everybody.
        requests, done, rejected, unfinished, failed: that arrived, and how they ended.
        ttft_s, tpot_s, itl_s, e2e_s, queue_s: of those complete (queue_s: of those admitted); None
            without any. ITL is the time between tokens, each token counting once.
        request_per_s, output_tokens_per_s, total_tokens_per_s: completions, tokens; prompts count at the first token.
        goodput_request_per_s: completions within all objectives of their class.
        slo_met_frac: share of the arrived requests that kept all objectives, rejected and lost ones included.
        preemptions: of the requests that arrived.
        prefix_hit_frac: share of the prompt tokens found in a prefix cache.
        energy_j_per_request: mean bill of the arrived requests, idle power left out; NaN: not known.
    """

    name: str
    requests: int
    done: int
    rejected: int
    unfinished: int
    failed: int
    ttft_s: Latency | None
    tpot_s: Latency | None
    itl_s: Latency | None
    e2e_s: Latency | None
    queue_s: Latency | None
    request_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    goodput_request_per_s: float
    slo_met_frac: float
    preemptions: int
    prefix_hit_frac: float
    energy_j_per_request: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of time: requests by class, and the fleet.

    Attributes:
        start_s, end_s: of the stretch.
        overall, classes: all requests, and each class.
        chips: mean number of chips that were up.
        output_tokens_per_s_per_chip: of those.
        queue, queue_peak, in_flight: requests that wait for admission, mean over time and most; in the system, mean.
        batch, kv_use_frac: decoding sequences of a lane, and share of its cache in use, means over time in iterations.
        kv_use_peak_frac: the largest share of a lane's cache in use.
        busy_frac: by pool, share of the lanes' time up that they iterate.
        power_w, power_w_per_chip: mean of all boards and of one.
        power_peak_w_per_chip: most of one chip, over a run of equal iterations.
        energy_j: of all boards; energy_j_per_request: per completion, with idle; energy_j_per_output_token likewise.
        cost_usd_per_1m_output_tokens: rent of the chips that were up.
    """

    start_s: float
    end_s: float
    overall: ClassAnswer
    classes: tuple[ClassAnswer, ...]
    chips: float
    output_tokens_per_s_per_chip: float
    queue: float
    queue_peak: float
    in_flight: float
    batch: float
    kv_use_frac: float
    kv_use_peak_frac: float
    busy_frac: Mapping[str, float]
    power_w: float
    power_w_per_chip: float
    power_peak_w_per_chip: float
    energy_j: float
    energy_j_per_request: float
    energy_j_per_output_token: float
    cost_usd_per_1m_output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of a run: over all of it and in its steady state, what was left out between, and what limits it.

    `adapter_loads` counts how often a LoRA adapter was brought to the chips of a lane, over the whole run;
    `model_switches` how often a batch went over to another model, `model_loads` those for which weights were loaded,
    and `model_hit_frac` is the share of switches for which they were there (NaN: none).
    """

    whole: Stretch
    steady: Stretch
    warm_up: WarmUp
    bound: Bound
    objectives: tuple[Objectives, ...]
    notes: tuple[str, ...]
    adapter_loads: int = 0
    model_switches: int = 0
    model_loads: int = 0
    model_hit_frac: float = math.nan

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and texts for JSON; null where a number is not known."""
        warm = {f.name: getattr(self.warm_up, f.name) for f in fields(self.warm_up)}
        promises = [
            {"name": o.name, **{n: finite(getattr(o, n)) for n in ("ttft_s", "tpot_s", "e2e_s")}}
            for o in self.objectives
        ]
        return {
            "steady": _plain(self.steady),
            "whole": _plain(self.whole),
            "warm_up": warm,
            "bound": self.bound.kind,
            "why": self.bound.words,
            "objectives": promises,
            "adapter_loads": self.adapter_loads,
            "model_switches": self.model_switches,
            "model_loads": self.model_loads,
            "model_hit_frac": finite(self.model_hit_frac),
            "notes": list(self.notes),
        }


def _plain(value: object) -> object:
    if isinstance(value, Latency):
        return value.to_dict()
    if isinstance(value, ClassAnswer | Stretch):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return finite(value) if isinstance(value, float) else value
