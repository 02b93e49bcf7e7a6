"""Decode attention on chips of its own, priced there, with what passes over the link, and batches that take turns.

An exchange takes the latency of the link and its bytes over the slower side: all ranks of a stage send at once, all
chips of the cache take their part at once (Hockney's model). With several batches in rotation (Lamina's rotational
staggered pipelining, arXiv 2405.01814, section 4.3) one computes where the weights are while another is at its
attention. In a steady rotation of equal shares a layer's turn comes as soon as its busiest resource is through with all
batches, and no sooner than one batch is through the layer; the two directions of the link are apart. Each resource is
counted over the whole pass, as if all layers were alike. Weights are read once per batch: that is in the prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Price, Setting, zero_where_empty
from ridgeline.costs.price_op import price
from ridgeline.hardware.chip import Value
from ridgeline.plans import AWAY, LINK
from ridgeline.steps.priced import OpCost
from ridgeline.workloads.ops import Copy, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """The chips that hold a lane's cache, and the link to them.

    Attributes:
        machines: one per row, or one for all; one generation.
        bytes_per_s: over the link, of all ranks of a stage together, as the slower side has it.
        latency_s: of one exchange.
    """

    machines: MachineColumns
    bytes_per_s: Value
    latency_s: Value

    def price(self, op: Op, machines: MachineColumns, setting: Setting) -> Price:
        """The price of an op of a graph whose decode attention is away; `machines` are those of the weights."""
        if op.part == AWAY:
            return price(op, self.machines, setting)
        if op.part == LINK and isinstance(op, Copy):
            return self._exchange(op)
        return price(op, machines, setting)

    def _exchange(self, op: Copy) -> Price:
        size = np.asarray(op.size_bytes, dtype=np.float64)
        moving = size / self.bytes_per_s
        time_s = self.latency_s + moving
        whole = Price(
            time_s=time_s,
            floor_s=moving,
            flops=0.0 * size,
            read_bytes=size,
            write_bytes=size,
            terms={"link": time_s},
            kernel="attention-link",
        )
        return zero_where_empty(whole, size)


def rotated_time_s(turn: Sequence[OpCost], turns: Value) -> Value:
    """Seconds in which `turns` batches in rotation each make a step.

    Args:
        turn: the ops of one of them.
        turns: how many there are.
    """
    busy: dict[str, Value] = {}
    chain: Value = np.float64(0.0)
    for cost in turn:
        resource = _resource(cost.op)
        chain = chain + cost.time_s
        busy[resource] = busy.get(resource, 0.0) + cost.time_s
    longest = chain
    for seconds in busy.values():
        longest = np.maximum(longest, turns * seconds)
    return longest


def _resource(op: Op) -> str:
    """What an op keeps busy: the chips of the weights, those of the cache, or one direction of the link."""
    if op.part == LINK and isinstance(op, Copy):
        return "there" if op.target == "peer" else "back"
    return "cache" if op.part == AWAY else "weights"
