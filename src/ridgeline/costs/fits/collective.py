"""Fits `coefficients/collective.yaml` to measured collectives.

Run as `python -m ridgeline.costs.fits.collective SILICON_FOLDER`; the folder holds `collectives.parquet` (columns in
its README). Deterministic: least squares with a soft-L1 loss on log ratios from fixed starts, on half of the sizes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import yaml
from numpy.typing import NDArray

from ridgeline.core.dtypes import dtype
from ridgeline.core.files import sha256_of
from ridgeline.costs.collective import collective_s
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware import catalogue
from ridgeline.hardware.machine import machine
from ridgeline.workloads.ops import Collective

Array = NDArray[np.float64]

KERNELS: Mapping[str, str] = {
    "NCCL": "nccl",
    "TRTLLM": "trtllm",
    "vLLM_custom_graph": "vllm_graph",
    "vLLM_custom_eager": "vllm_eager",
}
"""Kernel column of the measurements -> kernel family."""

SHARED: Mapping[str, Mapping[str, float]] = {
    "nccl": {"tree_hop": 2.5, "switch_hop": 0.5, "softness": 8.0, "exposed": 0.2, "bus_exponent": 1.85},
    "trtllm": {"limit_bytes": 8e6, "limit_exponent": 2.0, "own_copy": 0.5, "copies": 0.0, "host_s": 0.0},
    "vllm_graph": {"limit_bytes": 6.5e7, "limit_exponent": 0.0, "own_copy": 0.5, "copies": 0.0, "host_s": 0.0},
    "vllm_eager": {"limit_bytes": 6.5e7, "limit_exponent": 0.0, "own_copy": 0.5},
}
"""Numbers that the tables do not identify. Trees win beyond about eight ranks (NCCL tuner); TensorRT-LLM turns to NCCL at
8 MB between two ranks and 2 MB between four; vLLM's symmetric-memory buffers hold 64 MB; where levels work as a pipeline
of chunks, a fifth of the other levels' time stays visible (assumed; two DGX H100 reach 350-400 GB/s of bus bandwidth)."""

FITTED: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "nccl": {
        "ll_start_s": (1e-6, 4.5e-6, 3e-5),
        "ll_hop": (0.1, 0.8, 5.0),
        "ll_efficiency": (0.05, 0.3, 1.0),
        "simple_start_s": (2e-6, 2e-5, 2e-4),
        "simple_hop": (0.01, 2.0, 20.0),
        "simple_efficiency": (0.2, 0.8, 1.0),
        "own_copy": (0.05, 0.5, 3.0),
        "alltoall_start_s": (1e-8, 1e-6, 1e-5),
    },
    "trtllm": {
        "custom_start_s": (5e-7, 3e-6, 3e-5),
        "custom_hop": (0.01, 0.3, 5.0),
        "custom_efficiency": (0.2, 0.7, 1.0),
    },
    "vllm_graph": {
        "custom_start_s": (5e-7, 3e-6, 3e-5),
        "custom_hop": (0.01, 0.3, 5.0),
        "custom_efficiency": (0.2, 0.7, 1.0),
    },
    "vllm_eager": {
        "custom_start_s": (5e-7, 3e-6, 3e-5),
        "custom_hop": (0.01, 0.3, 5.0),
        "custom_efficiency": (0.2, 0.7, 1.0),
        "copies": (0.1, 2.0, 10.0),
        "host_s": (5e-6, 2e-5, 2e-4),
    },
}
"""Fitted numbers by family: (lowest, start, highest)."""

SWITCH: Mapping[str, tuple[float, float, float]] = {
    "switch_start_s": (5e-6, 4e-5, 2e-4),
    "switch_efficiency": (0.2, 0.65, 1.0),
}
"""Fitted where switches add; elsewhere those chips keep the default."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Measurements of one chip and kernel family that share a collective and dtype."""

    op: Collective
    machines: MachineColumns
    time_s: Array
    held_out: NDArray[np.bool_]


def read(path: Path) -> dict[tuple[str, str], list[Rows]]:
    """Rows by (chip, kernel family); rows without message size (expert dispatch) and unknown kernels are left out."""
    table = duckdb.connect().execute(
        "select gpu, kernel, op, dtype, version, num_gpus, message_bytes, latency_ms from read_parquet(?)"
        " where message_bytes > 0 and num_gpus > 1 order by all",
        [str(path)],
    )
    groups: dict[tuple[str, ...], list[tuple[float, float, float]]] = {}
    for gpu, kernel, kind, number, version, ranks, size, latency_ms in table.fetchall():
        if kernel in KERNELS:
            key = (catalogue.chip(gpu).name, KERNELS[kernel], kind, number, version)
            groups.setdefault(key, []).append((float(ranks), float(size), latency_ms * 1e-3))
    found: dict[tuple[str, str], list[Rows]] = {}
    for (chip, kernel, kind, number, _), values in groups.items():
        ranks, sizes, times = (np.array(column) for column in zip(*values, strict=True))
        op = Collective(name=kind, part="fit", kind=kind, message_bytes=sizes, ranks=ranks, dtype=dtype(number))
        on = MachineColumns((machine(f"8x {chip}"),))
        out = np.array([held_out(kind, r, s) for r, s in zip(ranks, sizes, strict=True)])
        found.setdefault((chip, kernel), []).append(Rows(op, on, times, out))
    return found


def held_out(kind: str, ranks: float, size: float) -> bool:
    """Half of the shapes, by a hash of their key, are kept from the fit on every chip."""
    digest = hashlib.sha256(f"ridgeline|{kind}|{int(ranks)}|{int(size)}".encode()).hexdigest()
    return int(digest[:8], 16) % 2 == 0


def log_errors(
    rows: Sequence[Rows], kernel: str, library: Mapping[str, float], own: Mapping[str, float] | None
) -> Array:
    """log(predicted / measured) of all rows."""
    parts = [np.log(collective_s(row.op, row.machines, kernel, library, own)[0] / row.time_s) for row in rows]
    return np.concatenate(parts)


def minimise(
    bounds: Mapping[str, tuple[float, float, float]], errors: Callable[[dict[str, float]], Array]
) -> dict[str, float]:
    """Soft-L1 least squares over the logarithms of bounded positive numbers."""
    from scipy.optimize import least_squares

    names = list(bounds)
    low, start, high = (np.log(np.array([bounds[name][i] for name in names])) for i in range(3))
    solved = least_squares(
        lambda x: errors(dict(zip(names, np.exp(x), strict=True))),
        start,
        bounds=(low, high),
        loss="soft_l1",
        f_scale=0.1,
        diff_step=1e-3,
    )
    return {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(solved.x), strict=True)}


def training(rows: Sequence[Rows], *, held: bool) -> list[Rows]:
    """The rows in one half of the shapes."""
    kept = []
    for row in rows:
        keep = row.held_out if held else ~row.held_out
        if np.any(keep):
            op = Collective(
                name=row.op.name,
                part="fit",
                kind=row.op.kind,
                dtype=row.op.dtype,
                message_bytes=np.asarray(row.op.message_bytes)[keep],
                ranks=np.asarray(row.op.ranks)[keep],
            )
            kept.append(Rows(op, row.machines, row.time_s[keep], row.held_out[keep]))
    return kept


def fit_family(
    kernel: str, rows: Sequence[Rows], library: Mapping[str, float] | None, *, fixed: Mapping[str, float]
) -> dict[str, float]:
    """The fitted numbers of one kernel family on the given rows; `library` is needed for framework kernels."""
    reduces = any(level.reduces_in_switch for row in rows for level in row.machines.machines[0].levels)
    bounds = dict(FITTED[kernel]) | (dict(SWITCH) if kernel == "nccl" and reduces else {})
    own = dict(SHARED[kernel]) | dict(fixed)

    def errors(values: dict[str, float]) -> Array:
        values = own | values
        if kernel == "nccl":
            return log_errors(rows, kernel, values, None)
        assert library is not None, "a framework falls back on the library"
        return log_errors(rows, kernel, library, values)

    return minimise(bounds, errors)


def fit(path: Path) -> dict[str, Any]:
    """The content of the coefficient file, errors on held-out shapes included."""
    data = read(path)
    switch_default = {name: start for name, (_, start, _) in SWITCH.items()}
    pools = {"ampere": ["a100-80gb-sxm"], "hopper": ["h100-sxm", "h200-sxm"], "ada": ["l40s"]}
    kernels: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    chips = sorted({chip for chip, _ in data})
    library: dict[str, dict[str, float]] = {}
    for kernel in FITTED:
        family: dict[str, Any] = {"shared": dict(SHARED[kernel]), "default": {}, "generations": {}, "chips": {}}
        for name, members in {**pools, **{chip: [chip] for chip in chips}}.items():
            rows = [row for chip in members for row in training(data.get((chip, kernel), []), held=False)]
            if not rows:
                continue
            values = fit_family(kernel, rows, library.get(name), fixed=switch_default if kernel == "nccl" else {})
            if kernel == "nccl":
                library[name] = {**SHARED["nccl"], **switch_default, **values}
            family["generations" if name in pools else "chips"][name] = values
        # Newer generations than any measured one start from the newest measured.
        family["default"] = {**(switch_default if kernel == "nccl" else {}), **family["generations"]["hopper"]}
        kernels[kernel] = family
    for (chip, kernel), rows in sorted(data.items()):
        held = training(rows, held=True)
        own = None if kernel == "nccl" else {**SHARED[kernel], **kernels[kernel]["chips"][chip]}
        ratio = np.abs(np.expm1(log_errors(held, kernel, library[chip], own)))
        errors[f"{chip} {kernel}"] = {
            "held_out_rows": len(ratio),
            "median": float(f"{np.median(ratio):.3f}"),
            "p90": float(f"{np.quantile(ratio, 0.9):.3f}"),
        }
    count = sum(len(row.time_s) for rows in data.values() for row in rows)
    return {
        "kind": "collective",
        "provenance": {
            "command": "python -m ridgeline.costs.fits.collective SILICON_FOLDER",
            "data": [{"file": path.name, "sha256": sha256_of(path), "rows": count}],
            "errors": errors,
        },
        "kernels": kernels,
    }


def main(arguments: Sequence[str]) -> None:
    """Write the coefficient file beside the cost models."""
    target = Path(__file__).parent.parent / "coefficients" / "collective.yaml"
    content = fit(Path(arguments[0]) / "collectives.parquet")
    target.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
