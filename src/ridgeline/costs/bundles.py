"""Ops that differ in their sizes only, priced in one call: for a few rows, a call costs more than what it computes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from math import prod

import numpy as np

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware.chip import Value
from ridgeline.workloads.ops import Collective, Matmul, Op, Vector

MOST_ROWS = 64
"""Rows up to which ops are priced together: beyond, their columns no longer fit the caches better than one by one."""

UNPRICED = frozenset({"name", "part", "shard", "tied", "bias", "axis"})
"""Fields of the ops below that say where an op belongs, and on which no price depends."""

TOGETHER = (Matmul, Vector, Collective)
"""Kinds of which a step has many; the kernel of a price is the same for all their sizes."""


def price_all(ops: Sequence[Op], machines: MachineColumns, setting: Setting) -> list[Price]:
    """The price of each op, as `price` gives it."""
    shape = np.broadcast_shapes(
        () if machines.index is None else machines.index.shape,
        *(np.shape(getattr(op, name)) for op in ops for name in sizes(type(op))),
    )
    if len(shape) > 1 or prod(shape) > MOST_ROWS:
        return [price(op, machines, setting) for op in ops]
    found: dict[int, Price] = {}
    for places, whole in bundles(ops, prod(shape), _priced_by):
        if len(places) == 1:
            found[places[0]] = price(ops[places[0]], machines, setting)
            continue
        index = None if machines.index is None else np.tile(machines.index, len(places))
        together = price(whole, replace(machines, index=index), setting)
        for nth, place in enumerate(places):
            found[place] = _part(together, nth, (len(places), *shape))
    return [found[place] for place in range(len(ops))]


def bundles(ops: Sequence[Op], rows: int, key: Callable[[Op], Hashable]) -> Iterator[tuple[list[int], Op]]:
    """Ops of one key as one op of [ops x rows] entries, with the places of those in it; lone ones stay as they are."""
    alike: dict[Hashable, list[int]] = {}
    for place, op in enumerate(ops):
        alike.setdefault((type(op), key(op)), []).append(place)
    for places in alike.values():
        first = ops[places[0]]
        if len(places) == 1:
            yield places, first
            continue
        columns = {name: np.empty((len(places), rows)) for name in sizes(type(first))}
        for name, column in columns.items():
            for nth, at in enumerate(places):
                column[nth] = getattr(ops[at], name)
        yield places, replace(first, **{name: column.ravel() for name, column in columns.items()})  # type: ignore[type-var]


@cache
def sizes(kind: type[Op]) -> tuple[str, ...]:
    """Names of the fields of an op that are numbers or columns."""
    return tuple(field.name for field in fields(kind) if field.type in ("Dim", "float"))  # type: ignore[arg-type]


@cache
def labels(kind: type[Op]) -> tuple[str, ...]:
    """Names of its other fields."""
    return tuple(field.name for field in fields(kind) if field.name not in sizes(kind))  # type: ignore[arg-type]


def _priced_by(op: Op) -> Hashable:
    """What must be equal for ops to be priced together; an op of another kind is priced by itself."""
    if not isinstance(op, TOGETHER):
        return id(op)
    kind: type[Op] = type(op)
    return tuple(getattr(op, name) for name in labels(kind) if name not in UNPRICED)


def _part(whole: Price, nth: int, shape: tuple[int, ...]) -> Price:
    """The price of one op of several."""

    def part(value: Value) -> Value:
        return value if np.ndim(value) == 0 else np.reshape(value, shape)[nth]

    return Price(
        time_s=part(whole.time_s),
        floor_s=part(whole.floor_s),
        flops=part(whole.flops),
        read_bytes=part(whole.read_bytes),
        write_bytes=part(whole.write_bytes),
        terms={name: part(term) for name, term in whole.terms.items()},
        detail={name: part(value) for name, value in whole.detail.items()},
        calibrated=part(whole.calibrated) if np.ndim(whole.calibrated) else whole.calibrated,  # type: ignore[arg-type]
        kernel=whole.kernel,
    )
