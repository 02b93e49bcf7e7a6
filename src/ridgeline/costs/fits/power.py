"""Fits the kernel laws of `coefficients/power.yaml` to measured board power.

Run `python -m ridgeline.costs.fits.power SILICON_FOLDER`; the folder holds the kernel tables (columns in its README).
Only kernels of more than half a millisecond count: on shorter ones the sensor, which averages about a second, mixes
kernels. Utilisations come from measured times, so the errors are those of power alone. Numbers that these tables do
not identify come from published runs and stand here with their sources; serving has a law and a fit of its own
(`api.accuracy.fit_serving_power`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import dtype, scheme
from ridgeline.costs.fits.common import Document, intervals_of, is_fit_half, sets_interval, source, write
from ridgeline.costs.fits.mla import block_rows, latent_rows
from ridgeline.costs.fits.robust import Knob, Sample, errors, fit, rounded
from ridgeline.costs.measurements import SIZES, Measurements, columns_of, read
from ridgeline.costs.mla_module import price_mla_module
from ridgeline.costs.power import NARROW, demand_share, law_of
from ridgeline.costs.price import Price, Setting, work
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Attention, Experts, Matmul, Op

Array = NDArray[np.float64]

TABLES = ("gemm", "attention_prefill", "attention_decode", "moe")

LAWS = ("matmul", "attention", "block", "experts")

LEFT_OUT = "kind left out"
"""In the report: what the pooled law of all other kinds says of a kind, which is all that one measured chip can show of
how far coefficients in units of TDP carry."""

LONG_S = 5e-4
"""Shorter kernels are not trustworthy: equal shapes differ by a factor of 1.3 to 2 in the tail."""

LEAK = 0.3
"""Share by which demand beyond the cap counts in a fit."""

SHARED: Mapping[str, float] = {"cap": 0.985, "gap": 0.2}
"""The cap where sustained kernels settle (H200: 688-694 of 700 W), and what host gaps draw (ML.ENERGY v3)."""

KNOBS: Mapping[str, Knob] = {
    "static": Knob(start=0.35, low=0.2, high=0.5, spread=0.3),
    "byte_share": Knob(start=0.6, low=0.1, high=1.5, spread=0.4),
    "flop_share": Knob(start=1.0, low=0.2, high=3.0, spread=0.4),
    "narrow": Knob(start=1.3, low=1.0, high=1.6, spread=0.1),
}
"""92-110 pJ/B and 0.72-0.79 pJ/FLOP on H200; an 8-bit format draws 1.3 times the 16-bit one at its own peak."""

TRANSFER: Mapping[str, float] = {**SHARED, "static": 0.25, "byte_share": 0.75, "flop_share": 1.0, "narrow": 1.3}
"""Copies and collectives keep few units busy: hardly more than a gap, and the bytes (assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Power of one chip's kernels of one law: shares of TDP, of the bandwidth and of the peak, one value per row."""

    chip: str
    law: str
    narrow: bool
    share: Array
    u_bytes: Array
    u_flops: Array
    fits: NDArray[np.bool_]
    spreads: NDArray[np.bool_]

    def ratio(self, values: Mapping[str, float], rows: NDArray[np.bool_]) -> Array:
        """Priced over measured power of the rows."""
        priced: Array = np.minimum(self.demand({**SHARED, **values}, rows), SHARED["cap"]) / self.share[rows]
        return priced

    def demand(self, values: Mapping[str, float], rows: NDArray[np.bool_]) -> Array:
        """Priced share of TDP of the rows, before the cap."""
        return demand_share(self.u_bytes[rows], self.u_flops[rows], values, narrow=self.narrow)

    def sample(self) -> Sample:
        """The rows that a fit may see.

        These loops last for a second, so a board at its limit has slowed until its demand is the cap: demand beyond it
        counts as an error, though a smaller one than below, where nothing but the kernel sets the power.
        """

        def predict(values: Mapping[str, float]) -> Array:
            demand = self.demand(values, self.fits)
            over = np.maximum(demand - values["cap"], 0.0)
            return demand - (1.0 - LEAK) * over

        return Sample(measured_s=self.share[self.fits], predict=predict)


def cells(tables: Sequence[Measurements]) -> list[Cell]:
    """All rows with power that ran for long, by chip, law and format."""
    found: list[Cell] = []
    for table in tables:
        if "power_w" not in table.columns:
            continue
        known = (table.size("power_w") > 0) & (table.time_s > LONG_S)
        labels = ("chip", "dtype", "kv_dtype", "op", "gemm_dtype", "runtime", "version")
        for (gpu, number, kv, form, linears, *release), rows in table.groups(*labels):
            part = table.rows(rows & known)
            if len(part) and form in ("", "attention"):
                op = _op(part, number, kv)
                found.append(_cell(gpu, part, op, law_of(op), work(op)))
            elif len(part) and form == "mla_module":
                attention, price = _block(gpu, part, (number, kv, linears), *release)
                done = (price.flops, price.read_bytes, price.write_bytes)
                found.append(_cell(gpu, part, attention, law_of(attention, price.kernel), done))
    return found


def _cell(gpu: str, part: Measurements, op: Op, law: str, done: tuple[Value, Value, Value]) -> Cell:
    chip = catalogue.chip(gpu)
    flops, reads, writes = done
    moved = np.broadcast_to(np.asarray(reads) + writes, part.time_s.shape)
    return Cell(
        chip=chip.name,
        law=law,
        narrow=op.compute in NARROW,
        share=part.size("power_w") / chip.tdp_w,
        u_bytes=moved / part.time_s / chip.dram.bandwidth_bytes_per_s,
        u_flops=np.asarray(flops) / part.time_s / chip.peak_flops_per_s(op.compute),
        fits=is_fit_half(*columns_of(part, SIZES[part.kind])),
        spreads=sets_interval(*columns_of(part, SIZES[part.kind])),
    )


def _block(gpu: str, part: Measurements, formats: tuple[str, str, str], runtime: str, version: str) -> tuple[Op, Price]:
    """Whole latent blocks: their attention, and the work that their price counts."""
    number, kv, linears = formats
    phase = part.kind.removeprefix("attention_")
    names = ("batch", "isl" if phase == "prefill" else "kv_len", "heads")
    columns = dict(zip(names, columns_of(part, names), strict=True))
    block = block_rows(columns, phase, kv, number, linears)
    setting = Setting(runtime=runtime, version=version, weights_cache="hot")
    return latent_rows(columns, phase, kv), price_mla_module(block, ChipColumns((catalogue.chip(gpu),)), setting)


def _op(part: Measurements, number: str, kv: str) -> Op:
    """What the rows compute."""
    if part.kind == "gemm":
        m, n, k = columns_of(part, ("m", "n", "k"))
        return Matmul(name="gemm", part="fit", m=m, n=n, k=k, scheme=scheme(number))
    if part.kind == "moe":
        tokens, hidden, inter, topk, experts, tp, ep = columns_of(part, SIZES["moe"])
        return Experts(
            name="moe", part="fit", tokens=tokens, hidden=hidden, inter=inter, topk=topk, experts=experts, tp=tp, ep=ep,
            scheme=scheme(number),
        )  # fmt: skip
    decodes = part.kind == "attention_decode"
    batch, length, heads, kv_heads, width = columns_of(part, SIZES[part.kind])
    return Attention(
        name="attention", part="fit", phase="decode" if decodes else "prefill", batch=batch,
        q_len=1.0 if decodes else length, kv_len=length, heads=heads, kv_heads=kv_heads, head_dim=width,
        v_head_dim=width, window=part.size("window"), kv=dtype(kv), dtype=dtype(number),
    )  # fmt: skip


def fitted(chosen: Sequence[Cell]) -> dict[str, float]:
    """The numbers of one law."""
    samples = [cell.sample() for cell in chosen if np.any(cell.fits)]
    return {name: rounded(value) for name, value in fit(KNOBS, samples, SHARED, {}).items()}


def fit_all(tables: Sequence[Measurements], command: str) -> Document:
    """The coefficient file: laws, errors on shapes that no fit saw, and published numbers."""
    data = cells(tables)
    kernels: dict[str, Any] = {}
    report: dict[str, Any] = {}
    ratios: list[Array] = []
    spreads: list[Array] = []
    for law in LAWS:
        mine = [cell for cell in data if cell.law == law]
        values, foreign = fitted(mine), fitted([cell for cell in data if cell.law != law])
        chips = dict.fromkeys(sorted({cell.chip for cell in mine}), values)
        kernels[law] = {"shared": dict(SHARED), "default": values, "chips": chips}
        for chip in chips:
            held = [cell for cell in mine if cell.chip == chip]
            ratio = np.concatenate([cell.ratio(values, ~cell.fits) for cell in held])
            beyond = np.concatenate([cell.ratio(foreign, ~cell.fits) for cell in held])
            report[f"{chip} {law}"] = errors(ratio, np.ones_like(ratio))
            report[f"{chip} {law}, {LEFT_OUT}"] = errors(beyond, np.ones_like(beyond))
            ratios.append(ratio)
            spreads += [1.0 / cell.ratio(values, cell.spreads) for cell in held]
    report["all"] = errors(np.concatenate(ratios), np.ones(sum(ratio.size for ratio in ratios)))
    kernels["transfer"] = {"shared": dict(TRANSFER), "default": {}}
    spread = intervals_of(np.concatenate(spreads))
    return Document(
        kind="power",
        command=command,
        data=[source(table.path, sum(len(cell.share) for cell in cells([table]))) for table in tables],
        errors=report,
        kernels=kernels,
        intervals={
            "any": {"calibrated": spread, "datasheet": [0.75, 1.3]},
        },
    )


def main(arguments: Sequence[str]) -> None:
    """Write the coefficient file beside the cost models."""
    target = Path(__file__).parent.parent / "coefficients" / "power.yaml"
    tables = [read(Path(arguments[0]) / f"{name}.parquet", name) for name in TABLES]
    write(fit_all(tables, "python -m ridgeline.costs.fits.power SILICON_FOLDER"), target)


if __name__ == "__main__":
    main(sys.argv[1:])
