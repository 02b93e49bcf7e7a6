"""Megatron-LM: tensor, pipeline and data parallelism together, from one billion parameters to a trillion."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

LADDER = (
    (24, 2304, 24, 1, 1, 32, 512, 137.0),
    (32, 3072, 30, 2, 1, 64, 512, 138.0),
    (32, 4096, 36, 4, 1, 128, 512, 142.0),
    (48, 6144, 40, 8, 1, 256, 1024, 135.0),
    (64, 8192, 48, 8, 2, 512, 1536, 138.0),
    (80, 10240, 60, 8, 4, 1024, 1792, 140.0),
    (96, 12288, 80, 8, 8, 1536, 2304, 148.0),
    (128, 16384, 96, 8, 16, 1920, 2160, 155.0),
    (128, 20480, 105, 8, 35, 2520, 2520, 163.0),
    (160, 25600, 128, 8, 64, 3072, 3072, 163.0),
)
"""Heads, width, layers, tensor and pipeline degrees, GPUs, batch and measured TFLOP/s per GPU: table 1 of the paper."""
VOCABULARY, SEQUENCE = 51200.0, 2048.0
TRILLION = "rate of 3,072 GPUs on a trillion parameters, PFLOP/s"
STEP = "its step, s"
RUNG = "TFLOP/s per GPU at {:.1f} billion parameters"
INTERLEAVED = "gain of interleaved stages, 175 billion parameters on 96 GPUs"
COLUMNS = ("heads", "hidden", "layers", "tp", "pp", "chips", "global_batch")


def _billions(row: tuple[float, ...]) -> float:
    """Parameters, equation 2 of the paper."""
    _, width, layers = row[:3]
    return (
        12.0
        * layers
        * width**2
        * (1.0 + 13.0 / (12.0 * width) + (VOCABULARY + SEQUENCE) / (12.0 * layers * width))
        / 1e9
    )


def _train(assumed: Mapping[str, float], **columns: object) -> dict[str, np.ndarray]:
    return sweep(
        "training",
        chip="a100-80gb-sxm",
        seq=SEQUENCE,
        vocab=VOCABULARY,
        micro_batch=assumed["micro-batch"],
        precision="fp16",
        framework="megatron",
        recompute="full",
        sequence_parallel="false",
        flash="false",
        zero="0",
        **columns,
    )


def run(assumed: Mapping[str, float]) -> Outcome:
    """Ten rungs of the ladder; the paper counts recomputed operations, so that `hardware` rates compare."""
    ladder = {name: [row[i] for row in LADDER] for i, name in enumerate(COLUMNS)}
    ours = _train(assumed, **ladder)
    theirs = np.array([row[-1] for row in LADDER])
    rate = ours["hardware_flops_per_s_per_chip"] / 1e12
    gpt3 = {"heads": 96, "hidden": 12288, "layers": 96, "tp": 8, "pp": 12, "chips": 96, "global_batch": 24}
    plain, woven = (_train(assumed, **gpt3, vp=vp)["step_s"] for vp in (1, int(assumed["interleaved stages"])))
    return Outcome(
        results={
            TRILLION: float(rate[-1]) * LADDER[-1][5] / 1e3,
            STEP: float(ours["step_s"][-1]),
            **{RUNG.format(_billions(row)): float(one) for row, one in zip(LADDER, rate, strict=True)},
            INTERLEAVED: float(plain[0] / woven[0]),
        },
        figure=Figure(
            title="GPT on A100, weak scaling",
            x=[_billions(row) for row in LADDER],
            lines={"theirs": theirs.tolist(), "ours": rate.tolist()},
            x_label="billions of parameters",
            y_label="TFLOP/s per GPU",
            x_log=True,
        ),
        notes=(
            "Coefficients of the training model come from later releases; all ten rungs come out faster than in 2021.",
        ),
    )


STUDY = Study(
    name="megatron-lm",
    n=145,
    area="training",
    paper="Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM, SC "
    "2021 (arXiv 2104.04473)",
    idea="Tensor parallelism inside a node, a pipeline over nodes, data parallelism over pipelines; stages that are "
    "dealt out in turns shrink the bubble. Here rows of `predict training` with the paper's degrees.",
    claims=(
        Claim(metric=TRILLION, value=502.0, kind="absolute"),
        Claim(metric=STEP, value=102.4, kind="absolute", source="5.14e19 operations of a step at 502 PFLOP/s"),
        *(
            Claim(metric=RUNG.format(_billions(row)), value=row[-1], kind="absolute", source="table 1")
            for row in LADDER
        ),
        Claim(metric=INTERLEAVED, value=1.10, baseline="one stage per GPU, batch of 24"),
    ),
    assumptions=(
        Assumption(
            name="micro-batch", value=1, source="figure 7: 1 or 2 is best, by model; one for all here", whole=True
        ),
        Assumption(
            name="interleaved stages",
            value=2,
            source="section 5.3.2 does not say; 96 layers over 12 stages give 2, 4 or 8",
            uncertain=True,
            whole=True,
        ),
    ),
    run=run,
)
