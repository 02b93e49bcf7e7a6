"""BurstGPT: Timestamp (seconds), Model, Request tokens, Response tokens, Total tokens, Log Type; later also Session ID.

A failed request has 0 response tokens: it is left out and counted. `Model` becomes the class.
Source: HPMLL/BurstGPT, README.
"""

from __future__ import annotations

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.readers.tabular import rows_of

COLUMNS = {
    "arrival_s": ("Timestamp",),
    "prompt_tokens": ("Request tokens",),
    "output_tokens": ("Response tokens",),
    "class_name": ("Model",),
    "session": ("Session ID", "SessionID"),
}


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a table."""
    return rows_of(path, names, COLUMNS, no_output="a failed request")


FORMAT = Format(
    name="burstgpt",
    kind="table",
    needs=(("Timestamp",), ("Request tokens",), ("Response tokens",)),
    read=read,
    about="CSV with Timestamp, Model, Request tokens, Response tokens",
)
