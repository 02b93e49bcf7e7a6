"""Calibration: from measurements of a chip to the numbers that price it, with where they come from.

`calibrate_chip` fits one chip on a table of its own, starting from the bundled numbers of its lineage: what its rows do
not identify stays there. `bundle` repeats the fit of every measured chip, which wrote the bundled numbers. Fits are
robust (soft L1 on the log of predicted over measured), bounded, and give the same numbers every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError
from ridgeline.costs.coefficients import coefficient_file
from ridgeline.costs.fits import gemm, own
from ridgeline.costs.fits.common import Document, source, write
from ridgeline.costs.fits.gemm_cells import Cell, Numbers, cells, numbers_for
from ridgeline.costs.fits.own_collectives import fit_collectives
from ridgeline.costs.fits.robust import errors, fit
from ridgeline.costs.measurements import FILE_ROW, Measurements, SetAside, need_rows, read, too_fast
from ridgeline.costs.residual import Table, save
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip

KINDS = ("gemm", "attention_prefill", "attention_decode", "moe", "collectives")
"""Tables that calibrate a chip."""
PRIORS = Path(gemm.__file__).with_name("gemm_priors.yaml")
ROWS_PER_NUMBER = 4
"""Measurements that each fitted coefficient needs at least."""
TABLE_ROWS = 400
"""Measurements from which a residual table is worth its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A chip's fitted numbers and residual tables, ready to be written; `others` belong to other coefficient files."""

    document: Document
    tables: Mapping[str, Table]
    others: tuple[Calibration, ...] = ()

    @property
    def errors(self) -> dict[str, Any]:
        """Errors before and after by kernels, of all files."""
        return {label: scores for part in (self, *self.others) for label, scores in part.document.errors.items()}

    @property
    def set_aside(self) -> list[SetAside]:
        """Rows that no fit saw because they were faster than the hardware allows, in the order of their file."""
        rows = [row for part in (self, *self.others) for row in part.document.set_aside]
        return sorted(rows, key=lambda row: row.row)

    def write(self, path: Path) -> tuple[Path, ...]:
        """Write the YAML, and the residual tables beside it; returns the files.

        A table that shows kernels of several coefficient files (latent attention beside ordinary) gives a YAML for
        each, with its kind in the name.
        """
        if self.others:
            parts = (replace(self, others=()), *self.others)
            named = [(part, path.with_name(f"{path.stem}-{part.document.kind}{path.suffix}")) for part in parts]
            return tuple(file for part, name in named for file in part.write(name))
        write(self.document, path)
        if not self.tables:
            return (path,)
        beside = path.with_suffix(".npz")
        save(beside, self.tables)
        return path, beside


def calibrate_chip(path: Path, chip_name: str) -> Calibration:
    """Fit one chip's numbers on a table of measurements: GEMMs, attention, routed experts or collectives.

    Args:
        path: Parquet or CSV, columns as in `measurements`; rows of other chips are left aside.
        chip_name: a chip of the catalogue.
    Raises:
        UnknownNameError: the chip is not in the catalogue.
        SpecError: the table has no such rows, too few of them, or no kind that can be calibrated.
        DomainError: times that cannot be, or mostly below the hardware bound; few such rows are set aside.
        MissingExtraError: scipy is not installed.
    """
    chip = catalogue.chip(chip_name, at="--chip")
    table = read(path)
    if table.kind not in KINDS:
        raise SpecError("no numbers are fitted on such a table", at=path.name, got=table.kind, fix=f"give {KINDS}")
    mine = _rows_of(table, chip)
    return _calibrate_gemm(mine, chip) if table.kind == "gemm" else _calibrate_others(mine, chip)


def _calibrate_others(table: Measurements, chip: Chip) -> Calibration:
    """Attention, latent attention, experts or collectives: one calibration per coefficient file."""
    if table.kind == "collectives":
        results = [fit_collectives(table, chip)]
    else:
        results = own.fit_pieces(own.pieces_of(table, chip), chip)
    if not results:
        raise SpecError(
            f"no rows of {table.path.name} show a kernel that is fitted", at=table.path.name, got=_ops(table),
            fix="prompts of several tokens without a cached prefix, or decode steps; op attention, mla or mla_module",
        )  # fmt: skip
    first, *others = (
        Calibration(
            document=Document(
                kind=result.kind,
                command=f"ridgeline calibrate {table.path.name} --chip {chip.name}",
                data=[source(table.path, result.rows)],
                errors=result.errors,
                kernels={name: {"chips": {chip.name: numbers}} for name, numbers in result.kernels.items()},
                set_aside=result.set_aside,
            ),
            tables=result.tables,
        )
        for result in results
    )
    return replace(first, others=tuple(others))


def _ops(table: Measurements) -> str:
    return ", ".join(np.unique(table.label("op")))


def _calibrate_gemm(table: Measurements, chip: Chip) -> Calibration:
    """GEMMs."""
    path, found = table.path, cells(table)
    checked = too_fast([(np.asarray(cell.price(_start(cell)).floor_s), cell.rows) for cell in found])
    found = [cell.part(kept) for cell, (kept, _) in zip(found, checked, strict=True) if np.any(kept)]
    kernels = _fit(found, table)
    tables = _residuals(found, kernels)
    scores = {_label(cell): _before_after(cell, kernels, tables) for cell in found}
    document = Document(
        kind="gemm",
        command=f"ridgeline calibrate {path.name} --chip {chip.name}",
        data=[source(path, sum(len(cell.rows) for cell in found))],
        errors=scores,
        kernels={name: {"chips": {chip.name: numbers}} for name, numbers in kernels.items()},
        set_aside=[row for _, rows in checked for row in rows],
    )
    return Calibration(document=document, tables=tables)


def bundle(data: Path, folder: Path) -> Mapping[str, Any]:
    """Fit every chip of `data/gemm.parquet`; write `coefficients/gemm.yaml` and `residuals/gemm.npz` under `folder`."""
    table = read(data / "gemm.parquet", "gemm")
    document, tables = gemm.fit_all(table, PRIORS, "python -m ridgeline.costs.fits.gemm ../shared/data/silicon")
    write(document, folder / "coefficients" / "gemm.yaml")
    save(folder / "residuals" / "gemm.npz", tables)
    return document.errors


def _rows_of(table: Measurements, chip: Chip) -> Measurements:
    """The rows of one chip; a table without a chip column is taken to be all of it."""
    labels = table.label("chip")
    mine = np.array([not label or catalogue.chip(label, at="chip").name == chip.name for label in np.unique(labels)])
    chosen: NDArray[np.bool_] = mine[np.unique(labels, return_inverse=True)[1]]
    if not np.any(chosen):
        held = ", ".join(np.unique(labels))
        raise SpecError(f"no measurements of {chip.name}", at=table.path.name, got=held, fix="give --chip one of these")
    part = table.rows(chosen)
    named = np.full(len(part), chip.name, object)
    places = (np.flatnonzero(chosen) + 1).astype(np.float64)
    return replace(part, columns={**part.columns, "chip": named, FILE_ROW: places})


def _start(cell: Cell) -> Numbers:
    """The numbers that would price the cell's chip had it not been measured."""
    bundled = coefficient_file("gemm")["kernels"]
    levels = {name: {**entry, "chips": {}} for name, entry in bundled.items()}
    return numbers_for(levels, cell)


def _fit(found: list[Cell], table: Measurements) -> dict[str, Numbers]:
    """Machine and kernel numbers of one chip."""
    fitted: dict[str, Numbers] = {}
    machine: Numbers = {}
    for family in sorted({cell.kernel.name for cell in found}, key=lambda name: (name != "cublas", name)):
        knobs = dict(gemm.knobs_of(family))
        if family == "cublas":
            knobs = {**gemm.MACHINE_KNOBS, **knobs}
        mine = [cell for cell in found if cell.kernel.name == family]
        need_rows(mine[0].rows if len(mine) == 1 else table, ROWS_PER_NUMBER * len(knobs), f"the {family} kernels")
        starts = [{**_start(cell), **machine} for cell in mine]
        samples = [cell.sample(gemm.ROWS).as_sample(start) for cell, start in zip(mine, starts, strict=True)]
        values = fit(knobs, samples, {}, starts[0])
        if family == "cublas":
            machine = {name: values.pop(name) for name in gemm.MACHINE_KNOBS}
            fitted["machine"] = machine
        fitted[family] = values
    return fitted


def _residuals(found: list[Cell], kernels: Mapping[str, Numbers]) -> dict[str, Table]:
    enough = [cell for cell in found if len(cell.rows) >= TABLE_ROWS]
    return gemm.residuals_of([(cell, _numbers(cell, kernels)) for cell in enough])


def _numbers(cell: Cell, kernels: Mapping[str, Numbers]) -> Numbers:
    return {**_start(cell), **kernels.get("machine", {}), **kernels[cell.kernel.name]}


def _label(cell: Cell) -> str:
    return " ".join(part for part in (cell.runtime, cell.version, cell.scheme.name) if part)


def _before_after(cell: Cell, kernels: Mapping[str, Numbers], tables: Mapping[str, Table]) -> dict[str, Any]:
    """Errors on the half that the fit did not see: datasheet, physics, with residual; and the spread that is left."""
    held = cell.part(~cell.fit_half)
    if len(held.rows) == 0:
        return {"rows": 0}
    op_times = held.rows.time_s
    before = np.asarray(held.price(_start(held)).time_s)
    physics = np.asarray(held.price(_numbers(held, kernels)).time_s)
    after = np.asarray(held.price(_numbers(held, kernels), tables.get(held.residual_key)).time_s)
    return {
        "datasheet": errors(before, op_times),
        "physics": errors(physics, op_times),
        "calibrated": errors(after, op_times),
        "spread_log": float(np.std(np.log(after / op_times))),
    }


__all__ = ["Calibration", "bundle", "calibrate_chip"]
