"""Requests as a serving simulator reads them: when each arrives, how long it is, whose it is, and after which it comes.

`Traffic` is a value of columns. Columns that are the same for every request are stored once (numpy arrays with stride
0), so that ten million plain requests take 240 MB; integer columns are int64 or int32 as listed, all are read-only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.workloads.traffic import prefixes
from ridgeline.workloads.traffic.summary import Summary, lengths_of

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

MAX_TOKENS = 2**31 - 1
MAX_TIME_S = 1e12
"""Beyond these a count of tokens, or a time, is a mistake in the file."""

_ANY = (-(2**63), 2**63 - 1)
_COLUMNS: dict[str, tuple[type[np.generic], float, float]] = {
    "arrival_s": (np.float64, 0.0, MAX_TIME_S),
    "prompt_tokens": (np.int64, 1, MAX_TOKENS),
    "output_tokens": (np.int64, 1, MAX_TOKENS),
    "class_code": (np.int32, 0, 2**31 - 1),
    "after": (np.int64, -1, 2**62),
    "think_s": (np.float64, 0.0, MAX_TIME_S),
    "session": (np.int64, -1, 2**62),
    "tenant": (np.int32, -(2**31), 2**31 - 1),
    "adapter": (np.int32, -1, 2**31 - 1),
    "model": (np.int32, -1, 2**31 - 1),
    "hash_start": (np.int64, 0, 2**62),
    "hash_ids": (np.int64, 0, 2**62),
}
"""Column -> its type, its least and its greatest value."""
_PER_REQUEST = tuple(name for name in _COLUMNS if not name.startswith("hash_"))
_DEFAULTS = {"class_code": 0, "after": -1, "think_s": 0.0, "session": -1, "tenant": 0, "adapter": -1, "model": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClass:
    """What people promise to a class of requests.

    Args:
        ttft_s, tpot_s, e2e_s: the objectives; inf: none. TPOT does not include TTFT.
        priority: higher is served first by schedulers that know priorities.
        weight:   its share, for fair schedulers.
    """

    name: str
    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf
    priority: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.name:
            raise SpecError("a class of requests needs a name", at="class", fix="give for example 'chat'")
        for key in ("ttft_s", "tpot_s", "e2e_s"):
            if not getattr(self, key) > 0:
                fix = "give a time above 0, or leave it out"
                raise SpecError(f"{key} is not above 0", at=f"class {self.name}", got=getattr(self, key), fix=fix)
        if not 0 < self.weight < math.inf:
            fix = "give a finite weight above 0"
            raise SpecError("weight is not above 0", at=f"class {self.name}", got=self.weight, fix=fix)
        if not -(2**31) <= self.priority < 2**31:
            fix = "give a small whole number"
            raise SpecError("priority is out of range", at=f"class {self.name}", got=self.priority, fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Requests in the order of their arrival.

    Args:
        arrival_s:     float64 [n], never falling. A request that waits for another has the arrival of the first of its
                       chain, its earliest. Zeros when `clients` > 0.
        prompt_tokens: int64 [n], >= 1.
        output_tokens: int64 [n], >= 1.
        class_code:    int32 [n], index into `classes`.
        after:         int64 [n], index of the request whose completion releases this one, always an earlier one; -1:
                       it arrives at `arrival_s`.
        think_s:       float64 [n], seconds between that completion and this arrival.
        session:       int64 [n], number of the session, -1 none.
        tenant:        int32 [n], for fair schedulers.
        adapter:       int32 [n], number of the LoRA adapter, -1 none.
        model:         int32 [n], number of the model, of several that take turns, -1 none.
        hash_start:    int64 [n + 1], where the blocks of each request start in `hash_ids`; zeros without prefixes.
        hash_ids:      int64, ids of the first prompt blocks; equal id = equal prefix up to and including that block.
        hash_tokens:   tokens per block, 0 without prefixes. A request has at most ceil(prompt / hash_tokens) ids.
        clients:       > 0: closed loop: so many requests in flight, each completion releases the next in order.
        skipped:       one line for each row of the input that could not be used, capped with a count.
        notes:         what else the reader did (sorted rows, shortened lists).
    Raises:
        SpecError: a column that breaks one of these rules, with the first request that does.
    """

    arrival_s: Floats
    prompt_tokens: Longs
    output_tokens: Longs
    class_code: Ints
    classes: tuple[RequestClass, ...]
    after: Longs
    think_s: Floats
    session: Longs
    tenant: Ints
    adapter: Ints
    model: Ints
    hash_start: Longs
    hash_ids: Longs
    hash_tokens: int
    clients: int = 0
    skipped: tuple[str, ...] = ()
    name: str = "traffic"
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        rows = np.size(self.arrival_s)
        for name, (kind, least, most) in _COLUMNS.items():
            wanted = {"hash_ids": None, "hash_start": rows + 1}.get(name, rows)
            object.__setattr__(self, name, _column(name, getattr(self, name), kind, wanted, least, most))
        if not self.classes:
            raise SpecError("traffic needs a class of requests", at="classes", fix="give one RequestClass")
        names = [one.name for one in self.classes]
        if len(set(names)) < len(names):
            raise SpecError("two classes have one name", at="classes", got=names, fix="rename one of them")
        _check(self.class_code < len(self.classes), "class_code", self.class_code, f"below {len(self.classes)}")
        _check(np.diff(self.arrival_s) >= 0, "arrival_s", self.arrival_s[1:], "at or after the request before it")
        if not _same(self.after):
            _check(self.after < np.arange(rows), "after", self.after, "the index of an earlier request")
        elif rows and self.after[0] >= 0:
            raise SpecError("the first request waits for another", at="after", got=int(self.after[0]), fix="give -1")
        self._check_prefixes()
        if self.clients < 0 or (self.clients and (self.arrival_s.any() or (self.after >= 0).any())):
            what = "a closed loop has clients > 0, arrivals of 0 and no request that waits for another"
            raise SpecError(what, at="clients", got=self.clients, fix="give arrivals or clients, not both")

    def _check_prefixes(self) -> None:
        start, blocks = self.hash_start, self.hash_tokens
        if blocks < 0 or start[-1] != len(self.hash_ids) or start[0] != 0 or (not blocks and len(self.hash_ids)):
            what = "hash_start runs from 0 to the number of hash_ids, which need hash_tokens > 0"
            raise SpecError(what, at="hash_start", got=(blocks, int(start[-1]), len(self.hash_ids)), fix="check them")
        if len(self.hash_ids):
            counts = np.diff(start)
            _check(counts >= 0, "hash_start", start[1:], "at or after the start before it")
            _check(counts <= -(-self.prompt_tokens // blocks), "hash_start", counts, "at most one id per prompt block")

    @classmethod
    def of(
        cls,
        arrival_s: ArrayLike,
        prompt_tokens: ArrayLike,
        output_tokens: ArrayLike,
        *,
        classes: tuple[RequestClass, ...] = (RequestClass(name="default"),),
        blocks: tuple[Longs, Longs, int] | None = None,
        **rest: Any,
    ) -> Traffic:
        """Traffic with the usual value of every column that is not given.

        Args:
            arrival_s: [n].
            prompt_tokens: [n], or one number for all.
            output_tokens: [n], or one number for all.
            classes: what is promised.
            blocks: (hash_start, hash_ids, hash_tokens).
            rest:   columns (a single value stands for every request), clients, skipped, notes, name.
        """
        arrival = np.asarray(arrival_s, dtype=np.float64)
        rows = arrival.size
        lengths = (spread(values, rows) for values in (prompt_tokens, output_tokens))
        columns = {name: spread(rest.pop(name, usual), rows) for name, usual in _DEFAULTS.items()}
        start, ids, size = blocks or (spread(0, rows + 1), np.empty(0, dtype=np.int64), 0)
        prompt, output = lengths
        found: dict[str, Any] = {
            "arrival_s": arrival,
            "prompt_tokens": prompt,
            "output_tokens": output,
            "classes": classes,
            **columns,
        }
        return cls(**found, hash_start=start, hash_ids=ids, hash_tokens=size, **rest)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def rows(self) -> int:
        """How many requests."""
        return len(self.arrival_s)

    @property
    def independent(self) -> Mask:
        """[n] requests that arrive by themselves."""
        return self.after < 0

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if self.rows else 0.0

    @property
    def rate_per_s(self) -> float:
        """Mean rate: requests per independent arrival, by gaps per second. NaN below two arrivals, or in a loop."""
        alone = int(np.count_nonzero(self.independent))
        if alone < 2 or self.clients:
            return math.nan
        return self.rows / alone * (alone - 1) / self.span_s if self.span_s > 0 else math.inf

    def head(self, count: int) -> Traffic:
        """The first `count` requests (all, if there are fewer)."""
        count = min(max(count, 0), self.rows)
        if count == self.rows:
            return self
        columns: dict[str, Any] = {name: getattr(self, name)[:count] for name in _PER_REQUEST}
        start = self.hash_start[: count + 1]
        return replace(self, **columns, hash_start=start, hash_ids=self.hash_ids[: start[-1]])

    def select(self, mask: ArrayLike) -> Traffic:
        """The requests of a mask [n], less those that wait, at any distance, for one that is not kept."""
        kept = np.asarray(mask)
        if kept.dtype != np.bool_ or kept.shape != (self.rows,):
            raise DomainError("a mask has one truth value per request", at="mask", got=kept.shape, fix="give [n] bools")
        ahead = self.after
        while (waiting := ahead >= 0).any():
            # Each round looks twice as far up the chain.
            reached = np.where(waiting, ahead, 0)
            kept = kept & (~waiting | kept[reached])
            ahead = np.where(waiting, ahead[reached], -1)
        return self.taken(np.flatnonzero(kept))

    def taken(self, order: Longs) -> Traffic:
        """The requests at these places, in this order; each must come behind the one that it waits for."""
        place = np.full(self.rows + 1, -1, dtype=np.int64)
        place[order] = np.arange(len(order))
        columns: dict[str, Any] = {
            name: _picked(getattr(self, name), order) for name in _PER_REQUEST if name != "after"
        }
        after = self.after if _same(self.after) and self.rows and self.after[0] < 0 else place[self.after]
        start, ids = prefixes.pick(self.hash_start, self.hash_ids, order)
        return replace(self, **columns, after=_picked(after, order), hash_start=start, hash_ids=ids)

    def scaled(self, time_factor: float) -> Traffic:
        """Arrivals and think times multiplied by a factor above 0."""
        if not 0 < time_factor < math.inf:
            raise DomainError(
                "not a finite factor above 0", at="time_factor", got=time_factor, fix="give for example 2"
            )
        think = self.think_s if _same(self.think_s) and not self.think_s.any() else self.think_s * time_factor
        return replace(self, arrival_s=self.arrival_s * time_factor, think_s=think)

    def at_rate(self, requests_per_s: float) -> Traffic:
        """Scaled in time, so that the mean rate is this one."""
        if not (0 < self.rate_per_s < math.inf and 0 < requests_per_s < math.inf):
            what = "a rate can be set if it is above 0 and requests arrive at more than one time"
            raise DomainError(
                what, at="requests_per_s", got=requests_per_s, fix="give arrivals, for example poisson(1/s)"
            )
        return self.scaled(self.rate_per_s / requests_per_s)

    def sampled(self, frac: float, rng: np.random.Generator) -> Traffic:
        """Each session, or request without one, is kept with probability `frac`."""
        if not 0 < frac <= 1:
            raise DomainError("not a share above 0 and up to 1", at="frac", got=frac, fix="give for example 0.1")
        _, unit = np.unique(np.where(self.session >= 0, self.session, -2 - self.roots()), return_inverse=True)
        return self.select((rng.random(unit.max(initial=-1) + 1) < frac)[unit])

    def roots(self) -> Longs:
        """[n] index of the first request of each one's chain; its own, if it waits for none."""
        root = np.where(self.after >= 0, self.after, np.arange(self.rows))
        while not np.array_equal(further := root[root], root):
            root = further
        return root

    def cut(self, start_s: float, end_s: float) -> Traffic:
        """The requests that arrive in [start_s, end_s), their times counted from `start_s`; chains stay whole."""
        if not start_s < end_s:
            raise DomainError(
                "the end is not after the start", at="end_s", got=(start_s, end_s), fix="give start < end"
            )
        kept = self.select((self.arrival_s >= start_s) & (self.arrival_s < end_s))
        return replace(kept, arrival_s=kept.arrival_s - start_s)

    def with_class(self, one: RequestClass) -> Traffic:
        """All requests in this one class."""
        return replace(self, class_code=spread(0, self.rows), classes=(one,))

    def resized(self, prompt_factor: float = 1.0, output_factor: float = 1.0) -> Traffic:
        """Lengths multiplied by factors above 0, rounded, at least 1. Prefixes are forgotten: their blocks moved."""
        for factor in (prompt_factor, output_factor):
            if not 0 < factor < math.inf:
                raise DomainError("not a finite factor above 0", at="resized", got=factor, fix="give for example 2")
        prompt, output = (
            np.clip(np.rint(tokens * factor), 1, MAX_TOKENS).astype(np.int64)
            for tokens, factor in ((self.prompt_tokens, prompt_factor), (self.output_tokens, output_factor))
        )
        none: dict[str, Any] = {
            "hash_start": spread(0, self.rows + 1),
            "hash_ids": np.empty(0, dtype=np.int64),
            "hash_tokens": 0,
        }
        return replace(self, prompt_tokens=prompt, output_tokens=output, **none)

    def summary(self) -> Summary:
        """What this traffic looks like."""
        gaps = np.diff(self.arrival_s[self.independent])
        mean_gap = float(gaps.mean()) if gaps.size else 0.0
        counts = np.bincount(self.class_code, minlength=len(self.classes)).tolist()
        return Summary(
            requests=self.rows,
            independent=int(np.count_nonzero(self.independent)),
            sessions=len(np.unique(self.session[self.session >= 0])),
            span_s=self.span_s,
            rate_per_s=self.rate_per_s,
            prompt=lengths_of(self.prompt_tokens),
            output=lengths_of(self.output_tokens),
            burstiness=float(gaps.std()) / mean_gap if mean_gap > 0 else math.nan,
            prefix_reuse_frac=prefixes.reuse_frac(self.hash_ids),
            per_class={one.name: count for one, count in zip(self.classes, counts, strict=True)},
        )


def spread(value: ArrayLike, rows: int) -> NDArray[Any]:
    """A column of one value, stored once; columns are returned as they are."""
    array = np.asarray(value)
    return np.broadcast_to(array, (rows,)) if array.ndim == 0 else array


def _picked(column: NDArray[Any], order: Longs) -> NDArray[Any]:
    return column[: len(order)] if _same(column) and len(order) <= len(column) else column[order]


def _same(column: NDArray[Any]) -> bool:
    """Whether a column is one value stored once."""
    return column.strides == (0,)


def _column(
    name: str, values: Any, kind: type[np.generic], rows: int | None, least: float, most: float
) -> NDArray[Any]:
    """The column as a read-only array of its type, checked."""
    array = np.asarray(values)
    if array.ndim != 1 or (rows is not None and array.size != rows):
        raise SpecError(
            f"{name} is not a column of {rows} values", at=name, got=array.shape, fix="give one per request"
        )
    if array.dtype.kind not in ("iu" if np.issubdtype(kind, np.integer) else "iuf") and array.size:
        raise SpecError(f"{name} holds no {np.dtype(kind).name}", at=name, got=str(array.dtype), fix="give numbers")
    probe = array[:1] if _same(array) else array
    if probe.size and not (least <= probe.min() and probe.max() <= most):
        _check((probe >= least) & (probe <= most), name, probe, f"from {least:g} to {most:g}")
    typed: NDArray[Any]
    if array.dtype == kind:
        typed = array.view()
    else:
        typed = np.broadcast_to(probe.astype(kind), array.shape) if _same(array) else array.astype(kind)
    typed.flags.writeable = False
    return typed


def _check(fine: NDArray[np.bool_], name: str, values: NDArray[Any], wanted: str) -> None:
    if not fine.all():
        first = int(np.argmin(fine))
        raise SpecError(
            f"{name} is not {wanted}", at=f"{name}[{first}]", got=values[first].item(), fix="check the column"
        )
