"""Steps over documents of unequal length: padded to rows, packed into rows, or each on ranks of its own.

`packing` says how documents are placed; here a predicted step over full rows becomes one over documents that are drawn
from a law: attention costs the square of each, ranks wait for the most loaded one, tokens are those of documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.names import Names
from ridgeline.core.seeding import stream
from ridgeline.training.layout import Layout
from ridgeline.training.links import Links
from ridgeline.training.packing import SequenceCost, balanced, packed
from ridgeline.training.setup import VALUE_BYTES
from ridgeline.training.step import ONCE, TrainingStep
from ridgeline.training.work import Work
from ridgeline.workloads.traffic import parse_law
from ridgeline.workloads.traffic.lengths import Law

Column = NDArray[np.float64]

WAYS = Names(
    "way to batch",
    {"packed": (), "padded": ("pad",), "adaptive": ("bytescale", "dynamic")},
    listing="packed, padded or adaptive",
)

MOST_DOCUMENTS = 2048
"""Documents that are drawn for one step; larger steps are taken to be many of this size."""

DRAWS = 3
"""Batches that are drawn, whose mean is told."""


@dataclass(frozen=True, slots=True)
class Mix:
    """A law of the tokens of documents, and how they are batched."""

    law: Law
    way: str


def mix_of(lengths: str, way: str) -> Mix | None:
    """The mix that a case says; None where all documents fill their rows.

    Raises: SpecError, UnknownNameError: not a law, or not a way. DomainError: a way without a law.
    """
    if not lengths:
        if way:
            raise DomainError("batches need lengths", at="batches", got=way, fix='lengths="lognormal(mean=2k, ...)"')
        return None
    return Mix(parse_law(lengths, at="lengths"), WAYS.resolve(way or "packed", at="batches"))


@dataclass(frozen=True, slots=True)
class _Row:
    """One case: tokens of a row, rows per rank, ranks, and seconds of its step by kind."""

    seq: float
    rows: float
    dp: int
    cp: int
    room: float
    busy_s: float
    attention_s: float
    exchange_s: float
    turn_s: float


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a batch makes of a step: tokens and squares over those of full rows, attention and waiting in s."""

    filled: float
    squared: float
    attention_s: float
    waiting_s: float


def over_documents(
    step: TrainingStep, work: Work, layout: Layout, links: Links, mixes: Sequence[Mix | None]
) -> TrainingStep:
    """The step of each row over documents of its mix; rows without one are as they were.

    Raises DomainError: ranks of groups that are no power of two, or documents that no group of ranks holds.
    """
    shape = step.step_s.shape
    terms: dict[str, Column] = {**{k: v.copy() for k, v in step.terms.items()}, "imbalance": np.zeros(shape)}
    tokens, model, hardware = step.tokens.copy(), step.model_flops.copy(), step.hardware_flops.copy()
    dense = np.broadcast_to(np.asarray(work.flops, float), shape)
    scores = np.broadcast_to(np.asarray(work.attention_flops, float), shape) / dense
    turns = np.broadcast_to(_turn_s(work, layout, links), shape)
    for row, mix in enumerate(mixes):
        if mix is None:
            continue
        case = _row_of(step.terms, layout, row, float(turns[row]), shape)
        batch = _mean([_drawn(case, mix, seed) for seed in range(DRAWS)])
        terms["attention"][row] = batch.attention_s
        terms["imbalance"][row] = batch.waiting_s
        if mix.way == "adaptive":
            terms["context_parallel"][row] = 0.0
        tokens[row] *= batch.filled
        for flops in (model, hardware):
            flops[row] *= (1.0 - scores[row]) * batch.filled + scores[row] * batch.squared
    total = np.asarray(sum(terms.values(), start=np.zeros(shape)))
    return replace(step, step_s=total, terms=terms, tokens=tokens, model_flops=model, hardware_flops=hardware)


def _turn_s(work: Work, layout: Layout, links: Links) -> Column:
    """Seconds per token in which keys, values and their gradients go round a group."""
    tp = np.asarray(layout.tp, float)
    passed = 3.0 * VALUE_BYTES * np.asarray(work.key_values, float) / np.asarray(work.seq, float) / tp
    return np.asarray(passed / links.direct_bytes_per_s(2.0 * tp, 2.0))


def _row_of(terms: Mapping[str, Column], layout: Layout, row: int, turn_s: float, shape: tuple[int, ...]) -> _Row:
    def value(column: object) -> float:
        return float(np.broadcast_to(np.asarray(column, float), shape)[row])

    busy = sum(float(term[row]) for name, term in terms.items() if name not in ONCE)
    seq, cp = value(layout.seq), value(layout.cp)
    return _Row(
        seq=seq,
        rows=value(layout.micro_batches) * value(layout.micro_batch),
        dp=round(value(layout.dp)),
        cp=round(cp),
        room=max(value(layout.micro_batch) * seq / cp, 1.0),
        busy_s=busy,
        attention_s=float(terms["attention"][row]),
        exchange_s=float(terms["context_parallel"][row]),
        turn_s=turn_s,
    )


def _mean(batches: Sequence[_Batch]) -> _Batch:
    return _Batch(*(float(np.mean([getattr(b, name) for b in batches])) for name in _Batch.__dataclass_fields__))


def _drawn(case: _Row, mix: Mix, seed: int) -> _Batch:
    """One batch of documents, none longer than a row."""
    rng = stream(seed, "lengths of documents")
    longest = int(case.seq)
    mean = min(max(mix.law.mean, 1.0), case.seq)
    per_rank = max(1, min(round(case.rows), int(MOST_DOCUMENTS * mean / case.seq / case.dp)))
    wanted = per_rank * case.dp
    if mix.way == "padded":
        documents = np.minimum(mix.law.sample(wanted, rng), longest)
        filled, squared = documents.mean() / case.seq, (documents.astype(float) ** 2).mean() / case.seq**2
        return _Batch(filled, squared, case.attention_s, 0.0)
    documents = _enough(mix.law, wanted * case.seq, longest, rng)
    if mix.way == "adaptive":
        return _apart(case, documents, per_rank)
    rows = sorted(packed(documents.tolist(), longest), key=lambda row: -int(documents[row].sum()))[:wanted]
    used = np.array([documents[row].sum() for row in rows], float) / case.seq
    squares = np.array([(documents[row].astype(float) ** 2).sum() for row in rows]) / case.seq**2
    # Rows come to ranks in any order; a framework computes the padding of the last ones too, without attention in it.
    placed = np.zeros(wanted)
    placed[: squares.size] = squares
    rng.shuffle(placed)
    ranks = placed.reshape(case.dp, per_rank).mean(axis=1) * case.attention_s
    return _Batch(used.sum() / wanted, squares.sum() / wanted, float(ranks.mean()), float(ranks.max() - ranks.mean()))


def _enough(law: Law, tokens: float, longest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Documents of at least so many tokens."""
    mean = min(max(law.mean, 1.0), float(longest))
    drawn = np.zeros(0, dtype=np.int64)
    while drawn.sum() < tokens:
        drawn = np.append(drawn, np.minimum(law.sample(max(int((tokens - drawn.sum()) / mean), 1), rng), longest))
    return drawn


def _apart(case: _Row, documents: NDArray[np.int64], per_rank: int) -> _Batch:
    """Every document on ranks of its own, as few as hold it or as many as end the batch sooner."""
    each = 1.0 / round(case.rows)
    linear = (case.busy_s - case.attention_s - case.exchange_s) * case.cp * each / case.seq
    square = case.attention_s * case.cp * each / case.seq**2
    cost = SequenceCost(linear=linear, square=square, turn=case.turn_s)
    room = max(int(case.room), 1)
    found = balanced(documents.tolist(), case.dp * case.cp, room, cost)
    sizes = documents.astype(float)
    full = per_rank * case.dp * case.seq
    scale = case.rows / per_rank
    attention_s = square * float((sizes**2).sum()) / (case.dp * case.cp) * scale
    rest_s = case.busy_s - case.attention_s - case.exchange_s
    waiting_s = max(found.time_s * scale - attention_s - rest_s, 0.0)
    squared = float((sizes**2).sum()) / (full * case.seq)
    return _Batch(float(sizes.sum()) / full, squared, attention_s, waiting_s)
