"""How `tables.py` talks to duckdb: a source of rows, columns out of it as numpy arrays, columns back beside its own.

Text leaves duckdb as codes of an ENUM made of the distinct values, not as Python strings row by row; results come back
as numpy arrays joined by position, so the rows stay in their order. duckdb is imported here, inside functions.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import FileFormatError, RidgelineError
from ridgeline.core.files import atomic_path, regular_size

if TYPE_CHECKING:
    import duckdb

MAX_COLUMNS = 4096
MAX_HEADER_BYTES = 2**20
# A column of one value packs to almost nothing, so that short files may say anything up to the first number.
MOST_UNPACKED, VALUES_PER_BYTE = 5_000_000, 100
# Up to here an ENUM is quicker than Python strings (measured: 1000 values 0.08 s per million rows, 20000 values 0.5 s).
_MOST_ENUM_VALUES = 8000
_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NUMERIC = {*_SIGNED, *(f"U{kind}" for kind in _SIGNED), "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN"}
_OFFSET = r":[0-9.]+\s*([+-][0-9]{2}):?([0-9]{2})?\s*$"
_CSV = (".csv", ".tsv", ".txt")
_PARQUET = (".parquet", ".pq")
_FORMATS = "use .csv, .csv.gz or .parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows inside a duckdb connection: what `FROM` says, and the columns with their types."""

    connection: duckdb.DuckDBPyConnection
    relation: str
    types: Mapping[str, str]
    title: str
    rows: int
    stamp: tuple[str, int, int] | None = None


Codes = tuple[NDArray[np.int32], tuple[str, ...]]


def connect() -> duckdb.DuckDBPyConnection:
    """A private in-memory database that fetches nothing from anywhere and spills to the system's temporary folder."""
    import duckdb

    safe = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    return duckdb.connect(config={**safe, "temp_directory": tempfile.gettempdir()})


def open_source(path: str) -> Source:
    """The table in a file, or in standard input as CSV for "-". Raises FileFormatError."""
    if path == "-":
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "stdin.csv"
            with copy.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            return _open_csv(copy, "<stdin>", "none")
    size = regular_size(path)
    if any(mark in path for mark in "*?["):
        raise FileFormatError("the name of a table cannot hold * ? or [", at=path, fix="rename the file")
    if not size:
        raise FileFormatError("the file is empty", at=path, fix="is it the right file?")
    kind, compression = table_kind(path)
    return _open_csv(Path(path), path, compression) if kind == "csv" else _open_parquet(path)


def table_kind(path: str) -> tuple[str, str]:
    """("csv" or "parquet", compression) by the suffix; "-" is CSV. Raises FileFormatError."""
    if path == "-":
        return "csv", "none"
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    compression = "gzip" if suffixes[-1:] == [".gz"] else "none"
    kind = suffixes[-2:-1] if compression == "gzip" else suffixes[-1:]
    if kind and kind[0] in _CSV:
        return "csv", compression
    if kind and kind[0] in _PARQUET and compression == "none":
        return "parquet", "zstd"
    raise FileFormatError("not a table format", at=path, got="".join(suffixes), fix=_FORMATS)


def _open_parquet(path: str) -> Source:
    connection = connect()
    relation = f"read_parquet({literal(path)}, hive_partitioning=false)"
    with duckdb_errors(path, "not a readable Parquet file"):
        schema = connection.execute(f"SELECT name, num_children FROM parquet_schema({literal(path)})").fetchall()  # noqa: S608
        check_names(_top_level(schema), path)
        return make_source(connection, relation, path, file_stamp(path))


def _top_level(schema: list[tuple[str, int | None]]) -> list[str]:
    """Names of the columns in Parquet's depth-first list of schema elements, whose first element is the root."""
    names, inside = [], 0
    for name, children in schema[1:]:
        if inside == 0:
            names.append(name)
        inside = max(0, inside - 1) + (children or 0)
    return names


def _open_csv(path: Path, title: str, compression: str) -> Source:
    names, delimiter = _header(path, title, compression)
    connection = connect()
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    options = f"delim={literal(delimiter)}, compression='{compression}', columns={{{columns}}}"
    reader = f"read_csv({literal(str(path))}, auto_detect=false, header=true, quote='\"', escape='\"', {options})"
    with duckdb_errors(title, "not a readable CSV file"):
        connection.execute(f"CREATE TEMP TABLE input AS FROM {reader}")
        return make_source(connection, "input", title)


def make_source(connection: Any, relation: str, title: str, stamp: tuple[str, int, int] | None = None) -> Source:
    """Describe what stands in the connection under that name."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # noqa: S608
    types = {row[0]: str(row[1]).upper() for row in described}
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()  # noqa: S608
    return Source(connection=connection, relation=relation, types=types, title=title, rows=rows, stamp=stamp)


def _header(path: Path, title: str, compression: str) -> tuple[list[str], str]:
    """Column names and delimiter of a CSV file. Raises FileFormatError."""
    try:
        with gzip.open(path, "rb") if compression == "gzip" else path.open("rb") as file:
            start = file.read(MAX_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError("not a readable file", at=title, got=str(error), fix="is it cut off?") from error
    if len(start) == MAX_HEADER_BYTES and b"\n" not in start:
        raise FileFormatError("the first row is longer than 1 MiB", at=f"{title}:1", fix="is it the right file?")
    if b"\0" in start:
        raise FileFormatError("not a text table: it holds NUL bytes", at=f"{title}:1:1", fix=_FORMATS)
    try:
        text = (
            start.rpartition(b"\n")[0].decode("utf-8-sig")
            if len(start) == MAX_HEADER_BYTES
            else start.decode("utf-8-sig")
        )
    except UnicodeDecodeError as error:
        line = start.count(b"\n", 0, error.start) + 1
        raise FileFormatError("not UTF-8 text", at=f"{title}:{line}", fix="save it as UTF-8") from error
    lines = io.StringIO(text, newline=None)
    first = lines.readline()
    delimiter = next((mark for mark in ",\t;" if mark in first), ",")
    lines.seek(0)
    try:
        names = [name.strip() for name in next(csv.reader(lines, delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        raise FileFormatError("the header row is malformed", at=f"{title}:1:1", got=str(error), fix=_FORMATS) from error
    check_names(names, title)
    return names, delimiter


def check_names(names: Sequence[str], title: str) -> None:
    """Refuse headers that cannot name columns. Raises FileFormatError."""
    at, seen = f"{title}:1", set()
    if not any(names):
        raise FileFormatError("no columns", at=at, fix="the first row holds the column names")
    if len(names) > MAX_COLUMNS:
        raise FileFormatError(f"more than {MAX_COLUMNS} columns", at=at, got=len(names), fix="is it the right file?")
    if all(_is_number(name) for name in names):
        raise FileFormatError(
            "the first row holds numbers", at=at, got=names[0], fix="put column names in the first row"
        )
    for position, name in enumerate(names, 1):
        if not name:
            raise FileFormatError(f"column {position} has no name", at=at, fix="name it in the first row")
        if name.casefold() in seen:
            raise FileFormatError(f"two columns are named {name!r}", at=at, fix="keep one (case does not count)")
        seen.add(name.casefold())


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def fetch(source: Source, numbers: Sequence[str], texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, Codes]]:
    """Columns of the source, each name as it stands there.

    Returns:
        name -> float64 array (NaN: missing) or codes with their values (-1: missing); and for the columns of numbers
        that hold something else, the offending texts in the same coded form.
    """
    with duckdb_errors(source.title, "not a readable table"):
        selected = [_number_sql(name, source.types[name]) for name in numbers]
        coded = {name: _text_sql(source, quoted(name)) for name in texts}
        selected += [sql for sql, _ in coded.values()]
        if not selected:
            return {}, {}
        names = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(selected))
        fetched = iter(source.connection.execute(f"SELECT {names} FROM {source.relation}").fetchnumpy().values())  # noqa: S608
        columns: dict[str, Any] = {}
        bad: dict[str, Codes] = {}
        for name, values in zip(numbers, fetched, strict=False):
            number = np.ma.filled(values.astype(np.float64, copy=False), np.nan)
            suspect = np.isinf(number)
            if suspect.any() or (_is_textual(source.types[name]) and np.isnan(number).any()):
                offending = _offending(source, name)
                if (offending[0] >= 0).any():
                    bad[name] = offending
                    number = np.where(suspect, np.nan, number)
            columns[name] = number
        for (name, (_, distinct)), values in zip(coded.items(), fetched, strict=True):
            columns[name] = _decode(values, distinct)
    return columns, bad


def fetch_times(source: Source, name: str) -> tuple[NDArray[np.float64], Codes]:
    """Seconds since the earliest time in the column (NaN: missing or no time), and the texts that are no times."""
    column = quoted(name)
    nanoseconds = f"epoch_ns(TRY_CAST({column} AS TIMESTAMP_NS))"
    if source.types[name] == "VARCHAR":
        # The cast passes over an offset from UTC ("+02:00"), so that it is taken off here.
        hours, minutes = (f"TRY_CAST(regexp_extract({column}, '{_OFFSET}', {i}) AS BIGINT)" for i in (1, 2))
        sign = f"CASE WHEN contains(regexp_extract({column}, '{_OFFSET}', 1), '-') THEN -1 ELSE 1 END"
        offset_s = f"coalesce({hours}, 0) * 3600 + {sign} * coalesce({minutes}, 0) * 60"
        nanoseconds = f"({nanoseconds} - ({offset_s}) * 1000000000)"
    with duckdb_errors(source.title, "not a readable table"):
        query = f"SELECT {nanoseconds} AS c0 FROM {source.relation}"  # noqa: S608
        (values,) = source.connection.execute(query).fetchnumpy().values()
        missing = np.ma.getmaskarray(values)
        # Nanoseconds since 1970 need 61 bits, so the difference is taken while they are whole numbers.
        whole = np.ma.getdata(values).astype(np.int64)
        seconds = (whole - whole[~missing].min(initial=2**63 - 1)) / 1e9
        seconds[missing] = np.nan
        bad = f"CASE WHEN {nanoseconds} IS NULL THEN CAST({column} AS VARCHAR) END"
        sql, distinct = _text_sql(source, bad)
        (texts,) = source.connection.execute(f"SELECT {sql} AS c0 FROM {source.relation}").fetchnumpy().values()  # noqa: S608
        return seconds, _decode(texts, distinct)


def fetch_lists(source: Source, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """A column of lists of whole numbers: the length of each, all items in one array, and the rows that are no list.

    A missing list has length 0; text like "[1, 2]" is a list; one with an item below 0 or above 2^62 is none.
    """
    column, relation = quoted(name), source.relation
    cast = f"TRY_CAST({column} AS BIGINT[])"
    with duckdb_errors(source.title, f"column {name} holds no lists of numbers"):
        query = f"SELECT len({cast}) AS c0, {column} IS NOT NULL AND {cast} IS NULL AS c1 FROM {relation}"  # noqa: S608
        counts, wrong = source.connection.execute(query).fetchnumpy().values()
        query = f"SELECT unnest({cast}) AS c0 FROM {relation}"  # noqa: S608
        (items,) = source.connection.execute(query).fetchnumpy().values()
    lengths = np.ma.filled(counts, 0).astype(np.int64)
    flawed = np.ma.filled(wrong, False).astype(np.bool_)
    whole = np.ma.filled(items, -1).astype(np.int64)
    odd = (whole < 0) | (whole > 2**62)
    if odd.any():
        flawed[np.repeat(np.arange(len(lengths)), lengths)[odd]] = True
    return lengths, whole, flawed


def names_in(path: str) -> list[str]:
    """The column names of the table in a file, before its rows are read. Raises FileFormatError.

    A Parquet file that says it holds far more values than its size can is refused: they would all be unpacked.
    """
    size = regular_size(path)
    if not size:
        raise FileFormatError("the file is empty", at=path, fix="is it the right file?")
    kind, compression = table_kind(path)
    if kind == "csv":
        return _header(Path(path), path, compression)[0]
    with duckdb_errors(path, "not a readable Parquet file"):
        connection = connect()
        schema = connection.execute(f"SELECT name, num_children FROM parquet_schema({literal(path)})").fetchall()  # noqa: S608
        names = _top_level(schema)
        check_names(names, path)
        claims = f"SELECT path_in_schema, sum(num_values) FROM parquet_metadata({literal(path)}) GROUP BY 1"  # noqa: S608
        for column, values in connection.execute(claims).fetchall():
            if values > MOST_UNPACKED and values > size * VALUES_PER_BYTE:
                what = f"column {column} says it holds {values} values in a file of {size} bytes"
                raise FileFormatError(what, at=path, fix="write the file again")
    return names


def _is_textual(kind: str) -> bool:
    return kind.partition("(")[0] not in _NUMERIC


def _number_sql(name: str, kind: str) -> str:
    column = quoted(name)
    if not _is_textual(kind):
        return f"CAST({column} AS DOUBLE)"
    text = column if kind == "VARCHAR" else f"CAST({column} AS VARCHAR)"
    # duckdb reads 1_000 as a thousand; infinity marks it, as it marks what overflows, and `_offending` then tells.
    return f"CASE WHEN contains({text}, '_') THEN CAST('inf' AS DOUBLE) ELSE TRY_CAST({text} AS DOUBLE) END"


def _offending(source: Source, name: str) -> Codes:
    """The cells of a column of numbers that are neither missing nor a finite number."""
    number = _number_sql(name, source.types[name])
    text = f"CAST({quoted(name)} AS VARCHAR)"
    bad = f"lower(trim({text})) NOT IN ('', 'nan') AND (({number}) IS NULL OR isinf({number}))"
    sql, distinct = _text_sql(source, f"CASE WHEN {bad} THEN {text} END")
    (values,) = source.connection.execute(f"SELECT {sql} AS c0 FROM {source.relation}").fetchnumpy().values()  # noqa: S608
    return _decode(values, distinct)


def _text_sql(source: Source, expression: str) -> tuple[str, tuple[str, ...] | None]:
    """SQL that yields codes into the returned values; without values, SQL that yields the text itself."""
    text = f"CAST({expression} AS VARCHAR)"
    distinct = f"SELECT DISTINCT {text} AS v FROM {source.relation} LIMIT {_MOST_ENUM_VALUES + 2}"  # noqa: S608
    values = sorted(row[0] for row in source.connection.execute(distinct).fetchall() if row[0] is not None)
    if len(values) > _MOST_ENUM_VALUES:
        return text, None
    if not values:
        return "CAST(NULL AS INTEGER)", ()
    return f"CAST(enum_code(CAST({text} AS ENUM({', '.join(map(literal, values))}))) AS INTEGER)", tuple(values)


def _decode(fetched: Any, distinct: tuple[str, ...] | None) -> Codes:
    if distinct is None:
        missing = np.ma.getmaskarray(fetched).tolist()
        texts = np.ma.getdata(fetched).tolist()
        return encode_texts(None if gone else text for text, gone in zip(texts, missing, strict=True))
    codes = np.ma.filled(fetched, -1).astype(np.int32, copy=False)
    kept = [i for i, value in enumerate(distinct) if not is_blank(value)]
    lookup = np.full(len(distinct) + 1, -1, dtype=np.int32)
    lookup[kept] = np.arange(len(kept), dtype=np.int32)
    # Code -1 takes the last entry, which stays -1.
    return lookup[codes], tuple(distinct[i] for i in kept)


def encode_texts(texts: Iterable[str | None]) -> Codes:
    """Codes in the order of first appearance; None and blank cells are -1."""
    cells = texts if isinstance(texts, list) else list(texts)
    values = tuple(text for text in dict.fromkeys(cells) if text is not None and not is_blank(text))
    known = {text: code for code, text in enumerate(values)}
    return np.array([known.get(text, -1) for text in cells], dtype=np.int32), values


def is_blank(text: str) -> bool:
    """Whether a cell counts as missing."""
    return text.strip().casefold() in ("", "nan")


Result = NDArray[Any] | Codes
"""A column to write: numbers (NaN: empty) or codes of text (-1: empty)."""


def select_sql(source: Source | None, connection: Any, results: Mapping[str, Result], *, harmless: bool) -> str:
    """A query for the source's rows in their order with `results` beside them, in place of columns of the same name.

    `harmless` marks text that a spreadsheet would run as a formula. The arrays stay registered with the connection.
    """
    arrays: dict[str, NDArray[Any]] = {}
    expressions = {
        name: _result_sql(f"c{i}", values, arrays, harmless) for i, (name, values) in enumerate(results.items())
    }
    connection.register("results", arrays or {"c": np.zeros(source.rows if source else 0)})
    folded = {name.casefold(): name for name in results}
    selected = []
    for name in source.types if source else ():
        result = folded.pop(name.casefold(), None)
        selected.append(f"s.{quoted(name)}" if result is None else f"{expressions[result]} AS {quoted(result)}")
    selected += [f"{expressions[name]} AS {quoted(name)}" for name in folded.values()]
    joined = f"{source.relation} AS s POSITIONAL JOIN results AS r" if source else "results AS r"
    return f"SELECT {', '.join(selected)} FROM {joined}"  # noqa: S608


def _result_sql(key: str, values: Result, arrays: dict[str, NDArray[Any]], harmless: bool) -> str:
    if isinstance(values, np.ndarray):
        # duckdb takes NaN in an array for NULL.
        arrays[key] = values
        return f"r.{key}"
    codes, texts = values
    shown = tuple(map(_harmless, texts)) if harmless else texts
    if len(shown) <= _MOST_ENUM_VALUES:
        arrays[key] = codes
        listed = ", ".join(map(literal, shown))
        return f"(CAST([{listed}] AS VARCHAR[]))[r.{key} + 1]"
    arrays[key] = np.array([*shown, None], dtype=object)[codes]
    return f"r.{key}"


def _harmless(text: str) -> str:
    """Spreadsheets run a cell that begins so as a formula; a leading apostrophe makes it text."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and not _is_number(text) else text


def copy_out(source: Source | None, results: Mapping[str, Result], out: str) -> None:
    """Write the rows of the source with the results beside them, whole or not at all. Raises FileFormatError."""
    kind, compression = table_kind(out)
    if source is not None and source.stamp is not None and source.stamp != file_stamp(source.stamp[0]):
        raise FileFormatError("the table changed while it was evaluated", at=source.title, fix="run it again")
    connection = source.connection if source is not None else connect()
    query = select_sql(source, connection, results, harmless=kind == "csv")
    options = f"FORMAT {kind}, COMPRESSION {compression}{', HEADER' if kind == 'csv' else ''}"
    try:
        if out == "-":
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "stdout.csv"
                _copy(connection, query, copy, options, "<stdout>")
                with copy.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
            return
        with atomic_path(out) as temporary:
            _copy(connection, query, temporary, options, out)
    finally:
        connection.unregister("results")


def _copy(connection: Any, query: str, path: Path, options: str, title: str) -> None:
    with duckdb_errors(title, "the table cannot be written"):
        connection.execute(f"COPY ({query}) TO {literal(str(path))} ({options})")


def file_stamp(path: str) -> tuple[str, int, int]:
    """What tells whether a file changed: its size and time of change. Raises FileFormatError."""
    size = regular_size(path)
    return path, size, Path(path).stat().st_mtime_ns


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


_LINE = re.compile(r"CSV Error on Line: (\d+)")
_WIDTH = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_DETAIL = re.compile(r"Value with unterminated quote|Invalid unicode|Maximum line size|state machine reached")
_EXPLAINED = {
    "Value with unterminated quote": ("a quote is not closed", 'close it; write "" for a quote inside a quoted cell'),
    "Invalid unicode": ("not UTF-8 text", "save it as UTF-8"),
    "Maximum line size": ("a row is longer than 2 MB", "is it the right file?"),
    "state machine reached": ("rows end in different ways, or quotes are out of place", "save it as plain CSV again"),
}


@contextmanager
def duckdb_errors(title: str, what: str) -> Iterator[None]:
    """Turn duckdb's errors into ours, which name the line where duckdb does."""
    import duckdb

    try:
        yield
    except RidgelineError:
        raise
    except (duckdb.Error, UnicodeDecodeError, ValueError, RuntimeError, MemoryError) as error:
        message = str(error)
        line = _LINE.search(message)
        at = f"{title}:{line[1]}" if line else title
        width, detail = _WIDTH.search(message), _DETAIL.search(message)
        if "No space left" in message:
            explained = FileFormatError("the disk is full", at=at, fix="free some space or write elsewhere")
        elif width:
            cells = f"the row has {width[2]} cells, the header has {width[1]}"
            explained = FileFormatError(cells, at=at, fix="give every row one cell per column")
        elif detail:
            reason, fix = _EXPLAINED[detail[0]]
            explained = FileFormatError(reason, at=at, fix=fix)
        else:
            first = message.strip().partition("\n")[0] or type(error).__name__
            explained = FileFormatError(what, at=at, got=first, fix="write the file again, or check its format")
        raise explained from error
