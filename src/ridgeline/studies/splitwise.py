"""Splitwise: prompts on machines that compute, tokens on machines that remember, each bought for its own work."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep, sweep_some

TRACES = {"conversation": (1155, 211), "coding": (2048, 28)}
"""Mean prompt and output tokens of Azure's traces of 2023."""
CHIPS = {"A": "a100-80gb-sxm", "H": "h100-sxm"}
DESIGNS = {"AA": ("A", "A"), "HH": ("H", "H"), "HA": ("H", "A"), "HHcap": ("H", "H")}
"""Prompt and token machines; HHcap caps the power of the latter."""
RATES = np.geomspace(0.05, 60.0, 160)
SAME = "requests/s of the best split at the power and cost of a cluster of A100, best trace"
LESS = "requests/s of the best split at the power of a cluster of H100 and 80 % of its cost, best trace"


def _rate(chip: str, trace: str, limits: tuple[float, float], **case: object) -> float:
    """Highest rate at which one machine keeps its mean times to first token and between tokens."""
    isl, osl = TRACES[trace]
    common = {"model": "llama-2-70b", "chip": chip, "runtime": "vllm", "tp": 8, "isl": isl, "osl": osl}
    found = sweep_some("serving", request_rate_per_s=RATES, **{**common, **case})
    keeps = (found["ttft_s"] <= limits[0]) & (found["tpot_s"] <= limits[1])
    return float(RATES[keeps].max(initial=RATES[0]))


def _rates(trace: str, assumed: Mapping[str, float]) -> dict[str, float]:
    """What one machine of each kind serves: B whole requests, P prompts alone, T tokens alone."""
    isl, osl = TRACES[trace]
    idle = {"model": "llama-2-70b", "chip": CHIPS["A"], "runtime": "vllm", "tp": 8, "request_rate_per_s": RATES[0]}
    alone = sweep("serving", isl=isl, osl=osl, **idle)
    limits = (
        float(alone["ttft_s"][0]) * assumed["slower first token"],
        float(alone["tpot_s"][0]) * assumed["slower tokens"],
    )
    found = {}
    for name, chip in CHIPS.items():
        found[f"B{name}"] = _rate(chip, trace, limits)
        found[f"P{name}"] = _rate(chip, trace, (limits[0], np.inf), osl=1)
        found[f"T{name}"] = _rate(chip, trace, (np.inf, limits[1]), prefix_hit_frac=1.0)
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
    designs = list(next(iter(same.values())))
    return Outcome(
        results={
            SAME: max(max(one.values()) for one in same.values()),
            LESS: max(max(one.values()) for one in less.values()),
        },
        figure=Figure(
            title="Splits over whole machines: " + ", ".join(designs),
            x=[float(i) for i in range(len(designs))],
            lines={
                **{f"{trace}, as A100": list(one.values()) for trace, one in same.items()},
                **{f"{trace}, 0.8 of H100": list(one.values()) for trace, one in less.items()},
            },
            x_label="design",
            y_label="ratio of rates",
        ),
        notes=("Caches move layer by layer while prompts run; the paper hides all but a few milliseconds of it.",),
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
        Claim(metric=SAME, value=2.35, baseline="whole machines; up to"),
        Claim(
            metric=LESS,
            value=1.4,
            baseline="whole machines, 20 % more expensive; up to",
            why="Against an A100 objective our H100 that mixes phases loses little: chunked prefill of a current "
            "engine keeps tokens flowing, where the paper's baseline ran whole prompts in between. What is left of "
            "the gain is less than the price of splitting.",
        ),
    ),
    assumptions=(
        Assumption(
            name="slower first token",
            value=2.0,
            source="section 5.3: median times to first token at most twice those of an idle A100",
            uncertain=True,
        ),
        Assumption(
            name="slower tokens",
            value=1.5,
            source="section 5.3: 1.25, 1.5 and 5 times an idle A100 at the median, 90th and 99th percentile; the "
            "mean, which prompts in between move, stands for the 90th here",
            uncertain=True,
        ),
        Assumption(name="power of a DGX A100", value=6500.0, unit="W", source="Mutinifni/splitwise-sim, configs"),
        Assumption(name="power of a DGX H100", value=10200.0, unit="W", source="Mutinifni/splitwise-sim, configs"),
        Assumption(
            name="price of H100 over A100",
            value=4.76 / 2.21,
            source="Mutinifni/splitwise-sim, configs, per GPU and hour",
        ),
        Assumption(name="cap", value=0.7, source="configs: H100 capped at 70 % decode as fast as uncapped"),
    ),
    run=run,
)
