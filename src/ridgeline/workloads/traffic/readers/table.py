"""Tables with ridgeline's own columns: arrival_s, prompt_tokens, output_tokens and, where there are any, the others.

Others: hash_ids (lists; blocks of 512 tokens), class, tenant, adapter, model, session, and think_s: a row of a session
with a think time and no arrival waits for the row of its session before it.
"""

from __future__ import annotations

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.readers.tabular import rows_of

COLUMNS = {
    "arrival_s": ("arrival_s",),
    "prompt_tokens": ("prompt_tokens",),
    "output_tokens": ("output_tokens",),
    "think_s": ("think_s",),
    "hash_ids": ("hash_ids",),
    "session": ("session",),
    "class_name": ("class",),
    "tenant": ("tenant",),
    "adapter": ("adapter",),
    "model": ("model",),
}
BLOCK = 512


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a table."""
    return rows_of(path, names, COLUMNS, block=BLOCK)


FORMAT = Format(
    name="table",
    kind="table",
    needs=(("prompt_tokens",), ("output_tokens",)),
    read=read,
    about="CSV or Parquet with arrival_s, prompt_tokens, output_tokens",
)
