"""The time of a step over many rows, where ops that come out equal in several rows are priced once.

In a table of deployments most batches differ in the lengths of their contexts only, which matter to attention alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.columns import columns_of, map_columns
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware.chip import Value
from ridgeline.workloads.graph import Graph

FEW_ROWS = 2048
"""Below this many rows it is quicker to price them all."""

MOST_CLASSES = 0.7
"""Share of the rows above which classes of them save nothing."""

MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier of Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4)."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Classes of rows that are likely to be equal: the first row of each class, and the class of each row."""

    first: NDArray[np.intp]
    of_row: NDArray[np.intp]

    def holds(self, value: Any) -> bool:
        """Whether every column in `value` is the same all over each class."""
        rows = self.of_row.shape
        return all(c.shape == rows and np.array_equal(c[self.first][self.of_row], c) for c in columns_of(value))


def alike(value: Any) -> Alike | None:
    """Rows with equal numbers in all columns of `value`, by their hashes; None where few are."""
    columns = columns_of(value)
    rows = max((column.size for column in columns), default=0)
    if rows < FEW_ROWS or any(column.shape != (rows,) for column in columns):
        return None
    keys = np.zeros(rows, dtype=np.uint64)
    for column in columns:
        keys ^= column.astype(np.float64).view(np.uint64)
        keys *= MIX
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys)
    ordered = keys[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    if np.count_nonzero(new) > MOST_CLASSES * rows:
        return None
    of_row = np.empty(rows, dtype=np.intp)
    of_row[order] = np.cumsum(new) - 1
    return Alike(first=order[new], of_row=of_row)


def step_time_s(graph: Graph, machines: MachineColumns, setting: Setting, shared: Alike | None) -> Value:
    """Device time of one pass, as of `price_step`; an op that is the same all over each class is priced by class."""
    index = machines.index
    few = machines if shared is None or index is None else replace(machines, index=index[shared.first])
    total: Value = np.float64(0.0)
    for op, times in graph.walk():
        if shared is None or not shared.holds((op, times)):
            total = total + times * price(op, machines, setting).time_s
            continue
        first_op, first_times = map_columns((op, times), lambda column: column[shared.first])
        time_s = np.asarray(first_times * price(first_op, few, setting).time_s)
        total = total + (time_s[shared.of_row] if time_s.ndim else time_s)
    return total
