"""Layers of a model: contiguous pipeline stages over unlike devices, and a bit width for each layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.search.allocate.program import INFEASIBLE, OPTIMAL, Program, named, table

MOST_STATES = 2**16
"""Combinations of devices in use that are looked at; more are refused."""

ROUNDING = 1e-12
"""Share by which sums of sizes may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """A pipeline: stage i runs the layers from `starts[i]` up to `starts[i + 1]` on a device of kind `kinds[i]`.

    Attributes:
        status: optimal or infeasible.
        starts: [stages + 1]; the last is the number of layers.
        kinds: [stages].
        time_s: of the slowest stage, which is the pipeline's period; NaN if infeasible.
        reason: why nothing fits.
    """

    status: str
    starts: NDArray[np.intp]
    kinds: NDArray[np.intp]
    time_s: float
    reason: str = ""


def stages(
    time_s: ArrayLike,
    counts: ArrayLike,
    *,
    layer_bytes: ArrayLike | None = None,
    memory_bytes: ArrayLike | None = None,
    stage_s: ArrayLike | None = None,
    order: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
) -> Stages:
    """Contiguous layers per device so that the slowest stage is as fast as it can be. Devices may stay unused.

    Args:
        time_s: of each layer on each kind of device, [layers, kinds].
        counts: devices of each kind, [kinds].
        layer_bytes: what a layer takes, [layers].
        memory_bytes: of a device, [kinds].
        stage_s: what each stage adds, such as the transfer of activations, [kinds].
        order: kinds of the devices along the pipeline, if it is fixed; otherwise any order is tried.
        kinds: names, for the reason.
    Raises: DomainError: shapes that do not agree, or too many combinations of devices.
    Source: exact: for a period, the furthest layer that each multiset of devices reaches (dynamic programming over
        multisets, as PipeDream's planner over workers, Narayanan et al., SOSP 2019), and bisection over all periods.
    """
    times = table(time_s, "time_s", (None, None))
    layers, width = times.shape
    have = table(counts, "counts", (width,)).astype(np.intp)
    fixed = None if order is None else np.asarray(order, dtype=np.intp)
    if fixed is not None and (fixed.size == 0 or fixed.min() < 0 or fixed.max() >= width):
        raise DomainError("an order names kinds of devices", at="order", got=list(order or ()), fix=f"0 to {width - 1}")
    if layers == 0 or (fixed is None and np.prod(have + 1.0) > MOST_STATES):
        words = "no layers, or too many combinations of devices"
        raise DomainError(words, at="counts", got=have.tolist(), fix="group equal devices into kinds")
    added = table(np.zeros(width) if stage_s is None else stage_s, "stage_s", (width,))
    size = table(np.zeros(layers) if layer_bytes is None else layer_bytes, "layer_bytes", (layers,))
    room = table(np.full(width, np.inf) if memory_bytes is None else memory_bytes, "memory_bytes", (width,))
    spans = _spans(times, added, size, room)
    periods = np.unique(spans[np.isfinite(spans)])
    low, high = 0, len(periods)
    while low < high:
        middle = (low + high) // 2
        if _cut(spans, periods[middle], have, fixed)[0]:
            high = middle
        else:
            low = middle + 1
    if low == len(periods):
        there = have if fixed is None else np.bincount(fixed, minlength=width)
        reason = _too_big(size, room, there, named(kinds, width, "kind"))
        nothing = np.empty(0, dtype=np.intp)
        return Stages(status=INFEASIBLE, starts=nothing, kinds=nothing, time_s=np.nan, reason=reason)
    _, starts, used = _cut(spans, periods[low], have, fixed)
    return Stages(status=OPTIMAL, starts=starts, kinds=used, time_s=float(periods[low]))


def _spans(
    times: NDArray[np.float64], added: NDArray[np.float64], size: NDArray[np.float64], room: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Seconds of the layers [from, to) as one stage on each kind, [from, to, kinds]; infinity: empty or too large."""
    until = np.concatenate([np.zeros((1, times.shape[1])), np.cumsum(times, axis=0)])
    held = np.concatenate([[0.0], np.cumsum(size)])
    bytes_of = held[None, :] - held[:, None]
    fits = bytes_of[:, :, None] <= room * (1.0 + ROUNDING) + ROUNDING * held[-1]
    later = np.triu(np.ones(bytes_of.shape, dtype=np.bool_), 1)
    return np.where(later[:, :, None] & fits, until[None, :, :] - until[:, None, :] + added, np.inf)


Cut = tuple[bool, NDArray[np.intp], NDArray[np.intp]]


def _cut(spans: NDArray[np.float64], period: float, have: NDArray[np.intp], order: NDArray[np.intp] | None) -> Cut:
    """Whether all layers fit into stages of at most `period`, and how: (yes, starts, kinds)."""
    layers = spans.shape[0] - 1
    place = np.arange(layers + 1)
    reach = np.where(spans <= period, place[None, :, None], place[:, None, None]).max(axis=1)  # [from, kinds]
    if order is not None:
        at, path = 0, [(0, -1)]
        for kind in order:
            if (further := int(reach[at, kind])) > at:
                at = further
                path.append((at, int(kind)))
        return _read_path(path, layers)
    best = np.full(tuple(have + 1), 0, dtype=np.intp)
    came = np.full(tuple(have + 1), -1, dtype=np.intp)
    for state in itertools.product(*(range(count + 1) for count in have)):
        for kind in (kind for kind in range(len(have)) if state[kind] > 0):
            before = best[(*state[:kind], state[kind] - 1, *state[kind + 1 :])]
            if (further := reach[before, kind]) > best[state]:
                best[state], came[state] = further, kind
    path, left = [], list(have)
    while sum(left) and came[tuple(left)] >= 0:
        kind = int(came[tuple(left)])
        path.append((int(best[tuple(left)]), kind))
        left[kind] -= 1
    return _read_path([(0, -1), *reversed(path)], layers)


def _read_path(path: list[tuple[int, int]], layers: int) -> Cut:
    steps = [path[0]]
    for at, kind in path[1:]:
        if at > steps[-1][0]:
            steps.append((at, kind))
    starts = np.array([at for at, _ in steps], dtype=np.intp)
    return int(starts[-1]) == layers, starts, np.array([kind for _, kind in steps[1:]], dtype=np.intp)


def _too_big(size: NDArray[np.float64], room: NDArray[np.float64], have: NDArray[np.intp], kinds: Sequence[str]) -> str:
    """Why no cut fits: one layer too large for any device, all together too small, or only the grain of layers."""
    there = np.where(have > 0, room, 0.0)
    largest = int(np.argmax(size))
    if size[largest] > there.max():
        name = kinds[int(np.argmax(there))]
        return (
            f"layer {largest} takes {size[largest]:.6g} bytes, {size[largest] - there.max():.4g} more than {name} holds"
        )
    total = float((np.where(have > 0, have, 0) * np.where(have > 0, room, 0.0)).sum())
    if size.sum() > total:
        more = units.size(float(size.sum() - total))
        return f"the layers take {units.size(float(size.sum()))}, {more} more than all devices hold"
    return f"whole layers do not pack into {units.size(total)} of devices, although they take less"


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """A format per layer: `chosen` indexes the formats, [layers] (-1 if infeasible); totals of each quantity."""

    status: str
    chosen: NDArray[np.intp]
    loss: float
    size_bytes: float
    time_s: float
    reason: str = ""


def bit_widths(
    loss: ArrayLike,
    size_bytes: ArrayLike,
    *,
    time_s: ArrayLike | None = None,
    most_bytes: float = np.inf,
    most_time_s: float = np.inf,
    most_loss: float = np.inf,
    minimise: str = "loss",
    time_limit_s: float = 60.0,
) -> Widths:
    """A format for every layer, such that one total is least while the others keep their limits.

    Args:
        loss: what a format costs in accuracy, by a proxy that adds up over layers (a second-order term such as
            HAWQ's), [layers, formats].
        size_bytes: of a layer in a format, [layers, formats].
        time_s: of a layer in a format, [layers, formats]; by default 0.
        most_bytes: limit of the total.
        most_time_s: limit of the total.
        most_loss: limit of the total.
        minimise: loss, size or time.
        time_limit_s: of the solver.
    Raises: DomainError: shapes that do not agree, an unknown quantity. MissingExtraError: no scipy.
    Source: the integer program of HAWQ-V3, Yao et al., ICML 2021 (arXiv 2011.10680), section 3.4.
    """
    harm = table(loss, "loss", (None, None), lowest=-np.inf)
    size = table(size_bytes, "size_bytes", harm.shape)
    time = table(np.zeros(harm.shape) if time_s is None else time_s, "time_s", harm.shape)
    quantities = {"loss": (harm, most_loss, ""), "size": (size, most_bytes, "bytes"), "time": (time, most_time_s, "s")}
    if minimise not in quantities:
        raise DomainError("loss, size or time is minimised", at="minimise", got=minimise, fix="give one of them")
    program = Program()
    chosen = program.variables(harm.shape, cost=quantities[minimise][0], high=1.0, whole=True)
    for layer in chosen:
        program.constrain((layer, 1.0), low=1.0, high=1.0)
    for name, (column, most, unit) in quantities.items():
        if np.isfinite(most):
            program.constrain((chosen, column), high=most, name=name, unit=unit, gives=1)
    found = program.solve(time_limit_s=time_limit_s)
    picked = found.x[chosen]
    known = bool(np.isfinite(found.objective))
    return Widths(
        status=found.status,
        chosen=picked.argmax(axis=1) if known else np.full(len(harm), -1, dtype=np.intp),
        loss=float((picked * harm).sum()),
        size_bytes=float((picked * size).sum()),
        time_s=float((picked * time).sum()),
        reason="" if known else found.reason,
    )
