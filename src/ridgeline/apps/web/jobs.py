"""What takes longer than a request: as many at once as there are cores, a queue, progress, and a way to stop."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ridgeline.apps.web.blocks import Answer
from ridgeline.core.errors import RidgelineError

MOST_WAITING = 64
MOST_S = 60.0
"""Of processor time of a job; what is known by then is its answer."""
KEPT = 8
"""Jobs that are done and may still be asked for."""
BEAT_S = 0.2


class TooManyError(RidgelineError):
    """The queue of jobs is full."""

    code = "RL0130"


class NoJobError(RidgelineError):
    """There is no job of that name, or no longer."""

    code = "RL0131"


@dataclass(frozen=True, slots=True)
class File:
    """What can be had of a finished job: how it is called, and what writes it to a path."""

    name: str
    write: Callable[[str], object]


@dataclass(eq=False)
class Told:
    """How far a job is; called by it, and it stops the job when that is asked for or its time is over."""

    share: float = 0.0
    words: str = "waiting"
    stop: bool = False
    started_s: float = 0.0
    files: dict[str, File] = field(default_factory=dict)

    def __call__(self, share: float, words: str) -> None:
        """Told by the job. Raises KeyboardInterrupt to stop it."""
        self.share, self.words = share, words
        if self.stop or time.thread_time() - self.started_s > MOST_S:
            raise KeyboardInterrupt

    def keep(self, label: str, name: str, write: Callable[[str], object]) -> None:
        """A file that can be had of the finished job, under a label."""
        self.files[label] = File(name, write)


@dataclass(eq=False)
class Job:
    """One run."""

    name: str
    told: Told = field(default_factory=Told)
    done: threading.Event = field(default_factory=threading.Event)
    answer: Mapping[str, Any] | None = None
    error: str = ""

    def end(self) -> dict[str, Any]:
        """The last event: its answer or its error."""
        if self.error:
            return {"event": "error", "error": self.error}
        return {"event": "answer", "answer": self.answer, "files": sorted(self.told.files)}


class Jobs:
    """All runs of this server."""

    def __init__(self) -> None:
        """None yet."""
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="job")
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, run: Callable[[Told], Answer]) -> str:
        """Queue a run; its name. Raises TooManyError."""
        with self._lock:
            waiting = sum(not job.done.is_set() for job in self._jobs.values())
            if waiting >= MOST_WAITING:
                raise TooManyError("too many jobs are waiting", at="jobs", got=waiting, fix="try again later")
            job = Job(name=secrets.token_urlsafe(12))
            self._jobs[job.name] = job
            finished = [name for name, one in self._jobs.items() if one.done.is_set()]
            for name in finished[: max(len(finished) - KEPT, 0)]:
                del self._jobs[name]
        self._pool.submit(_run, job, run)
        return job.name

    def find(self, name: str) -> Job:
        """A job by its name. Raises RidgelineError."""
        job = self._jobs.get(name)
        if job is None:
            raise NoJobError("no such job; it may have ended long ago", at="jobs", got=name[:40])
        return job

    def close(self) -> None:
        """Stop all of them."""
        for job in self._jobs.values():
            job.told.stop = True
        self._pool.shutdown(wait=True, cancel_futures=True)


def _run(job: Job, run: Callable[[Told], Answer]) -> None:
    job.told.started_s = time.thread_time()
    job.told.words = "starting"
    try:
        if job.told.stop:
            raise KeyboardInterrupt
        job.answer = run(job.told).to_dict()
    except RidgelineError as error:
        job.error = error.screen()
    except KeyboardInterrupt:
        job.error = "stopped before there was anything to show"
    except Exception as error:  # a mistake of ours must not take the server down; the page shows it
        job.error = f"a mistake of ours: {type(error).__name__}: {error}"
    finally:
        job.done.set()
