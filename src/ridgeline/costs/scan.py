"""Recurrences over tokens: Mamba, gated delta rule, linear attention.

Decode reads and writes the state of every sequence once: bytes bound it. Prefill in chunks turns the recurrence into
products on the matrix engine, with a state per chunk written and read in between, and one dependent step from chunk to
chunk. The scan of Mamba-1 is elementwise on the vector engine. Sources: arXiv 2312.00752, 2405.21060, 2412.06464.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, did_you_mean
from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.price import Price, Setting, hardware_floor_s, pnorm, work, zero_where_empty
from ridgeline.costs.vector import start_s, vector_peak
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Scan

Array = NDArray[np.float64]

KERNELS = {"mamba1": "elementwise", "mamba2": "chunked", "delta": "chunked", "linear": "linear"}
"""Kind of recurrence -> family of prefill kernels."""

SHARP = 4.0
"""Exponent of the smooth maximum of arithmetic and bytes."""


def price_scan(op: Scan, chips: ChipColumns, setting: Setting) -> Price:
    """Price a scan; all dimensions broadcast.

    Raises: DomainError: a kind of recurrence that no kernel is known for.
    """
    if op.kind not in KERNELS:
        raise DomainError("unknown scan", at=op.name, got=op.kind, fix=did_you_mean(op.kind, KERNELS))
    decodes = op.phase == "decode"
    kernel = "elementwise" if decodes else KERNELS[op.kind]
    c = Coefficients("scan", kernel, chips)
    flops, reads, writes = work(op)
    moved = np.asarray(reads) + writes + (0.0 if kernel == "elementwise" else _chunk_state_bytes(op))
    blocks = np.asarray(op.batch) * op.heads * (1.0 if decodes else _chunks(op))
    terms: dict[str, Value] = {
        "compute": np.asarray(flops) / (_rate(op, chips, decodes, c) * _fill(blocks, chips, c)),
        "memory": moved / (_dram(chips) * np.asarray(c["memory_efficiency"])),
        "launch": start_s(chips, c, c["kernels"]),
        "chain": 0.0 * blocks if decodes else _chunks(op) * np.asarray(c["chunk_step_s"]),
    }
    floor = _floor_s(op, chips, decodes)
    time = np.asarray(terms["launch"]) + terms["chain"] + pnorm(SHARP, terms["compute"], terms["memory"])
    ideal = setting.runtime == "ideal"
    price = Price(
        time_s=floor if ideal else np.maximum(time, floor),
        floor_s=floor,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms=terms,
        calibrated=c.calibrated,
        kernel="ideal" if ideal else kernel,
    )
    return zero_where_empty(price, np.asarray(op.batch) * op.q_len * op.heads)


def _chunks(op: Scan) -> Array:
    chunks: Array = np.ceil(np.asarray(op.q_len, dtype=np.float64) / op.chunk)
    return chunks


def _chunk_state_bytes(op: Scan) -> Array:
    """States at inner chunk boundaries: one kernel writes them, the next reads them."""
    inner = np.maximum(_chunks(op) - 1.0, 0.0)
    moved: Array = 2.0 * np.asarray(op.batch) * inner * op.state_elements() * op.state_dtype.element_bytes
    return moved


def _rate(op: Scan, chips: ChipColumns, decodes: bool, c: Coefficients) -> Value:
    """Decode and Mamba-1 multiply element by element; chunks multiply matrices."""
    if decodes or op.kind == "mamba1":
        return vector_peak(chips) * np.asarray(c["vector_efficiency"])
    return chips.gather(lambda chip: chip.peak_flops_per_s(op.compute)) * np.asarray(c["matrix_efficiency"])


def _floor_s(op: Scan, chips: ChipColumns, decodes: bool) -> Value:
    bound = hardware_floor_s(op, chips)
    if not (decodes or op.kind == "mamba1"):
        return bound
    return np.maximum(bound, np.asarray(op.flops()) / vector_peak(chips))


def _fill(blocks: Value, chips: ChipColumns, c: Coefficients) -> Array:
    """Share of the compute units that have blocks to run."""
    units = chips.gather(lambda chip: chip.compute_units) * np.asarray(c["blocks_per_unit"])
    fill: Array = np.minimum(np.maximum(blocks, 1.0) / units, 1.0)
    return fill


def _dram(chips: ChipColumns) -> Value:
    return chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
