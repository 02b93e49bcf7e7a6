"""Questions in SQL about a file of results: one SELECT over the table `results`, which sees nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.core import _duck
from ridgeline.core.database import DATABASES
from ridgeline.core.errors import FileFormatError, RidgelineError, UnknownNameError, did_you_mean
from ridgeline.core.files import regular_size
from ridgeline.core.tables import Table, check_out, column_names, write_table

if TYPE_CHECKING:
    from rich.console import RenderableType

TABLE = "results"
SHOWN_ROWS = 50
MOST_SQL = 100_000


CONFINED = ("temp_directory=''", "enable_external_access=false", "lock_configuration=true")
"""Settings under which a query runs. DuckDB lets queries read and write in its temporary folder, hence none."""


class QueryError(RidgelineError):
    """SQL that is no question about the results, or that DuckDB refuses."""

    code = "RL0114"


@dataclass(frozen=True, eq=False)
class Answer:
    """Rows of an answer: name of each column, and its values (None: missing)."""

    columns: Mapping[str, Sequence[Any]]

    @property
    def rows(self) -> int:
        """How many."""
        return max((len(values) for values in self.columns.values()), default=0)

    def column(self, name: str) -> Sequence[Any]:
        """Values by name. Raises UnknownNameError with the nearest."""
        if name not in self.columns:
            fix = did_you_mean(name, self.columns, listing=f"columns: {', '.join(list(self.columns)[:12])}")
            raise UnknownNameError(f"the answer has no column {name!r}", at=name, fix=fix)
        return self.columns[name]

    def to_dict(self) -> dict[str, Any]:
        """Rows as mappings, for JSON."""
        names = list(self.columns)
        rows = zip(*self.columns.values(), strict=True)
        return {
            "verb": "query",
            "columns": names,
            "rows": [dict(zip(names, map(_plain, row), strict=True)) for row in rows],
        }

    def write(self, out: str | os.PathLike[str]) -> None:
        """As .csv, .csv.gz or .parquet; whole or not at all."""
        write_table(Table(rows=self.rows, names=(), columns={}, source={}), self.columns, out)

    def __rich__(self) -> RenderableType:
        """The first rows."""
        from rich.console import Group
        from rich.table import Table as Shown
        from rich.text import Text

        table = Shown(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, values in self.columns.items():
            numbers = all(value is None or isinstance(value, int | float) for value in values[:SHOWN_ROWS])
            table.add_column(Text(name), justify="right" if numbers else "left")
        for row in zip(*(values[:SHOWN_ROWS] for values in self.columns.values()), strict=True):
            table.add_row(*(Text(_shown(value)) for value in row))
        rest = self.rows - SHOWN_ROWS
        return Group(table, Text(f"{rest:,} more rows; --out writes all", style="dim")) if rest > 0 else table


def query(results: str | os.PathLike[str], sql: str) -> Answer:
    """The answer to one SELECT over the table `results`.

    Args:
        results: .parquet, .csv (also gzipped) or .duckdb with a table `results`.
        sql: DuckDB's SQL; other files and the network are out of its reach.
    Raises:
        FileFormatError: a file that is none of these. QueryError: not one SELECT, or one that fails.
    """
    import duckdb

    connection = _loaded(os.fspath(results))
    try:
        for setting in CONFINED:
            connection.execute(f"SET {setting}")
        _check(sql)
        cursor = connection.execute(sql)
        names = _distinct([str(column[0]) for column in cursor.description or ()])
        rows = cursor.fetchall()
    except duckdb.Error as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        fix = f"the table is `{TABLE}`; `DESCRIBE {TABLE}` lists its columns"
        raise QueryError("the query cannot be answered", at="SQL", got=" ".join(lines)[:400], fix=fix) from error
    finally:
        connection.close()
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return Answer({name: _column(values) for name, values in zip(names, columns, strict=True)})


def check_answer_out(out: str) -> None:
    """Refuse an output before the query runs. Raises FileFormatError."""
    check_out(out)


def _check(sql: str) -> None:
    """One statement that reads."""
    import duckdb

    if len(sql) > MOST_SQL:
        raise QueryError("the query is too long", at="SQL", got=f"{len(sql)} characters", fix="shorten it")
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        got = "; ".join(str(one.type).rpartition(".")[2] for one in statements) or "nothing"
        fix = f'write for example "FROM {TABLE} LIMIT 5"'
        raise QueryError("a query is one SELECT", at="SQL", got=got, fix=fix)


def _loaded(path: str) -> Any:
    """A database in memory that holds the results."""
    regular_size(path)
    connection = _duck.connect()
    database = Path(path).suffix.casefold() in DATABASES
    with _duck.duckdb_errors(path, "not a readable table"):
        if database:
            connection.execute(f"ATTACH {_duck.literal(path)} AS made (READ_ONLY)")
            named = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
            if TABLE not in named:
                fix = f"its tables: {', '.join(named) or 'none'}"
                raise FileFormatError(f"no table `{TABLE}` in the database", at=path, fix=fix)
            connection.execute(f"CREATE TABLE memory.{TABLE} AS FROM made.{TABLE}")
            connection.execute("DETACH made")
            return connection
        column_names(path)
        kind, _ = _duck.table_kind(path)
        options = "hive_partitioning=false" if kind == "parquet" else "header=true, sample_size=-1"
        connection.execute(f"CREATE TABLE {TABLE} AS FROM read_{kind}({_duck.literal(path)}, {options})")
    return connection


def _distinct(names: list[str]) -> list[str]:
    """Names, of which none is twice."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found


def _column(values: Sequence[Any]) -> list[Any]:
    plain = (float(value) if isinstance(value, Decimal) else value for value in values)
    return [value if value is None or isinstance(value, int | float | str) else str(value) for value in plain]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == np.floor(value) and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)
