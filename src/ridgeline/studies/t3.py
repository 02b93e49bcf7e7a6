"""T3: a matmul whose stores start the reduction of what is done, so that compute and links work at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ridgeline.core.dtypes import SCHEMES
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware import machine
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads.ops import Collective, Matmul

WIDTHS = {"Mega-GPT-2": (3072, 8), "T-NLG": (4256, 8), "GPT-3": (12288, 32), "PALM": (18432, 32), "MT-NLG": (20480, 32)}
"""Hidden width and largest tensor-parallel degree of the paper's models, table 2."""
MEAN = "time of communication-heavy sublayers, geometric mean"
BEST = "the same, best of models and degrees"
TRAFFIC = "bytes through memory, geometric mean, share saved"
FP16 = SCHEMES["fp16"]


def _sublayers(hidden: float, tp: float, tokens: float) -> tuple[Matmul, ...]:
    """The row-parallel matmuls of a layer, whose outputs are partial sums: the projection and the second of the FFN."""
    return tuple(
        Matmul(name=name, part="sublayer", m=tokens, n=hidden, k=k / tp, scheme=FP16)
        for name, k in (("out", hidden), ("down", 4.0 * hidden))
    )


def _times(op: Matmul, tp: int, on: MachineColumns, slow: float) -> tuple[float, float, float]:
    """Seconds of the matmul, of the reduce-scatter of its output, and of the all-gather after it."""
    size_bytes = float(op.m * op.n) * FP16.weight.element_bytes
    sums, gather = (
        Collective(name=kind, part="sublayer", kind=kind, message_bytes=size_bytes, ranks=float(tp))
        for kind in ("reduce_scatter", "all_gather")
    )
    setting = Setting(runtime="torch")
    made, summed, gathered = (float(np.asarray(price(one, on, setting).time_s)) for one in (op, sums, gather))
    return made, summed * slow, gathered * slow


def _saved_bytes(op: Matmul, tp: int) -> float:
    """Without T3 a ring step reads and writes again what the matmul stored; near memory, sums happen on arrival."""
    out = float(op.m * op.n) * FP16.weight.element_bytes
    steps = (tp - 1.0) / tp
    operands = sum(float(np.asarray(o.read_bytes)) for o in op.operands())
    gather = 2.0 * steps * out
    before = operands + out + 3.0 * steps * out + gather
    after = operands + 2.0 * steps * out + out / tp + gather
    return 1.0 - after / before


def run(assumed: Mapping[str, float]) -> Outcome:
    """Sublayers of each model at two degrees: one after the other, and overlapped."""
    tokens, gains, bytes_saved = assumed["tokens"], [], []
    lines: dict[str, list[float]] = {}
    for name, (hidden, most) in WIDTHS.items():
        for tp in (most // 2, most):
            full = machine(f"{tp}x mi250x-gcd")
            ring = replace(full.levels[-1], name="ring", size=max(tp, 2), bandwidth_bytes_per_s=assumed["link"])
            on = MachineColumns((replace(full, levels=(ring,)),))
            for op in _sublayers(float(hidden), float(tp), tokens):
                made, summed, gathered = _times(op, tp, on, 1.0)
                before, after = made + summed + gathered, max(made, summed) * (1.0 + assumed["contention"]) + gathered
                gains.append(before / after)
                bytes_saved.append(_saved_bytes(op, tp))
                lines.setdefault(name, []).append(before / after)
    return Outcome(
        results={
            MEAN: float(np.exp(np.log(gains).mean())),
            BEST: max(gains),
            TRAFFIC: float(np.exp(np.log(bytes_saved).mean())),
        },
        figure=Figure(
            title="Gain of overlapped sublayers (two degrees, projection and FFN)",
            x=[1.0, 2.0, 3.0, 4.0],
            lines=lines,
            x_label="case",
            y_label="ratio of times",
        ),
    )


STUDY = Study(
    name="t3",
    n=148,
    area="collectives-network",
    paper="Pati et al., T3: Transparent Tracking and Triggering for Fine-grained Overlap of Compute and Collectives, "
    "ASPLOS 2024 (arXiv 2401.16677)",
    idea="A partial sum of tensor parallelism is reduced only when it is complete. If the stores of finished tiles "
    "start its reduction, a sublayer takes the longer of matmul and reduce-scatter, and memory is passed less often.",
    claims=(
        Claim(metric=MEAN, value=1.30, baseline="matmul, then reduce-scatter and all-gather"),
        Claim(metric=BEST, value=1.47, baseline="matmul, then reduce-scatter and all-gather"),
        Claim(
            metric=TRAFFIC,
            value=0.22,
            kind="absolute",
            baseline="the same",
            why="Counted per sublayer with every write of the matmul spared once; caches, which keep part of that "
            "traffic from memory on both sides, are left out.",
        ),
    ),
    assumptions=(
        Assumption(
            name="tokens",
            value=8192,
            source="sequences of 1K to 2K in batches of 4 to 16; table 2, recalled",
            uncertain=True,
            whole=True,
        ),
        Assumption(
            name="link",
            value=150e9,
            unit="bytes/s",
            source="ring of 150 GB/s per device in the paper's simulation, recalled",
            uncertain=True,
        ),
        Assumption(
            name="contention",
            value=0.05,
            source="what the reduction's memory traffic adds to the longer one; the paper's arbitration keeps it small",
        ),
    ),
    run=run,
)
