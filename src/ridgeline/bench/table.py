"""Rows of a run as the tables that calibration reads, and as a few lines for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.bench.backends import Backend
from ridgeline.bench.grid import Case
from ridgeline.bench.timing import Timing
from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.errors import FileFormatError
from ridgeline.core.tables import check_out, from_mapping, write_table
from ridgeline.hardware import Chip

SPELLED: Mapping[str, str] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}
"""Number formats as measured tables spell them."""
PAST_CACHE = 2.0
"""Bytes moved, as a multiple of the last-level cache, from which a hot loop shows the memory's bandwidth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measured case: the kernel that ran, whether from a graph, its times, and whether weights were hot or cold."""

    case: Case
    kernel: str
    captured: bool
    timing: Timing
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A group of rows in the summary. Rates are the best reached; a peak or rate that does not apply is None."""

    table: str
    op: str
    dtype: str
    rows: int
    rate_flops_per_s: float | None
    peak_flops_per_s: float | None
    bandwidth_bytes_per_s: float | None
    peak_bytes_per_s: float | None
    spread_frac: float


def paths_for(out: str, tables: Iterable[str]) -> dict[str, Path]:
    """The file of each table: `out` itself for one, else its name with the table's put before the ending.

    Raises FileFormatError: a name that is not .parquet or .csv, or that cannot be written.
    """
    names = list(tables)
    path = Path(out)
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise FileFormatError("measurements are written as .parquet or .csv", at="--out", got=out, fix="NAME.parquet")
    found = {name: path if len(names) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}") for name in names}
    for each in found.values():
        check_out(each)
    return found


def columns_of(rows: Sequence[Row], backend: Backend, chip: Chip) -> dict[str, list[Any]]:
    """The columns of one table: what was measured, then how. Times in ms, power in W, clocks in MHz."""
    timings = [row.timing for row in rows]
    names = [SPELLED.get(row.case.dtype, row.case.dtype) for row in rows]
    columns: dict[str, list[Any]] = {
        "gpu": [chip.name] * len(rows),
        "backend": [backend.name] * len(rows),
        "version": [backend.version] * len(rows),
        "kernel": [row.kernel for row in rows],
        "dtype": names,
    }
    table = rows[0].case.table
    if table != "gemm":
        columns["op"] = [row.case.op for row in rows]
    if table.startswith("attention"):
        columns["kv_dtype"] = names
    for size in rows[0].case.sizes:
        columns[size] = [row.case.sizes[size] for row in rows]
    return columns | {
        "latency_ms": [timing.latency_s * 1e3 for timing in timings],
        "power_w": [timing.power_w for timing in timings],
        "power_limit_w": [timing.power_limit_w for timing in timings],
        "sustained_ms": [timing.sustained_s * 1e3 for timing in timings],
        "clock_mhz": [timing.clock_hz * 1e-6 for timing in timings],
        "spread_frac": [timing.spread_frac for timing in timings],
        "repeats": [timing.repeats for timing in timings],
        "weights_cache": [row.weights for row in rows],
        "captured": [row.captured for row in rows],
        "host_bound": [timing.host_bound for timing in timings],
        "device": [backend.device.name] * len(rows),
    }


def write(rows: Sequence[Row], backend: Backend, chip: Chip, paths: Mapping[str, Path]) -> tuple[Path, ...]:
    """Write each table that has rows to its file, each whole or not at all; returns the files written."""
    written = []
    for table, path in paths.items():
        mine = [row for row in rows if row.case.table == table]
        if mine:
            write_table(from_mapping(columns_of(mine, backend, chip), columns={}), {}, path)
            written.append(path)
    return tuple(written)


def summary(rows: Sequence[Row], chip: Chip) -> tuple[Line, ...]:
    """Best rate and bandwidth of each group of rows, next to the datasheet's."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.case.group, []).append(row)
    return tuple(_line(mine, chip) for mine in groups.values())


def _line(rows: Sequence[Row], chip: Chip) -> Line:
    case = rows[0].case
    counts = case.table in ("gemm", "attention_prefill", "attention_decode")
    bandwidth, peak = _bandwidth(rows, chip)
    return Line(
        table=case.table,
        op=case.op,
        dtype=case.dtype,
        rows=len(rows),
        rate_flops_per_s=max(row.case.flops / row.timing.latency_s for row in rows) if counts else None,
        peak_flops_per_s=chip.peak_flops_per_s(SCHEMES[case.dtype].compute) if counts else None,
        bandwidth_bytes_per_s=bandwidth,
        peak_bytes_per_s=peak if bandwidth is not None else None,
        spread_frac=float(np.median([row.timing.spread_frac for row in rows])),
    )


def _bandwidth(rows: Sequence[Row], chip: Chip) -> tuple[float | None, float | None]:
    """Best bytes per second, of rows too large for the cache where they could sit in it, and the datasheet's."""
    case = rows[0].case
    host, cache = chip.port("host"), chip.tier("l2")
    across = case.table == "collectives" or case.op in ("host_to_device", "device_to_host")
    resident = (
        PAST_CACHE * cache.capacity_bytes if cache is not None and rows[0].weights == "hot" and not across else 0.0
    )
    rates = [row.case.moved_bytes / row.timing.latency_s for row in rows if row.case.moved_bytes > resident]
    if case.table == "collectives":
        return max(rates, default=None), None
    if across:
        return max(rates, default=None), host.bandwidth_bytes_per_s if host else None
    return max(rates, default=None), chip.dram.bandwidth_bytes_per_s
