"""A step op by op, as plain rows for tables and JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgeline.steps import Step


def breakdown_of(step: Step) -> list[dict[str, Any]]:
    """A step op by op, longest first: block, name, runs, seconds, share, what bounds it, kernel family."""
    whole = float(np.ravel(step.time_s)[0])
    rows = [
        {
            "block": cost.block,
            "op": cost.op.name,
            "part": cost.op.part,
            "times": _scalar(cost.times),
            "time_s": _scalar(cost.time_s),
            "share": _scalar(cost.time_s) / whole if whole else 0.0,
            "bound": str(np.ravel(cost.price.bound())[0]),
            "kernel": cost.price.kernel,
        }
        for cost in step.ops
    ]
    return sorted(rows, key=lambda row: -float(row["time_s"]))


def _scalar(value: Any) -> float:
    return float(np.ravel(np.asarray(value, dtype=np.float64))[0])
