"""Rows of small CSV files of one's own, read strictly: regular files, UTF-8, at most 16 MiB."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ridgeline.core.errors import FileFormatError
from ridgeline.core.files import MAX_BYTES, regular_size


def read_rows(path: str | os.PathLike[str], *, least: int) -> list[list[str]]:
    """Head and rows, cells as text, empty lines left out; all as wide as the head.

    Args: least: rows that must follow the head.
    Raises: FileFormatError: no such file, too large, not UTF-8, not CSV, ragged, or too short.
    """
    name = Path(path).name
    if regular_size(path) > MAX_BYTES:
        raise FileFormatError("the table is too large", at=name, fix="give 16 MiB at most")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if any(cell.strip() for cell in row)]
    except UnicodeDecodeError as error:
        raise FileFormatError("the table is not UTF-8", at=name, fix="save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise FileFormatError(f"the table cannot be read: {error}", at=name, fix="check the file") from error
    if len(rows) < 1 + least or any(len(row) != len(rows[0]) for row in rows):
        raise FileFormatError(
            f"a table has a head, {least} rows or more, and as many cells in each", at=name, fix="check the file"
        )
    return rows
