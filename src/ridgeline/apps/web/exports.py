"""Rows of an answer as files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgeline.core.errors import SpecError
from ridgeline.core.tables import from_mapping, write_table

KINDS: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
MOST_ROWS = 100_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def exported(kind: str, rows: object) -> bytes:
    """A file of the rows. Raises SpecError: they are no rows."""
    checked = _rows(rows)
    if kind == "json":
        return json.dumps(checked, indent=2).encode()
    names = list(dict.fromkeys(name for row in checked for name in row))
    columns = {str(_cell(name, kind)): [_cell(row.get(name), kind) for row in checked] for name in names}
    with tempfile.TemporaryDirectory(prefix="ridgeline-") as folder:
        path = Path(folder) / f"rows.{kind}"
        even = {name: _even(values) for name, values in columns.items()}
        write_table(from_mapping(even, columns={}), {}, path)
        return path.read_bytes()


def _rows(rows: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise SpecError("there are no rows to write", at="rows", fix="ask first, then export")
    if len(rows) > MOST_ROWS:
        raise SpecError("too many rows", at="rows", got=len(rows), fix=f"at most {MOST_ROWS:,}")
    return rows


def _cell(value: Any, kind: str) -> Any:
    """A text that a spreadsheet would run is quoted (quality S9)."""
    if isinstance(value, str) and kind == "csv" and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _even(values: list[Any]) -> list[Any]:
    """A column of one kind: numbers with NaN for what is absent, or texts."""
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return [float("nan") if value is None else float(value) for value in values]
    return ["" if value is None else str(value) for value in values]
