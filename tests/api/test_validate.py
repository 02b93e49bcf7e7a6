"""Validation: what it counts, what it keeps apart, and what it says of tables that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ridgeline.api.accuracy.accuracy import Accuracy, html_page
from ridgeline.api.accuracy.accuracy_page import markdown_page
from ridgeline.api.accuracy.shape_families import validate_shape_families
from ridgeline.api.accuracy.validate import (
    Points,
    data_folder,
    lines_apart,
    lines_of,
    read_baseline,
    validate_kernels,
    worst,
)
from ridgeline.core.errors import FileFormatError, RidgelineError, UnknownNameError
from ridgeline.costs.coefficients import physics_twin, unmeasured_twin
from ridgeline.costs.fits.common import is_fit_half
from ridgeline.hardware import catalogue


def points_of(predicted: list[float], measured: list[float], apart: list[str] | None = None, **labels: str) -> Points:
    rows = len(predicted)
    names = ("chip", "runtime", "version", "dtype", "size", "bound", "kernel", "case")
    return Points(
        kind="gemm",
        regime="calibrated",
        predicted=np.array(predicted),
        measured=np.array(measured),
        labels={name: np.full(rows, labels.get(name, "x")) for name in names},
        apart=np.array(apart or [""] * rows),
    )


def gemm_table(path: Path, rows: int = 40, **changed: object) -> Path:
    """Times a little above what the chip could do at best."""
    m = np.arange(1, rows + 1) * 64.0
    columns = {
        "gpu": np.full(rows, "h100_sxm"),
        "backend": np.full(rows, "vllm"),
        "dtype": np.full(rows, "bfloat16"),
        "m": m,
        "n": np.full(rows, 4096.0),
        "k": np.full(rows, 4096.0),
        "latency_ms": 2 * m * 4096 * 4096 / 600e12 * 1e3 + 0.02,
        **changed,
    }
    with duckdb.connect() as connection:
        names = ", ".join(f"unnest($c{place}) as {name}" for place, name in enumerate(columns))
        values = {f"c{place}": list(np.asarray(column).tolist()) for place, column in enumerate(columns.values())}
        connection.execute(f"copy (select {names}) to '{path}'", values)
    return path


def test_a_line_counts_and_tells_median_p90_and_bias() -> None:
    (line,) = lines_of([points_of([1.1, 0.9, 1.3, 1.0, 2.0], [1.0] * 5)])
    assert (line.count, line.kind, line.regime) == (5, "gemm", "calibrated")
    assert line.median == pytest.approx(0.1)
    assert line.bias == pytest.approx(0.1)
    assert line.p90 == pytest.approx(0.72)


def test_rows_apart_are_not_in_the_summary_but_in_a_line_of_their_own() -> None:
    points = points_of([1.1, 9.0], [1.0, 1.0], apart=["", "host-bound loop"])
    (line,) = lines_of([points])
    assert line.count == 1
    ((reason, apart),) = lines_apart([points])
    assert reason == "host-bound loop"
    assert apart.median == pytest.approx(8.0)
    assert [row for _, row in worst([points])] == [0]


def test_the_worst_rows_are_the_furthest_in_ratio_whichever_way() -> None:
    points = points_of([1.0, 0.1, 3.0], [1.0, 1.0, 1.0])
    assert [row for _, row in worst([points], 2)] == [1, 2]


def test_a_table_that_no_fit_saw_is_scored_whole(tmp_path: Path) -> None:
    found = validate_kernels(gemm_table(tmp_path / "own.parquet"))
    assert {points.regime for points in found} == {"calibrated", "physics", "datasheet"}
    assert all(points.predicted.size + (points.apart != "").sum() >= 40 for points in found)


def test_a_sample_is_the_same_rows_every_time(tmp_path: Path) -> None:
    path = gemm_table(tmp_path / "own.csv")
    first, again = (validate_kernels(path, sample=7)[0].labels["case"].tolist() for _ in range(2))
    assert first == again
    assert len(first) == 7


@pytest.mark.shared_data
def test_of_a_table_that_a_fit_saw_only_the_other_half_is_scored(shared_data: Path) -> None:
    points = validate_kernels(shared_data, ("collectives",))[0]
    sizes = [dict(word.split("=") for word in str(case).split()) for case in points.labels["case"]]
    ranks, messages = (np.array([float(size[name]) for size in sizes]) for name in ("num_gpus", "message_bytes"))
    assert not is_fit_half(ranks, messages).any()


@pytest.mark.shared_data
def test_regimes_are_ordered_as_they_know_more(shared_data: Path) -> None:
    medians = {line.regime: line.median for line in lines_of(validate_kernels(shared_data, ("moe",), sample=4000))}
    assert medians["calibrated"] < medians["physics"] < medians["datasheet"]


@pytest.mark.shared_data
@pytest.mark.parametrize("kind", ["gemm", "attention_prefill", "attention_decode", "moe", "collectives"])
def test_an_interval_of_eighty_percent_covers_seventy_to_ninety(shared_data: Path, kind: str) -> None:
    """Of rows that neither gave a number to the fit nor set the interval; `physics` has no interval of its own."""
    lines = {line.regime: line for line in lines_of(validate_kernels(shared_data, (kind,), sample=8000))}
    for regime in ("calibrated", "datasheet"):
        covered = lines[regime].covered
        assert covered is not None
        assert 0.7 < covered < 0.9, regime


@pytest.mark.shared_data
def test_a_family_of_shapes_is_scored_by_a_fit_that_never_saw_it(shared_data: Path) -> None:
    (points,) = validate_shape_families(shared_data, ("collectives",))
    assert points.regime == "extrapolated"
    lines = {line.shapes: line for line in lines_of([points], ("shapes",))}
    assert set(lines) == {"2 chips", "4 chips", "8 chips"}
    for line in lines.values():
        assert line.known is not None
        assert line.known <= line.median + 0.005 < 0.2
    page = markdown_page(Accuracy([*validate_kernels(shared_data, ("collectives",)), points], []))
    assert "| collectives | 8 chips |" in page


def test_a_table_that_no_fit_saw_has_no_shapes_to_leave_out(tmp_path: Path) -> None:
    assert validate_shape_families(gemm_table(tmp_path / "own.parquet")) == []


def test_rows_that_set_an_interval_are_not_counted_as_covered() -> None:
    points = replace(points_of([1.0] * 5, [1.0] * 5), covered=np.array([1.0, 1.0, 0.0, np.nan, np.nan]))
    (line,) = lines_of([points])
    assert (line.count, line.covered) == (5, pytest.approx(2 / 3))


def test_a_twin_has_the_chip_s_facts_and_another_name() -> None:
    chip = catalogue.chip("l40s")
    for twin in (physics_twin(chip), unmeasured_twin(chip)):
        assert twin.name != chip.name
        assert twin.dram == chip.dram


def test_an_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="gemm"):
        validate_kernels(tmp_path, ("gem",))


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no measured tables"):
        validate_kernels(tmp_path)


def test_no_data_is_one_error_that_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIDGELINE_SHARED", raising=False)
    with pytest.raises(FileFormatError, match="no measurements"):
        data_folder()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, value: float) -> None:
    times = np.full(40, 0.1)
    times[3] = value
    with pytest.raises(RidgelineError, match="not finite and positive"):
        validate_kernels(gemm_table(tmp_path / "bad.parquet", latency_ms=times))


def test_a_baseline_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"medians": ["a"]}')
    with pytest.raises(FileFormatError, match="not a baseline"):
        read_baseline(tmp_path / "b.json")


def test_the_page_runs_nothing_and_escapes_what_tables_say() -> None:
    page = html_page(Accuracy([points_of([1.0, 2.0], [1.0, 1.5], chip="<script>alert(1)</script>")], []))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<svg" in page


def test_the_markdown_says_when_a_target_is_missed() -> None:
    good = markdown_page(Accuracy([points_of([1.01] * 4, [1.0] * 4, chip="l40s")], []))
    bad = markdown_page(Accuracy([points_of([1.5] * 4, [1.0] * 4, chip="l40s")], []))
    assert "**50.0%**, missed" in bad
    assert "50.0%" not in good
    assert "| gemm | 4 | 1.0% |" in good
