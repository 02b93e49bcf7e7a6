"""What takes longer than a request: each in a process of its own, as many at once as there are cores, and a queue.

A process can be stopped whatever it is doing, and the system holds it to its processor time and memory. Stopping is
Ctrl-C, as at the command line: a run that knows something by then answers with it. Processes are copies of one that has
loaded everything and does nothing else, so that they start at once.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import secrets
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline.apps.web.blocks import Answer
from ridgeline.core import units
from ridgeline.core.errors import RidgelineError

MOST_WAITING = 64
MOST_S = 60.0
"""Of processor time of a job; what is known by then is its answer."""
MOST_BYTES = 2 << 30
"""Of memory that a job may take."""
KEPT = 8
"""Jobs that are done and may still be asked for."""
BEAT_S = 0.2
GRACE_S = 1.5
"""Within which a job that is stopped must take notice; then its process is ended."""
AFTER_S = 60.0
"""Of processor time for the answer of a job that was stopped, and for its files."""

Run = Callable[[Mapping[str, Any], "Told"], Answer]
"""A view's job: importable by name, since another process runs it."""


class TooManyError(RidgelineError):
    """The queue of jobs is full."""

    code = "RL0130"


class NoJobError(RidgelineError):
    """There is no job of that name, or no longer."""

    code = "RL0131"


class JobError(RidgelineError):
    """The process of a job has ended without an answer, or cannot write a file."""

    code = "RL0132"


@dataclass(eq=False)
class Told:
    """What a job tells while it runs: how far it is, and which files can be had of it."""

    pipe: Any
    files: dict[str, tuple[str, Callable[[str], object]]] = field(default_factory=dict)

    def __call__(self, share: float, words: str) -> None:
        """So far is it."""
        self.pipe.send(("progress", share, words))

    def keep(self, label: str, name: str, write: Callable[[str], object]) -> None:
        """A file that can be had of the finished job, under a label: how it is called, and what writes it to a path."""
        self.files[label] = (name, write)


@dataclass(eq=False)
class Job:
    """One run.

    Attributes:
        share, words: how far it is. done: whether it has ended, with `end`, its last event as JSON.
        files: names of what can be had of it, by label.
    """

    name: str
    share: float = 0.0
    words: str = "waiting"
    done: threading.Event = field(default_factory=threading.Event)
    end: bytes = b""
    files: dict[str, str] = field(default_factory=dict)
    _stopped: bool = False
    _heard: bool = False
    _process: Any = None
    _pipe: Any = None
    _stopping: threading.Lock = field(default_factory=threading.Lock)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def stop(self) -> None:
        """Ask it to end with what it knows; who is asked again, or takes no notice, is ended without."""
        with self._stopping:
            if self.done.is_set():
                return
            if self._process is None:
                self._fail("stopped before it began")
                return
            if self._stopped:
                self._process.kill()
                return
            self._stopped, self.words = True, f"stopping: {self.words}"
            _interrupt(self._process)
        insisting = threading.Timer(GRACE_S, self._insist)
        insisting.daemon = True
        insisting.start()

    def drop(self) -> None:
        """Nobody wants its answer."""
        self.stop()
        self.stop()

    def play(self, context: Any, run: Run, values: Mapping[str, Any]) -> None:
        """Run it in a process of its own, to its end."""
        try:
            with self._stopping:
                if self.done.is_set():
                    return
                self._pipe, theirs = context.Pipe()
                arguments = (theirs, run, values, (MOST_S, MOST_BYTES))
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                self._process, self.words = process, "starting"
            self._listen()
        except (EOFError, OSError) as error:
            self._fail(self._last_words(str(error) or "it died"))
        if not self.files:
            self.forget()

    def write(self, label: str, path: str) -> None:
        """Write one of its files. Raises JobError."""
        try:
            with self._writing:
                self._pipe.send((label, path))
                error = self._pipe.recv()
        except (EOFError, OSError):
            error = "the process that knew it has ended"
        if error:
            raise JobError("the file cannot be written", at=label, got=error, fix="run the job again")

    def forget(self) -> None:
        """End its process, and with it what it knew."""
        if self._process is None:
            return
        with suppress(OSError, ValueError):
            self._process.kill()
        with self._stopping:  # a pipe that two threads close at once may be another's by then
            if self.done.is_set():
                self._pipe.close()

    def _listen(self) -> None:
        while True:
            kind, *told = self._pipe.recv()
            if kind == "end":
                self.end, self.files = told
                self.done.set()
                return
            if kind == "heard":
                self._heard, self.words = True, "adding up what is known"
            elif not self._heard:
                self.share, self.words = told

    def _insist(self) -> None:
        if not (self._heard or self.done.is_set()):
            self._process.kill()

    def _fail(self, words: str) -> None:
        self.end = _error(words)
        self.done.set()

    def _last_words(self, reason: str) -> str:
        """Of a process that has ended without any."""
        if self._stopped:
            return f"stopped at {self.share:.0%} ({self.words.removeprefix('stopping: ')}): there is nothing to show"
        fix = (
            f"a job may take {units.size(MOST_BYTES)} and {MOST_S:g} s of processor time here: ask for less, or use the"
        )
        what = "the process of this job has ended without an answer"
        return JobError(what, at="jobs", got=reason, fix=f"{fix} command line").screen()


class Jobs:
    """All runs of this server."""

    def __init__(self) -> None:
        """None yet."""
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="job")
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._context: Any = multiprocessing.get_context(kind)

    def warm(self) -> None:
        """Load what jobs need, beside everything else; the first is then as quick as the next."""
        if self._context.get_start_method() == "forkserver":
            from multiprocessing import forkserver

            forkserver.set_forkserver_preload(["ridgeline.apps.web.views"])
            forkserver.ensure_running()

    def start(self, run: Run, values: Mapping[str, Any]) -> str:
        """Queue a run; its name. Raises TooManyError."""
        self.warm()
        with self._lock:
            waiting = sum(not job.done.is_set() for job in self._jobs.values())
            if waiting >= MOST_WAITING:
                raise TooManyError("too many jobs are waiting", at="jobs", got=waiting, fix="try again later")
            job = Job(name=secrets.token_urlsafe(12))
            self._jobs[job.name] = job
            finished = [name for name, one in self._jobs.items() if one.done.is_set()]
            for name in finished[: max(len(finished) - KEPT, 0)]:
                self._jobs.pop(name).forget()
        self._pool.submit(job.play, self._context, run, values)
        return job.name

    def find(self, name: str) -> Job:
        """A job by its name. Raises RidgelineError."""
        job = self._jobs.get(name)
        if job is None:
            raise NoJobError("no such job; it may have ended long ago", at="jobs", got=name[:40])
        return job

    def close(self) -> None:
        """End all of them."""
        for job in self._jobs.values():
            job.drop()
            job.forget()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _work(pipe: Any, run: Run, values: Mapping[str, Any], limits: tuple[float, int]) -> None:
    """The life of a job's process: its answer, then the files that are asked for, until nobody asks."""

    def stopped(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pipe.send(("heard",))
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stopped)
    told = Told(pipe)
    end = _ended(run, values, told, limits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        pipe.send(("end", end, {label: name for label, (name, _) in told.files.items()}))
        while True:
            label, path = pipe.recv()
            try:
                told.files[label][1](path)
                pipe.send("")
            except (RidgelineError, MemoryError, OSError) as error:
                pipe.send(f"{type(error).__name__}: {error}")


def _ended(run: Run, values: Mapping[str, Any], told: Told, limits: tuple[float, int]) -> bytes:
    """The last event of a run, held to its limits."""
    words = "stopped before there was anything to show"
    try:
        _hold(*limits)
        return json.dumps(
            {"event": "answer", "answer": run(values, told).to_dict(), "files": sorted(told.files)}
        ).encode()
    except RidgelineError as error:
        words = error.screen()
    except KeyboardInterrupt:
        pass
    except MemoryError:
        what = f"this takes more memory than the {units.size(limits[1])} that a job may have here"
        words = JobError(what, at="jobs", fix="ask for less, or use the command line, which has no such limit").screen()
    except Exception as error:  # a mistake of ours must not take the server down; the page shows it
        words = f"a mistake of ours: {type(error).__name__}: {error}"
    told.files.clear()
    return _error(words)


def _hold(most_s: float, most_bytes: int) -> None:
    """Limits that the system keeps, where it knows them: Windows does not, and macOS knows no limit of memory."""
    try:
        import resource
    except ImportError:
        return
    soft = math.ceil(most_s)
    hard = soft + math.ceil(AFTER_S)

    def over(*_: object) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGXCPU, over)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    pages = Path("/proc/self/statm")
    if pages.exists():
        now = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + most_bytes, now + most_bytes))


def _interrupt(process: Any) -> None:
    """Ctrl-C for another process; Windows has none, and ends it."""
    if os.name == "nt":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)


def _error(words: str) -> bytes:
    return json.dumps({"event": "error", "error": words}).encode()
