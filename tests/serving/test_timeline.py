"""A run as tables: what is written is what was played, in every format."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.serving.played_cases import random_played, with_unserved
from tests.serving.test_step_table import stepper_of

from ridgeline.core.database import write_tables
from ridgeline.core.errors import FileFormatError
from ridgeline.serving.record.energy import energy_j
from ridgeline.serving.record.played import RUN_COLUMNS
from ridgeline.serving.record.power_table import sample_power
from ridgeline.serving.record.series import WINDOW_COLUMNS
from ridgeline.serving.record.timeline import timeline_of, write_timeline

TABLES = ("requests", "runs", "windows")


def read(path: Path, name: str) -> dict[str, np.ndarray]:
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as connection:
            return dict(connection.execute(f"SELECT * FROM {name}").fetchnumpy())
    return dict(duckdb.sql(f"SELECT * FROM '{path}'").fetchnumpy())


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".csv.gz", ".duckdb"])
def test_every_format_holds_every_request_run_and_window(ending: str, tmp_path: Path) -> None:
    played = with_unserved(random_played(4))
    files = write_timeline(played, tmp_path / f"run{ending}", class_names=("a", "b"), class_code=played.end)
    named = [f"run.{name}{ending}" for name in TABLES] if ending != ".duckdb" else ["run.duckdb"]
    assert [file.name for file in files] == named
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(named)
    requests, runs, windows = (read(files[min(i, len(files) - 1)], name) for i, name in enumerate(TABLES))
    np.testing.assert_array_equal(np.ma.filled(requests["last_s"], np.nan), played.last_s)
    assert requests["output_tokens"].sum() == played.output_tokens.sum()
    assert sorted(set(requests["end"])) == ["done", "rejected", "unfinished"]
    every = np.concatenate([lane.runs for lane in played.lanes])
    for name in RUN_COLUMNS:
        np.testing.assert_array_equal(np.asarray(runs[name], float), every[name], err_msg=name)
    assert set(windows) == set(WINDOW_COLUMNS)
    assert len(windows["start_s"]) == 500


def test_energies_of_a_timeline_are_those_of_the_run(tmp_path: Path) -> None:
    played = random_played(2)
    powers = {"serving": sample_power(stepper_of("meta-llama/Llama-3.1-8B", 1), low=1, high=400, tokens=420)}
    tables = timeline_of(played, powers=powers, window_s=0.5)
    total = energy_j(played, powers, 0.0, played.end_s)
    assert tables["windows"]["energy_j"].sum() == pytest.approx(total, rel=1e-9)
    assert 0 < tables["requests"]["energy_j"].sum() <= total
    assert (tables["runs"]["power_w_per_chip"] > powers["serving"].chip.idle_w).all()


def test_text_that_a_spreadsheet_would_run_is_defused_in_csv_only(tmp_path: Path) -> None:
    tables = {"t": {"name": ["=1+1", "plain"], "x": [1.0, 2.0]}}
    (csv,) = write_tables(tables, tmp_path / "a.csv")
    assert "'=1+1" in csv.read_text()
    (database,) = write_tables(tables, tmp_path / "a.duckdb")
    assert list(read(database, "t")["name"]) == ["=1+1", "plain"]


def test_a_database_replaces_an_old_one_and_fails_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    write_tables({"t": {"x": [1.0]}}, path)
    write_tables({"u": {"x": [1.0, 2.0]}}, path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SHOW TABLES").fetchall() == [("u",)]
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match="rows"):
        write_tables({"t": {"x": [1.0], "y": [1.0, 2.0]}}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="format"):
        write_timeline(random_played(1), tmp_path / "run.xlsx")
    with pytest.raises(FileFormatError, match="folder"):
        write_timeline(random_played(1), tmp_path / "nowhere" / "run.duckdb")
