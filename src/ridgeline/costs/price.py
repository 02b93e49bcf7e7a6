"""What a price is: seconds, joules, bytes, and which candidate bound was the largest.

A room (gemm, attention, ...) is a pure function `(op, chips, setting) -> Price`. All chips of one call share a
generation, so that the kernel a runtime would pick is one; their rates may differ from row to row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKernels:
    """How the kernels that an engine brings differ from those of the libraries that are priced.

    Attributes:
        unit_weight_rate: bytes of weights per cycle and compute unit that its matrix-vector kernels stream at most (0:
            no bound of their own).
        score_bytes: bytes that it moves for each attention score, because scores lie in memory between its kernels (0:
            scores never leave the compute units).
        passes, kernels: bytes and launches of elementwise work and norms over those of fused kernels in 16 bits.
        widens_above: rows of a matmul above which weights of fewer bits are first written out in 16 bits (0: they are
            widened on the way into the compute units).
        half_accumulation: whether 16-bit products are summed in 16 bits, which graphics boards do at twice the rate.
    """

    unit_weight_rate: float = 0.0
    score_bytes: float = 0.0
    passes: float = 1.0
    kernels: float = 1.0
    widens_above: float = 0.0
    half_accumulation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Under which software and conditions an op runs.

    Attributes:
        runtime: whose kernels: vllm, sglang, trtllm, torch, nccl or ideal (hardware bounds only).
        version: the runtime's version, "" for the newest known.
        weights_cache: cold (weights stream from memory, as in a real step) or hot (a benchmark loop over few buffers).
        sustained: whether the load lasts long enough (seconds) for the power limit to lower clocks.
        captured: whether launches are captured in a device graph, so that host launch time is hidden.
        fused: whether activations leave the op before in the format in which a matmul takes them, as in a compiled
            engine; a bare matmul converts them by a kernel of its own.
        own: in what the engine's kernels differ from those of `runtime`, None for in nothing.
    """

    runtime: str = "vllm"
    version: str = ""
    weights_cache: str = "cold"
    sustained: bool = False
    captured: bool = True
    fused: bool = False
    own: OwnKernels | None = None

    def __post_init__(self) -> None:
        """Refuse a cache state that no room knows."""
        if self.weights_cache not in ("cold", "hot"):
            raise DomainError(
                "weights_cache is cold or hot", at="weights_cache", got=self.weights_cache, fix="cold is a real step"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one execution of an op costs; every field is a number or one number per configuration.

    Attributes:
        time_s: expected duration.
        floor_s: the hardware bound: no implementation is faster (peak rate, memory and link bandwidth).
        flops, read_bytes, write_bytes: work done, each operand touched once.
        terms: candidate bounds in seconds (compute, memory, l2, launch, link, host, quantise, ...); the largest names
            the bound.
        detail: what --explain shows (tile, waves, splits, kernel regime as numbers).
        calibrated: whether coefficients were fitted on this very chip.
        kernel: name of the kernel family whose coefficients priced it.
    """

    time_s: Value
    floor_s: Value
    flops: Value
    read_bytes: Value
    write_bytes: Value
    terms: Mapping[str, Value]
    detail: Mapping[str, Value] = field(default_factory=dict)
    calibrated: bool | NDArray[np.bool_] = False
    kernel: str = ""

    def bound(self) -> NDArray[np.str_]:
        """The name of the largest term, per configuration."""
        names = np.array(list(self.terms))
        stacked = np.stack(np.broadcast_arrays(*[np.asarray(term, float) for term in self.terms.values()]))
        bound: NDArray[np.str_] = names[np.argmax(stacked, axis=0)]
        return bound


def work(op: Op) -> tuple[Value, Value, Value]:
    """(flops, read_bytes, write_bytes) of an op, each operand touched once."""
    operands = op.operands()
    reads = sum((np.asarray(o.read_bytes, float) for o in operands), start=np.float64(0.0))
    writes = sum((np.asarray(o.write_bytes, float) for o in operands), start=np.float64(0.0))
    return op.flops(), reads, writes


def hardware_floor_s(op: Op, chips: ChipColumns) -> Value:
    """The bound of peak rate and memory bandwidth: no implementation on this chip is faster (roofline, CACM 2009)."""
    flops, reads, writes = work(op)
    peak = chips.gather(lambda chip: chip.peak_flops_per_s(op.compute))
    bandwidth = chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    floor: Value = np.maximum(flops / peak, (reads + writes) / bandwidth)
    return floor


def zero_where_empty(price: Price, size: Value) -> Price:
    """The price with no time where the op has nothing to do (a row without prefill tokens, say)."""
    empty = np.asarray(size) <= 0
    if not np.any(empty):
        return price
    terms = {name: np.where(empty, 0.0, term) for name, term in price.terms.items()}
    time, floor = np.where(empty, 0.0, price.time_s), np.where(empty, 0.0, price.floor_s)
    return replace(price, time_s=time, floor_s=floor, terms=terms)


def pnorm(power: float, *terms: Value) -> Value:
    """Smooth maximum (sum of t**p)**(1/p): p large is the roofline's max, p = 1 a sum without overlap."""
    largest = terms[0]
    for term in terms[1:]:
        largest = np.maximum(largest, term)
    safe = np.where(np.asarray(largest) > 0, largest, 1.0)
    total = sum(((np.asarray(term) / safe) ** power for term in terms), start=np.float64(0.0))
    smooth: Value = np.where(np.asarray(largest) > 0, safe * total ** (1.0 / power), 0.0)
    return smooth
