"""Tables of lengths alone, as people cut ShareGPT and LMSYS chats: a prompt and an output length per row."""

from __future__ import annotations

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.readers.tabular import rows_of

PROMPT = ("input_len", "input_length", "prompt_len", "prompt_length", "input_tokens", "isl", "ContextTokens")
OUTPUT = ("output_len", "output_length", "response_len", "response_length", "gen_len", "osl", "GeneratedTokens")
COLUMNS = {"prompt_tokens": PROMPT, "output_tokens": (*OUTPUT, "output_tokens")}


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a table; none has an arrival."""
    return rows_of(path, names, COLUMNS)


FORMAT = Format(
    name="lengths",
    kind="table",
    needs=(PROMPT, (*OUTPUT, "output_tokens")),
    read=read,
    about="CSV with input_len, output_len (lengths without arrivals)",
)
