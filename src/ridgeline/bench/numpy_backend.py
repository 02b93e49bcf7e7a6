"""CPUs through numpy and the BLAS it was built with: always there, so any machine can be measured."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.bench.backends import Buffers, Device, Kernel, Lap, Unsupported
from ridgeline.bench.chips import cpu_name
from ridgeline.bench.grid import Case

BLOCK = 1_048_573
"""Random values that are repeated to fill large buffers; a prime, so that no two rows come out equal."""
PROBES = 16
"""Rows and columns of a result that are compared with the reference."""
TYPES = {"fp32": np.float32, "fp64": np.float64, "int8": np.int8}
OFFERS = {
    "gemm": (("", "fp32"), ("", "fp64")),
    "elementwise": (("add", "fp32"),),
    "copy": (("device", "int8"),),
}


class NumpyBackend:
    """Matrix products of the BLAS behind numpy, additions and copies, on as many threads as they choose."""

    name = "numpy"
    version = np.__version__

    @cached_property
    def device(self) -> Device:
        """This machine's processor and its free memory."""
        return Device(name=cpu_name(), kind="cpu", count=1, free_bytes=free_memory_bytes())

    def offers(self, table: str) -> tuple[tuple[str, str], ...]:
        """Matrix products in fp32 and fp64, additions and copies; numpy has no kernels for the rest."""
        return OFFERS.get(table, ())

    def meter(self) -> None:
        """Processors show no power here."""
        return

    def prepare(self, case: Case, buffers: Buffers) -> Kernel:
        """Allocate, run once, compare. Raises Unsupported where numpy has no such kernel or memory runs out."""
        build = {"gemm": _gemm, "elementwise": _add, "copy": _copy}.get(case.table)
        if build is None:
            raise Unsupported(f"numpy has no kernel for {case.table}")
        try:
            return build(case, buffers)
        except MemoryError as error:
            raise Unsupported("out of memory") from error


def free_memory_bytes() -> float:
    """Memory that the system would give, or infinity where it does not say."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def filled(shape: tuple[int, ...], kind: Any, seed: int) -> NDArray[Any]:
    """An array of normal values (bytes for int8), cheap to make at any size."""
    count = math.prod(shape)
    made = np.random.default_rng(seed)
    if kind is np.int8:
        block = made.integers(-128, 127, min(count, BLOCK), np.int8)
    else:
        block = made.standard_normal(min(count, BLOCK)).astype(kind)
    return np.resize(block, count).reshape(shape)


def probes(size: int) -> NDArray[np.intp]:
    """Up to PROBES different places below `size`, first and last among them."""
    return np.unique(np.linspace(0, size - 1, min(PROBES, size)).astype(np.intp))


def worst_error(got: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest difference as a share of the largest value of the reference; NaN if `got` holds one."""
    scale = float(np.max(np.abs(reference))) or 1.0
    return float(np.max(np.abs(np.asarray(got, np.float64) - reference))) / scale


def _gemm(case: Case, buffers: Buffers) -> Kernel:
    m, n, k = (case.sizes[name] for name in ("m", "n", "k"))
    kind = TYPES[case.dtype]
    a = filled((m, k), kind, 0)
    weights = [filled((n, k), kind, 1 + i) for i in range(buffers.weights)]
    outputs = [np.empty((m, n), kind) for _ in range(buffers.outputs)]

    def call(turn: int) -> None:
        np.matmul(a, weights[turn % buffers.weights].T, out=outputs[turn % buffers.outputs])

    call(0)
    rows, columns = probes(m), probes(n)
    reference = a[rows].astype(np.float64) @ weights[0][columns].astype(np.float64).T
    return _kernel("numpy.matmul", worst_error(outputs[0][np.ix_(rows, columns)], reference), call)


def _add(case: Case, buffers: Buffers) -> Kernel:
    shape, kind = (case.sizes["rows"], case.sizes["width"]), TYPES[case.dtype]
    left = [filled(shape, kind, 2 * i) for i in range(buffers.weights)]
    right = [filled(shape, kind, 2 * i + 1) for i in range(buffers.weights)]
    outputs = [np.empty(shape, kind) for _ in range(buffers.outputs)]

    def call(turn: int) -> None:
        place = turn % buffers.weights
        np.add(left[place], right[place], out=outputs[turn % buffers.outputs])

    call(0)
    rows = probes(shape[0])
    reference = left[0][rows].astype(np.float64) + right[0][rows]
    return _kernel("numpy.add", worst_error(outputs[0][rows], reference), call)


def _copy(case: Case, buffers: Buffers) -> Kernel:
    size = case.sizes["copied_bytes"]
    sources = [filled((size,), np.int8, i) for i in range(buffers.weights)]
    outputs = [np.empty(size, np.int8) for _ in range(buffers.outputs)]

    def call(turn: int) -> None:
        np.copyto(outputs[turn % buffers.outputs], sources[turn % buffers.weights])

    call(0)
    return _kernel("numpy.copyto", float(not np.array_equal(outputs[0], sources[0])), call)


def _kernel(name: str, error: float, call: Callable[[int], None]) -> Kernel:
    empty_s = _empty_call_s()
    turn = 0

    def laps(count: int) -> Lap:
        nonlocal turn
        start = time.perf_counter()
        for place in range(turn, turn + count):
            call(place)
        elapsed_s = time.perf_counter() - start
        turn += count
        return Lap(elapsed_s=elapsed_s, submit_s=min(elapsed_s, count * empty_s))

    return Kernel(name=name, error=error, calls_per_lap=1, captured=False, laps=laps)


def _empty_call_s() -> float:
    """Seconds of a call that computes next to nothing: what Python and numpy take for each."""
    one, out, count = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), 100
    start = time.perf_counter()
    for _ in range(count):
        np.matmul(one, one, out=out)
    return (time.perf_counter() - start) / count
