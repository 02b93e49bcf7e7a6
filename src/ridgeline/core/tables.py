"""Tables of cases: columns as numpy arrays in, the same rows with result columns out.

A numeric column is a float64 array (NaN: missing), a text column is `Labels` (codes into the distinct values). Only the
columns that are asked for become numpy arrays; all others stay where they are and are carried through by `write_table`
and `to_like`. A cell that should be a number and is not leaves NaN in its row and its text in `Table.bad`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import _duck
from ridgeline.core.errors import DomainError, FileFormatError, MissingExtraError
from ridgeline.core.files import writable_target

Floats = NDArray[np.float64]
Kind = Literal["number", "text"]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """A column of text: `codes` (int32, one per row) index the distinct `values`; code -1 is a missing cell."""

    codes: NDArray[np.int32]
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def texts(self, missing: str = "") -> list[str]:
        """One text per row."""
        known = (*self.values, missing)
        return [known[code] for code in self.codes.tolist()]


Column = Floats | Labels
Results = Mapping[str, "NDArray[Any] | Labels | Sequence[Any]"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Rows of cases.

    Args:
        rows:    how many.
        names:   every column of the source, in its order and spelling.
        columns: the columns that were asked for and are there.
        bad:     for columns of numbers: the texts that are not finite numbers (code -1 where the cell is fine).
        source:  where the rows stand: a duckdb source, or a mapping name -> values.
    """

    rows: int
    names: tuple[str, ...]
    columns: Mapping[str, Column]
    bad: Mapping[str, Labels] = field(default_factory=lambda: MappingProxyType({}))
    source: Any = field(repr=False, default=None)

    def has(self, name: str) -> bool:
        """Whether the column was asked for and is there."""
        return name in self.columns

    def number(self, name: str, default: float = np.nan) -> Floats:
        """float64 [rows]; missing cells, or a missing column, are `default`. Raises DomainError for text."""
        column = self.columns.get(name)
        if column is None:
            return np.full(self.rows, default)
        if isinstance(column, Labels):
            raise DomainError(f"column {name} was read as text", at=name, fix="ask for it as a number")
        return column if np.isnan(default) else np.where(np.isnan(column), default, column)

    def labels(self, name: str, default: str = "") -> Labels:
        """Labels [rows]; missing cells, or a missing column, are `default`, or stay code -1 if that is empty."""
        column = self.columns.get(name, Labels(np.full(self.rows, -1, dtype=np.int32), ()))
        if not isinstance(column, Labels):
            raise DomainError(f"column {name} was read as numbers", at=name, fix="ask for it as text")
        if not default or not (column.codes < 0).any():
            return column
        values = column.values if default in column.values else (*column.values, default)
        codes = np.where(column.codes < 0, np.int32(values.index(default)), column.codes)
        return Labels(codes, values)


def encode(texts: Iterable[str | None]) -> Labels:
    """Labels of texts; None, blank text and "nan" are missing."""
    return Labels(*_duck.encode_texts(texts))


def _encode_plain(values: list[Any]) -> Labels:
    """`encode` of cells of any kind; text, the common one, as it is."""
    if set(map(type, values)) <= {str, type(None)}:
        return encode(values)
    return encode(_text(value) for value in values)


def read_table(path: str | os.PathLike[str], *, columns: Mapping[str, Kind]) -> Table:
    """The table in a CSV (also gzipped) or Parquet file; "-" is standard input as CSV.

    Args:
        path:    the file; its suffix says the format.
        columns: the columns wanted as numpy arrays, if they are there (case does not count), and their kinds.
    Raises:
        FileFormatError: no such file, not a table, no or equal column names, rows of unequal width, not UTF-8.
    """
    return _table(_duck.open_source(os.fspath(path)), columns)


def column_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The column names of the table in a file, before its rows are read. Raises FileFormatError."""
    return tuple(_duck.names_in(os.fspath(path)))


def times_of(table: Table, name: str) -> tuple[Floats, Labels]:
    """A column of dates with times (ISO 8601): seconds since the earliest, and the texts that are none (code -1: fine).

    Raises:
        DomainError: a table that was not read from a file, or no such column.
    """
    source, column = _stored(table, name)
    seconds, bad = _duck.fetch_times(source, column)
    return seconds, Labels(*bad)


def lists_of(table: Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """A column of lists of whole numbers from 0 to 2^62: length per row, all items in one array, rows that are no list.

    Raises:
        DomainError: a table that was not read from a file, or no such column.
    """
    source, column = _stored(table, name)
    return _duck.fetch_lists(source, column)


def _stored(table: Table, name: str) -> tuple[_duck.Source, str]:
    """The source of a table in duckdb, and how it spells the column."""
    spelled = {other.casefold(): other for other in table.names}.get(name.casefold())
    if spelled is None or not isinstance(table.source, _duck.Source):
        raise DomainError(f"no column {name} in a file", at=name, fix="read the table from a file that has it")
    return table.source, spelled


def from_mapping(data: Mapping[str, Any], *, columns: Mapping[str, Kind]) -> Table:
    """A table of arrays or lists of one length; a single value stands for every row.

    Raises:
        FileFormatError: two lengths, values of more than one dimension, no or equal names.
    """
    names = tuple(str(name) for name in data)
    _duck.check_names(names, "table")
    listed = {str(name): _one_dimensional(str(name), values) for name, values in data.items()}
    lengths = {name: len(values) for name, values in listed.items() if values is not None}
    rows = max(lengths.values(), default=1)
    for name, length in lengths.items():
        if length != rows:
            longest = max(lengths, key=lengths.__getitem__)
            what = f"column {name} has {length} rows, column {longest} has {rows}"
            raise FileFormatError(what, at=name, fix="give columns of one length")
    full = {name: [data[name]] * rows if values is None else values for name, values in listed.items()}
    found: dict[str, Column] = {}
    bad: dict[str, Labels] = {}
    for wanted, name in _match(columns, full):
        if columns[wanted] == "text":
            found[wanted] = _encode_plain(_plain(full[name]))
        else:
            found[wanted], offending = _numbers(full[name])
            if offending is not None:
                bad[wanted] = offending
    return Table(rows=rows, names=names, columns=found, bad=bad, source=full)


def from_any(data: Any, *, columns: Mapping[str, Kind]) -> Table:
    """A table of whatever holds one: a Table, a mapping of columns, a duckdb relation, an Arrow or data frame object.

    Raises:
        FileFormatError: not a table.
        MissingExtraError: an object that offers only `__dataframe__`, and no library here that reads it.
    """
    if isinstance(data, Table):
        return data
    if isinstance(data, Mapping):
        return from_mapping(data, columns=columns)
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__")):
        fix = "give a dict of columns, a duckdb relation, or an object with __arrow_c_stream__ or __dataframe__"
        raise FileFormatError("not a table", at="table", got=type(data).__name__, fix=fix)
    connection = _duck.connect()
    with _duck.duckdb_errors("table", "not a readable table"):
        connection.from_arrow(_Stream(_streaming(data))).create("input")
        return _table(_duck.make_source(connection, "input", "table"), columns)


def check_out(out: str | os.PathLike[str]) -> None:
    """Refuse an output that `write_table` could not write, before anything is evaluated. Raises FileFormatError."""
    name = os.fspath(out)
    _duck.table_kind(name)
    if name != "-":
        writable_target(name)


def write_table(table: Table, results: Results, out: str | os.PathLike[str]) -> None:
    """Write the rows of `table`, in their order, with the results beside them; whole or not at all.

    A result takes the place of a column of the same name; NaN, None and code -1 are empty cells. In CSV, result text
    that a spreadsheet would run as a formula gets a leading apostrophe.

    Args:
        table:   the rows, and the columns that are carried through.
        results: name -> array, Labels or list, one value per row.
        out:     .csv, .csv.gz or .parquet (zstd); "-" is standard output as CSV.
    Raises:
        FileFormatError: not a writable file of these formats, or a result of another length.
    """
    source, checked = _joined(table, results)
    if isinstance(source, _duck.Source) and _duck.table_kind(os.fspath(out))[0] == "parquet":
        checked = _typed(table, source, checked)
    _duck.copy_out(source, checked, os.fspath(out))


def _typed(table: Table, source: _duck.Source, results: dict[str, _duck.Result]) -> dict[str, _duck.Result]:
    """The results, and the numbers of a CSV file, which duckdb holds as text, if each cell is one or is empty."""
    wanted: Mapping[str, Kind] = dict.fromkeys(table.columns, "number")
    taken = {name.casefold() for name in results}
    numbers = {
        name: column
        for asked, name in _match(wanted, source.types)
        if isinstance(column := table.columns[asked], np.ndarray)
        and source.types[name] == "VARCHAR"
        and asked not in table.bad
        and name.casefold() not in taken
    }
    return {**numbers, **results}


def to_like(data: Any, table: Table, results: Results) -> Any:
    """The rows of `table` with the results beside them, as the kind of thing that `data` is.

    Returns:
        A dict of arrays for a mapping, a duckdb relation for a relation, a data frame of pandas or polars for one, else
        a pyarrow table (a dict of arrays where the library for that is not installed).
    """
    if not isinstance(table.source, _duck.Source):
        shown = {name: _array(_result(name, values, table.rows)) for name, values in results.items()}
        folded = {name.casefold(): name for name in shown}
        kept = {folded.get(name.casefold(), name): values for name, values in table.source.items()}
        return kept | shown
    source, checked = _joined(table, results)
    assert source is not None, "rows in duckdb have a source"
    query = _duck.select_sql(source, source.connection, checked, harmless=False)
    with _duck.duckdb_errors("table", "not a readable table"):
        source.connection.execute(f"CREATE OR REPLACE TEMP TABLE output AS {query}")
        source.connection.unregister("results")
        relation = source.connection.table("output")
        family = type(data).__module__.partition(".")[0]
        if "duckdb" in family:
            # Before duckdb 2 a relation does not keep its connection; the finalizer holds it as long as the relation.
            weakref.finalize(relation, id, source.connection)
            return relation
        give: Any = {"pandas": relation.df, "polars": relation.pl}.get(family, relation.to_arrow_table)
        try:
            return give()
        except ImportError:
            return dict(source.connection.execute("FROM output").fetchnumpy())


class _Stream:
    """Shows an object by its Arrow stream only, so that duckdb does not look at what else it is."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._data.__arrow_c_stream__(requested_schema)


def _streaming(data: Any) -> Any:
    if hasattr(data, "__arrow_c_stream__"):
        return data
    try:
        from_dataframe = import_module("pyarrow.interchange").from_dataframe
    except ImportError as error:
        fix = "pip install pyarrow, or give a dict of columns"
        raise MissingExtraError("this data frame needs pyarrow to be read", at="table", fix=fix) from error
    return from_dataframe(data)


def _table(source: _duck.Source, columns: Mapping[str, Kind]) -> Table:
    found = _match(columns, source.types)
    numbers = [name for wanted, name in found if columns[wanted] == "number"]
    texts = [name for wanted, name in found if columns[wanted] == "text"]
    fetched, bad = _duck.fetch(source, numbers, texts)
    return Table(
        rows=source.rows,
        names=tuple(source.types),
        columns={w: c if isinstance(c := fetched[name], np.ndarray) else Labels(*c) for w, name in found},
        bad={wanted: Labels(*bad[name]) for wanted, name in found if name in bad},
        source=source,
    )


def _match(columns: Mapping[str, Kind], names: Iterable[str]) -> list[tuple[str, str]]:
    """(column wanted, its name in the source) for those that are there."""
    folded = {name.casefold(): name for name in names}
    return [(wanted, folded[wanted.casefold()]) for wanted in columns if wanted.casefold() in folded]


def _joined(table: Table, results: Results) -> tuple[_duck.Source | None, dict[str, _duck.Result]]:
    """The source in duckdb, if that is where the rows are, and every column to be written that is not in it."""
    checked = {name: _result(name, values, table.rows) for name, values in results.items()}
    if isinstance(table.source, _duck.Source):
        return table.source, checked
    folded = {name.casefold(): name for name in checked}
    carried = {name: folded.pop(name.casefold(), name) for name in table.source}
    columns = {
        n: checked[n] if n in checked else _result(n, table.source[old], table.rows) for old, n in carried.items()
    }
    return None, columns | {name: checked[name] for name in folded.values()}


def _result(name: str, values: Any, rows: int) -> _duck.Result:
    """One column in the form that duckdb takes."""
    if len(values) != rows:
        raise FileFormatError(
            f"column {name} has {len(values)} rows, the table has {rows}", at=name, fix="give one per row"
        )
    if isinstance(values, Labels):
        return values.codes, values.values
    array = _as_numbers(values)
    if array is not None and not isinstance(array, np.ma.MaskedArray):
        return array.astype(np.float64) if array.dtype in (np.float16, np.longdouble) else array
    plain = _plain(values)
    if all(value is None or type(value) in (int, float) for value in plain):
        return np.array([np.nan if value is None else value for value in plain], dtype=np.float64)
    labels = _encode_plain(plain)
    return labels.codes, labels.values


def _array(values: _duck.Result) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    codes, texts = values
    return np.array([*texts, None], dtype=object)[codes]


def _one_dimensional(name: str, values: Any) -> Any:
    """The values as they are, or None for a single value."""
    dimensions = getattr(values, "ndim", 1 if isinstance(values, list | tuple) else 0)
    if dimensions > 1:
        raise FileFormatError(f"column {name} has {dimensions} dimensions", at=name, fix="give one value per row")
    return values if dimensions else None


def _plain(values: Any) -> list[Any]:
    """Python values; masked cells are None."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _as_numbers(values: Any) -> NDArray[Any] | None:
    """The values as an array, masked or not, if all of them are numbers of one kind that numpy has."""
    if isinstance(values, list | tuple):
        kinds = set(map(type, values))
        array = np.array(values) if kinds <= {int, float} or kinds == {bool} else np.empty(0, dtype=object)
    else:
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
    return array if array.dtype.kind in "biuf" else None


def _numbers(values: Any) -> tuple[Floats, Labels | None]:
    """float64 with NaN for what is missing or no finite number, and the texts of the latter, if any."""
    array = _as_numbers(values)
    if array is not None:
        number = np.ma.filled(array.astype(np.float64), np.nan)
        if not np.isinf(number).any():
            return number, None
    plain = _plain(values)
    number = np.array([_number(value) for value in plain], dtype=np.float64)
    wrong = ~np.isfinite(number)
    offending = encode(_text(value) if flag else None for value, flag in zip(plain, wrong.tolist(), strict=True))
    number[wrong] = np.nan
    return number, offending if offending.values else None


def _number(value: Any) -> float:
    if isinstance(value, str) and "_" in value:
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None else str(value)
