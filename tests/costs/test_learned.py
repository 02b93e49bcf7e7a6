"""The learned residual: numpy walks the trees as scikit-learn does, files hold numbers only, it helps where it can."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from ridgeline.core.dtypes import scheme
from ridgeline.core.errors import FileFormatError, MissingExtraError, SpecError
from ridgeline.costs.coefficients import coefficient_file
from ridgeline.costs.fits import learned as fitting
from ridgeline.costs.fits.common import is_fit_half
from ridgeline.costs.fits.gemm_cells import Cell, cells, numbers_for, numbers_without
from ridgeline.costs.gemm import price_matmul
from ridgeline.costs.learned import FEATURES, FEW_SHOT_ROWS, LIMIT, Learned, adapt, features, load
from ridgeline.costs.measurements import Measurements, read
from ridgeline.costs.price import Price, Setting
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Copy, Matmul

STUMP = Learned(
    roots=np.array([0, 3], np.int32),
    feature=np.array([0, -1, -1, -1], np.int16),
    threshold=np.array([3.0, 0.0, 0.0, 0.0]),
    left=np.array([1, -1, -1, -1], np.int32),
    right=np.array([2, -1, -1, -1], np.int32),
    value=np.array([0.0, 0.1, 0.2, 0.05]),
)
"""log factor 0.15 up to 8 rows of A, 0.25 above."""


def priced(m: object) -> tuple[Matmul, Price]:
    op = Matmul(name="up", part="ffn", scheme=scheme("bf16"), m=m, n=4096.0, k=4096.0)  # type: ignore[arg-type]
    return op, price_matmul(op, ChipColumns((catalogue.chip("h100-sxm"),)), Setting())


def noise(rows: int) -> fitting.Sample:
    rng = np.random.default_rng(3)
    data = rng.normal(0.0, 3.0, (rows, len(FEATURES)))
    return fitting.Sample(data, np.tanh(data[:, 0]) * 0.3 + 0.1 * (data[:, 2] > 1.0) + rng.normal(0, 0.01, rows))


def test_numpy_walks_the_trees_as_scikit_learn_does(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    model = fitting.boosted(noise(600))
    trees = fitting.as_arrays(model)
    rows = np.vstack([noise(3000).rows, 1e6 * np.ones((1, len(FEATURES)))])
    expected = model.predict(rows)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(trees.trees(rows), expected, rtol=0, atol=1e-12)
    trees.save(tmp_path / "trees.npz")
    np.testing.assert_array_equal(load(tmp_path / "trees.npz").trees(rows), trees.trees(rows))


def test_training_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    for name in ("a.npz", "b.npz"):
        fitting.as_arrays(fitting.boosted(noise(200))).save(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.npz") as a, zipfile.ZipFile(tmp_path / "b.npz") as b:
        assert all(a.read(name) == b.read(name) for name in a.namelist())


def test_a_file_holds_no_objects(tmp_path: Path) -> None:
    STUMP.save(tmp_path / "trees.npz")
    with np.load(tmp_path / "trees.npz", allow_pickle=False) as file:
        assert {file[name].dtype.kind for name in file.files} == {"i", "f", "U"}


def test_a_factor_keeps_the_shape_and_nothing_gets_faster_than_the_hardware() -> None:
    op, price = priced(np.array([[1.0, 8.0], [9.0, 0.0]]))
    np.testing.assert_allclose(STUMP.factor(op, price), np.exp([[0.15, 0.15], [0.25, 0.0]]))
    fast = replace(STUMP, offset=-50.0).factor(op, price)
    assert np.all(fast * price.time_s >= np.asarray(price.floor_s) * (1 - 1e-12))
    assert np.all(fast >= np.exp(-LIMIT) * (1 - 1e-12))
    assert np.max(replace(STUMP, offset=50.0).factor(op, price)) == pytest.approx(np.exp(LIMIT))
    assert STUMP.factor(*priced(4.0)).shape == ()


def test_no_price_uses_trees_and_evaluation_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    assert STUMP.factor(*priced(4.0)) == pytest.approx(np.exp(0.15))
    with pytest.raises(MissingExtraError, match="scikit-learn") as caught:
        fitting.boosted(noise(100))
    assert "ridgeline[learn]" in caught.value.fix


def test_other_ops_are_refused() -> None:
    op = Copy(name="copy", part="kv", size_bytes=10.0)
    with pytest.raises(SpecError, match="matmuls only"):
        features(op, priced(4.0)[1])  # type: ignore[arg-type]


def test_few_shots_find_a_scale_and_ten_are_needed() -> None:
    rows = noise(400).rows
    truth = STUMP.trees(rows) * 0.5 + 0.3
    found = adapt(STUMP, rows, truth)
    assert np.max(np.abs(found.log_factor(rows) - truth)) < 0.03
    few = adapt(STUMP, rows[:FEW_SHOT_ROWS], truth[:FEW_SHOT_ROWS])
    assert 0.0 < few.offset < 0.3
    with pytest.raises(SpecError, match="too few"):
        adapt(STUMP, rows[:9], truth[:9])


def arrays() -> dict[str, np.ndarray]:
    held = {f.name: np.asarray(getattr(STUMP, f.name)) for f in fields(STUMP)}
    return {"names": np.array(FEATURES), **held}


HOSTILE: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "an object array": lambda a: a.update(value=np.array([{}, 1, 2, 3], object)),
    "a loop": lambda a: a.update(left=np.array([0, -1, -1, -1], np.int32)),
    "a child in another tree": lambda a: a.update(right=np.array([3, -1, -1, -1], np.int32)),
    "a child outside": lambda a: a.update(right=np.array([99, -1, -1, -1], np.int32)),
    "a leaf with children": lambda a: a.update(left=np.array([1, 2, -1, -1], np.int32)),
    "an unknown feature": lambda a: a.update(feature=np.array([len(FEATURES), -1, -1, -1], np.int16)),
    "a negative feature": lambda a: a.update(feature=np.array([-2, -1, -1, -1], np.int16)),
    "NaN": lambda a: a.update(value=np.array([0.0, np.nan, 0.0, 0.0])),
    "an infinite scale": lambda a: a.update(offset=np.array(np.inf)),
    "lengths that differ": lambda a: a.update(value=np.zeros(3)),
    "a matrix": lambda a: a.update(value=np.zeros((4, 1))),
    "floats for indices": lambda a: a.update(left=np.array([1.0, -1, -1, -1])),
    "roots out of order": lambda a: a.update(roots=np.array([3, 0], np.int32)),
    "no trees": lambda a: a.update(roots=np.zeros(0, np.int32)),
    "other features": lambda a: a.update(names=np.array(FEATURES[::-1])),
    "an array too few": lambda a: a.pop("share"),
    "an array too many": lambda a: a.update(more=np.zeros(1)),
    "64 MiB of zeros": lambda a: a.update(value=np.zeros(2**23 + 1)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(what: str, tmp_path: Path) -> None:
    held = arrays()
    HOSTILE[what](held)
    np.savez_compressed(tmp_path / "trees.npz", allow_pickle=True, **held)  # type: ignore[arg-type]
    with pytest.raises(FileFormatError):
        load(tmp_path / "trees.npz")


def test_files_cut_or_changed_anywhere_are_refused_or_are_trees(tmp_path: Path) -> None:
    path = tmp_path / "trees.npz"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays())  # type: ignore[arg-type]
    whole = buffer.getvalue()
    path.write_bytes(whole)
    assert load(path).value.tolist() == STUMP.value.tolist()
    rng = np.random.default_rng(2)
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else broken))
        try:
            load(path).trees(np.zeros((2, len(FEATURES))))
        except FileFormatError:
            continue
    with pytest.raises(FileFormatError):
        load(tmp_path / "absent.npz")


def own(cell: Cell) -> Price:
    return cell.price(numbers_for(coefficient_file("gemm")["kernels"], cell))


def unmeasured(cell: Cell) -> Price:
    numbers = numbers_without(coefficient_file("gemm")["without"], cell)
    assert numbers is not None, "bf16 kernels were fitted on every chip"
    return cell.price(numbers)


@pytest.fixture(scope="module")
def table(shared_data: Path) -> Measurements:
    pytest.importorskip("sklearn")
    table = read(shared_data / "silicon" / "gemm.parquet")
    return table.rows(np.arange(0, len(table), 11))


def median_off(data: fitting.Sample, log_factor: object = 0.0) -> float:
    return float(np.median(np.abs(np.exp(log_factor - data.log_ratio) - 1.0)))  # type: ignore[operator]


def held_out(table: Measurements, chip: str, price: Callable[[Cell], Price]) -> fitting.Sample:
    held = table.rows(~is_fit_half(*(table.size(name) for name in ("m", "n", "k"))))
    parts = [fitting.sample_of(cell, price(cell)) for cell in cells(fitting.of_chip(held, chip)) if not cell.sustained]
    return fitting.Sample(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@pytest.mark.shared_data
@pytest.mark.parametrize("chip", ["h100-sxm", "l40s"])
def test_trees_on_the_physics_beat_the_physics_on_shapes_they_never_saw(chip: str, table: Measurements) -> None:
    held = held_out(table, chip, own)
    trees = fitting.train(table, chip, rows=1000, price=own)
    assert median_off(held, trees.log_factor(held.rows)) < 0.92 * median_off(held)


@pytest.mark.shared_data
@pytest.mark.parametrize("left_out", ["a100-80gb-sxm", "l40s"])
def test_ten_measurements_of_an_unseen_chip_cost_at_most_two_points(left_out: str, table: Measurements) -> None:
    bf16 = table.rows(table.label("dtype") == "bfloat16")
    others = [name for name in ("a100-80gb-sxm", "h100-sxm", "h200-sxm", "l40s") if name != left_out]
    trees = fitting.train(bf16, *others, price=own)
    held = held_out(bf16, left_out, unmeasured)
    mine = fitting.of_chip(bf16.rows(is_fit_half(*(bf16.size(name) for name in ("m", "n", "k")))), left_out)
    base = median_off(held)
    off = []
    for seed in range(10):
        chosen = np.random.default_rng(seed).choice(len(mine), FEW_SHOT_ROWS + 2, replace=False)
        moved = fitting.few_shot(trees, mine.rows(np.sort(chosen)), left_out, price=unmeasured)
        off.append(median_off(held, moved.log_factor(held.rows)))
    assert max(off) < base + 0.02
    assert np.median(off) < base + 0.002
