"""FastSwitch: turns of a fair scheduler cost what their swaps cost, and small copies make swaps dear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, play, sweep, tail

CASES = {"Llama-3-8B, A10": ("llama-3-8b", "a10"), "Qwen2.5-32B, A100": ("qwen2.5-32b", "a100-80gb-sxm")}
QUANTA = (1.0, 4.0)
"""Seconds: 25 and 100 iterations of 40 ms; the paper updates priorities in 0.01 to 0.04 of the iterations."""
TTFT = "99th percentile of the time to first token, block by block over in one copy"
TPOT = "99th percentile of the time per output token, block by block over in one copy"


def _tails(case: tuple[str, str], quantum: float, call_s: float, assumed: Mapping[str, float]) -> tuple[float, float]:
    """99th percentiles of TTFT and of the mean gap of a request, under turns of `quantum` seconds."""
    model, chip = case
    lengths = {"isl": 600, "osl": 300}
    full = sweep("serving", model=model, chip=chip, runtime="vllm", memory_frac=1.0, load="saturated", **lengths)
    rate = float(full["request_per_s"][0]) * assumed["load"]
    found = play(
        model=model,
        chip=chip,
        runtime="vllm",
        memory_frac=1.0,
        prompt="lognormal(mean=600, sigma=1)",
        output="lognormal(mean=300, sigma=0.8)",
        arrivals=f"poisson({rate}/s)",
        requests=200,
        longest=8192,
        scheduler=f"rotation(quantum={quantum}s)",
        preemption="swap",
        swap_call_s=call_s,
    )
    return tail(found.ttft_s), tail(found.tpot_s)


def run(assumed: Mapping[str, float]) -> Outcome:
    """Both models over turns of one and four seconds: swaps by block against swaps of whole contexts."""
    ttft, tpot, lines = [], [], {}
    for label, case in CASES.items():
        slow, fast = (
            np.array([_tails(case, quantum, call, assumed) for quantum in QUANTA])
            for call in (assumed["copy call"], 0.0)
        )
        gain = slow / fast
        ttft += gain[:, 0].tolist()
        tpot += gain[:, 1].tolist()
        lines[label] = gain[:, 0].tolist()
    return Outcome(
        results={TTFT: ttft, TPOT: tpot},
        figure=Figure(
            title="Tail of the time to first token: swaps by block over swaps in one copy",
            x=QUANTA,
            lines=lines,
            x_label="turn, s",
            y_label="ratio",
            x_log=True,
        ),
        notes=("Reuse of what a former turn of a conversation left in host memory would add to the gains.",),
    )


STUDY = Study(
    name="fastswitch",
    n=48,
    area="kv-cache",
    paper="Shen et al., FastSwitch: Optimizing Context Switching Efficiency in Fairness-aware Large Language Model "
    "Serving (arXiv 2411.18424)",
    idea="Fairness by turns swaps contexts between GPU and host. Block by block, two copies a layer and block leave "
    "the link idle; grouped copies fill it. Here the scheduler `rotation` with `preemption=swap`, with and without "
    "calls.",
    claims=(
        Claim(metric=TTFT, value=(1.4, 11.2), baseline="vLLM with turns; tails of TTFT and TBT"),
        Claim(
            metric=TPOT,
            value=(1.4, 11.2),
            baseline="vLLM with turns; tails of TTFT and TBT",
            why="With turns of a second swaps by block keep the device busy with copies, and a request's mean gap "
            "holds whole turns in which it is out. The paper counts the gaps between single tokens.",
        ),
    ),
    assumptions=(
        Assumption(
            name="copy call",
            value=10e-6,
            unit="s",
            source="an asynchronous copy of 32 to 128 KB: a few microseconds to issue, and as long over PCIe; vLLM "
            "0.3 issued them from a loop over blocks",
            uncertain=True,
        ),
        Assumption(name="load", value=0.9, source="share of the saturated rate; not in the abstract", uncertain=True),
    ),
    run=run,
)
