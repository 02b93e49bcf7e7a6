"""Sequences of unequal length in one batch: packing, and a group of ranks of its own for each sequence.

Attention costs the square of a length. A static mesh cuts all sequences over the same ranks; a group per sequence
leaves short ones whole and cuts long ones only (ByteScale, arXiv 2502.21231), which is an assignment problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, MissingExtraError, RidgelineError
from ridgeline.training.layout import Layout
from ridgeline.training.setup import VALUE_BYTES, Setup
from ridgeline.training.step import train_step
from ridgeline.training.work import work_of
from ridgeline.workloads.model import Model

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceCost:
    """Seconds of a sequence of s tokens on d ranks: (linear s + square s^2) / d, and `turn` s (d - 1) / d for the keys
    and values that go round (nothing on one rank). With `hidden` they go round behind attention: a long sequence
    hides them, a short one does not.
    """

    linear: float
    square: float
    turn: float = 0.0
    hidden: bool = False

    def of(self, tokens: Column, ranks: Column | float) -> Column:
        """Seconds on each of the ranks."""
        attention = self.square * tokens**2 / ranks
        passing = self.turn * tokens * (np.asarray(ranks, float) - 1.0) / ranks
        both = np.maximum(attention, passing) if self.hidden else attention + passing
        return np.asarray(self.linear * tokens / ranks + both)


def cost_of(
    model: Model, setup: Setup, *, tokens: int, tp: int = 1, reach: int = 2, hidden: bool = False
) -> SequenceCost:
    """What a sequence costs on ranks of `tp` chips, from steps of `tokens` and of twice as many.

    `reach` is the ranks of the widest ring: it sets which links the keys and values take.

    Weights' own work (optimizer, gradients) is left out: it does not depend on how sequences are spread.
    """
    times = []
    for length in (float(tokens), 2.0 * tokens):
        layout = Layout(chips=float(tp), tp=float(tp), seq=length, global_batch=1.0, micro_batch=1.0)
        step = train_step(work_of(model, length), layout, setup)
        times.append(sum(float(step.terms[name][0]) for name in ("matmul", "experts", "attention", "vector")))
    short, double = times
    square = max(double - 2.0 * short, 0.0) / (2.0 * tokens**2)
    work = work_of(model, float(tokens))
    # Keys and values go round forward and backward, their gradients with them.
    passed = 3.0 * VALUE_BYTES * float(np.max(work.key_values)) / tokens / tp
    link = float(np.max(setup.links.direct_bytes_per_s(float(reach * tp), 2.0)))
    linear = short / tokens - square * tokens
    return SequenceCost(linear=linear, square=square, turn=passed / link, hidden=hidden)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which ranks each sequence goes to: `first` and `ranks` of its block; `load_s` of every rank."""

    first: NDArray[np.intp]
    ranks: NDArray[np.intp]
    load_s: Column

    @property
    def time_s(self) -> float:
        """The most loaded rank: all wait for it."""
        return float(self.load_s.max())

    @property
    def balance(self) -> float:
        """Mean over largest load."""
        return float(self.load_s.mean() / self.load_s.max())


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Sequences packed into rows of `room` tokens, first fit by falling length (at most 11/9 of the fewest rows + 6/9).

    Returns indices per row. Raises DomainError: a sequence is longer than a row.
    """
    sizes = _checked(lengths)
    if sizes.max() > room:
        raise DomainError("a sequence is longer than a row", at="lengths", got=int(sizes.max()), fix=f"rows of {room}")
    rows: list[list[int]] = []
    left = np.zeros(0, dtype=np.int64)
    for index in np.argsort(-sizes, kind="stable").tolist():
        fitting = np.flatnonzero(left >= sizes[index])
        if fitting.size:
            rows[int(fitting[0])].append(index)
            left[fitting[0]] -= sizes[index]
        else:
            rows.append([index])
            left = np.append(left, room - sizes[index])
    return rows


def static_mesh_s(lengths: Sequence[int], ranks: int, cp: int, cost: SequenceCost) -> float:
    """Time of a batch when every sequence is cut over `cp` ranks, and groups take sequences longest first."""
    sizes = _checked(lengths).astype(float)
    if cp < 1 or ranks % cp:
        raise DomainError("cp divides the ranks", at="cp", got=cp, fix=f"a divisor of {ranks}")
    times = np.sort(cost.of(sizes, float(cp)))[::-1]
    loads = np.zeros(ranks // cp)
    for time in times.tolist():
        loads[int(np.argmin(loads))] += time
    return float(loads.max())


def balanced(lengths: Sequence[int], ranks: int, most_tokens: int, cost: SequenceCost) -> Assignment:
    """A group of its own for each sequence: as few ranks as its tokens need, or more where that ends the batch sooner.

    From the longest sequence on, each goes to the narrowest block (a power of two, aligned) that is done within a time,
    and that time is bisected.

    Args:
        lengths:     tokens of each sequence.
        ranks:       a power of two.
        most_tokens: of a sequence on one rank.
        cost:        of a sequence.
    Raises: DomainError: the longest sequence does not fit all ranks, or ranks are no power of two.
    """
    sizes, _, least = _blocks_of(lengths, ranks, most_tokens)
    widths = np.array([float(1 << level) for level in range(ranks.bit_length())])
    # Seconds of each sequence (rows) on a block of each width (columns); infinite where it does not fit.
    times = cost.of(sizes[:, None].astype(float), widths[None, :])
    times = np.where(widths[None, :] >= least[:, None], times, np.inf)
    high = float(times[:, -1].sum())
    low = max(high / 2.0, float(times.min(axis=1).max())) * 1e-3
    found = _within(high, sizes, widths, times)
    assert found is not None, "all sequences on all ranks end in the sum of their times"
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        tried = _within(middle, sizes, widths, times)
        if tried is None:
            low = middle
        else:
            found, high = tried, min(middle, tried.time_s)
    return found


BISECTIONS = 30
"""Halvings of the time of a batch."""


def _within(limit_s: float, sizes: NDArray[np.int64], widths: Column, times: Column) -> Assignment | None:
    """Every sequence in the narrowest block that ends in time, the least loaded of its width; None if one has none."""
    ranks = int(widths[-1])
    loads = np.zeros(ranks)
    first, count = np.zeros(sizes.size, dtype=np.intp), np.ones(sizes.size, dtype=np.intp)
    slack = limit_s * (1.0 + 1e-12)
    for index in np.argsort(-sizes, kind="stable").tolist():
        for level, wide in enumerate(widths.astype(int).tolist()):
            if times[index, level] > slack:
                continue
            ends = loads.reshape(-1, wide).max(axis=1) + times[index, level]
            block = int(np.argmin(ends))
            if ends[block] <= slack:
                loads[block * wide : (block + 1) * wide] += times[index, level]
                first[index], count[index] = block * wide, wide
                break
        else:
            return None
    return Assignment(first, count, loads)


def optimal(
    lengths: Sequence[int], ranks: int, most_tokens: int, cost: SequenceCost, *, limit_s: float = 10.0
) -> Assignment:
    """The same by integer programming: the least time of the slowest rank.

    Raises: MissingExtraError: scipy is not installed. RidgelineError: no solution within `limit_s` of computing.
    """
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_matrix
    except ImportError as error:
        fix = "pip install ridgeline[search]"
        raise MissingExtraError("integer programs need scipy", at="training.packing", fix=fix) from error
    sizes, blocks, least = _blocks_of(lengths, ranks, most_tokens)
    pairs = [(i, b) for i in range(sizes.size) for b, (_, wide) in enumerate(blocks) if wide >= least[i]]
    times = np.array([float(cost.of(np.array([float(sizes[i])]), float(blocks[b][1]))[0]) for i, b in pairs])
    scale = float(times.max())
    # One block per sequence; the load of each rank is at most the time, the last variable.
    one_row, one_column = [i for i, _ in pairs], list(range(len(pairs)))
    rows, columns, values = list[int](), list[int](), list[float]()
    for variable, (_, b) in enumerate(pairs):
        start, wide = blocks[b]
        rows += range(start, start + wide)
        columns += [variable] * wide
        values += [float(times[variable] / scale)] * wide
    rows += range(ranks)
    columns += [len(pairs)] * ranks
    values += [-1.0] * ranks
    size = len(pairs) + 1
    found = milp(
        np.append(np.zeros(len(pairs)), 1.0),
        integrality=np.append(np.ones(len(pairs)), 0.0),
        bounds=Bounds(np.zeros(size), np.append(np.ones(len(pairs)), np.inf)),
        constraints=[
            LinearConstraint(coo_matrix((np.ones(len(pairs)), (one_row, one_column)), (sizes.size, size)), 1.0, 1.0),
            LinearConstraint(coo_matrix((values, (rows, columns)), (ranks, size)), -np.inf, 0.0),
        ],
        options={"time_limit": limit_s, "mip_rel_gap": 1e-4},
    )
    if found.x is None:
        raise RidgelineError("no assignment was found in time", at="packing", got=found.message, fix="use `balanced`")
    chosen = np.flatnonzero(found.x[:-1] > 0.5)
    first, count, loads = np.zeros(sizes.size, np.intp), np.ones(sizes.size, np.intp), np.zeros(ranks)
    for variable in chosen.tolist():
        i, b = pairs[variable]
        first[i], count[i] = blocks[b]
        loads[first[i] : first[i] + count[i]] += times[variable]
    return Assignment(first, count, loads)


def _checked(lengths: Sequence[int]) -> NDArray[np.int64]:
    sizes = np.asarray(lengths)
    if sizes.ndim != 1 or sizes.size == 0 or not np.all(sizes == np.floor(sizes)) or np.any(sizes < 1):
        raise DomainError("lengths are whole numbers of tokens", at="lengths", fix="give one or more, from 1")
    return sizes.astype(np.int64)


def _blocks_of(
    lengths: Sequence[int], ranks: int, most_tokens: int
) -> tuple[NDArray[np.int64], list[tuple[int, int]], NDArray[np.int64]]:
    """Lengths; aligned blocks (first, size) of all powers of two; the fewest ranks that hold each sequence."""
    sizes = _checked(lengths)
    if ranks < 1 or ranks & (ranks - 1) or most_tokens < 1:
        fix = "give 2, 4, 8, ... ranks and tokens from 1"
        raise DomainError("ranks are a power of two", at="ranks", got=(ranks, most_tokens), fix=fix)
    if sizes.max() > ranks * most_tokens:
        fix = f"cut sequences to {ranks * most_tokens:,} tokens, or use more ranks"
        raise DomainError("a sequence fits no group of ranks", at="lengths", got=int(sizes.max()), fix=fix)
    widths = [1 << level for level in range(ranks.bit_length())]
    blocks = [(start, wide) for wide in widths for start in range(0, ranks, wide)]
    return sizes, blocks, -(-sizes // most_tokens)
