"""Fit the expert room to the measured table of routed experts.

`python -m ridgeline.costs.fits.experts FOLDER` reads `moe.parquet` in FOLDER and rewrites
`costs/coefficients/experts.yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.dtypes import scheme
from ridgeline.costs.expert_loads import loads_of
from ridgeline.costs.expert_places import GRID, expert_places
from ridgeline.costs.experts import grouped_time, grouped_total
from ridgeline.costs.fits.common import source
from ridgeline.costs.fits.families import Family, Load, fit_all, show
from ridgeline.costs.fits.robust import Array, Knob, Sample
from ridgeline.costs.fits.tables import count_rows, distinct, gpus_of, read_rows
from ridgeline.costs.power_runs import power_runs
from ridgeline.costs.price import Setting
from ridgeline.costs.room import Facts, facts_of, floor_of
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Experts

TARGET = Path(__file__).parents[1]
COMMAND = "python -m ridgeline.costs.fits.experts"
KEY = ("tokens", "hidden", "inter", "topk", "experts", "tp", "ep")
HOT = Setting(weights_cache="hot")

KNOBS = {
    "launch_cycles": Knob(start=32900.0, low=5490.0, high=274000.0),
    "share": Knob(start=0.7, low=0.05, high=1.0, spread=0.5),
    "feed_bytes_per_clock": Knob(start=64.0, low=5.0, high=2000.0),
    "memory_share": Knob(start=0.85, low=0.2, high=0.92, spread=0.05),
    "cache_share": Knob(start=0.5, low=0.02, high=1.0, spread=0.7),
    "cache_bytes_per_clock": Knob(start=32.0, low=4.0, high=200.0, spread=0.7),
    "local_passes": Knob(start=1.3, low=0.05, high=20.0),
    "global_passes": Knob(start=0.4, low=0.02, high=12.0),
    "expert_cycles": Knob(start=274.0, low=9.15, high=7320.0),
}

HABITS: Mapping[str, float] = {"pass_bytes_per_clock": 16.0}
"""A pass over rows is bound by memory and by the units together: 16 bytes per clock and unit add as much time as memory
does on H100. One chip cannot tell the two apart; of 6.4, 16 and no such term, 16 priced chips left out best."""

(RUN,) = power_runs()

ROWS: Mapping[str, str] = {
    "cutlass-16": "backend='trtllm' and dtype='bfloat16' and kernel<>'moe_torch_flow_nongated'",
    "cutlass-fp8": "backend='trtllm' and dtype='fp8' and kernel<>'moe_torch_flow_nongated'",
    "cutlass-fp8-block": "backend='trtllm' and dtype='fp8_block'",
    "cutlass-w4": "backend='trtllm' and dtype='w4a16_mxfp4'",
    "cutlass-plain-16": "kernel='moe_torch_flow_nongated' and dtype='bfloat16'",
    "cutlass-plain-fp8": "kernel='moe_torch_flow_nongated' and dtype='fp8'",
    "triton-16": f"backend='vllm' and version<>'{RUN.version}' and dtype='bfloat16'",
    "triton-fp8": "kernel='vllm_modeloptfp8moe_triton_tritonexperts'",
    "triton-fp8-block": "kernel='vllm_fp8moe_triton_tritonexperts'",
    "triton-w4": "kernel='vllm_gptossmxfp4moe_triton_oaitritonmxfp4expertsmonolithic'",
    "flashinfer-fp8": "kernel='vllm_modeloptfp8moe_flashinfer_cutlass_flashinferexperts'",
    "flashinfer-fp8-block": "kernel='vllm_fp8moe_flashinfer_cutlass_flashinferexperts'",
    "marlin-int4": "kernel='vllm_compressedtensorswna16marlinmoe_marlin_marlinexperts'",
    "marlin-mxfp4": "kernel='vllm_gptossmxfp4moe_marlin_marlinexperts'",
    "marlin-mxfp4-wide": "kernel like 'vllm_compressedtensorsw4a4mxfp4moe_marlin%'",
    f"triton-16{RUN.suffix}": f"version='{RUN.version}' and backend='vllm' and dtype='bfloat16'",
    f"triton-fp8{RUN.suffix}": f"version='{RUN.version}' and backend='vllm' and dtype='fp8'",
    f"triton-fp8-block{RUN.suffix}": f"version='{RUN.version}' and backend='vllm' and dtype='fp8_block'",
    "generic": "dtype='bfloat16' and kernel<>'moe_torch_flow_nongated'",
}
"""Which rows show which family."""

PLAIN_INNER = (1856.0, 2688.0, 5120.0)
"""Inner widths of the measured models without gates (Nemotron 3); only TensorRT-LLM's rows say so."""


def expert_rows(columns: Mapping[str, Any], number: str, distribution: str) -> tuple[Experts, ...]:
    """The op of rows of a measured table that share a gate: (op,) - `gated` is one flag per op."""
    plain = np.isin(columns["inter"], PLAIN_INNER) & np.isin(columns["topk"], (6.0, 22.0))
    if plain.any() and not plain.all():
        raise ValueError("gated and plain rows must be loaded apart")
    dims = {name: columns[name] for name in KEY}
    return (
        Experts(
            name="experts",
            part="experts",
            scheme=scheme(number),
            distribution=distribution,
            gated=not bool(plain.any()),
            **dims,
        ),
    )


def _samples(file: Path, where: str) -> Load:
    plain = f"(inter in {tuple(int(n) for n in PLAIN_INNER)} and topk in (6, 22))"

    def load(gpu: str, half: str, rows: int) -> tuple[Sample, ...]:
        found = []
        mine = f"{where} and gpu='{gpu}'"
        for number, distribution in distinct(file, ("dtype", "distribution"), mine):
            for side in (plain, f"not {plain}"):
                narrow = f"{mine} and dtype='{number}' and distribution='{distribution}' and {side}"
                columns = read_rows(file, KEY, narrow, half, rows // 2)
                if columns["latency_ms"].size >= MIN_ROWS:
                    (op,) = expert_rows(columns, number, distribution)
                    facts = facts_of(ChipColumns((chip(gpu),)), op.compute)
                    found.append(
                        Sample(
                            measured_s=columns["latency_ms"] / 1e3,
                            predict=predictor(op, facts),
                            floor_s=floor_of(op, facts, HOT),
                            places=tuple(expert_places(op)),
                        )
                    )
        return tuple(found)

    return load


MIN_ROWS = 8


def predictor(op: Experts, facts: Facts) -> Callable[[Mapping[str, float]], Array]:
    """Seconds of the op by a family's numbers, in a benchmark loop."""
    floor, loads = floor_of(op, facts, HOT), loads_of(op)

    def predict(c: Mapping[str, float]) -> Array:
        seconds: Array = np.maximum(grouped_total(grouped_time(op, loads, facts, c, resident=True)), floor)
        return seconds

    return predict


def expert_families(file: Path, only: str = "true") -> list[Family]:
    """All families, from the rows for which `only` holds."""
    return [
        Family(
            kernel=kernel,
            gpus=gpus_of(file, f"{where} and {only}"),
            load=_samples(file, f"{where} and {only}"),
            knobs=KNOBS,
            habits=HABITS,
            grid=None if kernel == "generic" else GRID,
            neighbours=12,
            borrowers={"blackwell": "hopper", "blackwell-ultra": "hopper"},
        )
        for kernel, where in ROWS.items()
    ]


def fit_experts(folder: Path) -> Mapping[str, Any]:
    """Fit and write; returns errors by kernel and chip."""
    file = folder / "moe.parquet"
    return fit_all("experts", COMMAND, expert_families(file), [source(file, count_rows(file))], TARGET, {})


def main() -> None:
    """Fit and print errors."""
    sys.stdout.write(show("experts", fit_experts(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
