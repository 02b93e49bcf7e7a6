"""What a reader took from a file, and its judge: bad rows are left out and named, the rest ordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import FileFormatError
from ridgeline.core.tables import Labels
from ridgeline.workloads.traffic import prefixes
from ridgeline.workloads.traffic.requests import MAX_TIME_S, MAX_TOKENS, RequestClass, Traffic

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]
Mask = NDArray[np.bool_]

SHOWN = 20
"""Rows that could not be used and are named one by one; the rest is counted by reason."""
_EPOCH_S = 1e8
"""Arrivals that start later than this are dates, not seconds since a start."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Requests as a file tells them.

    Args:
        source:    the name of the file.
        arrival_s: float64 [n], NaN where the file says none.
        prompt_tokens, output_tokens: float64 [n], NaN where missing.
        called:    column -> its name in the file, for messages.
        bad:       column -> the texts in place of numbers (code -1: fine).
        numbers:   [n] row or line numbers, from 1; None: 1, 2, ...
        unit:      what a row is called: "row" of a table, "line" of a file.
        after:     [n] place of the request that releases this one, an earlier one, -1 none.
        think_s:   float64 [n], NaN: 0.
        session, class_name, tenant, adapter, model: labels [n].
        blocks:    (start, ids, tokens per block).
        flawed:    [n] rows whose list of blocks is malformed.
        growing:   tokens per block of prefixes to make up: the turns of a session extend each other. 0: none.
        skipped:   rows that were given up while reading: (number, reason).
        no_output: why a request may have no output, as this format has it.
        dated:     whether arrivals are dates with times.
    """

    source: str
    arrival_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    called: Mapping[str, str] = field(default_factory=dict)
    bad: Mapping[str, Labels] = field(default_factory=dict)
    numbers: Longs | None = None
    unit: str = "row"
    after: Longs | None = None
    think_s: Floats | None = None
    session: Labels | None = None
    class_name: Labels | None = None
    tenant: Labels | None = None
    adapter: Labels | None = None
    model: Labels | None = None
    blocks: tuple[Longs, Longs, int] | None = None
    flawed: Mask | None = None
    growing: int = 0
    skipped: Sequence[tuple[int, str]] = ()
    no_output: str = "must be >= 1"
    dated: bool = False


class _Faults:
    """The first reason against each row, as (reason, value) told only when it is shown."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.code = np.full(len(rows.prompt_tokens), -1, dtype=np.int32)
        self.reasons: list[tuple[str, Callable[[int], str]]] = []

    def flag(self, where: Mask, reason: str, shown: Callable[[int], str]) -> None:
        """Give the rows of the mask that have no reason yet this one."""
        fresh = where & (self.code < 0)
        if fresh.any():
            self.code[fresh] = len(self.reasons)
            self.reasons.append((reason, shown))

    def lines(self) -> tuple[str, ...]:
        """The first rows by number, one line each, then a count of the others by reason."""
        unit, numbers = self.rows.unit, self.rows.numbers
        found = np.flatnonzero(self.code >= 0)
        given_up = sorted(self.rows.skipped)
        by_number = [(int(i + 1 if numbers is None else numbers[i]), int(i)) for i in found[:SHOWN]]
        told = [(number, self._told(i)) for number, i in by_number] + list(given_up[:SHOWN])
        lines = [f"{unit} {number}: {text}" for number, text in sorted(told)[:SHOWN]]
        total = len(found) + len(given_up)
        if total > len(lines):
            counts = Counter({self.reasons[c][0]: n for c, n in enumerate(np.bincount(self.code[found])) if n})
            counts.update(text.rpartition(": ")[2] for _, text in given_up)
            common = "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common(6))
            lines.append(f"and {total - len(lines):,} more; of all {total:,} not usable: {common}")
        return tuple(lines)

    def _told(self, row: int) -> str:
        reason, shown = self.reasons[self.code[row]]
        return f"{shown(row)}: {reason}"


def judged(rows: Rows, name: str) -> Traffic:
    """Traffic of the rows that can be used; those that cannot are in `skipped`, what else was done in `notes`.

    A file without arrivals gives arrivals of 0 and the note `LENGTHS_ONLY`.

    Raises:
        FileFormatError: no row can be used.
    """
    faults = _Faults(rows)
    _judge_tokens(faults, rows, "prompt_tokens", "must be >= 1")
    _judge_tokens(faults, rows, "output_tokens", rows.no_output)
    alone = np.ones(len(rows.arrival_s), dtype=np.bool_) if rows.after is None else rows.after < 0
    timed = bool((~np.isnan(rows.arrival_s[alone])).any()) or "arrival_s" in rows.bad
    if timed:
        _judge_times(faults, rows, "arrival_s", rows.arrival_s, alone)
    if rows.think_s is not None:
        _judge_times(faults, rows, "think_s", rows.think_s, np.zeros_like(alone))
    if rows.flawed is not None:
        blocks_name = rows.called.get("hash_ids", "hash_ids")
        faults.flag(rows.flawed, "not a list of whole numbers >= 0", lambda _: blocks_name)
    if rows.after is not None:
        _judge_chains(faults, rows.after)
    kept = np.flatnonzero(faults.code < 0)
    lines = faults.lines()
    if not len(kept):
        at = f"{rows.source}:1"
        if not lines:
            raise FileFormatError("the trace holds no request", at=at, fix="is it the right file?")
        what = f"no {rows.unit} of the trace can be used"
        raise FileFormatError(what, at=at, got=lines[0], fix="mend the file, or name the column that is meant")
    return _ordered(rows, kept, lines, name, timed=timed)


LENGTHS_ONLY = "the file holds lengths without arrivals"


def _judge_tokens(faults: _Faults, rows: Rows, column: str, too_small: str) -> None:
    values: Floats = getattr(rows, column)
    called = rows.called.get(column, column)
    _judge_text(faults, rows, column, called)
    faults.flag(np.isnan(values), "missing", lambda _: called)

    def shown(row: int) -> str:
        return f"{called} {values[row]:.17g}"

    with np.errstate(invalid="ignore"):
        faults.flag(values < 1, too_small, shown)
        faults.flag(values > MAX_TOKENS, f"must be <= {MAX_TOKENS}", shown)
        faults.flag(values != np.rint(values), "must be a whole number", shown)


def _judge_times(faults: _Faults, rows: Rows, column: str, values: Floats, needed: Mask) -> None:
    called = rows.called.get(column, column)
    _judge_text(faults, rows, column, called)
    faults.flag(np.isnan(values) & needed, "missing", lambda _: called)

    def shown(row: int) -> str:
        return f"{called} ({values[row]:.6g} s)"

    with np.errstate(invalid="ignore"):
        faults.flag(values < 0, "must be >= 0", shown)
        faults.flag(values > MAX_TIME_S, f"must be <= {MAX_TIME_S:g} s", shown)


def _judge_text(faults: _Faults, rows: Rows, column: str, called: str) -> None:
    texts = rows.bad.get(column)
    if texts is not None:
        values = texts.values
        codes = texts.codes
        wrong = "not a date with time" if rows.dated and column == "arrival_s" else "not a finite number"
        faults.flag(codes >= 0, wrong, lambda row: f"{called} {_cut(values[codes[row]])!r}")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _judge_chains(faults: _Faults, after: Longs) -> None:
    """A request whose chain lost a link goes too."""
    lost, ahead = faults.code >= 0, after
    while (waiting := ahead >= 0).any():
        reached = np.where(waiting, ahead, 0)
        lost = lost | (waiting & lost[reached])
        ahead = np.where(waiting, ahead[reached], -1)
    faults.flag(lost, "waits for a request that cannot be used", lambda _: "turn")


def _ordered(rows: Rows, kept: Longs, lines: tuple[str, ...], name: str, *, timed: bool) -> Traffic:
    notes = []
    after, arrival = _chains(rows, kept, timed=timed)
    if not timed:
        notes.append(LENGTHS_ONLY)
    start = float(arrival.min())
    if start > _EPOCH_S:
        arrival = arrival - start
        notes.append(f"arrivals are counted from the first, {start:.17g} s")
    if (np.diff(arrival) < 0).any():
        moved = int(np.count_nonzero(np.diff(arrival) < 0))
        notes.append(f"{moved:,} {rows.unit}s came before the one above them: sorted by arrival")
    order = np.argsort(arrival, kind="stable")
    place = np.full(len(order) + 1, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    chosen = kept[order]
    prompt = rows.prompt_tokens[chosen].astype(np.int64)
    session, _ = _numbered(rows.session, chosen)
    adapter, _ = _numbered(rows.adapter, chosen)
    model, _ = _numbered(rows.model, chosen)
    tenant, _ = _numbered(rows.tenant, chosen)
    class_code, class_names = _classes(rows.class_name, chosen)
    blocks = _blocks(rows, chosen, prompt, session, notes)
    think = 0.0 if rows.think_s is None else np.nan_to_num(rows.think_s[chosen], nan=0.0)
    return Traffic.of(
        arrival[order],
        prompt,
        rows.output_tokens[chosen].astype(np.int64),
        classes=tuple(RequestClass(name=one) for one in class_names),
        class_code=class_code,
        after=-1 if rows.after is None else place[after][order],
        think_s=think,
        session=-1 if session is None else session,
        tenant=0 if tenant is None else np.maximum(tenant, 0),
        adapter=-1 if adapter is None else adapter,
        model=-1 if model is None else model,
        blocks=blocks,
        skipped=lines,
        notes=tuple(notes),
        name=name,
    )


def _chains(rows: Rows, kept: Longs, *, timed: bool) -> tuple[Longs, Floats]:
    """For the rows that are kept: after whom [k], and the arrival of the first of the chain."""
    arrival = rows.arrival_s[kept] if timed else np.zeros(len(kept))
    if rows.after is None:
        return np.full(len(kept), -1, dtype=np.int64), arrival
    place = np.full(len(rows.prompt_tokens) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    after = place[rows.after[kept]]
    root = np.where(after >= 0, after, np.arange(len(kept)))
    while not np.array_equal(further := root[root], root):
        root = further
    return after, arrival[root]


def _numbered(labels: Labels | None, chosen: Longs) -> tuple[Longs | None, tuple[str, ...]]:
    """Labels as numbers: their own, if all are small whole numbers, else their places in `values`; -1 missing."""
    if labels is None or not labels.values:
        return None, ()
    own = [int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else -1 for text in labels.values]
    distinct = len(set(own)) == len(own) and min(own) >= 0
    numbers = np.array([*(own if distinct else range(len(own))), -1], dtype=np.int64)
    return numbers[labels.codes[chosen]], labels.values


def _classes(labels: Labels | None, chosen: Longs) -> tuple[NDArray[np.int32] | int, tuple[str, ...]]:
    if labels is None:
        return 0, ("default",)
    used, codes = np.unique(labels.codes[chosen], return_inverse=True)
    names = [labels.values[code] if code >= 0 else "default" for code in used.tolist()]
    if len(set(names)) < len(names):
        names[0] = "default (unnamed)"
    return codes.astype(np.int32), tuple(names)


def _blocks(
    rows: Rows, chosen: Longs, prompt: Longs, session: Longs | None, notes: list[str]
) -> tuple[Longs, Longs, int] | None:
    if rows.blocks is None:
        if not rows.growing or session is None:
            return None
        start, ids = prefixes.growing(prefixes.epochs(session, prompt), prompt, rows.growing)
        return start, ids, rows.growing
    start, ids, size = rows.blocks
    start, ids = prefixes.pick(start, ids, chosen)
    if not len(ids):
        return None
    counts = np.diff(start)
    most = -(-prompt // size)
    if (counts > most).any():
        notes.append(f"{int((counts > most).sum()):,} lists of blocks were longer than their prompts: cut to fit")
        shorter = np.minimum(counts, most)
        picked, place = prefixes.listed(shorter)
        start, ids = picked, ids[np.repeat(start[:-1], shorter) + place]
    if len(ids) and ids.max() > 2**40:
        ids = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    return start, ids, size
