"""Runs of sweeps: no point is lost, none is done twice, and the bytes are the same whatever dies meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search import sweep_functions
from tests.search.sweep_functions import deadly, squares, swept

from ridgeline.search.sweeps import pools, run
from ridgeline.search.sweeps.work import Part, Work

ROOT = Path(__file__).resolve().parents[2]
COUNT, CHUNK = 10_000, 50
QUICK_S = 4.0
"""Silence that counts as death in these tests; signs of life come each second."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start(folder: Path, workers: int, pause_s: float) -> subprocess.Popen[bytes]:
    """The sweep of squares in a process of its own."""
    told = {"log": str(folder / "log"), "pause_s": pause_s, "out": str(folder / "out.parquet")}
    told |= {"count": COUNT, "chunk": CHUNK, "workers": workers}  # type: ignore[dict-item]
    command = [sys.executable, "-c", "from tests.search.sweep_functions import main; main()", json.dumps(told)]
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of the results of a sweep that nothing disturbed."""
    out = tmp_path_factory.mktemp("unbroken") / "out.parquet"
    swept(out, COUNT, CHUNK, 0, Work(evaluate=squares, question={}))
    return digest(out)


def killed(folder: Path, workers: int, kills: int, pause_s: float, latest_s: float, unbroken: str) -> None:
    """Kill the sweep at random moments, let it finish, and compare."""
    draw = np.random.default_rng(kills + workers)
    out = folder / "out.parquet"
    for _ in range(kills):
        process = start(folder, workers, pause_s)
        time.sleep(float(draw.uniform(0.3, latest_s)))
        process.kill()
        process.communicate()
        assert not out.exists() or digest(out) == unbroken
    process = start(folder, workers, pause_s)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert digest(out) == unbroken
    assert [path.name for path in folder.iterdir() if ".tmp" in path.name] == []
    counts = [int(line.split()[1]) for line in (folder / "log").read_text().splitlines()]
    assert sum(counts) >= COUNT
    assert sum(counts) - COUNT <= kills * max(workers, 1) * CHUNK


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments_the_results_are_those_of_an_unbroken_run(
    tmp_path: Path, workers: int, unbroken: str
) -> None:
    killed(tmp_path, workers, 3, 0.004, 1.2, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_a_hundred_times_the_results_are_those_of_an_unbroken_run(
    tmp_path: Path, workers: int, unbroken: str
) -> None:
    killed(tmp_path, workers, 100, 0.05, 1.5, unbroken)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_stops_within_two_seconds_and_the_same_command_goes_on(
    tmp_path: Path, workers: int, unbroken: str
) -> None:
    process = start(tmp_path, workers, 0.02)
    log = tmp_path / "log"
    while not (log.exists() and len(log.read_text().splitlines()) > 4):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    since = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - since <= 2.0
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert not (tmp_path / "out.parquet").exists()
    done = len(log.read_text().splitlines())
    summary = swept(tmp_path / "out.parquet", COUNT, CHUNK, 0, Work(evaluate=squares, question={}))
    assert summary.resumed >= (done - max(workers, 1)) * CHUNK > 0
    assert digest(tmp_path / "out.parquet") == unbroken


@pytest.mark.parametrize("suffix", ["parquet", pytest.param("csv", marks=pytest.mark.slow)])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    work = Work(evaluate=squares, question={"extra_from": 400.0})
    outs = [tmp_path / f"{workers}.{suffix}" for workers in (0, 2)]
    for out, workers in zip(outs, (0, 2), strict=True):
        summary = swept(out, 1_000, 64, workers, work)
        assert (summary.points, summary.resumed, summary.failed, summary.retried) == (1_000, 0, 1, 0)
    assert len(set(map(digest, outs))) == 1


def test_results_are_sorted_by_point_and_hold_what_each_part_gave(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    swept(out, 300, 64, 0, Work(evaluate=squares, question={"extra_from": 128.0}))
    found = duckdb.sql(f"FROM '{out}'").fetchnumpy()
    x = np.arange(300.0)
    assert list(found) == ["point", "x", "square", "part_sum", "odd", "extra", "error"]
    np.testing.assert_array_equal(found["point"], x)
    np.testing.assert_array_equal(found["square"], x * x / 7.0)
    np.testing.assert_array_equal(found["odd"], x % 2 == 1)
    assert found["extra"][127] is np.ma.masked
    assert found["extra"][128] == "é128"
    assert found["error"][13] == "thirteen"
    assert found["error"].count() == 1


@pytest.mark.parametrize("how", ["kill", pytest.param("exit", marks=pytest.mark.slow)])
def test_a_point_that_kills_its_worker_is_tried_three_times_and_costs_no_other(tmp_path: Path, how: str) -> None:
    work = Work(evaluate=deadly, question={"at": 21.0, "how": how, "log": str(tmp_path / "log")})
    out = tmp_path / "out.csv"
    summary = swept(out, 40, 8, 2, work)
    assert summary.failed == 2  # thirteen, and the deadly one
    errors = dict(duckdb.sql(f"SELECT point, error FROM '{out}' WHERE error IS NOT NULL").fetchall())
    assert errors.keys() == {13, 21}
    assert errors[21] == f"the worker died{' (exit code 9)' if how == 'exit' else ''}, 3 times"
    again = swept(out, 40, 8, 0, Work(evaluate=squares, question={}))
    assert again.resumed == 40


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("stop", "no sign of life"),
        pytest.param("sleep", "stood still", marks=pytest.mark.slow),
        ("spin", "limit"),
    ],
)
def test_a_worker_that_hangs_is_noticed(tmp_path: Path, how: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "SILENT_S", QUICK_S)
    monkeypatch.setattr(run, "TRIES", 1)
    limit = 1.0 if how == "spin" else 0.0
    work = Work(evaluate=deadly, question={"at": 2.0, "how": how}, limit_s=limit)
    summary = swept(tmp_path / "out.csv", 6, 1, 1, work)
    assert summary.failed == 1
    ((point, error),) = duckdb.sql(f"SELECT point, error FROM '{tmp_path}/out.csv' WHERE error IS NOT NULL").fetchall()
    assert point == 2
    assert says in error


def test_a_hang_is_noticed_within_ten_seconds() -> None:
    assert pools.SILENT_S + pools.BEAT_S + run.POLL_S <= 10.0
    assert run.TRIES == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_one_point_is_its_error_only(tmp_path: Path, workers: int) -> None:
    work = Work(evaluate=sweep_functions.broken, question={"at": 5.0})
    out = tmp_path / "out.csv"
    assert swept(out, 16, 16, workers, work).failed == 2
    errors = dict(duckdb.sql(f"SELECT point, error FROM '{out}' WHERE error IS NOT NULL").fetchall())
    assert errors[5] == "KeyError: 'inner\\nstate'"


def test_workers_that_do_not_start_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_serve", sweep_functions.quits)
    with pytest.raises(pools.PoolError, match=r"workers do not start .*exit code 3"):
        swept(tmp_path / "out.csv", 4, 1, 1, Work(evaluate=squares, question={}))


def test_a_jump_of_the_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day goes backwards and a year ahead; workers are not given up, and the bytes are the same."""
    times = iter(np.tile([0.0, 3.2e7, -1e9], 10_000).tolist())
    swept(tmp_path / "a.parquet", 400, 8, 1, Work(evaluate=squares, question={}))
    monkeypatch.setattr(time, "time", lambda: next(times))
    summary = swept(tmp_path / "b.parquet", 400, 8, 1, Work(evaluate=squares, question={}))
    monkeypatch.undo()
    assert summary.retried == 0
    assert digest(tmp_path / "a.parquet") == digest(tmp_path / "b.parquet")


@given(count=st.integers(1, 200), chunk=st.integers(1, 64), data=st.data())
def test_what_is_missing_and_what_is_done_are_all_points_once(count: int, chunk: int, data: Any) -> None:
    grid = run.missing([], count, chunk)
    done: list[Part] = []
    for part in grid:
        fate = data.draw(st.sampled_from(["done", "missing", "apart"]))
        if fate == "done":
            done.append(part)
        elif fate == "apart":
            numbers = data.draw(st.sets(st.integers(part.first, part.first + part.count - 1)))
            done += [Part(first=number, count=1) for number in sorted(numbers)]
    every = sorted([*done, *run.missing(done, count, chunk)], key=lambda part: part.first)
    assert every[0].first == 0
    assert all(one.first + one.count == other.first for one, other in pairwise(every))
    assert every[-1].first + every[-1].count == count
