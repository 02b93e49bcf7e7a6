"""Classes of requests into one traffic: each has arrivals of its own or a share of common ones, lengths or a trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError
from ridgeline.core.seeding import stream
from ridgeline.workloads.traffic.arrivals import Arrivals
from ridgeline.workloads.traffic.lengths import Law
from ridgeline.workloads.traffic.mixing import mix
from ridgeline.workloads.traffic.readers import LENGTHS_ONLY
from ridgeline.workloads.traffic.requests import RequestClass, Traffic, spread
from ridgeline.workloads.traffic.sessions import Sessions, plain, play

Floats = NDArray[np.float64]
Play = Callable[[Floats], Traffic]
"""Starts of requests, or of sessions -> all their requests."""

SHARE_TOLERANCE = 1e-6
"""Shares written with six digits sum to 1."""
_MOST_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One class of a mix.

    Args:
        one:      what is promised to it; its name names the random streams.
        arrivals: its own; None: those of the trace, or a share of the common ones.
        share:    of the common arrivals.
        prompt, output: laws of lengths, if there is no trace.
        sessions: how they run, if each arrival starts one.
        trace:    its requests, if they are known.
        tenant, adapter, model: laws of their numbers; None: 0, none and none.
        at:       where the class stands, for messages.
    """

    one: RequestClass
    arrivals: Arrivals | None = None
    share: float = 0.0
    prompt: Law | None = None
    output: Law | None = None
    sessions: Sessions | None = None
    trace: Traffic | None = None
    tenant: Law | None = None
    adapter: Law | None = None
    model: Law | None = None
    at: str = ""

    def __post_init__(self) -> None:
        if self.trace is None and (self.prompt is None or self.output is None):
            fix = "give `trace: FILE`, or `prompt:` and `output:`"
            raise SpecError("a class without lengths", at=self.at or self.one.name, fix=fix)
        if self.trace is not None and (self.prompt is not None or self.output is not None or self.sessions is not None):
            fix = "leave `prompt`, `output` and `sessions` out, or the trace"
            raise SpecError("a trace has its lengths already", at=self.at or self.one.name, fix=fix)

    @property
    def turns(self) -> float:
        """Requests to expect of each arrival."""
        return max(1.0, self.sessions.turns.mean) if self.sessions is not None else 1.0


def composed(
    parts: Sequence[Part],
    *,
    common: Arrivals | None = None,
    requests: int | None = None,
    duration_s: float | None = None,
    seed: int = 0,
    name: str = "traffic",
    at: str = "",
) -> Traffic:
    """The requests of all classes by arrival: the first `requests`, or those that start before `duration_s`, or both.

    Raises:
        SpecError: arrivals that are missing, given twice or endless; shares that do not sum to 1.
        DomainError: limits out of range.
    """
    if not parts:
        raise SpecError("no class of requests", at=at or "classes", fix="add one under `classes:`")
    if requests is not None and requests < 1:
        raise SpecError("requests is not at least 1", at="requests", got=requests, fix="give for example 1000")
    if common is not None:
        found = _shared(parts, common, requests, duration_s, seed, at)
    else:
        found = _separate(parts, requests, duration_s, seed, at)
    limited = found if requests is None else found.head(requests)
    return replace(limited, name=name)


def _shared(
    parts: Sequence[Part], common: Arrivals, requests: int | None, duration_s: float | None, seed: int, at: str
) -> Traffic:
    shares = np.array([part.share or float(len(parts) == 1) for part in parts])
    for part, share in zip(parts, shares, strict=True):
        if part.arrivals is not None:
            raise SpecError(
                "arrivals of its own beside common ones", at=part.at, fix="give the class a `share` instead"
            )
        if not share > 0:
            raise SpecError("a class without a share of the common arrivals", at=part.at, fix="give a share above 0")
    if abs(shares.sum() - 1) > SHARE_TOLERANCE:
        fix = "shares are parts of 1: make them sum to 1"
        raise SpecError("the shares do not sum to 1", at=at or "share", got=float(f"{shares.sum():.9g}"), fix=fix)
    turns = float(sum(share * part.turns for share, part in zip(shares, parts, strict=True)))

    def played(starts: Floats) -> Traffic:
        owner = stream(seed, "share").choice(len(parts), len(starts), p=shares / shares.sum())
        return _mixed([_filled(part, starts[owner == i], seed) for i, part in enumerate(parts)])

    if common.clients:
        return _closed(parts, common, requests, seed, played)
    return _enough(common, requests, duration_s, turns, stream_of=(seed, "arrivals"), played=played)


def _separate(parts: Sequence[Part], requests: int | None, duration_s: float | None, seed: int, at: str) -> Traffic:
    for part in parts:
        if part.share:
            raise SpecError("a share of what?", at=part.at, fix="give common `arrivals:` beside `classes:`")
        if part.arrivals is None and (part.trace is None or LENGTHS_ONLY in part.trace.notes):
            fix = "give `arrivals:`, for example poisson(12/s)"
            raise SpecError("a class without arrivals", at=part.at or part.one.name, fix=fix)
        if part.arrivals is not None and part.arrivals.clients and len(parts) > 1:
            fix = "give `arrivals: closed(...)` beside `classes:`, and each class a share"
            raise SpecError("a closed loop of one class among several", at=part.at, fix=fix)
    made = [part for part in parts if part.arrivals is not None]
    if made and requests is None and duration_s is None:
        # A file of lengths is an end in itself: each of its rows once.
        if len(parts) > 1 or parts[0].trace is None:
            raise SpecError("traffic without an end", at=at or "requests", fix="give `requests:` or `duration:`")
        requests = parts[0].trace.rows
    if len(parts) == 1 and made:
        part, own = parts[0], made[0].arrivals
        assert own is not None, "made of arrivals"
        if own.clients:
            return _closed(parts, own, requests, seed, lambda starts: _filled(part, starts, seed))
        key = (seed, f"{part.one.name}/arrivals")
        return _enough(own, requests, duration_s, part.turns, stream_of=key, played=lambda s: _filled(part, s, seed))
    if duration_s is not None or not made:
        return _mixed([_until(part, duration_s, seed) for part in parts])
    return _first(parts, requests or 0, seed)


def _first(parts: Sequence[Part], requests: int, seed: int) -> Traffic:
    """At least the first `requests` of several classes: the time that they take is not known, so it is tried."""
    rate = sum(part.arrivals.mean_per_s * part.turns for part in parts if part.arrivals is not None)
    until_s = 1.2 * requests / rate
    for _ in range(_MOST_TRIES):
        found = _mixed([_until(part, until_s, seed) for part in parts])
        if len(found) >= requests:
            return found
        until_s *= 1.6
    raise SpecError("the classes never make that many requests", at="requests", got=requests, fix="ask for fewer")


def _enough(
    arrivals: Arrivals,
    requests: int | None,
    duration_s: float | None,
    turns: float,
    *,
    stream_of: tuple[int, str],
    played: Play,
) -> Traffic:
    """Starts from one process, played; with sessions, as many as give the number of requests."""
    starts = None if requests is None else min(requests, math.ceil(1.2 * requests / turns) + 16)
    while True:
        found = played(arrivals.sample(stream(*stream_of), count=starts, duration_s=duration_s))
        if requests is None or starts is None or len(found) >= requests or starts >= requests:
            return found
        starts = min(requests, 2 * starts)


def _closed(parts: Sequence[Part], loop: Arrivals, requests: int | None, seed: int, played: Play) -> Traffic:
    for part in parts:
        if part.sessions is not None or (part.trace is not None and (part.trace.after >= 0).any()):
            fix = "give sessions arrivals, for example poisson(1/s)"
            raise SpecError("sessions in a closed loop", at=part.at or part.one.name, fix=fix)
    if requests is None:
        raise SpecError("a closed loop without an end", at="requests", fix="give a number of requests")
    # The order of the loop stands in for arrivals until the classes are mixed.
    found = played(np.arange(requests, dtype=np.float64))
    rows = len(found)
    think = 0.0
    if loop.think is not None and (loop.think.mean or loop.think.least):
        think = loop.think.seconds(rows, stream(seed, "think"))  # type: ignore[assignment]
    return replace(found, arrival_s=spread(0.0, rows), think_s=spread(think, rows), clients=loop.clients)


def _until(part: Part, until_s: float | None, seed: int) -> Traffic:
    if part.arrivals is None:
        assert part.trace is not None, "a part without arrivals has a trace"
        whole = _dressed(part.trace, part, seed)
        return whole if until_s is None else whole.cut(0.0, until_s)
    return _filled(part, part.arrivals.sample(stream(seed, f"{part.one.name}/arrivals"), duration_s=until_s), seed)


def _filled(part: Part, starts: Floats, seed: int) -> Traffic:
    """The requests of a class whose sessions, or requests, start at these times."""
    name = part.one.name
    if part.trace is not None:
        return _dressed(_replayed(part.trace, starts, stream(seed, f"{name}/rows")), part, seed)
    assert part.prompt is not None, "a part without a trace has lengths"
    assert part.output is not None, "a part without a trace has lengths"
    if part.sessions is None:
        found = plain(starts, part.prompt, part.output, seed=seed, name=name, one=part.one)
    else:
        found = play(starts, part.prompt, part.output, part.sessions, seed=seed, name=name, one=part.one)
    return _dressed(found, part, seed)


def _replayed(trace: Traffic, starts: Floats, rng: np.random.Generator) -> Traffic:
    """A trace with other arrivals: its chains in their order, up to its end; rows of lengths alone are drawn."""
    if LENGTHS_ONLY in trace.notes and not len(trace.hash_ids) and bool((trace.after < 0).all()):
        rows = rng.integers(0, len(trace), len(starts)) if len(starts) != len(trace) else np.arange(len(trace))
        timed = tuple(note for note in trace.notes if note != LENGTHS_ONLY)
        return replace(trace.taken(rows), arrival_s=starts, notes=timed)
    rank = (np.cumsum(trace.independent) - 1)[trace.roots()]
    kept = np.flatnonzero(rank < len(starts))
    order = kept[np.argsort(rank[kept], kind="stable")]
    taken = trace.taken(order)
    return replace(taken, arrival_s=starts[rank[order]])


def _dressed(traffic: Traffic, part: Part, seed: int) -> Traffic:
    rows = len(traffic)
    columns: dict[str, Any] = {}
    for column, law in (("tenant", part.tenant), ("adapter", part.adapter), ("model", part.model)):
        if law is not None:
            drawn = np.clip(np.rint(law.draw(stream(seed, f"{part.one.name}/{column}"), rows)), 0, 2**31 - 1)
            columns[column] = drawn.astype(np.int32)
    return replace(traffic.with_class(part.one), **columns)


def _mixed(traffics: Sequence[Traffic]) -> Traffic:
    return traffics[0] if len(traffics) == 1 else mix(*traffics)
