"""`rl.calibrate_training`: one scalar of a training stack from one to three of its own runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.tables.intake import wanted
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.core.tables import from_any

MEASURED = ("measured_step_s", "measured_tokens_per_s", "measured_tokens_per_s_per_chip")
"""Columns that hold what a run reached; a row needs one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackShare:
    """Speed of a stack over the model's: give it as `stack_share` to later predictions of the same stack.

    Attributes:
        value: the median over the runs of measured over predicted speed.
        low, high: the least and the largest of them; equal for one run.
        runs: how many there were.
    """

    value: float
    low: float
    high: float
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def calibrate_training(table: Any) -> StackShare:
    """Fit the one scalar of a stack: framework, its era, and class of chip.

    Args:
        table: cases of `predict training` with one of MEASURED; a dict of arrays, a DuckDB relation, ...
    Raises: SpecError: no measured column, or a row that cannot be predicted. DomainError: a speed that is not above 0.

    Example: `rl.calibrate_training({"model": ["meta-llama/Llama-3.1-8B"], "chip": ["h100-sxm"], "chips": [8],
    "seq": [8192], "global_batch": [128], "measured_step_s": [9.5]})`
    """
    columns: dict[str, Literal["number", "text"]] = dict(wanted("training"))
    columns.update(dict.fromkeys(MEASURED, "number"))
    read = from_any(table, columns=columns)
    given = [name for name in MEASURED if read.has(name)]
    if not given:
        raise SpecError("no column of measured speeds", at="table", got=read.columns, fix=f"give {MEASURED[0]}")
    results, problems = evaluate_table("training", read)
    if not problems.ok.all() or read.rows == 0:
        row = int(np.argmin(problems.ok)) if read.rows else 0
        told = problems.column()[row] if read.rows else "no rows"
        raise SpecError("a run cannot be predicted", at=f"row {row}", got=told, fix="mend or leave out the row")
    ratios = _ratios(results, {name: read.number(name) for name in given})
    if not np.all(np.isfinite(ratios) & (ratios > 0)):
        raise DomainError("measured speeds are above 0", at=given[0], got=ratios.tolist(), fix="leave the row out")
    return StackShare(
        value=float(np.exp(np.median(np.log(ratios)))),
        low=float(ratios.min()),
        high=float(ratios.max()),
        runs=ratios.size,
    )


def _ratios(results: dict[str, Any], measured: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Measured over predicted speed of each row, by the first measured column that has a value."""
    found = np.full(len(results["step_s"]), math.nan)
    with np.errstate(all="ignore"):
        for name, values in measured.items():
            predicted = np.asarray(results[name.removeprefix("measured_")], float)
            ratio = predicted / values if name == "measured_step_s" else values / predicted
            found = np.where(np.isnan(found), ratio, found)
    return found
