"""Many cases at once for a study: columns broadcast to a table, evaluated in one call, and no row lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ridgeline as rl
from ridgeline.core.errors import SpecError
from ridgeline.serving.record.answer_values import ClassAnswer
from ridgeline.serving.record.latency import Latency

Column = NDArray[np.float64]


def sweep(task: str, **columns: Any) -> dict[str, Column]:
    """Result columns of `rl.predict_table`, numbers only.

    Args:
        task: serving, step, ops, training or vision.
        columns: numbers or texts, or one per row; single ones stand for every row.
    Raises SpecError: a row that cannot be evaluated, with its message: a study must not lose one in silence.
    """
    found, errors = _evaluate(task, columns)
    if errors:
        raise SpecError(f"a case of a study cannot be evaluated: {errors[0]}", at=f"predict {task}")
    return found


def sweep_some(task: str, **columns: Any) -> dict[str, Column]:
    """The same where rows may have no result, which then are NaN: loads above what a system can serve."""
    return _evaluate(task, columns)[0]


def play(**case: Any) -> ClassAnswer:
    """What all requests of `rl.simulate(**case)` met over the whole run."""
    return rl.simulate(keep_runs=False, **case).answers.whole.overall


def tail(latency: Latency | None, level: float = 0.99) -> float:
    """A percentile of a latency, s. Raises SpecError where no request has one."""
    if latency is None:
        raise SpecError("no request of a study's run is complete", at="simulate")
    return latency.at(level).value


def _evaluate(task: str, columns: Mapping[str, Any]) -> tuple[dict[str, Column], list[str]]:
    many = {name: list(value) for name, value in columns.items() if not isinstance(value, str) and np.ndim(value)}
    rows = max((len(value) for value in many.values()), default=1)
    table = {name: many[name] if name in many else [value] * rows for name, value in columns.items()}
    found = rl.predict_table(task, table)
    errors = [str(error) for error in found.pop("error") if error]
    numbers = {
        name: np.asarray(value, dtype=np.float64)
        for name, value in found.items()
        if name not in table and np.asarray(value).dtype.kind == "f"
    }
    return numbers, errors
