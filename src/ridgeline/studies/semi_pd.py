"""semi-PD: both phases on one GPU at once, each with its own compute units, weights and caches shared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, play, sweep

CASE = {"model": "llama-3-8b", "on": "h100-sxm", "runtime": "sglang"}
LOAD = {"prompt": "lognormal(mean=1000, sigma=0.8)", "output": "lognormal(mean=250, sigma=0.8)"}
SHARES = (0.4, 0.6)
MORE = "requests/s within objectives over chunked prefill, Llama-3-8B"
SOONER = "mean latency of chunked prefill over semi-PD, DeepSeek, loads of 0.5 and 0.8"
GRID = (0.5, 0.75, 1.0)


def _met(rate: float, assumed: Mapping[str, float], **policy: object) -> float:
    """Share of the requests that keep both objectives."""
    found = play(
        arrivals=f"poisson({rate}/s)",
        requests=200,
        ttft_slo_s=assumed["first token"],
        tpot_slo_s=assumed["between tokens"],
        **CASE,
        **LOAD,
        **policy,
    )
    return found.slo_met_frac


def _capacity(full: float, assumed: Mapping[str, float], **policy: object) -> float:
    """Rate at which 90 % of the requests keep their objectives, between points of a grid."""
    met = [_met(full * share, assumed, **policy) for share in GRID]
    return full * float(np.interp(-0.9, [-1.0, *(-m for m in np.minimum.accumulate(met))], [0.0, *GRID]))


def _latency(rate: float, **policy: object) -> float:
    found = play(
        model="deepseek-v3",
        on="8x h200-sxm",
        tp=8,
        runtime="sglang",
        arrivals=f"poisson({rate}/s)",
        requests=120,
        **LOAD,
        **policy,
    )
    assert found.e2e_s is not None, "requests complete"
    return found.e2e_s.mean.value


def run(assumed: Mapping[str, float]) -> Outcome:
    """The controller's choice of shares is the best of two, by load."""
    lengths = {"isl": 1000, "osl": 250, "load": "saturated"}
    full = float(sweep("serving", model="llama-3-8b", chip="h100-sxm", runtime="sglang", **lengths)["request_per_s"][0])
    mixed = _capacity(full, assumed)
    split = max(_capacity(full, assumed, phase_split_frac=share) for share in SHARES)
    large = sweep("serving", model="deepseek-v3", chip="h200-sxm", runtime="sglang", tp=8, **lengths)
    loads = (0.5, 0.8)
    rates = [float(large["request_per_s"][0]) * load for load in loads]
    before = np.array([_latency(rate) for rate in rates])
    after = np.array([min(_latency(rate, phase_split_frac=share) for share in SHARES) for rate in rates])
    return Outcome(
        results={MORE: split / mixed, SOONER: (before / after).tolist()},
        figure=Figure(
            title="DeepSeek-V3 on eight H200: mean latency",
            x=loads,
            lines={"chunked prefill": before.tolist(), "semi-PD": after.tolist()},
            x_label="share of the saturated rate",
            y_label="s",
        ),
    )


STUDY = Study(
    name="semi-pd",
    n=38,
    area="llm-serving",
    paper="Hong et al., semi-PD: Towards Efficient LLM Serving via Phase-Wise Disaggregated Computation and Unified "
    "Storage (arXiv 2504.19867)",
    idea="Mixed batches make tokens wait for prompts; separate GPUs hold weights twice and move caches. One GPU "
    "whose compute units are divided does neither. Here `phase_split_frac` against the engine's chunked prefill.",
    claims=(
        Claim(
            metric=MORE,
            value=(1.55, 1.72),
            baseline="SGLang, chunked prefill",
            why="Chunked prefill of the engine priced here already keeps most tokens within the objective, and "
            "shares of compute units are fixed for a run, while the paper's controller moves them; our cache is cut "
            "between phases, theirs is one pool.",
        ),
        Claim(
            metric=SOONER,
            value=(1.27, 2.58),
            baseline="SGLang, chunked prefill",
        ),
    ),
    assumptions=(
        Assumption(name="first token", value=1.0, unit="s", source="objective; not in the abstract"),
        Assumption(
            name="between tokens", value=0.03, unit="s", source="objective; not in the abstract", uncertain=True
        ),
    ),
    run=run,
)
