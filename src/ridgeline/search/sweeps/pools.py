"""Pools of workers: this process, or others on this machine that may die, stop or never end.

A pool takes parts while it is free and gives each back once: done, or lost with the reason. Trying again is not its
business. Workers of a pool are watched: one is lost that has died, that gives no sign of life, whose computing thread
uses no processor time though it has work, or that takes longer than the limit.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ridgeline.core.errors import RidgelineError
from ridgeline.search.sweeps.points import Cell
from ridgeline.search.sweeps.work import Part, Piece, Work, evaluated

BEAT_S = 1.0
"""Between signs of life."""
SILENT_S = 8.0
"""Without a sign of life, or without processor time, a worker is given up: within 10 s, with the time to notice."""
START_S = 60.0
"""Within which a worker must have started."""
MOST_FAILED_STARTS = 3

Columns = Mapping[str, list[Cell]]


class PoolError(RidgelineError):
    """Workers that cannot be had."""

    code = "RL0113"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a part: its results, or why there are none."""

    part: Part
    piece: Piece | None
    reason: str = ""


class Pool(Protocol):
    """Workers. Use one as a context: nothing of it is left behind, whatever happens."""

    @property
    def free(self) -> int:
        """Parts that it takes now."""

    def submit(self, part: Part, columns: Columns) -> None:
        """Give it a part; it must be free."""

    def poll(self, timeout_s: float) -> list[Outcome]:
        """What became of parts since the last call; waits so long for the first."""

    def __enter__(self) -> Pool:
        """Ready for work."""

    def __exit__(self, *_: object) -> None:
        """End every worker now."""


class InProcess:
    """The pool of this process: no worker to start, and none to lose."""

    def __init__(self, work: Work) -> None:
        """A pool for that work."""
        self._work = work
        self._waiting: deque[tuple[Part, Columns]] = deque()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()

    @property
    def free(self) -> int:
        """One at a time."""
        return 1 - len(self._waiting)

    def submit(self, part: Part, columns: Columns) -> None:
        """Keep it for `poll`."""
        self._waiting.append((part, columns))

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Evaluate what waits."""
        found = [Outcome(part=part, piece=evaluated(self._work, part, columns)) for part, columns in self._waiting]
        self._waiting.clear()
        return found


class Watch:
    """When a worker counts as lost, by a clock that no change of the time of day moves."""

    def __init__(self, limit_s: float) -> None:
        """For points that may take so long (0: any)."""
        self._limit_s = limit_s
        self._beat_s = self._moved_s = self._since_s = time.monotonic()
        self._cpu_s, self._count = -1.0, 0

    def start(self, count: int) -> None:
        """It gets so many points."""
        self._since_s = self._moved_s = time.monotonic()
        self._count = count

    def beat(self, cpu_s: float) -> None:
        """A sign of life: processor time of the computing thread so far (below 0: not known)."""
        self._beat_s = time.monotonic()
        if cpu_s != self._cpu_s or cpu_s < 0:
            self._cpu_s, self._moved_s = cpu_s, self._beat_s

    def lost(self) -> str:
        """Why the worker is given up; "" if it is not."""
        now_s = time.monotonic()
        if now_s - self._beat_s > SILENT_S:
            return f"the worker gave no sign of life for {SILENT_S:g} s"
        if now_s - self._moved_s > SILENT_S:
            return f"the worker stood still for {SILENT_S:g} s"
        if self._limit_s and now_s - self._since_s > self._limit_s * self._count:
            return f"it took longer than the limit of {self._limit_s:g} s"
        return ""


class Processes:
    """Worker processes on this machine."""

    def __init__(self, work: Work, count: int) -> None:
        """So many processes, which start when the pool is entered."""
        self._work, self._count = work, count
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Processes:
        self._workers = [_Worker(self._work) for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.bury()
        self._workers = []

    @property
    def free(self) -> int:
        """Workers that are started and have nothing to do."""
        return sum(worker.ready and worker.part is None for worker in self._workers)

    def submit(self, part: Part, columns: Columns) -> None:
        """Give the part to a free worker."""
        next(worker for worker in self._workers if worker.ready and worker.part is None).give(part, columns)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Read what workers say, and replace those that are lost. Raises PoolError: they do not start."""
        waited: list[Any] = [worker.pipe for worker in self._workers]
        ready = multiprocessing.connection.wait(waited, timeout_s)
        found: list[Outcome] = []
        for i, worker in enumerate(self._workers):
            reason = worker.read(found) if worker.pipe in ready else ""
            reason = reason or worker.lost()
            if reason:
                found += self._replace(i, reason)
        return found

    def _replace(self, i: int, reason: str) -> list[Outcome]:
        old = self._workers[i]
        old.kill()
        reason = f"{reason}{old.bury()}"
        if not old.ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                fix = "--workers 0 runs without them; a script calls sweep under `if __name__ == '__main__':`"
                raise PoolError("workers do not start", at="workers", got=reason, fix=fix)
        self._workers[i] = _Worker(self._work)
        return [] if old.part is None else [Outcome(part=old.part, piece=None, reason=reason)]


class _Worker:
    """One process, what it works on, and when it was last heard of."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.part: Part | None = None
        self.ready = False
        self._limit_s = work.limit_s
        self._watch = Watch(work.limit_s)
        self._started_s = time.monotonic()
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _sigint_ignored():
            self._process.start()
        theirs.close()

    def give(self, part: Part, columns: Columns) -> None:
        self.part = part
        self._watch.start(part.count)
        with suppress(OSError):  # it has died: the next look at it tells
            self.pipe.send((part, columns))

    def read(self, found: list[Outcome]) -> str:
        """Take in what it says. Returns why it is lost, or ""."""
        try:
            while self.pipe.poll():
                kind, value = self.pipe.recv()
                if kind == "beat":
                    self._watch.beat(value)
                elif kind == "ready":
                    self.ready, self._watch = True, Watch(self._limit_s)
                else:
                    assert self.part is not None, "only who has work answers"
                    found.append(Outcome(part=self.part, piece=value))
                    self.part = None
        except (EOFError, OSError):
            return "the worker died"
        return ""

    def lost(self) -> str:
        if not self.ready:
            return "the worker did not start" if time.monotonic() - self._started_s > START_S else ""
        return self._watch.lost() if self.part is not None else ""

    def kill(self) -> None:
        with suppress(OSError, ValueError):
            self._process.kill()

    def bury(self) -> str:
        """Wait for its end. Returns how it ended, if not by our hand."""
        if self.pipe.closed:
            return ""
        self._process.join(5.0)
        code = self._process.exitcode
        self.pipe.close()
        with suppress(ValueError):
            self._process.close()
        return "" if code in (None, -signal.SIGTERM, -getattr(signal, "SIGKILL", 9)) else f" (exit code {code})"


def _serve(pipe: Any, work: Work) -> None:
    """The life of a worker: parts in, pieces out, a sign of life each second; it ends when nobody listens."""
    lock, clock = threading.Lock(), _computing_clock()

    def say(kind: str, value: object) -> None:
        try:
            with lock:
                pipe.send((kind, value))
        except OSError:
            os._exit(0)

    def live() -> None:
        while True:
            say("beat", clock())
            time.sleep(BEAT_S)

    say("ready", None)
    threading.Thread(target=live, daemon=True).start()
    while True:
        try:
            part, columns = pipe.recv()
        except (EOFError, OSError):
            return
        say("done", evaluated(work, part, columns))


def _computing_clock() -> Any:
    """A function that gives the processor time of this thread, also when another asks; -1 where that is not known."""
    try:
        number = time.pthread_getcpuclockid(threading.get_ident())
    except (AttributeError, OSError):
        return lambda: -1.0
    return lambda: time.clock_gettime(number)


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Children born here do not hear Ctrl-C, which is for their parent to act on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
