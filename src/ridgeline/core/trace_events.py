"""Files of the Trace Event Format, which ui.perfetto.dev and chrome://tracing open, written event by event.

Source: Trace Event Format, Google, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ridgeline.core.files import atomic_path

MICRO = 1e6
"""Timestamps of the format are microseconds."""

CHUNK = 4096
"""Events per write."""


def write_events(path: str | os.PathLike[str], events: Iterable[Mapping[str, Any]], other: Mapping[str, Any]) -> None:
    """Write a trace; memory does not grow with its length, and the file appears whole or not at all.

    Args:
        path:   of the JSON file.
        events: of the format, those of a track in order of time.
        other:  what the trace says of itself (`otherData`).
    Raises: FileFormatError: the file cannot be written.
    """
    head = json.dumps({"displayTimeUnit": "ms", "otherData": dict(other)}, allow_nan=False)[:-1]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head + ', "traceEvents": [\n')
        batch: list[str] = []
        comma = ""
        for event in events:
            batch.append(comma + json.dumps(event, allow_nan=False))
            comma = ",\n"
            if len(batch) >= CHUNK:
                file.write("".join(batch))
                batch.clear()
        file.write("".join(batch) + "\n]}\n")


def micro(time_s: float) -> float:
    """Microseconds, to the nanosecond."""
    return round(time_s * MICRO, 3)


def named(pid: int, kind: str, name: str, *, tid: int = 0) -> dict[str, Any]:
    """The name of a process (`process_name`) or thread (`thread_name`)."""
    return {"name": kind, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {"name": name}}
