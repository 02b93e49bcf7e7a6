"""Rows of a case table on their way to `predict`: columns of numbers, columns of text, chosen and repeated by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.tables import Labels, Table

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """`count` cases: numbers [count] and labels by the names of the columns of `predict serving`."""

    count: int
    numbers: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, Labels]

    def take(self, index: Index) -> Rows:
        """Some rows, in any order, each as often as wanted."""
        return Rows(
            count=index.size,
            numbers={name: column[index] for name, column in self.numbers.items()},
            texts={name: Labels(column.codes[index], column.values) for name, column in self.texts.items()},
        )

    def put(self, **columns: ArrayLike | str) -> Rows:
        """The rows with columns set: a number or a text for all, or a number per row."""
        numbers, texts = dict(self.numbers), dict(self.texts)
        for name, value in columns.items():
            if isinstance(value, str):
                texts[name] = Labels(np.zeros(self.count, dtype=np.int32), (value,))
            else:
                numbers[name] = np.broadcast_to(np.asarray(value, dtype=np.float64), (self.count,))
        return replace(self, numbers=numbers, texts=texts)

    def number(self, name: str, default: float) -> NDArray[np.float64]:
        """A column, or what is meant where it is absent."""
        return self.numbers.get(name, np.full(self.count, default))

    def table(self) -> Table:
        """As a table of cases."""
        columns: dict[str, NDArray[np.float64] | Labels] = {**self.numbers, **self.texts}
        return Table(rows=self.count, names=tuple(columns), columns=columns, source=columns)

    def case(self, row: int) -> dict[str, float | str]:
        """One row as plain values, empty texts left out."""
        found: dict[str, float | str] = {}
        for name, labels in self.texts.items():
            if labels.codes[row] >= 0 and labels.values[labels.codes[row]]:
                found[name] = labels.values[labels.codes[row]]
        return found | {name: float(column[row]) for name, column in self.numbers.items()}


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts; a number that one of them lacks is absent there (NaN)."""
    names = dict.fromkeys(name for part in parts for name in part.numbers)
    numbers = {name: np.concatenate([part.number(name, np.nan) for part in parts]) for name in names}
    texts = {name: _joined([part.texts[name] for part in parts]) for name in parts[0].texts}
    return Rows(count=sum(part.count for part in parts), numbers=numbers, texts=texts)


def _joined(columns: Sequence[Labels]) -> Labels:
    values = tuple(dict.fromkeys(value for column in columns for value in column.values))
    places = [np.array([values.index(value) for value in column.values], dtype=np.int32) for column in columns]
    codes = [place[column.codes] for place, column in zip(places, columns, strict=True)]
    return Labels(np.concatenate(codes), values)
