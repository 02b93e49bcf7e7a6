"""Vidur's traces: num_prefill_tokens, num_decode_tokens and, in those with arrivals, arrived_at (seconds).

Later forks add session_id with think_time: turns of a session then follow each other.
Source: microsoft/vidur, data/processed_traces and its README.
"""

from __future__ import annotations

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.readers.tabular import rows_of

COLUMNS = {
    "arrival_s": ("arrived_at", "session_start_at"),
    "prompt_tokens": ("num_prefill_tokens",),
    "output_tokens": ("num_decode_tokens",),
    "session": ("session_id",),
    "think_s": ("think_time",),
}


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a table."""
    return rows_of(path, names, COLUMNS)


FORMAT = Format(
    name="vidur",
    kind="table",
    needs=(("num_prefill_tokens",), ("num_decode_tokens",)),
    read=read,
    about="CSV with arrived_at, num_prefill_tokens, num_decode_tokens",
)
