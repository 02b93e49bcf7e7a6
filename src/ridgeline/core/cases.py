"""Rows that are evaluated together and fail alone: problems by row, and rows grouped by what cannot be an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels

Rows = NDArray[np.intp]

MOST_KEYS, SHORT_KEYS = 2**62, 2**16
"""Combinations of codes that one int64, and one uint16, can number."""


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
        chosen = np.arange(self.rows)[where]
        chosen = chosen[self._message_of[chosen] < 0]
        if chosen.size:
            self._messages.append(problem.line() if isinstance(problem, RidgelineError) else problem)
            self._message_of[chosen] = len(self._messages) - 1

    def flag_each(self, rows: Rows, messages: Sequence[str]) -> None:
        """Give each of `rows` that has no problem yet its own message (for what differs from row to row)."""
        for row, message in zip(rows.tolist(), messages, strict=True):
            if self._message_of[row] < 0:
                self._messages.append(message)
                self._message_of[row] = len(self._messages) - 1

    def column(self) -> list[str]:
        """One message per row, empty where all is well."""
        texts = ["", *self._messages]
        return [texts[index + 1] for index in self._message_of.tolist()]

    def coded(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """The same as codes into the distinct messages (-1: none), for wide tables."""
        return self._message_of.astype(np.int32), tuple(self._messages)


def alone(rows: Rows, evaluate: Callable[[Rows], None], problems: Problems) -> None:
    """Call `evaluate(rows)`; where it refuses, halve the rows until each refusal belongs to one row only."""
    try:
        evaluate(rows)
    except RidgelineError as error:
        if rows.size <= 1:
            problems.flag(rows, error)
            return
        for half in np.array_split(rows, 2):
            alone(half, evaluate, problems)


def groups(codes: Sequence[NDArray[np.int32]], rows: Rows) -> Iterator[tuple[tuple[int, ...], Rows]]:
    """Split `rows` by equal codes. Yields (the codes, the rows) in a fixed order; each code array spans the table."""
    if rows.size == 0:
        return
    key, span = np.zeros(rows.size, dtype=np.int64), 1
    for column in codes:
        chosen = column[rows].astype(np.int64)
        lowest, width = int(chosen.min()), int(chosen.max()) - int(chosen.min()) + 1
        if width == 1:
            continue
        if span > MOST_KEYS // width:
            distinct, key = np.unique(key, return_inverse=True)
            span = distinct.size
        key, span = key * width + (chosen - lowest), span * width
    if span <= SHORT_KEYS:
        key = key.astype(np.uint16)  # numpy sorts 16-bit integers by radix
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for chunk in np.split(order, cuts):
        members = rows[chunk]
        yield tuple(int(column[members[0]]) for column in codes), members


@dataclass(frozen=True, slots=True)
class Cases:
    """A task's table with every default filled in: numbers as float64 columns, texts as labels without gaps."""

    rows: int
    numbers: Mapping[str, NDArray[np.float64] | float]
    texts: Mapping[str, Labels]

    def number(self, name: str) -> NDArray[np.float64]:
        """A numeric column, [rows]."""
        return np.broadcast_to(np.asarray(self.numbers[name], dtype=np.float64), (self.rows,))

    def labels(self, name: str) -> Labels:
        """A text column; every code is a valid index."""
        return self.texts[name]

    def part(self, rows: Rows) -> Cases:
        """Some of the rows, as a table of their own."""
        numbers = {name: self.number(name)[rows] for name in self.numbers}
        texts = {name: Labels(column.codes[rows], column.values) for name, column in self.texts.items()}
        return Cases(rows.size, numbers, texts)

    def text(self, name: str, row: int) -> str:
        """One cell of a text column."""
        column = self.texts[name]
        return str(column.values[int(column.codes[row])])


_Found = TypeVar("_Found")


class Resolved(Generic[_Found]):
    """Distinct combinations of some text columns, each turned into a value once.

    `values[of[row]]` belongs to a row; a combination that cannot be resolved is None there, and its rows get the error.
    """

    __slots__ = ("of", "values")

    def __init__(self, problems: Problems, cases: Cases, names: Sequence[str], find: Callable[..., _Found]) -> None:
        """Call `find(*texts)` for each distinct combination of the columns `names`."""
        key = np.zeros(cases.rows, dtype=np.int64)
        for column in (cases.labels(name) for name in names):
            key = key * max(len(column.values), 1) + column.codes
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        self.of: Rows = inverse.astype(np.intp)
        self.values: list[_Found | None] = []
        for place, row in enumerate(first.tolist()):
            try:
                self.values.append(find(*(cases.text(name, row) for name in names)))
            except RidgelineError as error:
                self.values.append(None)
                problems.flag(self.of == place, error)

    def codes(self, property_of: Callable[[_Found], object]) -> NDArray[np.int32]:
        """One code per row: equal where `property_of(value)` is equal; unresolved rows share a code of their own."""
        known: dict[object, int] = {}
        by_value = [-1 if value is None else known.setdefault(property_of(value), len(known)) for value in self.values]
        return np.array(by_value, dtype=np.int32)[self.of]

    def used(self, rows: Rows) -> tuple[tuple[_Found, ...], Rows]:
        """The distinct values of `rows`, and for each row an index into them. Every row must be resolved."""
        places, index = np.unique(self.of[rows], return_inverse=True)
        found = tuple(value for value in (self.values[place] for place in places) if value is not None)
        return found, index.astype(np.intp)
