"""Fits that never saw a whole family of shapes, scored on that family: what a model of new widths may expect.

Every other score is of shapes that lie between shapes of the fit. Here the rows of a family (`shape_families.yaml`) are
taken out of every step of a kind's fit, pooled values and residual tables included; then its held-out half is priced
with what is left, beside the price of the whole fit on the same rows. Latent attention is not part of it: its rows
are of one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.files import load_yaml
from ridgeline.costs import residual
from ridgeline.costs.coefficients import coefficient_file, merged
from ridgeline.costs.fits import attention, collective, experts, gemm
from ridgeline.costs.fits.families import HELD_ROWS, Family, fit_chip, fit_levels, ratio_of
from ridgeline.costs.fits.gemm_cells import Cell, Numbers, cells, numbers_for
from ridgeline.costs.fits.robust import Array
from ridgeline.costs.interval import interval
from ridgeline.costs.measurements import Measurements
from ridgeline.hardware import catalogue

LISTED = Path(__file__).with_name("shape_families.yaml")
FEWEST = 20
"""Rows per coefficient that must stay in a family's fit on a chip, as for a calibration of one's own, and then some."""

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolated:
    """Rows of one family of shapes on one chip and kernel family, in seconds.

    Attributes:
        priced_s: by the fit that never saw the family.
        known_s: by the fit that saw every other shape of it.
        low, high: the 80 % interval that a price of this kernel carries, as multipliers.
    """

    kind: str
    shapes: str
    chip: str
    kernel: str
    measured_s: Array
    priced_s: Array
    known_s: Array
    low: float
    high: float


def extrapolated(table: Measurements) -> list[Extrapolated]:
    """Every family of shapes of a table's kind, left out in its turn; nothing for kinds without families.

    Raises: MissingExtraError: scipy is not installed.
    """
    if table.kind not in FITS:
        return []
    listed: dict[str, Ranges] = load_yaml(LISTED).data.get(table.kind) or {}
    return [each for name, ranges in listed.items() for each in FITS[table.kind](table, name, ranges)]


def _inside(table: Measurements, ranges: Ranges) -> NDArray[np.bool_]:
    """Rows of the family."""
    found = np.ones(len(table), dtype=bool)
    for name, (low, high) in ranges.items():
        found &= (table.size(name) >= low) & (table.size(name) <= high)
    return found


def _condition(ranges: Ranges) -> str:
    """The same as a condition on the table's file."""
    return "(" + " and ".join(f'"{name}" between {low} and {high}' for name, (low, high) in ranges.items()) + ")"


def _made(kind: str, shapes: str, chip: str, kernel: str, measured: Array, priced: Array, known: Array) -> Extrapolated:
    low, high = interval(FILES.get(kind, kind), kernel, calibrated=True)
    return Extrapolated(
        kind=kind, shapes=shapes, chip=chip, kernel=kernel, measured_s=measured, priced_s=priced, known_s=known,
        low=float(low), high=float(high),
    )  # fmt: skip


def _gemm(table: Measurements, shapes: str, ranges: Ranges) -> Iterator[Extrapolated]:
    family = _inside(table, ranges)
    seen = cells(table.rows(~family))
    kernels = {**gemm.fit_measured(seen)[0], **gemm.loops()}
    tables = gemm.residuals_of([(cell, numbers_for(kernels, cell)) for cell in seen])
    bundled, known_tables = coefficient_file("gemm")["kernels"], residual.tables("gemm")
    for cell in cells(table.rows(family)):
        held = cell.part(~cell.fit_half)
        known = cell.chip.name in (kernels.get(cell.kernel.name, {}).get("chips") or {})
        if cell.sustained or not known or not len(held.rows):
            continue
        priced, whole = (
            np.asarray(held.price(numbers_for(numbers, held), by.get(held.residual_key)).time_s, np.float64)
            for numbers, by in ((kernels, tables), (bundled, known_tables))
        )
        busy = _device_bound(held, numbers_for(bundled, held))
        measured = held.rows.time_s
        yield _made("gemm", shapes, cell.chip.name, cell.kernel.name, measured[busy], priced[busy], whole[busy])


def _device_bound(held: Cell, numbers: Numbers) -> NDArray[np.bool_]:
    """Rows whose time the device set, not the host that launched them."""
    waited, device = (np.asarray(held.price(numbers, captured=way).time_s) for way in (False, True))
    return waited <= device


def _rooms(kind: str, families: Callable[[str], list[Family]], shapes: str, ranges: Ranges) -> Iterator[Extrapolated]:
    """Attention and experts: kernel families on the machinery of `families`."""
    condition = _condition(ranges)
    inside = {family.kernel: family for family in families(condition)}
    for outside in families(f"not {condition}"):
        mine = inside[outside.kernel]
        chips = [gpu for gpu in outside.gpus if gpu in mine.gpus and _rows(outside, gpu) >= FEWEST * len(mine.knobs)]
        if outside.kernel == "generic" or not chips:
            continue
        levels = fit_levels(outside)
        for gpu in chips:
            chip = catalogue.chip(gpu)
            held = mine.load(gpu, "held", HELD_ROWS)
            values, tables = fit_chip(outside, gpu, levels)
            whole = merged(FILES.get(kind, kind), outside.kernel, chip.name, chip.generation)
            start = f"{chip.name}|{outside.kernel}|"
            found = residual.tables(FILES.get(kind, kind))
            bundled = {key.removeprefix(start): known for key, known in found.items() if key.startswith(start)}
            if not held:
                continue
            measured = np.concatenate([sample.measured_s for sample in held])
            priced, known = ratio_of(mine, held, values, tables), ratio_of(mine, held, whole, bundled)
            yield _made(kind, shapes, chip.name, outside.kernel, measured, priced * measured, known * measured)


def _rows(family: Family, gpu: str) -> int:
    return sum(sample.measured_s.size for sample in family.load(gpu, "fit", HELD_ROWS))


def _attention(table: Measurements, shapes: str, ranges: Ranges) -> Iterator[Extrapolated]:
    phase = table.kind.removeprefix("attention_")
    return _rooms(table.kind, lambda only: attention.attention_families(table.path, phase, only), shapes, ranges)


def _experts(table: Measurements, shapes: str, ranges: Ranges) -> Iterator[Extrapolated]:
    return _rooms(table.kind, lambda only: experts.expert_families(table.path, only), shapes, ranges)


def _collectives(table: Measurements, shapes: str, ranges: Ranges) -> Iterator[Extrapolated]:
    family = _inside(table, ranges)
    fitted = collective.fit_families(collective.cells(table.rows(~family)))
    bundled = {name: entry for name, entry in coefficient_file("collective")["kernels"].items() if name in fitted}
    held = [cell.half(fits=False) for cell in collective.cells(table.rows(family))]
    held = [cell for cell in held if len(cell.time_s) and cell.chip in fitted[cell.family]["chips"]]
    prices = [collective.ratios(held, numbers) for numbers in (fitted, bundled)]
    for cell, priced, known in zip(held, *prices, strict=True):
        yield _made(
            "collectives", shapes, cell.chip, cell.family, cell.time_s, priced * cell.time_s, known * cell.time_s
        )


FILES: Mapping[str, str] = {"moe": "experts", "collectives": "collective"}
"""Kind of table -> its coefficient file, where they differ."""
FITS: Mapping[str, Callable[[Measurements, str, Ranges], Iterator[Extrapolated]]] = {
    "gemm": _gemm,
    "attention_prefill": _attention,
    "attention_decode": _attention,
    "moe": _experts,
    "collectives": _collectives,
}
"""Per kind of table, what refits it without some rows."""
