"""A graph laid on one stream of each rank: ops in order, collectives exposed, each with its price and count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.bundles import price_all
from ridgeline.costs.interval import Part, interval, total
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import interval_kind
from ridgeline.hardware.chip import Value
from ridgeline.steps.away import Away, rotated_time_s
from ridgeline.steps.nano_batches import split_time_s
from ridgeline.steps.priced import OpCost
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.ops import Collective, Experts, Op

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """A priced graph. Times are one pass through every layer (pipeline stages one after another), host time apart.

    Attributes:
        ops: all ops, one after another.
        half: those of half the batch, if the step may run as two nano-batches.
        splits: whether it may, per configuration.
        turn, turns: the ops of one of `turns` batches that rotate between two kinds of chips, if they may (`away`).
        least_s: what the engine takes for a pass whatever the ops cost (its host issues them one by one, say).
    """

    ops: tuple[OpCost, ...]
    half: tuple[OpCost, ...] = ()
    splits: Value | NDArray[np.bool_] = False
    turn: tuple[OpCost, ...] = ()
    turns: Value = 1.0
    least_s: Value = 0.0

    @cached_property
    def time_s(self) -> Value:
        """Device time of one pass."""
        return np.maximum(self._serial_s - self.hidden_s, self.least_s)

    @cached_property
    def _serial_s(self) -> Value:
        return _total(cost.time_s for cost in self.ops)

    @cached_property
    def hidden_s(self) -> Value:
        """What two nano-batches or a rotation save, where they do; figures by op and by bound do not show it."""
        if self.turn:
            rotated = np.maximum(self._serial_s - rotated_time_s(self.turn, self.turns), 0.0)
            gained: Value = np.where(np.asarray(self.turns) > 1, rotated, 0.0)
            return gained
        if not self.half:
            return np.float64(0.0)
        saved = np.maximum(self._serial_s - split_time_s(self.ops, self.half), 0.0)
        hidden: Value = np.where(self.splits, saved, 0.0)
        return hidden

    def only(self, chosen: Callable[[Op], bool]) -> Step:
        """The step of some of its ops."""
        ops, half, turn = (
            tuple(cost for cost in costs if chosen(cost.op)) for costs in (self.ops, self.half, self.turn)
        )
        return Step(ops, half, self.splits, turn, self.turns, self.least_s)

    @cached_property
    def communication_s(self) -> Value:
        """Time in collectives."""
        return _total(cost.time_s for cost in self.ops if isinstance(cost.op, Collective))

    @cached_property
    def flops(self) -> Value:
        """Operations of one pass on one rank of each stage."""
        return _total(cost.times * cost.price.flops for cost in self.ops)

    @cached_property
    def floor_s(self) -> Value:
        """Sum of the hardware bounds of its ops."""
        return _total(cost.times * cost.price.floor_s for cost in self.ops)

    @property
    def has_experts(self) -> bool:
        """Whether routed experts run in it."""
        return any(isinstance(cost.op, Experts) for cost in self.ops)

    def role_bytes(self, role: str) -> Value:
        """Bytes that operands of one role (weights, kv, activations, state) move."""
        return _total(
            cost.times * sum(np.add(o.read_bytes, o.write_bytes) for o in cost.op.operands() if o.role == role)
            for cost in self.ops
        )

    def time_by_bound(self) -> Mapping[str, Value]:
        """Seconds attributed to the largest term of each op (compute, memory, link, launch, ...)."""
        shares: dict[str, Value] = {}
        for cost in self.ops:
            terms = cost.price.terms
            largest = np.maximum.reduce(np.broadcast_arrays(*terms.values())) if len(terms) > 1 else None
            for name, term in terms.items():
                wins = 1.0 if largest is None else np.asarray(term) >= largest
                shares[name] = shares.get(name, 0.0) + cost.time_s * wins
        return shares

    def bound(self) -> NDArray[np.str_]:
        """The bound that holds the most time of the step, per configuration."""
        return largest_name(self.time_by_bound())

    def interval(self) -> tuple[Value, Value]:
        """(p10, p90) of the step's time, s: errors of one kind of op add, those of different kinds in squares."""
        parts = []
        for cost in self.ops:
            kind = interval_kind(cost.op)
            low, high = interval(kind, cost.price.kernel, cost.price.calibrated)
            time_s = cost.time_s
            parts.append(Part(kind=kind, time_s=time_s, low_s=time_s * low, high_s=time_s * high))
        low_s, high_s = total(parts)
        shorter = self.time_s / self._serial_s if self.half or self.turn else 1.0
        low_s, high_s = np.maximum(low_s, self.floor_s) * shorter, np.maximum(high_s, self._serial_s) * shorter
        return np.maximum(low_s, self.least_s), np.maximum(high_s, self.least_s)

    def calibrated(self) -> Value:
        """Share of the time priced with coefficients of this very chip."""
        known = _total(cost.time_s * np.asarray(cost.price.calibrated, float) for cost in self.ops)
        share: Value = np.divide(known, self._serial_s, out=np.zeros_like(np.asarray(known, float)), where=known > 0)
        return share


def price_step(graph: Graph, machines: MachineColumns, setting: Setting, away: Away | None = None) -> Step:
    """Price every distinct op of a rank's graph once; repetition multiplies.

    Args:
        graph: as `plans.parallelise` gives it; sizes scalar or columns.
        machines: one per row, one generation.
        setting: under which software and conditions.
        away: the chips of the cache, if the graph's decode attention runs on chips of its own.
    Returns: the step, with every array broadcast over the same rows.
    """
    runs = list(_runs(graph, graph.name, 1.0))
    ops = [op for _, op, _ in runs]
    prices = price_all(ops, machines, setting) if away is None else [away.price(op, machines, setting) for op in ops]
    return Step(tuple(OpCost(block, op, times, price) for (block, op, times), price in zip(runs, prices, strict=True)))


def largest_name(shares: Mapping[str, Value]) -> NDArray[np.str_]:
    """Key of the largest value, element by element."""
    names = np.array(list(shares))
    stacked = np.stack(np.broadcast_arrays(*(np.asarray(value, float) for value in shares.values())))
    chosen: NDArray[np.str_] = names[np.argmax(stacked, axis=0)]
    return chosen


def _runs(graph: Graph, block: str, times: Value) -> Iterator[tuple[str, Op, Value]]:
    """Every distinct op with its block and how often it runs."""
    for item in graph.items:
        if isinstance(item, Repeat):
            yield from _runs(item.graph, item.graph.name, times * item.count)
        else:
            yield block, item, times


def _total(values: Iterator[Value]) -> Value:
    total: Value = sum(values, start=np.float64(0.0))
    return total
