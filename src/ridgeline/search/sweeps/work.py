"""What workers do: columns of points in, columns of results out; a part that fails is halved down to its bad points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels
from ridgeline.search.sweeps.points import Cell

Numbers = NDArray[Any]
Column = Numbers | tuple[str, ...]
"""Results of some points: numbers (NaN: none), or one text each ("": none)."""
Evaluate = Callable[[Mapping[str, Any], Mapping[str, list[Cell]]], Mapping[str, Any]]
"""`evaluate(question, columns)`: one result per point and column; `error` tells what is wrong with a point, if so.

It must be a function of a module, since other processes import it by its name, and the same for equal arguments."""

ERROR = "error"
KINDS = ("<f8", "<i8", "|b1")
"""Kinds of numbers that pieces hold; others become float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Points that are evaluated together: `count` of them from number `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done with every part.

    Attributes:
        evaluate: the function. question: its first argument, plain data.
        limit_s: time that one point may take; 0: any.
    """

    evaluate: Evaluate
    question: Mapping[str, Any]
    limit_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """Results of a part.

    Attributes:
        part: which points.
        columns: name -> results, [count].
        errors: one text per point; "" where all is well.
    """

    part: Part
    columns: Mapping[str, Column]
    errors: tuple[str, ...]
    failed: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the points with an error."""
        object.__setattr__(self, "failed", sum(map(bool, self.errors)))


def evaluated(work: Work, part: Part, columns: Mapping[str, list[Cell]]) -> Piece:
    """The results of a part. What the function raises becomes the error of the points that it cannot do."""
    try:
        found = dict(work.evaluate(work.question, columns))
        errors = _texts(found.pop(ERROR, ("",) * part.count))
        made = {name: column_of(values) for name, values in found.items()}
        wrong = [name for name, values in (*made.items(), (ERROR, errors)) if len(values) != part.count]
        if wrong:
            raise RidgelineError(f"{wrong[0]} has not one result per point", at="sweep")
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # any mistake in one point must leave the others alone
        if part.count == 1:
            return failure(part, told(error))
        half = part.count // 2
        cuts = ((0, half), (half, part.count))
        halves = [
            evaluated(
                work,
                Part(first=part.first + low, count=high - low),
                {name: values[low:high] for name, values in columns.items()},
            )
            for low, high in cuts
        ]
        merged = joined(halves)
        return Piece(part=part, columns=merged, errors=halves[0].errors + halves[1].errors)
    return Piece(part=part, columns=made, errors=errors)


def told(error: Exception) -> str:
    """One line about what went wrong."""
    line = error.line() if isinstance(error, RidgelineError) else " ".join(f"{type(error).__name__}: {error}".split())
    return line[:500] or type(error).__name__


def failure(part: Part, why: str) -> Piece:
    """A part none of whose points has a result."""
    return Piece(part=part, columns={}, errors=(why,) * part.count)


def joined(pieces: Sequence[Piece]) -> dict[str, Column]:
    """Columns of pieces in their order, one below the other; a column that a piece lacks is empty there.

    A column keeps its kind if every piece agrees and none lacks it; else numbers are float64, and text beats numbers.
    """
    names = dict.fromkeys(name for piece in pieces for name in piece.columns)
    return {name: _stacked([(piece.columns.get(name), piece.part.count) for piece in pieces]) for name in names}


def column_of(values: Any) -> Column:
    """Results as the function gave them, in one of the two forms."""
    if isinstance(values, Labels):
        return tuple(values.texts())
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        return _texts(values)
    kind = array.dtype.newbyteorder("<").str if array.dtype.itemsize > 1 else array.dtype.str
    return array if kind in KINDS else array.astype(np.float64)


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, Labels):
        return tuple(values.texts())
    return tuple("" if value is None or value != value else str(value) for value in values)


def _stacked(found: Sequence[tuple[Column | None, int]]) -> Column:
    if any(isinstance(column, tuple) for column, _ in found):
        return tuple(text for column, count in found for text in _as_texts(column, count))
    arrays = [np.full(count, np.nan) if column is None else np.asarray(column) for column, count in found]
    kinds = {array.dtype for array in arrays}
    return np.concatenate(arrays if len(kinds) == 1 else [array.astype(np.float64) for array in arrays])


def _as_texts(column: Column | None, count: int) -> tuple[str, ...]:
    if column is None:
        return ("",) * count
    if isinstance(column, tuple):
        return column
    return tuple("" if np.isnan(value) else f"{value:g}" for value in column.astype(np.float64).tolist())
