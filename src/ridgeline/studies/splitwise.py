"""Splitwise: prompts on machines that compute, tokens on machines that remember, each bought for its own work."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, play, sweep, sweep_some, tail

TRACES = {"conversation": (1155, 211), "coding": (2048, 28)}
"""Mean prompt and output tokens of Azure's traces of 2023."""
CHIPS = {"A": "a100-80gb-sxm", "H": "h100-sxm"}
DESIGNS = {"AA": ("A", "A"), "HH": ("H", "H"), "HA": ("H", "A"), "HHcap": ("H", "H")}
"""Prompt and token machines; HHcap caps the power of the latter."""
RATES = np.geomspace(0.1, 60.0, 49)
MACHINES = 6
LEVELS, NAMES = (0.5, 0.9, 0.99), ("median", "90th", "99th")
Limits = tuple[tuple[float, ...], tuple[float, ...]]
COMMON = {"model": "llama-2-70b", "runtime": "vllm", "tp": 8}
SAME = "requests/s of A100 in two pools over as many that do both, conversation trace"
LESS = "requests/s of the best split at the power of a cluster of H100 and 80 % of its cost, best trace"


def _alone(trace: str) -> tuple[float, float]:
    """Time to first token and between tokens of a request that has a DGX A100 to itself."""
    isl, osl = TRACES[trace]
    found = sweep("serving", chip=CHIPS["A"], isl=isl, osl=osl, concurrency=1, **COMMON)
    return float(found["ttft_s"][0]), float(found["tpot_s"][0])


@cache
def _pool(chip: str, trace: str, limits: Limits, *, prompts_only: bool) -> float:
    """Highest rate per machine at which a pool keeps its percentiles of both times, by bisection."""
    isl, osl = TRACES[trace]
    case = {"on": f"{8 * MACHINES}x {chip}", "isl": isl, "osl": 1 if prompts_only else osl, "requests": 40 * MACHINES}

    def keeps(rate: float) -> bool:
        met = play(arrivals=f"poisson({rate * MACHINES}/s)", **case, **COMMON)
        times = ((met.ttft_s, limits[0]),) if prompts_only else ((met.ttft_s, limits[0]), (met.tpot_s, limits[1]))
        return all(tail(time, level) <= most for time, of in times for level, most in zip(LEVELS, of, strict=True))

    low, high = 0, len(RATES) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(float(RATES[middle])) else (low, middle)
    return float(RATES[low])


def _tokens(chip: str, trace: str, limits: Limits) -> float:
    """Highest rate of a machine that only decodes: nothing interferes, so the mean stands for the median."""
    isl, osl = TRACES[trace]
    load = {"request_rate_per_s": RATES, "isl": isl, "osl": osl, "prefix_hit_frac": 1.0}
    found = sweep_some("serving", chip=chip, **load, **COMMON)
    return float(RATES[found["tpot_s"] <= limits[1][0]].max(initial=RATES[0]))


def _rates(trace: str, assumed: Mapping[str, float]) -> dict[str, float]:
    """What one machine of each kind serves: B whole requests, P prompts alone, T tokens alone."""
    first, between = _alone(trace)
    limits: Limits = (
        tuple(first * assumed[f"first token, {level}"] for level in NAMES),
        tuple(between * assumed[f"tokens, {level}"] for level in NAMES),
    )
    found = {}
    for name, chip in CHIPS.items():
        found[f"B{name}"] = _pool(chip, trace, limits, prompts_only=False)
        found[f"P{name}"] = _pool(chip, trace, limits, prompts_only=True)
        found[f"T{name}"] = _tokens(chip, trace, limits)
    return found


def _best(
    rates: Mapping[str, float], base: str, budget: tuple[float, float], assumed: Mapping[str, float]
) -> dict[str, float]:
    """Requests/s of each split over those of whole machines, at shares of the base's power and cost."""
    power = {"A": assumed["power of a DGX A100"], "H": assumed["power of a DGX H100"]}
    cost = {"A": 1.0, "H": assumed["price of H100 over A100"]}
    gains = {}
    for split, (prompt, token) in DESIGNS.items():
        drawn = power[token] * (assumed["cap"] if split == "HHcap" else 1.0)
        watts = power[prompt] / rates[f"P{prompt}"] + drawn / rates[f"T{token}"]
        dollars = cost[prompt] / rates[f"P{prompt}"] + cost[token] / rates[f"T{token}"]
        whole = rates[f"B{base}"]
        gains[split] = min(budget[0] * power[base] / watts, budget[1] * cost[base] / dollars) / whole
    return gains


def run(assumed: Mapping[str, float]) -> Outcome:
    """Prompt and token machines in the ratio that keeps both busy, under a budget, against machines that do both."""
    rates = {trace: _rates(trace, assumed) for trace in TRACES}
    same = {trace: _best(one, "A", (1.0, 1.0), assumed) for trace, one in rates.items()}
    less = {trace: _best(one, "H", (1.0, 0.8), assumed) for trace, one in rates.items()}
    return Outcome(
        results={SAME: same["conversation"]["AA"], LESS: max(max(one.values()) for one in less.values())},
        figure=Figure(
            title=f"Splits over whole machines: {', '.join(DESIGNS)}",
            x=[1.0, 2.0, 3.0, 4.0],
            lines={
                **{f"{trace}, as A100": list(one.values()) for trace, one in same.items()},
                **{f"{trace}, 0.8 of H100": list(one.values()) for trace, one in less.items()},
            },
            x_label="design",
            y_label="ratio of rates",
        ),
        notes=(
            "Caches move layer by layer while prompts run; the paper hides all but a few milliseconds of it.",
            f"With the coding trace the same A100 serve {same['coding']['AA']:.1f} times as much in two pools: of 28 "
            "tokens per request, one prompt in between breaks the objective of whole machines.",
        ),
    )


STUDY = Study(
    name="splitwise",
    n=125,
    area="llm-serving",
    paper="Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024 (arXiv "
    "2311.18677)",
    idea="A machine that mixes phases must hold back for both objectives. Split, prompt machines are held to the "
    "first token and token machines to the rest, may be of different kinds, and token machines may be capped.",
    claims=(
        Claim(
            metric=SAME,
            value=2.35,
            baseline="whole machines, same power and cost",
            source="abstract; that trace and 70 DGX A100 on both sides are those of Mutinifni/splitwise-sim, "
            "scripts/run_throughput_isopower.sh",
        ),
        Claim(metric=LESS, value=1.4, baseline="whole machines, 20 % more expensive; up to"),
    ),
    assumptions=(
        Assumption(name="first token, median", value=2, source="times an idle A100, section 5.3"),
        Assumption(name="first token, 90th", value=3, source="times an idle A100, section 5.3"),
        Assumption(name="first token, 99th", value=6, source="times an idle A100, section 5.3"),
        Assumption(name="tokens, median", value=1.25, source="times an idle A100, section 5.3"),
        Assumption(name="tokens, 90th", value=1.5, source="times an idle A100, section 5.3"),
        Assumption(name="tokens, 99th", value=5, source="times an idle A100, section 5.3"),
        Assumption(name="power of a DGX A100", value=6500.0, unit="W", source="Mutinifni/splitwise-sim, configs"),
        Assumption(name="power of a DGX H100", value=10200.0, unit="W", source="Mutinifni/splitwise-sim, configs"),
        Assumption(
            name="price of H100 over A100",
            value=4.76 / 2.21,
            source="Mutinifni/splitwise-sim, configs, per GPU and hour",
        ),
        Assumption(
            name="cap", value=0.7, uncertain=True, source="configs: H100 capped at 70 % decode as fast as uncapped"
        ),
    ),
    run=run,
)
