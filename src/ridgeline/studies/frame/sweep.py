"""Many cases at once for a study: columns broadcast to a table, evaluated in one call, and no row lost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import ridgeline as rl
from ridgeline.core.errors import SpecError

Column = NDArray[np.float64]


def sweep(task: str, *, all_rows: bool = True, **columns: Any) -> dict[str, Column]:
    """Result columns of `rl.predict_table`, numbers only.

    Args:
        task: serving, step, ops, training or vision.
        all_rows: whether each row must have a result; if not, rows without one are NaN (rates above a capacity).
        columns: numbers or texts, or one per row; single ones stand for every row.
    Raises SpecError: a row that cannot be evaluated, with its message: a study must not lose one in silence.
    """
    many = {name: list(value) for name, value in columns.items() if not isinstance(value, str) and np.ndim(value)}
    rows = max((len(value) for value in many.values()), default=1)
    table = {name: many[name] if name in many else [value] * rows for name, value in columns.items()}
    found = rl.predict_table(task, table)
    errors = [str(error) for error in found.pop("error") if error]
    if errors and all_rows:
        raise SpecError(f"a case of a study cannot be evaluated: {errors[0]}", at=f"predict {task}")
    return {
        name: np.asarray(value, dtype=np.float64)
        for name, value in found.items()
        if name not in table and np.asarray(value).dtype.kind == "f"
    }
