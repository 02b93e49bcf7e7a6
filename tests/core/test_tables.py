"""Case tables: the same rows in the same order, every cell accounted for."""

import gc
import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgeline.core import _duck
from ridgeline.core.errors import DomainError, FileFormatError, MissingExtraError
from ridgeline.core.tables import (
    Kind,
    Labels,
    Table,
    check_out,
    column_names,
    encode,
    from_any,
    from_mapping,
    lists_of,
    read_table,
    times_of,
    to_like,
    write_table,
)

WANTED: dict[str, Kind] = {"m": "number", "kind": "text", "absent": "number"}
BOTH = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make(tmp_path: Path, suffix: str, query: str) -> Path:
    path = tmp_path / f"in{suffix}"
    duckdb.execute(f"COPY ({query}) TO '{path}'")
    return path


def rows_of(path: Path, order: str = "") -> list[tuple[Any, ...]]:
    return duckdb.execute(f"FROM '{path}' {order}").fetchall()


def test_numbers_are_floats_and_text_is_coded(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "m,kind\n1,gemm\n2.5,moe\n,gemm\n"), columns=WANTED)
    assert table.rows == 3
    np.testing.assert_array_equal(table.number("m"), [1, 2.5, np.nan])
    assert table.number("m").dtype == np.float64
    labels = table.labels("kind")
    assert labels.texts() == ["gemm", "moe", "gemm"]
    assert (labels.codes.dtype, len(labels)) == (np.int32, 3)
    assert sorted(labels.values) == ["gemm", "moe"]
    assert (table.has("m"), table.has("absent")) == (True, False)


def test_missing_cells_and_columns_take_the_default(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "m,kind\n1,x\n,\nNaN,nan\n  , \n"), columns=WANTED)
    np.testing.assert_array_equal(table.number("m", default=7), [1, 7, 7, 7])
    np.testing.assert_array_equal(table.number("absent", default=3), [3, 3, 3, 3])
    assert np.isnan(table.number("absent")).all()
    assert table.labels("kind").codes.tolist() == [0, -1, -1, -1]
    assert table.labels("kind").texts(missing="-") == ["x", "-", "-", "-"]
    assert table.labels("kind", default="x").texts() == ["x"] * 4
    assert table.labels("kind", default="y").texts() == ["x", "y", "y", "y"]
    assert table.labels("other", default="y").texts() == ["y"] * 4
    assert table.labels("other").texts() == [""] * 4
    assert table.bad == {}


def test_a_column_is_of_the_kind_it_was_read_as(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "m,kind\n1,x\n"), columns=WANTED)
    with pytest.raises(DomainError, match="was read as text"):
        table.number("kind")
    with pytest.raises(DomainError, match="was read as numbers"):
        table.labels("m")


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "kind\n007\n1.10\n1e3\nNULL\n"), columns=WANTED)
    assert table.labels("kind").texts() == ["007", "1.10", "1e3", "NULL"]


def test_a_bad_cell_is_a_problem_of_its_row_only(tmp_path: Path) -> None:
    cells = ["1", "abc", "1e999", "inf", "-Infinity", "1_000", "80 GiB", "0x10", "", "nan", " 5 ", '"1,5"']
    table = read_table(write(tmp_path / "a.csv", "m,x\n" + "".join(f"{cell},1\n" for cell in cells)), columns=WANTED)
    np.testing.assert_array_equal(table.number("m"), [1, *[np.nan] * 7, np.nan, np.nan, 5, np.nan])
    assert table.bad["m"].texts() == [
        "",
        "abc",
        "1e999",
        "inf",
        "-Infinity",
        "1_000",
        "80 GiB",
        "0x10",
        "",
        "",
        "",
        "1,5",
    ]


def test_infinity_in_a_parquet_column_is_a_bad_cell(tmp_path: Path) -> None:
    path = make(tmp_path, ".parquet", "SELECT unnest(['1', 'inf', 'nan', NULL]::DOUBLE[]) AS m")
    table = read_table(path, columns=WANTED)
    np.testing.assert_array_equal(table.number("m"), [1, np.nan, np.nan, np.nan])
    assert table.bad["m"].texts() == ["", "inf", "", ""]


@pytest.mark.parametrize(
    ("kind", "cell", "expected", "bad"),
    [
        ("TINYINT", "-3", -3, ""),
        ("UBIGINT", "18446744073709551615", 2.0**64, ""),
        ("HUGEINT", "5", 5, ""),
        ("DECIMAL(9,2)", "1.25", 1.25, ""),
        ("FLOAT", "0.5", 0.5, ""),
        ("BOOLEAN", "true", 1, ""),
        ("VARCHAR", "1e3", 1000, ""),
        ("VARCHAR", "x", np.nan, "x"),
        ("DATE", "2026-11-20", np.nan, "2026-11-20"),
        ("INTEGER[]", "[1, 2]", np.nan, "[1, 2]"),
    ],
)
def test_parquet_types_become_numbers_or_bad_cells(
    tmp_path: Path, kind: str, cell: str, expected: float, bad: str
) -> None:
    path = make(tmp_path, ".parquet", f"SELECT '{cell}'::{kind} AS m")
    table = read_table(path, columns=WANTED)
    np.testing.assert_array_equal(table.number("m"), [expected])
    assert [labels.texts() for labels in table.bad.values()] == ([[bad]] if bad else [])


def test_numbers_can_be_read_as_text(tmp_path: Path) -> None:
    path = make(tmp_path, ".parquet", "SELECT unnest([1, NULL, 3]) AS kind")
    assert read_table(path, columns=WANTED).labels("kind").texts() == ["1", "", "3"]


def test_column_names_match_without_regard_to_case_and_keep_their_spelling(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "M,Kind,x\n1,a,9\n"), columns=WANTED)
    assert table.number("m").tolist() == [1]
    assert table.names == ("M", "Kind", "x")
    write_table(table, {"time_s": [2.0]}, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "M,Kind,x,time_s\n1,a,9,2.0\n"


@BOTH
def test_rows_keep_their_order_and_unknown_columns_are_carried(tmp_path: Path, suffix: str) -> None:
    # More rows than several row groups and vectors of duckdb, in an order that no sort gives.
    count = 300_000
    columns = f"(i * 7919) % {count} AS id, 'k' || (i % 7) AS kind, i % 5 AS m, 'note ' || i AS note"
    query = f"SELECT {columns} FROM range({count}) t(i)"
    table = read_table(make(tmp_path, suffix, query), columns=WANTED | {"id": "number"})
    identity = table.number("id")
    assert (identity == (np.arange(count) * 7919) % count).all()
    for out in ("out.csv", "out.parquet"):
        write_table(table, {"twice": identity * 2, "label": table.labels("kind")}, tmp_path / out)
        back = read_table(
            tmp_path / out,
            columns={"id": "number", "twice": "number", "label": "text", "kind": "text", "note": "text"},
        )
        assert back.names == ("id", "kind", "m", "note", "twice", "label")
        assert (back.number("id") == identity).all()
        assert (back.number("twice") == identity * 2).all()
        assert back.labels("label").texts() == [f"k{i % 7}" for i in range(count)]
        assert back.labels("note").texts() == [f"note {i}" for i in range(count)]


def test_many_distinct_texts_are_coded_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(
        tmp_path, ".csv", "SELECT CASE WHEN i % 9 = 0 THEN '' ELSE 'a''b' || (i % 50) END AS kind FROM range(1000) t(i)"
    )
    few = read_table(path, columns=WANTED)
    monkeypatch.setattr(_duck, "_MOST_ENUM_VALUES", 10)
    many = read_table(path, columns=WANTED)
    assert few.labels("kind").texts() == many.labels("kind").texts()
    write_table(many, {"error": many.labels("kind")}, tmp_path / "out.csv")
    assert (
        read_table(tmp_path / "out.csv", columns={"error": "text"}).labels("error").texts()
        == few.labels("kind").texts()
    )


def test_a_result_takes_the_place_of_a_column_of_its_name(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "Error,m,x\nold,1,9\n"), columns=WANTED)
    write_table(table, {"error": ["new"], "time_s": [1]}, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "error,m,x,time_s\nnew,1,9,1\n"


def test_a_table_can_be_written_over_its_own_file(tmp_path: Path) -> None:
    path = make(tmp_path, ".parquet", "SELECT 1 AS m")
    write_table(read_table(path, columns=WANTED), {"t": [5]}, path)
    assert rows_of(path) == [(1, 5)]


def test_a_parquet_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = make(tmp_path, ".parquet", "SELECT 1 AS m")
    table = read_table(path, columns=WANTED)
    make(tmp_path, ".parquet", "SELECT 2 AS m, 3 AS n")
    with pytest.raises(FileFormatError, match="changed while it was evaluated"):
        write_table(table, {"t": [5]}, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


RESULTS: dict[str, tuple[Any, list[Any]]] = {
    "floats": (np.array([1.5, np.nan, -2]), [1.5, None, -2.0]),
    "float32": (np.array([1.5, np.nan, 2], dtype=np.float32), [1.5, None, 2.0]),
    "float16": (np.array([1.5, np.nan, 2], dtype=np.float16), [1.5, None, 2.0]),
    "integers": (np.array([1, 2, 3]), [1, 2, 3]),
    "booleans": (np.array([True, False, True]), [True, False, True]),
    "labels": (Labels(np.array([1, -1, 0], dtype=np.int32), ("x", "y'z")), ["y'z", None, "x"]),
    "no labels": (Labels(np.full(3, -1, dtype=np.int32), ()), [None, None, None]),
    "texts": (["a", None, ""], ["a", None, None]),
    "numpy texts": (np.array(["a", "b", "a"]), ["a", "b", "a"]),
    "list of numbers": ([1, None, 2.5], [1.0, None, 2.5]),
    "list of booleans": ([True, None, False], ["True", None, "False"]),
    "masked": (np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]), [1.0, None, 3.0]),
    "strided": (np.arange(6.0)[::2], [0.0, 2.0, 4.0]),
    "bytes": (np.array([b"a", b"b", b"\xff"]), ["a", "b", "�"]),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_every_form_are_written(tmp_path: Path, name: str) -> None:
    values, expected = RESULTS[name]
    table = read_table(make(tmp_path, ".parquet", "SELECT i AS m FROM range(3) t(i)"), columns=WANTED)
    write_table(table, {"r": values}, tmp_path / "out.parquet")
    assert [row[1] for row in rows_of(tmp_path / "out.parquet")] == expected


def test_a_missing_result_is_an_empty_cell_in_csv(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "m\n1\n2\n"), columns=WANTED)
    write_table(table, {"t": [np.nan, 1.0], "e": encode([None, "x"])}, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "m,t,e\n1,,\n2,1.0,x\n"


def test_result_text_that_a_spreadsheet_would_run_is_disarmed_in_csv_only(tmp_path: Path) -> None:
    texts = ["=1+1", "+x", "-x", "@x", "\tx", "-5", "fine", "a=b"]
    table = read_table(write(tmp_path / "a.csv", "m\n" + "1\n" * len(texts)), columns=WANTED)
    for out, expected in (
        ("out.csv", ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "-5", "fine", "a=b"]),
        ("out.parquet", texts),
    ):
        write_table(table, {"error": texts}, tmp_path / out)
        assert read_table(tmp_path / out, columns={"error": "text"}).labels("error").texts() == expected


def test_numbers_of_a_csv_file_are_numbers_in_parquet_and_other_text_is_untouched(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "M,n,id\n1,2,007\n,x,010\n"), columns={"m": "number", "n": "number"})
    write_table(table, {"t": [1, 2]}, tmp_path / "out.parquet")
    assert rows_of(tmp_path / "out.parquet") == [(1.0, "2", "007", 1), (None, "x", "010", 2)]
    write_table(table, {"M": ["a", "b"]}, tmp_path / "out.parquet")
    assert rows_of(tmp_path / "out.parquet") == [("a", "2", "007"), ("b", "x", "010")]


@pytest.mark.parametrize(
    "content",
    [
        "m,kind\n1,a\n2,b\n",
        "m,kind\r\n1,a\r\n2,b\r\n",
        "m,kind\r1,a\r2,b\r",
        "m,kind\n1,a\n2,b",
        "\ufeffm,kind\n1,a\n2,b\n",
        "m;kind\n1;a\n2;b\n",
        "m\tkind\n1\ta\n2\tb\n",
        ' m , kind \n1,a\n2,"b"\n',
    ],
)
def test_csv_dialects_hold_the_same_table(tmp_path: Path, content: str) -> None:
    table = read_table(write(tmp_path / "a.csv", content), columns=WANTED)
    assert (table.number("m").tolist(), table.labels("kind").texts()) == ([1, 2], ["a", "b"])


def test_cells_with_quotes_commas_and_line_breaks_survive(tmp_path: Path) -> None:
    cells = ["a,b", 'a"b', "a\nb", "a'b", "é", " x "]
    content = "kind\n" + "".join('"' + cell.replace('"', '""') + '"\n' for cell in cells)
    table = read_table(write(tmp_path / "a.csv", content), columns=WANTED)
    assert table.labels("kind").texts() == cells
    write_table(table, {"again": table.labels("kind")}, tmp_path / "out.csv")
    back = read_table(tmp_path / "out.csv", columns={"kind": "text", "again": "text"})
    assert back.labels("again").texts() == back.labels("kind").texts() == cells


def test_gzipped_csv_is_read_and_written(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv.gz", gzip.compress(b"m,kind\n1,a\n")), columns=WANTED)
    write_table(table, {"t": [3]}, tmp_path / "out.csv.gz")
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == b"m,kind,t\n1,a,3\n"


def test_standard_input_and_output_are_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"m,kind\n1,a\n")))
    write_table(read_table("-", columns=WANTED), {"t": [2.5]}, "-")
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"m,kind,t\n1,a,2.5\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"m,kind\n1\n")))
    with pytest.raises(FileFormatError, match="<stdin>:2"):
        read_table("-", columns=WANTED)


@BOTH
def test_a_table_without_rows_stays_one(tmp_path: Path, suffix: str) -> None:
    table = read_table(make(tmp_path, suffix, "SELECT 1 AS m, 'a' AS kind WHERE false"), columns=WANTED)
    assert (table.rows, table.number("m").size, table.labels("kind", "x").codes.size) == (0, 0, 0)
    write_table(table, {"t": np.zeros(0)}, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "m,kind,t\n"


def test_a_table_without_wanted_columns_is_carried(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "x\n1\n"), columns=WANTED)
    assert (dict(table.columns), table.rows) == ({}, 1)
    write_table(table, {}, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "x\n1\n"


def test_column_names_may_hold_anything(tmp_path: Path) -> None:
    content = '"a""b",it\'s,"x y",select,é,m\n1,2,3,4,5,6\n'
    table = read_table(write(tmp_path / "a.csv", content), columns=WANTED | {"it's": "number", 'a"b': "text"})
    assert (table.names, table.number("it's").tolist()) == (('a"b', "it's", "x y", "select", "é", "m"), [2])
    write_table(table, {'r"1': [7], "r'2": ["q"]}, tmp_path / "out.csv")
    back = read_table(tmp_path / "out.csv", columns={'r"1': "number", "r'2": "text", "select": "text"})
    assert (back.number('r"1').tolist(), back.labels("r'2").texts(), back.labels("select").texts()) == (
        [7],
        ["q"],
        ["4"],
    )


UNREADABLE: dict[str, tuple[str, str | bytes, str, str]] = {
    "empty": ("a.csv", "", "the file is empty", "a.csv"),
    "blank": ("a.csv", "\n\n", "no columns", "a.csv:1"),
    "equal names": ("a.csv", "m,x,m\n1,2,3\n", "two columns are named 'm'", "a.csv:1"),
    "equal names but for case": ("a.csv", "m,M\n1,2\n", "two columns are named 'M'", "a.csv:1"),
    "no name": ("a.csv", "m,,x\n1,2,3\n", "column 2 has no name", "a.csv:1"),
    "no header": ("a.csv", "1,2\n3,4\n", "the first row holds numbers", "a.csv:1"),
    "short row": ("a.csv", "m,x\n1,2\n3\n", "the row has 1 cells, the header has 2", "a.csv:3"),
    "long row": ("a.csv", "m,x\n1,2,3\n", "the row has 3 cells, the header has 2", "a.csv:2"),
    "open quote": ("a.csv", 'm,x\n1,"2\n', "a quote is not closed", "a.csv:2"),
    "open quote in header": ("a.csv", '"m,x\n1,2\n', "the header row is malformed", "a.csv:1:1"),
    "latin-1": ("a.csv", "m,x\n1,é\n".encode("latin-1"), "not UTF-8 text", "a.csv:2"),
    "latin-1 far down": ("a.csv", b"m,x\n" + b"1,2\n" * 300_000 + b"1,\xe9\n", "not UTF-8 text", "a.csv:300002"),
    "utf-16": ("a.csv", "m,x\n1,2\n".encode("utf-16"), "NUL bytes", "a.csv:1:1"),
    "binary": ("a.csv", bytes(range(256)), "NUL bytes", "a.csv:1:1"),
    "endless header": ("a.csv", "x" * (2**20 + 1), "the first row is longer than 1 MiB", "a.csv:1"),
    "endless row": ("a.csv", "m\n" + "x" * 3_000_000 + "\n", "a row is longer than 2 MB", "a.csv:2"),
    "many columns": ("a.csv", ",".join(f"c{i}" for i in range(5000)), "more than 4096 columns", "a.csv:1"),
    "not gzip": ("a.csv.gz", "m\n1\n", "not a readable file", "a.csv.gz"),
    "truncated gzip": ("a.csv.gz", gzip.compress(b"m\n1\n")[:-6], "not a readable file", "a.csv.gz"),
    "not parquet": ("a.parquet", "m\n1\n" * 9, "not a readable Parquet file", "a.parquet"),
    "parquet garbage": ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", "not a readable Parquet file", "a.parquet"),
    "spreadsheet": ("a.xlsx", "PK", "not a table format", "a.xlsx"),
    "no suffix": ("a", "m\n1\n", "not a table format", "a"),
    "gzipped parquet": ("a.parquet.gz", "x", "not a table format", "a.parquet.gz"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_table_is_one_clear_error(tmp_path: Path, case: str) -> None:
    name, content, what, place = UNREADABLE[case]
    with pytest.raises(FileFormatError) as caught:
        read_table(write(tmp_path / name, content), columns=WANTED)
    assert what in caught.value.what
    assert caught.value.at == f"{tmp_path}/{place}"
    assert caught.value.fix


def test_equal_names_in_parquet_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path, ".parquet", "SELECT 1 AS mm, 2 AS nn, {'mm': 1, 'b': {'c': 2}} AS s, [1] AS l")
    assert read_table(path, columns=WANTED).names == ("mm", "nn", "s", "l")
    content = path.read_bytes()
    with pytest.raises(FileFormatError, match="two columns are named 'mm'"):
        read_table(write(tmp_path / "b.parquet", content.replace(b"nn", b"mm")), columns=WANTED)


@pytest.mark.parametrize(
    ("name", "what"), [("b.csv", "no such file"), (".", "not a regular file"), ("a*.csv", "cannot hold")]
)
def test_what_is_no_file_is_named(tmp_path: Path, name: str, what: str) -> None:
    write(tmp_path / "a*.csv", "m\n1\n")
    with pytest.raises(FileFormatError, match=what):
        read_table(f"{tmp_path}/{name}", columns=WANTED)


@pytest.mark.parametrize(
    ("name", "what"),
    [("out.xlsx", "not a table format"), ("no/out.csv", "no such folder"), ("folder.csv", "only a regular file")],
)
def test_an_output_that_cannot_be_written_is_refused_early_and_late(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    table = from_mapping({"m": [1]}, columns=WANTED)
    with pytest.raises(FileFormatError, match=what):
        check_out(tmp_path / name)
    with pytest.raises(FileFormatError, match=what):
        write_table(table, {}, tmp_path / name)
    check_out(tmp_path / "out.csv")
    check_out("-")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.csv"]


@BOTH
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = read_table(write(tmp_path / "a.csv", "m\n1\n"), columns=WANTED)
    for message, what in (("No space left on device", "the disk is full"), ("odd", "the table cannot be written")):

        def fail(*args: object, message: str = message, **kwargs: object) -> Iterator[None]:
            raise duckdb.IOException(message)

        monkeypatch.setattr(_duck, "literal", fail)
        with (
            pytest.raises((FileFormatError, duckdb.Error)) as caught,
            _duck.duckdb_errors("out", "the table cannot be written"),
        ):
            write_table(table, {"t": [1]}, tmp_path / f"out{suffix}")
        monkeypatch.undo()
        assert what in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


def test_results_of_another_length_are_refused(tmp_path: Path) -> None:
    table = from_mapping({"m": [1, 2]}, columns=WANTED)
    with pytest.raises(FileFormatError, match="column t has 3 rows, the table has 2"):
        write_table(table, {"t": [1, 2, 3]}, tmp_path / "out.csv")


def test_mappings_are_tables_too() -> None:
    table = from_mapping(
        {"m": [1, None, "x", "2", "1_0", 10**400], "kind": "gemm", "other": np.arange(6)}, columns=WANTED
    )
    np.testing.assert_array_equal(table.number("m"), [1, np.nan, np.nan, 2, np.nan, np.nan])
    assert table.bad["m"].texts() == ["", "", "x", "", "1_0", str(10**400)]
    assert table.labels("kind").texts() == ["gemm"] * 6
    assert table.names == ("m", "kind", "other")


@pytest.mark.parametrize(
    ("values", "expected", "bad"),
    [
        (np.array([1, 2]), [1, 2], []),
        (np.array([True, False]), [1, 0], []),
        (np.array([1, np.inf]), [1, np.nan], ["", "inf"]),
        (np.ma.masked_array([1.0, 2.0], [True, False]), [np.nan, 2], []),
        (np.array(["1", ""], dtype=object), [1, np.nan], []),
        (["nan", float("nan")], [np.nan, np.nan], []),
        (3, [3, 3], []),
        (None, [np.nan, np.nan], []),
        ([[1], [2]], [np.nan, np.nan], ["[1]", "[2]"]),
    ],
)
def test_numbers_in_a_mapping_are_read_like_cells(values: object, expected: list[float], bad: list[str]) -> None:
    table = from_mapping({"m": values, "kind": ["a", "b"]}, columns=WANTED)
    np.testing.assert_array_equal(table.number("m"), expected)
    assert [labels.texts() for labels in table.bad.values()] == ([bad] if bad else [])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({}, "no columns"),
        ({"m": [1, 2], "kind": ["a"]}, "column kind has 1 rows, column m has 2"),
        ({"m": np.zeros((2, 2))}, "column m has 2 dimensions"),
        ({"m": [1], "M": [2]}, "two columns are named 'M'"),
        (3, "not a table"),
        ("m,x", "not a table"),
        (None, "not a table"),
    ],
)
def test_what_is_no_table_in_memory_is_refused(data: Any, what: str) -> None:
    with pytest.raises(FileFormatError, match=what):
        from_any(data, columns=WANTED)


def test_a_mapping_of_single_values_is_one_row(tmp_path: Path) -> None:
    table = from_any({"m": 128, "kind": "gemm", "when": np.datetime64("2026-11-20")}, columns=WANTED)
    assert (table.rows, table.number("m").tolist()) == (1, [128])
    write_table(table, {"t": [0.5], "KIND": ["moe"]}, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "m,KIND,when,t\n128,moe,2026-11-20,0.5\n"


def test_a_table_is_given_back_as_the_kind_of_thing_it_was() -> None:
    note = object()
    data = {"m": [1, 2], "note": [note, None], "Error": ["old", "old"]}
    out = to_like(
        data, from_any(data, columns=WANTED), {"t": [0.5, None], "error": ["", "bad"], "b": encode(["x", "y"])}
    )
    assert list(out) == ["m", "note", "error", "t", "b"]
    assert out["note"] == [note, None]
    np.testing.assert_array_equal(out["t"], [0.5, np.nan])
    assert (out["error"].tolist(), out["b"].tolist()) == ([None, "bad"], ["x", "y"])


def test_a_duckdb_relation_comes_back_as_one() -> None:
    connection = duckdb.connect()
    relation = connection.sql("SELECT i AS m, 'k' || i AS kind, DATE '2026-11-20' AS d FROM range(3) t(i)")
    table = from_any(relation, columns=WANTED)
    assert (table.number("m").tolist(), table.labels("kind").texts()) == ([0, 1, 2], ["k0", "k1", "k2"])
    out = to_like(relation, table, {"m": [5.0, 6.0, 7.0], "t": [1, 2, None]})
    del table, relation, connection
    gc.collect()
    assert out.columns == ["m", "kind", "d", "t"]
    assert [(row[0], row[1], row[3]) for row in out.fetchall()] == [(5, "k0", 1), (6, "k1", 2), (7, "k2", None)]


class Stream:
    """An object with an Arrow stream and nothing else, as data frame libraries have one."""

    def __init__(self, query: str) -> None:
        self.connection = duckdb.connect()
        self.relation = self.connection.sql(query)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.relation.__arrow_c_stream__(requested_schema)


def test_an_arrow_stream_is_a_table() -> None:
    data = Stream("SELECT i AS m, CASE WHEN i < 2 THEN 'a' END AS kind FROM range(3) t(i)")
    table = from_any(data, columns=WANTED)
    assert (table.number("m").tolist(), table.labels("kind").texts()) == ([0, 1, 2], ["a", "a", ""])
    assert from_any(table, columns={}) is table


def test_an_arrow_table_comes_back_as_arrow_or_as_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    data = Stream("SELECT 1 AS m")
    out = to_like(data, from_any(data, columns=WANTED), {"t": [2]})
    assert {name: values.tolist() for name, values in out.items()} == {"m": [1], "t": [2]}


def test_a_data_frame_without_its_library_comes_back_as_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    data = type("DataFrame", (Stream,), {"__module__": "polars.dataframe"})("SELECT 1 AS m")
    out = to_like(data, from_any(data, columns=WANTED), {"t": [2]})
    assert {name: values.tolist() for name, values in out.items()} == {"m": [1], "t": [2]}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_data_frames_come_back_as_data_frames(library: str) -> None:
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    data = (module.table if library == "pyarrow" else module.DataFrame)({"m": [1, 2], "kind": ["a", "b"]})
    out = to_like(data, from_any(data, columns=WANTED), {"t": [2, 3]})
    assert isinstance(out, type(data))
    assert list(out["t"]) == [2, 3] or out["t"].to_pylist() == [2, 3]


def test_a_frame_that_only_interchanges_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frame:
        def __dataframe__(self) -> object:
            return None

    monkeypatch.setitem(sys.modules, "pyarrow.interchange", None)
    with pytest.raises(MissingExtraError, match="pip install pyarrow"):
        from_any(Frame(), columns=WANTED)


def test_a_frame_that_only_interchanges_is_read_through_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frame:
        def __dataframe__(self) -> object:
            return None

    interchange = type(sys)("pyarrow.interchange")
    interchange.from_dataframe = lambda frame: Stream("SELECT 4 AS m")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", type(sys)("pyarrow"))
    monkeypatch.setitem(sys.modules, "pyarrow.interchange", interchange)
    assert from_any(Frame(), columns=WANTED).number("m").tolist() == [4]


@given(st.lists(st.none() | st.text()))
def test_encoding_is_lossless_but_for_blanks(texts: list[str | None]) -> None:
    labels = encode(texts)
    assert labels.texts() == ["" if text is None or text.strip().casefold() in ("", "nan") else text for text in texts]
    assert len(set(labels.values)) == len(labels.values)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, st.floats(allow_infinity=False)), min_size=1, max_size=20))
def test_any_text_and_number_survives_a_round_trip(tmp_path: Path, rows: list[tuple[str, float]]) -> None:
    numbers = np.array([number for _, number in rows])
    table = from_mapping({"kind": [text for text, _ in rows], "m": numbers}, columns=WANTED)
    write_table(table, {"again": table.labels("kind")}, tmp_path / "out.parquet")
    back = read_table(tmp_path / "out.parquet", columns=WANTED | {"again": "text"})
    assert back.labels("again").texts() == back.labels("kind").texts() == table.labels("kind").texts()
    np.testing.assert_array_equal(back.number("m"), numbers)


def test_tables_show_their_size_and_not_their_source() -> None:
    assert "source" not in repr(from_mapping({"m": [1]}, columns=WANTED))
    assert isinstance(from_mapping({"m": [1]}, columns=WANTED), Table)


def test_duckdb_is_loaded_only_when_a_table_is() -> None:
    import subprocess

    code = "import sys, ridgeline.core.tables; sys.exit('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@BOTH
def test_names_come_before_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    duckdb.execute(f"COPY (SELECT 1 AS m, [1, 2] AS ids, {{'a': 1}} AS s, 'x' AS kind) TO '{path}'")
    assert column_names(path) == ("m", "ids", "s", "kind")
    with pytest.raises(FileFormatError, match="no such file"):
        column_names(tmp_path / f"b{suffix}")


def test_a_small_file_that_claims_endless_values_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    duckdb.execute(f"COPY (SELECT list_resize([]::INT[], 6000000, 1) AS ids) TO '{path}' (COMPRESSION zstd)")
    with pytest.raises(FileFormatError, match="says it holds 6000000 values"):
        column_names(path)


def test_dates_are_seconds_since_the_earliest_to_the_nanosecond(tmp_path: Path) -> None:
    times = ["2023-11-16 18:15:50.9951690", "2023-11-16 18:15:46.6805900", "2023-11-16T20:45:47+0230", "soon", ""]
    path = write(tmp_path / "a.csv", "when,m\n" + "".join(f"{one},1\n" for one in times))
    seconds, bad = times_of(read_table(path, columns={}), "When")
    np.testing.assert_allclose(seconds[:3], [4.314579, 0, 0.31941], rtol=0, atol=1e-12)
    assert np.isnan(seconds[3:]).all()
    assert bad.texts() == ["", "", "", "soon", ""]
    with pytest.raises(DomainError, match="no column"):
        times_of(read_table(path, columns={}), "then")


@BOTH
def test_lists_are_lengths_and_items(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    rows = "VALUES ([1, 2]), (NULL), ([]), ([3]), ([-1, 5])"
    duckdb.execute(f"COPY (SELECT ids, 'x' AS kind FROM ({rows}) t(ids)) TO '{path}'")
    lengths, items, flawed = lists_of(read_table(path, columns={}), "ids")
    assert lengths.tolist() == [2, 0, 0, 1, 2]
    assert items.tolist()[:3] == [1, 2, 3]
    assert flawed.tolist() == [False, False, False, False, True]
    lengths, _, flawed = lists_of(read_table(path, columns={}), "kind")
    assert (lengths.tolist(), flawed.all()) == ([0] * 5, True)
