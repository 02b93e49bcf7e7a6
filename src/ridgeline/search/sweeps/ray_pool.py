"""The pool of a Ray cluster: one actor per worker, watched as processes here are; ray is imported inside functions."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ridgeline.core.errors import MissingExtraError
from ridgeline.search.sweeps.pools import BEAT_S, START_S, Columns, Outcome, PoolError, Watch
from ridgeline.search.sweeps.work import Part, Piece, Work, evaluated

ANSWER_S, CONNECT_S = 3.0, 10.0
"""Within which an address must answer at all, and answer as Ray."""

HURRY_S = 1.2
"""Time for Ray's servers to end after Ctrl-C."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""No usage report, no warning about accelerators."""

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


class RayPool:
    """Workers on a Ray cluster. `count` says how many."""

    def __init__(self, work: Work, *, count: int, most: int, address: str, fingerprint: Callable[[], str]) -> None:
        """Connect to the cluster.

        Args:
            work: what is done.
            count: workers; 0: as many as the cluster has processors.
            most: at most so many.
            address: "host:port", "ray://host:port" or "auto"; "": a Ray of this machine's own.
            fingerprint: of the installed package, here and on the workers; they must agree.
        Raises:
            MissingExtraError: no ray here. PoolError: the address does not answer, or not as a Ray of this version.
        """
        self._ray = _ray()
        self._owned = _connect(self._ray, address, count)
        have = int(self._ray.cluster_resources().get("CPU", 1))
        self.count = max(min(count or have, most), 1)
        self._work, self._fingerprint = work, fingerprint
        self._actors: list[_Actor] = []

    def __enter__(self) -> RayPool:
        remote = self._ray.remote(num_cpus=1, max_concurrency=2, max_restarts=0)(_Remote)
        self._remote: Any = remote
        self._here, self._started_s = self._fingerprint(), time.monotonic()
        self._actors = [self._start() for _ in range(self.count)]
        return self

    def __exit__(self, *how: object) -> None:
        with suppress(Exception):  # a cluster that is gone needs no goodbye
            for actor in self._actors:
                actor.kill()
            if self._owned:
                farewell = threading.Thread(target=self._ray.shutdown, daemon=True)
                farewell.start()
                farewell.join(HURRY_S if KeyboardInterrupt in how else None)
        self._actors = []

    def _start(self) -> _Actor:
        return _Actor(self._ray, self._remote.remote(self._work, self._fingerprint), self._work.limit_s)

    @property
    def free(self) -> int:
        """Workers that are started and have nothing to do."""
        return sum(actor.ready and actor.part is None for actor in self._actors)

    def submit(self, part: Part, columns: Columns) -> None:
        """Give the part to a free worker."""
        next(actor for actor in self._actors if actor.ready and actor.part is None).give(part, columns)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Read what workers say, and replace those that are lost.

        Raises PoolError: no worker starts, or one has another ridgeline.
        """
        refs = [ref for actor in self._actors for ref in actor.refs()]
        ready, _ = self._ray.wait(refs, timeout=timeout_s, fetch_local=False) if refs else ([], [])
        if ready and len(refs) > 1:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        elif not refs:
            time.sleep(min(timeout_s, BEAT_S))
        found: list[Outcome] = []
        for i, actor in enumerate(self._actors):
            reason = actor.read(set(ready), found, self._here) or actor.lost()
            if reason:
                actor.kill()
                if actor.part is not None:
                    found.append(Outcome(part=actor.part, piece=None, reason=reason))
                self._actors[i] = self._start()
        late = time.monotonic() - self._started_s > START_S
        if late and not any(actor.ready for actor in self._actors):
            fix = "see whether the cluster has free processors, or give fewer --workers"
            raise PoolError("no worker starts on the cluster", at="engine", fix=fix)
        return found


class _Remote:
    """The worker itself, on whatever node: one thread computes, another tells that it lives."""

    def __init__(self, work: Work, fingerprint: Callable[[], str]) -> None:
        self._work, self._fingerprint, self._clock = work, fingerprint, -1

    def hello(self) -> str:
        return self._fingerprint()

    def beat(self) -> float:
        return time.clock_gettime(self._clock) if self._clock != -1 else -1.0

    def evaluate(self, part: Part, columns: Columns) -> Piece:
        with suppress(AttributeError, OSError):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        return evaluated(self._work, part, columns)


class _Actor:
    """One actor, what it works on, and when it was last heard of."""

    def __init__(self, ray: Any, handle: Any, limit_s: float) -> None:
        self._ray, self._handle = ray, handle
        self._watch, self._limit_s = Watch(limit_s), limit_s
        self._asked_s = 0.0
        self._beat: Any = None
        self._answer: Any = handle.hello.remote()
        self.part: Part | None = None
        self.ready = False

    def refs(self) -> list[Any]:
        """What it has been asked and not answered yet."""
        if self.part is not None and self._beat is None and time.monotonic() - self._asked_s > BEAT_S:
            self._beat, self._asked_s = self._handle.beat.remote(), time.monotonic()
        return [ref for ref in (self._answer, self._beat) if ref is not None]

    def give(self, part: Part, columns: Columns) -> None:
        self.part = part
        self._watch = Watch(self._limit_s)
        self._watch.start(part.count)
        self._answer = self._handle.evaluate.remote(part, dict(columns))

    def read(self, ready: set[Any], found: list[Outcome], fingerprint: str) -> str:
        """Take in what it says. Returns why it is lost, or ""."""
        errors = self._ray.exceptions
        try:
            if self._beat in ready:
                self._watch.beat(self._ray.get(self._beat))
                self._beat = None
            if self._answer not in ready:
                return ""
            answer, self._answer = self._ray.get(self._answer), None
        except (errors.RayActorError, errors.RayTaskError, errors.ObjectLostError) as error:
            if not self.ready and isinstance(error, errors.RayTaskError):
                fix = "install this version of ridgeline on every node"
                raise PoolError("a worker cannot run ridgeline", at="engine", got=str(error)[-200:], fix=fix) from error
            return "the worker died"
        if self.ready:
            assert self.part is not None, "only who has work answers"
            found.append(Outcome(part=self.part, piece=answer))
            self.part = None
        elif answer != fingerprint:
            fix = "install the same ridgeline on every node"
            raise PoolError("a worker has other files of ridgeline", at="engine", got=answer[:12], fix=fix)
        self.ready = True
        return ""

    def lost(self) -> str:
        return self._watch.lost() if self.ready and self.part is not None else ""

    def kill(self) -> None:
        with suppress(ValueError, self._ray.exceptions.RayError):
            self._ray.kill(self._handle, no_restart=True)


def _ray() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        fix = "pip install 'ridgeline[ray]', or leave out --engine"
        raise MissingExtraError("a Ray cluster needs ray", at="engine", fix=fix) from error
    return ray


def _connect(ray: Any, address: str, count: int) -> bool:
    """Be a driver of the cluster. Returns whether we made the connection, and have to end it."""
    if ray.is_initialized():
        return False
    if address not in ("", "auto"):
        _answers(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address:
        _within(lambda: ray.init(address=address, **quiet), address)
    else:
        size = {"num_cpus": count} if count else {}
        ray.init(address="local", include_dashboard=False, **size, **quiet)
    return True


def _answers(address: str) -> None:
    """Refuse an address at which nobody listens, within seconds."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise PoolError("not the address of a cluster", at="address", got=address, fix="write HOST:PORT, or auto")
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=ANSWER_S).close()
    except OSError as error:
        raise _silent(address, str(error)) from error


def _silent(address: str, why: str) -> PoolError:
    fix = "see `ray status` there; --fallback local goes on without it"
    return PoolError(f"no Ray cluster answers: {' '.join(why.split())[:200]}", at="address", got=address, fix=fix)


def _within(connect: Callable[[], object], address: str) -> None:
    """Connect, or give up after CONNECT_S: who listens there may be no Ray."""
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            connect()
        except BaseException as error:  # told to who waits
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if thread.is_alive():
        raise _silent(address, f"not within {CONNECT_S:g} s")
    if failed:
        raise _silent(address, f"{type(failed[0]).__name__}: {failed[0]}") from failed[0]
