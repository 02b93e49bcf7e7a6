"""CloudMatrix384: DeepSeek-R1 with one expert per die, over links that make 384 NPUs one machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

POINTS = {"50 ms": (96.0, 1943.0), "30 ms": (24.0, 974.0), "15 ms": (8.0, 538.0)}
"""Objective: sequences per NPU and tokens/s per NPU; batch over rate is the measured time per token."""
DIES = 2.0
PREFILL = "prefill of 4K prompts, tokens/s per NPU"
DECODE = "decode at {} per token, tokens/s per NPU"
COMMON = {"model": "deepseek-v3", "chip": "ascend-910c-die", "node": "cloudmatrix384-dies", "runtime": "sglang"}


def _decode(assumed: Mapping[str, float], seqs_per_npu: list[float]) -> np.ndarray:
    """Tokens/s per NPU at fixed batches: every prompt is cached, so that lanes only decode."""
    ranks, output = assumed["decode ranks"], 1024.0
    found = sweep(
        "serving",
        weights="int8",
        dp=ranks,
        ep=ranks,
        isl=4096.0 - output / 2.0,
        osl=output,
        prefix_hit_frac=1.0,
        concurrency=[seqs / DIES * ranks for seqs in seqs_per_npu],
        draft_tokens=1,
        nano_batches=2,
        acceptance_frac=assumed["acceptance"],
        **COMMON,
    )
    return found["output_tokens_per_s_per_chip"] * DIES


def run(assumed: Mapping[str, float]) -> Outcome:
    """Prefill on 32 dies, decoding on 320, int8 in both."""
    prompts, ranks = assumed["prompts per die"], assumed["prefill ranks"]
    step = sweep(
        "step",
        phase="prefill",
        weights="int8",
        dp=ranks,
        ep=ranks,
        batch=prompts,
        tokens=4096,
        nano_batches=2,
        **COMMON,
    )
    ours = _decode(assumed, [seqs for seqs, _ in POINTS.values()])
    batches = [4.0 * 2**i for i in range(6)]
    return Outcome(
        results={
            PREFILL: float(prompts * 4096.0 / step["time_s"][0] * DIES),
            **{DECODE.format(name): float(ours[i]) for i, name in enumerate(POINTS)},
        },
        figure=Figure(
            title="DeepSeek-R1 on 160 Ascend 910C, decoding",
            x=batches,
            lines={"ours": _decode(assumed, batches).tolist()},
            x_label="sequences per NPU",
            y_label="tokens/s per NPU",
            x_log=True,
        ),
    )


STUDY = Study(
    name="cloudmatrix384",
    n=73,
    area="llm-serving",
    paper="Zuo et al., Serving Large Language Models on Huawei CloudMatrix384 (arXiv 2506.12708)",
    idea="With all-to-all links over 384 NPUs every die can hold one expert; decoding runs at expert parallelism "
    "320, prefill at 32. Here int8 DeepSeek-V3 on the catalogue's dies; rates of latent attention are published (table "
    "of MLA operators), other kernels are known by datasheet.",
    claims=(
        Claim(
            metric=DECODE.format("50 ms"),
            value=1943.0,
            kind="absolute",
        ),
        Claim(metric=DECODE.format("30 ms"), value=974.0, kind="absolute", source="table of objectives"),
        Claim(
            metric=DECODE.format("15 ms"),
            value=538.0,
            kind="absolute",
            why="At eight sequences per NPU launches and latencies of about forty kernels per layer decide, which "
            "are those of other vendors here.",
        ),
        Claim(metric=PREFILL, value=6688.0, kind="absolute"),
    ),
    assumptions=(
        Assumption(
            name="decode ranks",
            value=256,
            source="EP320 of section 4 holds 256 routed experts, and 64 copies of shared and busy ones that a plan "
            "here does not have",
        ),
        Assumption(name="prefill ranks", value=32, source="section 4: 16 NPUs of two dies, EP32"),
        Assumption(name="acceptance", value=0.7, source="1.7 tokens per step with one drafted", uncertain=True),
        Assumption(name="prompts per die", value=2, source="16,384 tokens per NPU", uncertain=True, whole=True),
    ),
    run=run,
)
