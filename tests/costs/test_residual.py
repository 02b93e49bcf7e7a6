"""Residual tables: they learn what lies beyond the physics where measurements are, and say nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgeline.core.errors import SpecError
from ridgeline.costs import residual
from ridgeline.costs.residual import Grid, Table, factor, factor_by, interpolate, save, smooth, tables
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns

GRID = Grid(start=(0.0, 5.0), step=(1.0, 1.0), count=(12, 8))


def points(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [2.0 ** rng.uniform(0.0, 11.0, count), 2.0 ** rng.uniform(5.0, 12.0, count)]


def test_a_smooth_error_is_learned() -> None:
    dims = points(8_000)
    truth = 0.3 * np.sin(np.log2(dims[0]) / 2.0) + 0.02 * np.log2(dims[1])
    table = Table(grid=GRID, log_factor=smooth(GRID, dims, truth))
    fresh = [dim[::-1].copy() for dim in points(500)]
    wanted = 0.3 * np.sin(np.log2(fresh[0]) / 2.0) + 0.02 * np.log2(fresh[1])
    assert np.median(np.abs(interpolate(table, fresh) - wanted)) < 0.02


def test_knots_are_met_exactly_and_the_table_fades_one_step_outside() -> None:
    values = np.arange(96, dtype=np.float32).reshape(12, 8) / 100.0
    table = Table(grid=GRID, log_factor=values)
    at_knots = interpolate(table, [np.array([1.0, 2.0, 2048.0]), np.array([32.0, 64.0, 4096.0])])
    assert at_knots == pytest.approx([values[0, 0], values[1, 1], values[11, 7]], abs=1e-5)
    outside = interpolate(table, [np.array([2.0**13, 0.0, 8.0]), np.array([64.0, 64.0, 2.0**14])])
    assert outside == pytest.approx([0.0, 0.0, 0.0], abs=1e-3)


def test_one_odd_measurement_moves_a_knot_less_than_many_do() -> None:
    def at(count: int) -> float:
        dims = [np.full(count, 16.0), np.full(count, 256.0)]
        return float(smooth(GRID, dims, np.full(count, 0.4))[4, 3])

    assert 0.0 < at(1) < 0.3 < at(50) < 0.4


def test_a_wild_measurement_counts_as_a_factor_of_two_at_most() -> None:
    dims = [np.full(1000, 16.0), np.full(1000, 256.0)]
    assert smooth(GRID, dims, np.full(1000, 5.0))[4, 3] == pytest.approx(residual.CLIP, abs=0.01)


def test_saved_tables_are_read_back_and_equal_bytes_mean_equal_tables(tmp_path: Path) -> None:
    made = {"b|x|bf16": Table(grid=GRID, log_factor=np.full((12, 8), 0.25, np.float32))}
    save(tmp_path / "one.npz", made)
    save(tmp_path / "two.npz", made)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert file["b|x|bf16"].dtype == np.float16
        assert file["b|x|bf16|grid"].tolist() == [[0.0, 5.0], [1.0, 1.0], [12.0, 8.0]]


def test_a_table_that_does_not_fill_its_grid_is_refused() -> None:
    with pytest.raises(SpecError, match="fill its grid"):
        residual._table("x", np.zeros((3, 3), np.float16), np.array([[0, 5], [1, 1], [12, 8]], np.float32))


def test_chips_without_a_table_keep_their_price() -> None:
    chips = ChipColumns((catalogue.chip("b200_sxm"),))
    assert factor("gemm", "cublas", "bf16", chips, points(4)) == 1.0
    assert factor("gemm", "no-such-kernel", "bf16", ChipColumns((catalogue.chip("h100_sxm"),)), points(4)) == 1.0


def test_each_row_takes_the_table_of_its_chip() -> None:
    table = Table(grid=GRID, log_factor=np.full((12, 8), 0.5, np.float32))
    dims = [np.array([16.0, 16.0, 16.0]), np.array([256.0, 256.0, 256.0])]
    found = factor_by((None, table), np.array([0, 1, 0]), dims)
    assert found == pytest.approx([1.0, np.exp(0.5), 1.0], rel=1e-3)


def test_bundled_tables_are_small_and_hold_the_measured_families() -> None:
    found = tables("gemm")
    assert {key.split("|")[1] for key in found} >= {"cublas", "cublas-fp8", "cutlass-fp8", "trtllm-fp8-block"}
    assert sum(table.log_factor.size * 2 for table in found.values()) < 300_000
