"""The run of a sweep: parts to a pool, pieces into the journal, what is lost again, and nothing twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from ridgeline.search.sweeps.journal import Journal
from ridgeline.search.sweeps.points import Points
from ridgeline.search.sweeps.pools import Outcome, Pool
from ridgeline.search.sweeps.work import Part, failure

TRIES = 3
"""Times that a part is tried whose workers die or stop."""
POLL_S = 0.5

Progress = Callable[[int, int, int], None]
"""Told after each piece: points done, points in all, points with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did: points in all, those that were in the journal before, those with an error, parts tried again."""

    points: int
    resumed: int
    failed: int
    retried: int


def run(points: Points, journal: Journal, pool: Pool, *, chunk: int, progress: Progress | None = None) -> Summary:
    """Evaluate every point that the journal lacks.

    A part whose worker was lost three times is taken apart into single points, so that one deadly point costs no other;
    a single point whose worker was lost three times has that as its error.

    Args:
        points: all of them.
        journal: what is done, and where to write.
        pool: who does it.
        chunk: points per part; the same in every run of a journal.
        progress: told how far it is.
    Raises:
        KeyboardInterrupt: Ctrl-C; what is done is in the journal. FileFormatError: it cannot be written.
    """
    waiting = deque(missing(journal.parts(), points.count, chunk))
    resumed = points.count - sum(part.count for part in waiting)
    done, failed, retried = resumed, journal.failed(), 0
    tries: Counter[Part] = Counter()
    flying = 0
    tell = progress or (lambda done, of, failed: None)
    tell(done, points.count, failed)
    with pool:
        while waiting or flying:
            while waiting and pool.free:
                part = waiting.popleft()
                pool.submit(part, points.part(part.first, part.count))
                flying += 1
            for outcome in pool.poll(POLL_S):
                flying -= 1
                again = _again(outcome, tries)
                waiting.extendleft(reversed(again))
                retried += bool(again)
                if again:
                    continue
                piece = outcome.piece or failure(outcome.part, f"{outcome.reason}, {TRIES} times")
                journal.record(piece)
                done, failed = done + piece.part.count, failed + piece.failed
                tell(done, points.count, failed)
    return Summary(points=points.count, resumed=resumed, failed=failed, retried=retried)


def _again(outcome: Outcome, tries: Counter[Part]) -> list[Part]:
    """What is to be tried again of a part."""
    part = outcome.part
    if outcome.piece is not None:
        return []
    tries[part] += 1
    if tries[part] < TRIES:
        return [part]
    return _singles(part.first, part.count) if part.count > 1 else []


def missing(done: list[Part], count: int, chunk: int) -> list[Part]:
    """The parts that are to do: chunks from point 0 on, but single points where a chunk was taken apart before."""
    covered = {part.first: part.count for part in done}
    parts: list[Part] = []
    for first in range(0, count, chunk):
        size = min(chunk, count - first)
        if covered.get(first) == size:
            continue
        if any(number in covered for number in range(first, first + size)):
            parts += [one for one in _singles(first, size) if one.first not in covered]
        else:
            parts.append(Part(first=first, count=size))
    return parts


def _singles(first: int, count: int) -> list[Part]:
    return [Part(first=number, count=1) for number in range(first, first + count)]
