"""Schedules of tasks, and weeks of a job, as traces that ui.perfetto.dev opens: a slice per task or span."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from ridgeline.core.trace_events import micro, named, write_events
from ridgeline.training.graph import Schedule


def write_schedule(schedule: Schedule, path: str | os.PathLike[str], *, name: str) -> str:
    """Write it. Returns one line that says what the trace holds. Raises FileFormatError: it cannot be written."""
    note = f"{len(schedule.tasks):,} tasks on {len(schedule.resources)} resources"
    write_events(path, _events(schedule, name), {"title": name, "note": note, "makespan_s": schedule.makespan_s})
    return note


def write_spans(spans: Sequence[tuple[float, float, str]], path: str | os.PathLike[str], *, name: str) -> str:
    """Write what one thing did from when to when: a slice per span. Returns one line that says what the trace holds."""
    note = f"{len(spans):,} spans"

    def events() -> Iterator[dict[str, Any]]:
        yield named(1, "process_name", name)
        yield named(1, "thread_name", "job")
        for start, end, state in spans:
            begin = micro(start)
            yield {"name": state, "cat": "job", "ph": "X", "ts": begin, "dur": micro(end) - begin, "pid": 1, "tid": 0}

    write_events(path, events(), {"title": name, "note": note})
    return note


def _events(schedule: Schedule, name: str) -> Iterator[dict[str, Any]]:
    """Resources in the order of their first task; a resource's tasks are in order of time."""
    yield named(1, "process_name", name)
    thread = {resource: index for index, resource in enumerate(schedule.resources)}
    for resource, index in thread.items():
        yield named(1, "thread_name", resource, tid=index)
    for task, start, end in zip(schedule.tasks, schedule.start_s.tolist(), schedule.end_s.tolist(), strict=True):
        begin = micro(start)
        slice_ = {"name": task.name, "cat": task.kind or "task", "ph": "X", "ts": begin}
        yield {**slice_, "dur": max(micro(end) - begin, 0.0), "pid": 1, "tid": thread[task.resource]}
