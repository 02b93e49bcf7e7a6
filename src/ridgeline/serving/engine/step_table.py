"""Step times of lanes as tables: sampled once for a column of deployments, then read in plain Python.

An iteration of `n` decoding and some prefilling sequences takes

    decode(n, context) + body(n + prompt tokens) - body(n) + sum over chunks of extra(tokens, prefix)

where `body` is every op whose time depends on merged tokens alone (projections, feed-forward, norms, collectives) and
`extra` what a prompt adds to it (attention over its prefix, its row of the head). A runtime that pads iterations to the
sizes of its device graphs pays the body of the padded size. `decode` is piecewise affine in the
total context, `extra` affine in the prefix; sizes in between are interpolated linearly. This table is the engine's
time: the engine is exact with respect to it; a test states how far the table is from the prices themselves.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import Value
from ridgeline.plans import LINK
from ridgeline.serving.stepper import Stepper
from ridgeline.workloads.model import Batch, MixtureOfExperts
from ridgeline.workloads.ops import Attention, Scan

Column = NDArray[np.float64]

Piece = tuple[float, float, float]
"""(largest total context, seconds at none, seconds per token of total context)."""

TOKENS = (1, 2, 4, 8, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 192, 256, 257, 384, 512, 768, 1024, 1536, 2048, 3072)
"""Merged tokens at which a step is priced: beside a power of two the next size, where a matmul takes a larger tile."""

CHUNKS = (16, 128, 512, 1024, 2048)
"""Prompt tokens at which the attention of a chunk is priced."""


def _grid(start: tuple[int, ...], largest: float) -> tuple[int, ...]:
    """`start`, doubled on until it spans `largest`."""
    grid = list(start)
    while grid[-1] < largest:
        grid.append(grid[-1] * 2)
    return tuple(grid)


def _above(grid: tuple[int, ...], largest: float) -> tuple[int, ...]:
    """The grid up to the first point that is not below `largest`."""
    return tuple(x for i, x in enumerate(grid) if i == 0 or grid[i - 1] < largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """The times of one lane, in seconds. Lists are parallel to their grids.

    Attributes:
        tokens, body_s: time that depends on merged tokens alone.
        sequences, decode_s, context_s: an iteration of that many decoding sequences: `decode_s` plus `context_s` times
            their total context in tokens, the new ones included.
        marks, bends_s: mean contexts at which the slope changes, rising, and by how much, seconds per token of total
            context, one list parallel to `sequences` per mark (none: one slope holds throughout).
        captured: merged tokens for which there is a device graph, rising: an iteration of fewer computes as many, but
            for attention and head; one of more than all of them is not padded.
        chunks, extra_s, prefix_s: what one prompt chunk adds to the body: `extra_s` plus `prefix_s` times its prefix.
        launch_s: the part of `extra_s` that a second chunk in the same iteration shares with the first.
        width: tokens that a decoding sequence brings to an iteration (above 1 under speculation).
        host_s, host_sequence_s: host time of an iteration, and of each sequence in it.
    """

    tokens: Sequence[float]
    body_s: Sequence[float]
    sequences: Sequence[float]
    decode_s: Sequence[float]
    context_s: Sequence[float]
    chunks: Sequence[float]
    extra_s: Sequence[float]
    prefix_s: Sequence[float]
    launch_s: float
    width: float
    host_s: float
    host_sequence_s: float
    marks: Sequence[float] = ()
    bends_s: Sequence[Sequence[float]] = ()
    captured: Sequence[float] = ()
    _pieces: dict[int, tuple[Piece, ...]] = field(init=False, default_factory=dict, compare=False, repr=False)
    _chunk: dict[float, tuple[float, float]] = field(init=False, default_factory=dict, compare=False, repr=False)
    _body: dict[float, float] = field(init=False, default_factory=dict, compare=False, repr=False)

    def pieces(self, n: int) -> tuple[Piece, ...]:
        """An iteration of `n` decoding sequences, host included, for total contexts up to each piece's end."""
        known = self._pieces.get(n)
        if known is None:
            known = self._pieces[n] = self._cut(n)
        return known

    def _cut(self, n: int) -> tuple[Piece, ...]:
        if not n:
            return ((math.inf, self.host_s, 0.0),)
        i, w = _place(self.sequences, n)
        base = _between(self.decode_s, i, w) + self.host_s + self.host_sequence_s * n
        base += self.body(n * self.width) - self._unpadded(n * self.width)
        slope = max(_between(self.context_s, i, w), 0.0)
        pieces = []
        for mark, bends in zip(self.marks, self.bends_s, strict=True):
            bent = max(slope + _between(bends, i, w), 0.0)
            pieces.append((n * mark, base, slope))
            base, slope = base + (slope - bent) * n * mark, bent
        return (*pieces, (math.inf, base, slope))

    def decode_s_of(self, n: int, context: float) -> float:
        """Seconds of an iteration of `n` decoding sequences with that total context, the new tokens included."""
        _, base, slope = next(piece for piece in self.pieces(n) if context <= piece[0])
        return base + slope * context

    def mixed(self, n: int, context: float, chunks: Sequence[tuple[float, float]]) -> float:
        """Seconds of an iteration that also takes prompt chunks of (tokens, prefix)."""
        added_s, _ = self.prompts(n, chunks)
        return self.decode_s_of(n, context) + added_s

    def prompts(self, n: int, chunks: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """What prompt chunks of (tokens, prefix) add to an iteration of `n` decoding sequences, in seconds.

        Returns: the seconds, and how many more in the next iteration if each chunk goes on with as many tokens.
        """
        old = new = n * self.width
        total = self.host_sequence_s * len(chunks) - self.launch_s * (len(chunks) - 1)
        rise = 0.0
        for tokens, prefix in chunks:
            known = self._chunk.get(tokens)
            if known is None:
                i, w = _place(self.chunks, tokens)
                known = self._chunk[tokens] = (_between(self.extra_s, i, w), _between(self.prefix_s, i, w))
            total += known[0] + known[1] * prefix
            rise += known[1] * tokens
            new += tokens
        return total + self.body(new) - self.body(old), rise

    def body(self, tokens: float) -> float:
        """Seconds of everything but attention and head for that many merged tokens, padded; 0 for none."""
        known = self._body.get(tokens)
        if known is None:
            i = bisect_left(self.captured, tokens)
            padded = self.captured[i] if tokens > 0 and i < len(self.captured) else tokens
            known = self._body[tokens] = self._unpadded(padded)
        return known

    def _unpadded(self, tokens: float) -> float:
        i, w = _place(self.tokens, tokens)
        return _between(self.body_s, i, w) if tokens > 0 else 0.0


def _place(grid: Sequence[float], x: float) -> tuple[int, float]:
    """Index of the interval and the position in it (extrapolated above the grid, clamped below)."""
    i = min(max(bisect_right(grid, x) - 1, 0), len(grid) - 2)
    return i, max((x - grid[i]) / (grid[i + 1] - grid[i]), 0.0)


def _between(values: Sequence[float], i: int, w: float) -> float:
    return values[i] + w * (values[i + 1] - values[i])


def sample(
    stepper: Stepper,
    *,
    rows: int,
    low: Value,
    high: Value,
    slots: Value,
    budget: Value,
    marks: Sequence[float] = (),
) -> list[StepTimes]:
    """Price the grids for all rows at once.

    Args:
        stepper: prices steps; its columns have `rows` entries or are numbers.
        rows: number of lanes.
        low: shortest context of a sequence, tokens; between it, the marks and `high` decode is affine.
        high: longest context.
        slots: sequences at once.
        budget: most new tokens of an iteration.
        marks: contexts between `low` and `high` at which the slope may change, rising; the same for all rows.
    Returns: one table per row. A row's numbers do not depend on the others: they only lengthen the grids.
    """
    width = 1.0 + np.broadcast_to(np.asarray(stepper.drafts, float), (rows,))
    low, high = (np.broadcast_to(np.asarray(x, float), (rows,)) for x in (low, high))
    high = np.maximum(high, low + 1.0)
    most = float(np.max(budget) + np.max(np.asarray(slots) * width))
    tokens = _above(_grid(TOKENS, most), most)
    sequences = _above(_grid(TOKENS, float(np.max(slots))), max(float(np.max(slots)), 2.0))
    chunks = _above(_grid(CHUNKS, float(np.max(budget))), max(float(np.max(budget)), CHUNKS[1]))
    contexts = [low, *(np.full(rows, mark) for mark in marks), high]
    body, decodes = _decodes(stepper, rows, tokens, sequences, contexts)
    slopes, base = _bent(np.array(decodes), np.array(sequences, float), np.array(contexts))
    extra, prefix = _extras(stepper, rows, chunks, high, np.array(tokens, float), np.array(body))
    columns = [np.array(x).T.tolist() for x in (body, base, slopes[0], extra, prefix)]
    bends = np.moveaxis(np.diff(slopes, axis=0), 2, 0).tolist()
    host_s, host_sequence_s = (np.broadcast_to(np.asarray(x, float), (rows,)) for x in stepper.host_rates_s)
    # Which experts the rows of padding visit, and so how many weights they read, is not known.
    routed = any(isinstance(block.ffn, MixtureOfExperts) for block in stepper.model.blocks)
    captured = () if routed else stepper.runtime.captured_tokens
    return [
        StepTimes(
            tokens=tokens,
            body_s=columns[0][i],
            sequences=sequences,
            decode_s=columns[1][i],
            context_s=columns[2][i],
            chunks=chunks,
            extra_s=columns[3][i],
            prefix_s=columns[4][i],
            launch_s=max(min(columns[3][i][0], columns[3][i][1]), 0.0),
            width=float(width[i]),
            host_s=float(host_s[i]),
            host_sequence_s=float(host_sequence_s[i]),
            marks=tuple(marks),
            bends_s=bends[i],
            captured=captured,
        )
        for i in range(rows)
    ]


def _bent(decodes: Column, sequences: Column, contexts: Column) -> tuple[Column, Column]:
    """Piecewise affine decode times: the slope of each piece, [pieces, sequences, rows], and the time at no context.

    Args: decodes: priced times, [contexts, sequences, rows]. contexts: [contexts, rows].
    """
    if len(contexts) > 2:
        decodes = np.maximum.accumulate(decodes, axis=0)
    n = sequences[:, None]
    slopes = np.diff(decodes, axis=0) / (n * np.diff(contexts, axis=0)[:, None, :])
    return slopes, decodes[0] - slopes[0] * n * contexts[0]


def _extras(
    stepper: Stepper, rows: int, chunks: tuple[int, ...], high: Column, tokens: Column, body: Column
) -> tuple[list[Column], list[Column]]:
    """What a chunk adds to the body without a prefix, and per token of prefix."""
    extra: list[Column] = []
    prefix: list[Column] = []
    many = stepper.repeated(2 * len(chunks))
    past = np.tile(np.concatenate([np.zeros(rows), high]), len(chunks))
    batch = Batch(prefill_seqs=1.0, prefill_tokens=np.repeat(np.array(chunks, float), 2 * rows), prefill_prefix=past)
    sampled = _column(many.step(batch).time_s, past.size).reshape(len(chunks), 2, rows)
    for t, (alone, after) in zip(chunks, sampled, strict=True):
        i, w = _place(tokens.tolist(), float(t))
        extra.append(alone - (body[i] + w * (body[i + 1] - body[i])))
        prefix.append(np.maximum(after - alone, 0.0) / high)
    return extra, prefix


def _decodes(
    stepper: Stepper, rows: int, tokens: tuple[int, ...], sequences: tuple[int, ...], contexts: list[Column]
) -> tuple[list[Column], list[list[Column]]]:
    """The body at `tokens`, and decode iterations of `sequences` at each context, all priced in one go."""
    points, each = len(tokens), len(sequences)
    many = stepper.repeated(points + each * len(contexts))
    sizes = np.repeat(np.array((*tokens, *(sequences * len(contexts))), float), rows)
    context = np.concatenate([np.tile(contexts[0], points), *(np.tile(column, each) for column in contexts)])
    width = np.where(np.arange(sizes.size) < points * rows, 1.0, 1.0 + np.asarray(many.drafts))
    step = many.step(Batch(decode_seqs=sizes, decode_context=context, decode_tokens=width))
    body = _column(step.only(lambda op: not _apart(op)).time_s, sizes.size).reshape(-1, rows)
    whole = _column(step.time_s, sizes.size).reshape(-1, rows)
    return list(body[:points]), [list(whole[points + i * each : points + (i + 1) * each]) for i in range(len(contexts))]


def _apart(op: object) -> bool:
    """Whether an op's time depends on which sequences the tokens belong to."""
    return isinstance(op, Attention | Scan) or getattr(op, "part", "") in ("head", "embedding", "draft", LINK)


def _column(value: Value, rows: int) -> Column:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (rows,))


def steps_until(wait_s: float, first_s: float, rise_s: float) -> int:
    """Fewest iterations, the j-th lasting `first_s + j rise_s`, that take at least `wait_s`."""
    if wait_s <= first_s:
        return 1
    b = first_s - rise_s / 2.0
    k = math.ceil(2.0 * wait_s / (b + math.sqrt(b * b + 2.0 * rise_s * wait_s)))
    while k > 1 and (k - 1) * first_s + rise_s * ((k - 1) * (k - 2) // 2) >= wait_s:
        k -= 1
    while k * first_s + rise_s * (k * (k - 1) // 2) < wait_s:
        k += 1
    return k
