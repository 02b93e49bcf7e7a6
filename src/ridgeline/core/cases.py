"""Rows that are evaluated together and fail alone: problems by row, and rows grouped by what cannot be an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import RidgelineError

Rows = NDArray[np.intp]


class Problems:
    """What is wrong with each row of a table, if anything: the first problem found is the one that is told."""

    __slots__ = ("_message_of", "_messages", "rows")

    def __init__(self, rows: int) -> None:
        """Start with no problems."""
        self.rows = rows
        self._messages: list[str] = []
        self._message_of = np.full(rows, -1, dtype=np.int64)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Rows without a problem so far."""
        return self._message_of < 0

    def flag(self, where: NDArray[np.bool_] | Rows | slice, problem: str | RidgelineError) -> None:
        """Give every row of `where` that has no problem yet this one."""
        chosen = np.zeros(self.rows, dtype=bool)
        chosen[where] = True
        chosen &= self.ok
        if chosen.any():
            self._messages.append(problem.line() if isinstance(problem, RidgelineError) else problem)
            self._message_of[chosen] = len(self._messages) - 1

    def flag_each(self, where: NDArray[np.bool_], message: Callable[[int], str]) -> None:
        """Give each chosen row its own message (for values that differ from row to row)."""
        for row in np.flatnonzero(where & self.ok):
            self.flag(np.array([row]), message(int(row)))

    def column(self) -> list[str]:
        """One message per row, empty where all is well."""
        texts = ["", *self._messages]
        return [texts[index + 1] for index in self._message_of.tolist()]

    def coded(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """The same as codes into the distinct messages (-1: none), for wide tables."""
        return self._message_of.astype(np.int32), tuple(self._messages)


def groups(codes: Sequence[NDArray[np.int32]], rows: Rows) -> Iterator[tuple[tuple[int, ...], Rows]]:
    """Split `rows` by equal codes. Yields (the codes, the rows) in a fixed order; each code array spans the table."""
    if rows.size == 0:
        return
    key = np.zeros(rows.size, dtype=np.int64)
    for column in codes:
        values, inverse = np.unique(column[rows], return_inverse=True)
        key = key * values.size + inverse
        key = np.unique(key, return_inverse=True)[1].astype(np.int64)
    order = np.argsort(key, kind="stable")
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    for chunk in np.split(order, cuts):
        members = rows[chunk]
        yield tuple(int(column[members[0]]) for column in codes), members
