"""Several tables in one file or folder: a DuckDB database, or one CSV or Parquet file per table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ridgeline.core import _duck
from ridgeline.core.files import atomic_path
from ridgeline.core.tables import Results, Table, _joined, write_table

DATABASES = (".duckdb", ".db")
"""Suffixes of a database; any other names the tables' own format."""


def write_tables(tables: Mapping[str, Results], out: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write tables of named columns, each file whole or not at all.

    Args:
        tables: name -> columns of one length.
        out: NAME.duckdb is one database; NAME.parquet, NAME.csv or NAME.csv.gz become NAME.TABLE.parquet and so on.
    Returns: the files.
    Raises:
        FileFormatError: not a writable file of these formats, or columns of two lengths.
    """
    path = Path(os.fspath(out))
    made = {name: Table(rows=_rows(columns), names=(), columns={}, source={}) for name, columns in tables.items()}
    if path.suffix.casefold() in DATABASES:
        _write_database({name: (made[name], columns) for name, columns in tables.items()}, path)
        return (path,)
    _duck.table_kind(str(path))
    ending = "".join(path.suffixes[-2:]) if path.suffix.casefold() == ".gz" else path.suffix
    stem = path.name.removesuffix(ending)
    files = {name: path.with_name(f"{stem}.{name}{ending}") for name in tables}
    for name, columns in tables.items():
        write_table(made[name], columns, files[name])
    return tuple(files.values())


def _rows(columns: Results) -> int:
    return max((len(values) for values in columns.values()), default=0)


def _write_database(tables: Mapping[str, tuple[Table, Results]], path: Path) -> None:
    connection = _duck.connect()
    with atomic_path(path) as temporary, _duck.duckdb_errors(str(path), "the database cannot be written"):
        connection.execute(f"ATTACH {_duck.literal(str(temporary))} AS made")
        for name, (table, columns) in tables.items():
            _, checked = _joined(table, columns)
            query = _duck.select_sql(None, connection, checked, harmless=False)
            connection.execute(f"CREATE TABLE made.{_duck.quoted(name)} AS {query}")
            connection.unregister("results")
        connection.execute("DETACH made")
        connection.close()
