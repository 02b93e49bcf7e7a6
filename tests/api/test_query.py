"""`ridgeline query`: answers about one file of results, and nothing else in reach."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner, Result

from ridgeline.api.tables.query import QueryError, query
from ridgeline.api.tables.query_plot import plot
from ridgeline.apps import cli
from ridgeline.core.errors import RidgelineError

ROWS = """
SELECT i AS point, i % 3 AS tp, CASE WHEN i % 2 = 0 THEN 'a<b>' ELSE 'é' END AS chip, i / 4.0 AS t_s,
CASE WHEN i = 7 THEN 'bad' END AS error FROM range(20) AS r(i)
"""


@pytest.fixture(params=["parquet", "csv", "csv.gz", "duckdb"])
def results(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The same rows in each format."""
    path = tmp_path / f"results.{request.param}"
    if request.param == "duckdb":
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"CREATE TABLE results AS {ROWS}")
    else:
        duckdb.sql(f"COPY ({ROWS}) TO '{path}'")
    return path


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "results.parquet"
    duckdb.sql(f"COPY ({ROWS}) TO '{path}'")
    return path


def command(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def test_every_format_answers_the_same(results: Path) -> None:
    before = results.read_bytes()
    found = query(
        results, "SELECT chip, sum(t_s) AS total, count(error) AS bad FROM results GROUP BY chip ORDER BY chip"
    )
    assert dict(found.columns) == {"chip": ["a<b>", "é"], "total": [22.5, 25.0], "bad": [0, 1]}
    assert query(results, "SELECT point, error FROM results WHERE point IN (6, 7)").columns["error"] == [None, "bad"]
    assert results.read_bytes() == before
    assert [path.name for path in results.parent.iterdir()] == [results.name]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "FROM 'https://localhost/x.parquet'",
        "COPY results TO '{folder}/copy.csv'",
        "ATTACH '{folder}/new.duckdb'",
        "SET enable_external_access=true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{folder}/out'",
        "PRAGMA database_list",
        "DROP TABLE results",
        "DELETE FROM results",
        "CREATE TABLE x AS FROM results",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE results",
        "EXPLAIN ANALYZE COPY results TO '{folder}/copy.csv'",
        "",
        "--",
        "selec",
        "SELECT nothing FROM results",
        "SELECT 1 / ",
        "SELECT '" + "x" * 200_000 + "'",
    ],
    ids=lambda sql: sql[:40],
)
def test_nothing_but_the_results_can_be_read_or_changed(parquet: Path, sql: str) -> None:
    secret = parquet.parent / "secret.csv"
    secret.write_text("a\nsecret\n")
    with pytest.raises(RidgelineError) as caught:
        query(parquet, sql.format(file=secret, folder=parquet.parent))
    assert "secret\n" not in str(caught.value)
    assert sorted(path.name for path in parquet.parent.iterdir()) == ["results.parquet", "secret.csv"]


@pytest.mark.parametrize("content", [b"", b"PAR1 not really PAR1", b"\0\xff"])
@pytest.mark.parametrize("name", ["results.parquet", "results.csv", "results.duckdb", "results.txt.zip"])
def test_a_file_that_is_no_table_is_one_named_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if (name, content) == ("results.csv", b"PAR1 not really PAR1"):
        return  # a CSV file of one column
    with pytest.raises(RidgelineError):
        query(path, "FROM results")
    with pytest.raises(RidgelineError):
        query(tmp_path / "none" / name, "FROM results")


def test_a_database_without_results_names_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE windows (a INT)")
    with pytest.raises(RidgelineError, match="its tables: windows"):
        query(path, "FROM results")


def test_answers_are_shown_as_a_table_json_or_a_file(parquet: Path, tmp_path: Path) -> None:
    sql = "SELECT point, chip, t_s, error FROM results ORDER BY point LIMIT 8"
    shown = command("query", str(parquet), sql)
    assert shown.exit_code == 0
    assert "a<b>" in shown.stdout
    assert len(shown.stdout.splitlines()) == 9
    told = json.loads(command("query", str(parquet), sql, "--json").stdout)
    assert told["columns"] == ["point", "chip", "t_s", "error"]
    assert told["rows"][7] == {"point": 7, "chip": "é", "t_s": 1.75, "error": "bad"}
    out = tmp_path / "answer.csv"
    assert command("query", str(parquet), sql, "--out", str(out)).exit_code == 0
    assert duckdb.sql(f"SELECT sum(t_s) FROM '{out}'").fetchall() == [(7.0,)]
    many = command("query", str(parquet), "SELECT i FROM range(80) AS r(i)")
    assert "30 more rows" in many.stdout


def test_names_that_come_twice_are_told_apart_and_odd_values_are_texts(parquet: Path) -> None:
    found = query(parquet, "SELECT 1 AS a, 2 AS a, [1, 2] AS b, 1.5::DECIMAL(4,2) AS c, DATE '2026-01-02' AS d")
    assert dict(found.columns) == {"a": [1], "a_2": [2], "b": ["[1, 2]"], "c": [1.5], "d": ["2026-01-02"]}
    assert query(parquet, "SELECT point FROM results WHERE false").rows == 0


@pytest.mark.parametrize("suffix", ["html", "svg", "png"])
def test_a_plot_is_written(parquet: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == "png":
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = tmp_path / f"plot.{suffix}"
    words = ["--plot", str(path), "--x", "point", "--y", "t_s", "--color", "chip", "--log", "xy"]
    shown = command("query", str(parquet), "FROM results", *words)
    assert shown.exit_code == 0, shown.output
    if suffix == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
        return
    page = path.read_text(encoding="utf-8")
    assert page.count("<circle") == 19  # 0 has no place on a logarithmic axis
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"x": "pont", "y": "t_s"}, "did you mean 'point'"),
        ({"x": "chip", "y": "t_s"}, "holds text"),
        ({"x": "point", "y": "t_s", "color": "point"}, "at most 8 colours"),
        ({"x": "point", "y": "t_s", "log": "z"}, "logarithmic"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_a_named_error(
    parquet: Path, tmp_path: Path, words: dict[str, str], says: str
) -> None:
    with pytest.raises(RidgelineError, match=says):
        plot(query(parquet, "FROM results"), tmp_path / "plot.svg", **words)
    with pytest.raises(RidgelineError, match=r"a plot is \.html"):
        plot(query(parquet, "FROM results"), tmp_path / "plot.pdf", x="point", y="t_s")
    assert issubclass(QueryError, RidgelineError)
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]
