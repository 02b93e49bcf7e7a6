"""Links between the chips of a deployment that stand apart: pools, and chips that hold a cache."""

from __future__ import annotations

import math

import numpy as np

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.chip import Value
from ridgeline.hardware.topology import Level, Machine


def spanning(machines: MachineColumns, chips: Value) -> tuple[Value, Value]:
    """(latency in s, bytes/s per chip and direction) of the innermost level of links that spans so many chips.

    Beyond all levels it is the outermost. A machine without links has no latency and an infinite rate.
    """
    latency: Value = np.float64(0.0)
    bandwidth: Value = np.float64(np.inf)
    deepest = machines.gather(lambda machine: float(len(_levels(machine))))
    for depth in reversed(range(int(np.max(deepest)))):
        size, speed, delay = (_level(machines, depth, of) for of in ("size", "bandwidth_bytes_per_s", "latency_s"))
        spans = (np.asarray(chips) <= size) | (depth >= deepest - 1)
        bandwidth, latency = np.where(spans, speed, bandwidth), np.where(spans, delay, latency)
    return latency, bandwidth


def _levels(machine: Machine) -> tuple[Level, ...]:
    """All levels of links that the machine's kind of node has, whatever this machine needs of them."""
    return machine.node.levels if machine.node is not None else machine.levels


def _level(machines: MachineColumns, depth: int, of: str) -> Value:
    """A number of one level of each machine; of its outermost where it has fewer; no cost where it has none."""

    def number(machine: Machine) -> float:
        levels = _levels(machine)
        if not levels:
            return 0.0 if of == "latency_s" else math.inf
        value: float = getattr(levels[min(depth, len(levels) - 1)], of)
        return value

    return machines.gather(number)
