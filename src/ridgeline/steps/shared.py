"""The time of a step over many rows, where ops that come out equal in several rows are priced once.

An op sees a part of its batch: projections its tokens, the head its sequences, attention its lengths. Rows that differ
in the rest share its price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.columns import columns_of, map_columns
from ridgeline.costs.bundles import price_all
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware.chip import Value
from ridgeline.workloads.graph import Graph

FEW_ROWS = 2048
"""Below this many rows it is quicker to price them all."""

MOST_CLASSES = 0.7
"""Share of the rows above which classes of them save nothing."""

TABLE_BITS = 18
"""Of the table in which equal rows find each other: several times the rows of a chunk."""

MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier of Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4)."""


@dataclass(frozen=True)
class Alike:
    """Classes of rows that are likely to be equal: one row of each class, and the class of each row.

    `seen` remembers columns and whether each is the same all over every class: ops of one graph have columns in common.
    """

    some: NDArray[np.intp]
    of_row: NDArray[np.intp]
    seen: dict[int, tuple[NDArray[Any], bool]] = field(default_factory=dict)

    @cached_property
    def like(self) -> NDArray[np.intp]:
        """For each row the one that stands for its class."""
        return self.some[self.of_row]

    def holds(self, value: Any) -> bool:
        """Whether every column in `value` is the same all over each class."""
        return all(self._holds(column) for column in columns_of(value))

    def _holds(self, column: NDArray[Any]) -> bool:
        if id(column) not in self.seen:
            same = column.shape == self.of_row.shape and np.array_equal(column[self.like], column)
            self.seen[id(column)] = column, same
        return self.seen[id(column)][1]


def alike(same: Any, *seen: Any) -> list[Alike]:
    """Rows with equal numbers in all columns of `same` and of one of `seen`, by their hashes, for each of `seen`.

    Left out where few rows are equal, or few in all.
    """
    columns = columns_of((same, seen))
    rows = max((column.size for column in columns), default=0)
    if rows < FEW_ROWS or any(column.shape != (rows,) for column in columns):
        return []
    common = _hashed(np.zeros(rows, dtype=np.uint64), same)
    found = (_classes(_hashed(common.copy(), each)) for each in seen)
    return [each for each in found if each.some.size <= MOST_CLASSES * rows]


def _hashed(keys: NDArray[np.uint64], value: Any) -> NDArray[np.uint64]:
    for column in columns_of(value):
        keys ^= column.astype(np.float64).view(np.uint64)
        keys *= MIX
        keys ^= keys >> np.uint64(29)
    return keys


def _classes(keys: NDArray[np.uint64]) -> Alike:
    """Equal keys meet at a place of a table; rows that find another key there are classes of their own."""
    places = (keys >> np.uint64(64 - TABLE_BITS)).astype(np.intp)
    rows, table = np.arange(keys.size), np.empty(2**TABLE_BITS, dtype=np.intp)
    table[places] = rows
    like = table[places]
    like = np.where(keys[like] == keys, like, rows)
    some = np.flatnonzero(like == rows)
    number = np.empty(keys.size, dtype=np.intp)
    number[some] = np.arange(some.size)
    return Alike(some=some, of_row=number[like])


def step_time_s(graph: Graph, machines: MachineColumns, setting: Setting, shared: Sequence[Alike]) -> Value:
    """Device time of one pass, as of `price_step`; an op is priced by the first classes all over which it is the same.

    `shared` holds classes of the rows in the order in which they are tried, those of most ops first.
    """
    total: Value = np.float64(0.0)
    if not shared:
        runs = list(graph.walk())
        for (_, times), priced in zip(runs, price_all([op for op, _ in runs], machines, setting), strict=True):
            total = total + times * priced.time_s
        return total
    few = [
        machines if machines.index is None else replace(machines, index=machines.index[each.some]) for each in shared
    ]
    for op, times in graph.walk():
        place = next((i for i, each in enumerate(shared) if each.holds((op, times))), None)
        if place is None:
            total = total + times * price(op, machines, setting).time_s
            continue
        each = shared[place]
        one_op, one_times = map_columns((op, times), lambda column, each=each: column[each.some])  # type: ignore[misc]
        time_s = np.asarray(one_times * price(one_op, few[place], setting).time_s)
        total = total + (time_s[each.of_row] if time_s.ndim else time_s)
    return total
