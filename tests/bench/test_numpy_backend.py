"""Every CPU can be measured: numpy's kernels are right, and a broken one is seen."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline.bench import Case, Unsupported, WrongResult, cases
from ridgeline.bench.backends import Buffers, checked
from ridgeline.bench.numpy_backend import OFFERS, NumpyBackend, filled, probes, worst_error

SMALLEST = cases([(table, op, dtype) for table, ops in OFFERS.items() for op, dtype in ops], quick=True)[:4]
BUFFERS = Buffers(weights=3, outputs=2)


@pytest.mark.parametrize("case", SMALLEST, ids=lambda case: f"{case.table}-{case.dtype}")
def test_kernels_agree_with_their_reference_and_take_time(case: Case) -> None:
    kernel = checked(NumpyBackend().prepare(case, BUFFERS), case.dtype)
    lap = kernel.laps(3)
    assert lap.elapsed_s > 0
    assert 0 <= lap.submit_s <= lap.elapsed_s


def test_a_broken_product_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = np.matmul

    def broken(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        right(a, b, out=out)
        out[-1, -1] += 1000.0
        return out

    monkeypatch.setattr("ridgeline.bench.numpy_backend.np.matmul", broken)
    gemm = next(case for case in SMALLEST if case.table == "gemm")
    kernel = NumpyBackend().prepare(gemm, BUFFERS)
    with pytest.raises(WrongResult, match=r"numpy\.matmul"):
        checked(kernel, gemm.dtype)


def test_a_table_without_kernels_is_not_offered_and_not_prepared() -> None:
    (decode, *_) = cases([("attention_decode", "attention", "bf16")], quick=True)
    assert NumpyBackend().offers("attention_decode") == ()
    with pytest.raises(Unsupported):
        NumpyBackend().prepare(decode, BUFFERS)


def test_rows_of_filled_arrays_differ() -> None:
    values = filled((4096, 1024), np.float32, 0)
    assert len(np.unique(values[probes(4096)], axis=0)) == len(probes(4096))


def test_worst_error_sees_what_is_not_a_number() -> None:
    assert not worst_error(np.array([1.0, np.nan]), np.array([1.0, 2.0])) <= 1.0
    assert worst_error(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
