"""Calibration: known efficiencies are found again; tables that cannot be are refused with what would be right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ridgeline.core.errors import DomainError, FileFormatError, RidgelineError, SpecError, UnknownNameError
from ridgeline.core.files import load_yaml
from ridgeline.costs.calibrate import calibrate_chip
from ridgeline.costs.coefficients import coefficient_file
from ridgeline.costs.fits.gemm_cells import cells, numbers_for
from ridgeline.costs.interval import UNVALIDATED, Part, interval, total
from ridgeline.costs.measurements import need_rows, read
from ridgeline.costs.validate import Report, covered, regressions, render, summarise, validate

CHIP = "b200-sxm"
TRUTH = {"compute_share": 0.62, "dram_share": 0.7, "launch_cycles": 5200.0}
"""Efficiencies of a made-up B200, far from what its lineage starts with."""


def shapes(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {name: np.floor(2.0 ** rng.uniform(low, 14.0, count)) for name, low in (("m", 0), ("n", 7), ("k", 7))}


def write(path: Path, columns: dict[str, object]) -> Path:
    """A Parquet or CSV file of the columns."""
    connection = duckdb.connect()
    count = max(np.size(value) for value in columns.values())
    rows = {name: np.broadcast_to(np.asarray(value), count) for name, value in columns.items()}
    names = ", ".join(rows)
    marks = ", ".join("?" for _ in rows)
    types = ", ".join(f"{n} {'VARCHAR' if v.dtype.kind in 'UO' else 'DOUBLE'}" for n, v in rows.items())
    connection.execute(f"create table t ({types})")
    data = [tuple(v[i].item() if hasattr(v[i], "item") else v[i] for v in rows.values()) for i in range(count)]
    connection.executemany(f"insert into t ({names}) values ({marks})", data)
    kind = "parquet" if path.suffix == ".parquet" else "csv, header"
    connection.execute(f"copy t to '{path}' (format {kind})")
    connection.close()
    return path


def measured(path: Path, count: int = 500, scale: float = 1e3, **more: object) -> Path:
    """Times that a chip with the efficiencies of TRUTH would show, with 2 % of noise."""
    columns = {**shapes(count), "gpu": CHIP, "backend": "torch", "version": "1", "dtype": "bf16", "latency_ms": 1.0}
    draft = write(path, columns)
    (cell,) = cells(read(draft))
    start = numbers_for(coefficient_file("gemm")["kernels"], cell)
    time_s = np.asarray(cell.price({**start, **TRUTH}).time_s)
    noise = np.exp(np.random.default_rng(5).normal(0.0, 0.02, count))
    return write(path, {**columns, "latency_ms": time_s * noise * scale, **more})


def test_known_efficiencies_are_found_again(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.parquet")
    found = calibrate_chip(source, "B200")
    kernels = found.document.kernels
    machine, cublas = (kernels[name]["chips"][CHIP] for name in ("machine", "cublas"))
    assert cublas["compute_share"] == pytest.approx(TRUTH["compute_share"], rel=0.05)
    (cell,) = cells(read(source))
    start = numbers_for(coefficient_file("gemm")["kernels"], cell)
    decode = cell.part(cell.rows.size("m") < 64)
    fitted, true = (np.asarray(decode.price({**start, **by}).time_s) for by in ({**machine, **cublas}, TRUTH))
    assert np.median(np.abs(fitted / true - 1.0)) < 0.03
    scores = found.document.errors["torch 1 bf16"]
    assert scores["calibrated"]["median_pct"] < 3.0 < scores["datasheet"]["median_pct"]


def test_the_same_measurements_give_the_same_file(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.parquet", count=300)
    written = [calibrate_chip(source, CHIP).write(tmp_path / name)[0].read_bytes() for name in ("a.yaml", "b.yaml")]
    assert written[0] == written[1]


def test_the_file_tells_where_its_numbers_come_from(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.csv", count=450)
    files = calibrate_chip(source, CHIP).write(tmp_path / "chip.yaml")
    assert [file.suffix for file in files] == [".yaml", ".npz"]
    data = load_yaml(files[0]).data
    provenance = data["provenance"]
    assert provenance["data"][0] == {"file": "chip.csv", "sha256": read(source).sha256, "rows": 450}
    assert provenance["command"] == "ridgeline calibrate chip.csv --chip b200-sxm"
    assert list(data["kernels"]["cublas"]["chips"]) == [CHIP]


def test_seconds_in_a_milliseconds_column_are_refused_with_the_likely_unit(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.parquet", scale=1.0)
    with pytest.raises(DomainError, match=r"faster than the chip's peak.*latency_ms that holds seconds"):
        calibrate_chip(source, CHIP)


def test_one_impossible_row_is_set_aside_and_told(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.parquet", count=120)
    table = read(source)
    times = table.time_s * 1e3
    longest = int(np.argmax(times))
    times[longest] *= 1e-3
    columns = {name: table.size(name) for name in ("m", "n", "k")}
    bad = write(tmp_path / "bad.csv", {**columns, "gpu": CHIP, "dtype": "bf16", "latency_ms": times})
    found = calibrate_chip(bad, CHIP)
    (row,) = found.set_aside
    assert row.row == longest + 1
    assert f"m={columns['m'][longest]:.0f}" in row.said
    assert "1000 times too small" in row.said
    provenance = load_yaml(found.write(tmp_path / "own.yaml")[0]).data["provenance"]
    assert provenance["data"][0]["rows"] == 119
    assert [entry["row"] for entry in provenance["set_aside"]] == [longest + 1]
    good = np.arange(120) != longest
    rest = {name: values[good] for name, values in columns.items()}
    clean = write(tmp_path / "clean.csv", {**rest, "gpu": CHIP, "dtype": "bf16", "latency_ms": times[good]})
    assert calibrate_chip(clean, CHIP).document.kernels == found.document.kernels


def test_too_few_rows_say_how_many_are_needed(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"too few measurements.*at least 48 rows"):
        calibrate_chip(measured(tmp_path / "chip.parquet", count=20), CHIP)


def test_an_unknown_chip_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="b200"):
        calibrate_chip(measured(tmp_path / "chip.parquet", count=20), "b2000_sxm")


def test_a_table_of_another_chip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no measurements of h100-sxm"):
        calibrate_chip(measured(tmp_path / "chip.parquet", count=60), "h100_sxm")


GOOD = {"m": 8.0, "n": 128.0, "k": 128.0, "dtype": "bf16", "latency_ms": 0.01}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"latency_ms": float("nan")}, DomainError, "row 1 column latency_ms"),
        ({"latency_ms": 0.0}, DomainError, "not finite and positive"),
        ({"latency_ms": -1.0}, DomainError, "not finite and positive"),
        ({"latency_ms": float("inf")}, DomainError, "not finite and positive"),
        ({"m": -4.0}, DomainError, "column m"),
        ({"m": "eight"}, DomainError, "must hold numbers"),
    ],
)
def test_impossible_values_are_refused(
    tmp_path: Path, change: dict[str, object], error: type[RidgelineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(write(tmp_path / "t.parquet", {**GOOD, **change}))


@pytest.mark.parametrize("missing", ["latency_ms", "k"])
def test_missing_columns_are_named(tmp_path: Path, missing: str) -> None:
    columns = {name: value for name, value in GOOD.items() if name != missing}
    with pytest.raises(SpecError, match="time column" if missing == "latency_ms" else "columns"):
        read(write(tmp_path / "t.parquet", columns))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    for name, message in (("none.parquet", "no such table"), ("broken.parquet", "cannot be read")):
        with pytest.raises(FileFormatError, match=message):
            read(tmp_path / name)
    (tmp_path / "t.xlsx").write_bytes(b"x")
    with pytest.raises(FileFormatError, match="convert it"):
        read(tmp_path / "t.xlsx")


def test_units_of_time_columns_are_honoured(tmp_path: Path) -> None:
    base = {name: value for name, value in GOOD.items() if name != "latency_ms"}
    times = [
        read(write(tmp_path / f"{name}.csv", {**base, name: value})).time_s[0]
        for name, value in (("latency_ms", 0.01), ("latency_us", 10.0), ("time_s", 1e-5))
    ]
    assert times == pytest.approx([1e-5] * 3)


def test_a_table_knows_its_kind_and_how_many_rows_a_fit_needs(tmp_path: Path) -> None:
    table = read(write(tmp_path / "t.csv", GOOD))
    assert (table.kind, len(table), table.label("chip").tolist()) == ("gemm", 1, [""])
    with pytest.raises(SpecError, match="at least 30 rows"):
        need_rows(table, 30, "a chip")


def test_intervals_widen_from_calibrated_to_datasheet_to_unchecked() -> None:
    low, high = interval("gemm", "cublas", np.array([True, False]))
    assert low[1] <= low[0] < 1.0 < high[0] <= high[1]
    assert interval("gemm", "generic", False) == UNVALIDATED


def test_errors_of_one_kind_add_and_of_two_kinds_partly_cancel() -> None:
    one = Part(kind="gemm", time_s=1.0, low_s=0.9, high_s=1.2)
    other = replace(one, kind="attention")
    assert total([one, one]) == pytest.approx((1.8, 2.4))
    low, high = total([one, other])
    assert 1.8 < low < 1.9
    assert 2.2 < high < 2.4


@pytest.mark.shared_data
def test_validation_reports_regimes_apart_and_intervals_cover(shared_data: Path) -> None:
    from ridgeline.costs.fits import gemm_scores

    table = read(shared_data / "silicon" / "gemm.parquet")
    part = table.rows(np.arange(0, len(table), 23))
    scored = gemm_scores.scored(part)
    report = Report(lines=tuple(summarise([group for group in scored if not group.apart])))
    medians = report.baseline()
    regimes = ("calibrated", "physics", "datasheet")
    calibrated, physics, datasheet = (medians[f"gemm/{regime}/all/all/all/all/all"] for regime in regimes)
    assert calibrated < physics < datasheet < 0.15
    assert "calibrated" in render(report)
    assert regressions(report, medians) == []
    worse = {key: value - 0.02 for key, value in medians.items()}
    assert len(regressions(report, worse)) == len(medians)
    for regime in ("calibrated", "datasheet"):
        for kernel in ("cublas", "cublas-fp8"):
            mine = [g for g in scored if g.regime == regime and g.kernel == kernel and not g.apart]
            low, high = interval("gemm", kernel, regime == "calibrated")
            assert 0.7 < covered(mine, low, high) < 0.9, (regime, kernel)


def test_a_kind_without_a_scorer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gemm'"):
        validate(tmp_path, ["gem"])
