"""Results of a sweep as one table: a row per point in their order, written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ridgeline.core.database import DATABASES, write_tables
from ridgeline.core.errors import FileFormatError
from ridgeline.core.files import writable_target
from ridgeline.core.tables import Results, Table, check_out, encode, write_table
from ridgeline.search.sweeps.points import Points
from ridgeline.search.sweeps.work import ERROR, Piece, joined

POINT, TABLE = "point", "results"


def check_results(out: str | os.PathLike[str]) -> None:
    """Refuse a file that `write_results` could not write. Raises FileFormatError."""
    name = os.fspath(out)
    if name == "-":
        raise FileFormatError("a sweep writes a file", at="out", got=name, fix="name a .parquet, .csv or .duckdb file")
    if Path(name).suffix.casefold() in DATABASES:
        writable_target(name)
    else:
        check_out(name)


def write_results(points: Points, pieces: Iterable[Piece], out: str | os.PathLike[str]) -> None:
    """Write the number of each point, its columns, its results, and its error.

    Parquet and CSV are the same bytes for the same pieces; a DuckDB file is the same rows of the table `results`.

    Raises:
        FileFormatError: it cannot be written, the disk is full.
    """
    _tidy(writable_target(out))
    found = list(pieces)
    given = points.table()
    made = {
        name: encode(column) if isinstance(column, tuple) else column
        for name, column in joined(found).items()
        if name not in given
    }
    table: Results = {
        POINT: np.arange(points.count, dtype=np.int64),
        **given,
        **made,
        ERROR: encode(text for piece in found for text in piece.errors),
    }
    if Path(os.fspath(out)).suffix.casefold() in DATABASES:
        write_tables({TABLE: table}, out)
    else:
        write_table(Table(rows=points.count, names=(), columns={}, source={}), table, out)


def _tidy(out: Path) -> None:
    """Remove what runs left that were killed while they wrote: whoever holds the journal is alone here."""
    left = re.compile(rf"\.{re.escape(out.stem[:40])}\.[0-9a-f]{{12}}\.tmp{re.escape(out.suffix)}")
    for path in out.parent.iterdir():
        if left.fullmatch(path.name):
            path.unlink(missing_ok=True)
