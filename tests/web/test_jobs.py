"""Jobs as processes: how they are stopped, what they may take, what becomes of them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the page needs the extra `web`")

from tests.web import runs

from ridgeline.apps.web import jobs
from ridgeline.apps.web.jobs import Job, JobError, Jobs, Run, TooManyError

LONGEST_S = 120.0
"""Within which a job is done that is stopped or has failed, on a busy machine; else it is a tenth of a second."""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setattr(jobs, "GRACE_S", LONGEST_S)  # a busy machine may keep a process from taking notice for long
    made = Jobs()
    yield made
    made.close()


def begun(held: Jobs, run: Run, words: str) -> Job:
    """A job that has told that it runs."""
    job = held.find(held.start(run, {}))
    until = time.monotonic() + LONGEST_S
    while job.words != words and not job.done.is_set() and time.monotonic() < until:
        time.sleep(0.01)
    assert job.words == words
    return job


def end(job: Job) -> dict[str, Any]:
    assert job.done.wait(LONGEST_S)
    return dict(json.loads(job.end))


def test_who_is_stopped_may_say_what_is_known(held: Jobs) -> None:
    job = begun(held, runs.waits, "waiting for ever")
    job.stop()
    assert end(job) == {"event": "answer", "answer": runs.ANSWER.to_dict(), "files": []}


def test_who_knows_nothing_ends_all_the_same(held: Jobs) -> None:
    job = begun(held, runs.counts, "counting")
    job.stop()
    assert end(job)["error"] == "stopped before there was anything to show"


def test_who_is_stopped_twice_is_ended(held: Jobs) -> None:
    job = begun(held, runs.adds_up, "counting")
    job.stop()
    until = time.monotonic() + LONGEST_S
    while "what is known" not in job.words and time.monotonic() < until:
        time.sleep(0.01)
    assert not job.done.is_set()
    job.stop()
    assert "nothing to show" in end(job)["error"]


def test_who_takes_no_notice_is_ended(held: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GRACE_S", 0.1)
    job = begun(held, runs.takes_no_notice, "dreaming")
    job.stop()
    assert "stopped at 25% (dreaming)" in end(job)["error"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no limit of processor time")
def test_who_takes_too_long_is_stopped(held: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_S", 1.0)
    assert "stopped before" in end(held.find(held.start(runs.counts, {})))["error"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps a limit of memory")
def test_who_takes_too_much_memory_is_told_how_much_there_is(held: Jobs) -> None:
    most = held.find(held.start(runs.hoards, {"bytes": 2 * jobs.MOST_BYTES}))
    assert "2.00 GiB that a job may have" in end(most)["error"]
    assert end(held.find(held.start(runs.hoards, {"bytes": jobs.MOST_BYTES >> 1})))["event"] == "answer"


def test_a_process_that_dies_is_an_error_and_a_mistake_is_one_too(held: Jobs) -> None:
    died = end(held.find(held.start(runs.dies, {})))["error"]
    assert "ended without an answer" in died and "2.00 GiB" in died
    broke = end(held.find(held.start(runs.breaks, {})))["error"]
    assert broke == "a mistake of ours: ZeroDivisionError: by zero"


def test_files_come_from_the_process_that_knows(held: Jobs, tmp_path: Path) -> None:
    job = held.find(held.start(runs.keeps, {}))
    assert end(job)["files"] == ["None", "Who"]
    job.write("Who", os.fspath(tmp_path / "who.txt"))
    assert (tmp_path / "who.txt").read_text() != str(os.getpid())
    with pytest.raises(JobError, match="cannot be written"):
        job.write("None", os.fspath(tmp_path / "none.txt"))
    job.forget()
    with pytest.raises(JobError, match="has ended"):
        job.write("Who", os.fspath(tmp_path / "who.txt"))


def test_more_jobs_than_the_queue_holds_are_refused(held: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 3)
    names = [held.start(runs.waits, {}) for _ in range(3)]
    with pytest.raises(TooManyError, match="too many jobs"):
        held.start(runs.waits, {})
    held.find(names[2]).stop()
    end(held.find(names[2]))
    held.start(runs.waits, {})
    held.close()
    assert all(held.find(name).done.wait(LONGEST_S) for name in names)
