"""Azure's LLM inference traces of 2023 and 2024: TIMESTAMP (a date with time), ContextTokens, GeneratedTokens.

Source: Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and ...2024.md.
"""

from __future__ import annotations

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.readers.tabular import rows_of

COLUMNS = {
    "arrival_s": ("TIMESTAMP",),
    "prompt_tokens": ("ContextTokens",),
    "output_tokens": ("GeneratedTokens",),
}


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a table, arrivals from the first."""
    return rows_of(path, names, COLUMNS, dates=True)


FORMAT = Format(
    name="azure",
    kind="table",
    needs=(("TIMESTAMP",), ("ContextTokens",), ("GeneratedTokens",)),
    read=read,
    about="CSV with TIMESTAMP, ContextTokens, GeneratedTokens",
)
