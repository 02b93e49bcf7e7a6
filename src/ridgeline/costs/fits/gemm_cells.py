"""Measured GEMMs cut into cells of one chip, runtime, version and format, each with the kernel that ran it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import Scheme, scheme
from ridgeline.costs.fits.common import is_fit_half, sampled
from ridgeline.costs.fits.robust import Sample
from ridgeline.costs.gemm import KERNEL, price_with
from ridgeline.costs.gemm_kernels import Kernel, kernel_of, lineage, loop_of
from ridgeline.costs.measurements import Measurements
from ridgeline.costs.power_runs import was_sustained
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.residual import Table
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.workloads.ops import Matmul

Array = NDArray[np.float64]

Numbers = dict[str, float]
Levels = dict[str, Any]
"""The values of one family: `default`, by lineage under `generations`, and by chip under `chips`."""

LOOPS: Mapping[str, Numbers] = {
    "loop-trtllm": {"weight_buffers": 5.0, "fills_cache": 1.0, "output_buffers": 2.0},
    "loop-vllm": {"weight_buffers": 6.0, "fills_cache": 0.0, "output_buffers": 2.0},
}
"""Rotating weight buffers, read off the sizes at which the L40S tables fall out of its 96 MiB cache (33.6 MB stays in
at 3 buffers, 31.5 MB does not at 4; in vLLM's tables the edge lies at 16 MB, six buffers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Rows of one chip, runtime, version and format."""

    chip: Chip
    runtime: str
    version: str
    scheme: Scheme
    kernel: Kernel
    rows: Measurements

    @property
    def sustained(self) -> bool:
        """Whether the run was long enough for the power limit."""
        return was_sustained(self.runtime, self.version)

    @property
    def setting(self) -> Setting:
        """The conditions under which the table was measured."""
        return Setting(
            runtime=self.runtime,
            version=self.version,
            weights_cache="hot",
            sustained=self.sustained,
            captured=False,
        )

    @property
    def fit_half(self) -> NDArray[np.bool_]:
        """Rows that a fit may see."""
        return is_fit_half(*(self.rows.size(name) for name in ("m", "n", "k")))

    def part(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Cell:
        """The cell with some of its rows."""
        return replace(self, rows=self.rows.rows(chosen))

    def sample(self, limit: int) -> Cell:
        """At most `limit` rows of the fitting half."""
        return self.part(sampled(self.fit_half, limit, *(self.rows.size(name) for name in ("m", "n", "k"))))

    @property
    def residual_key(self) -> str:
        """The name of the cell's residual table."""
        return f"{self.chip.name}|{self.kernel.name}|{self.scheme.name}"

    def price(self, numbers: Mapping[str, float], table: Table | None = None, *, captured: bool = False) -> Price:
        """Physics with the given coefficients, times the residual of `table`."""
        op = matmul(self.rows, self.scheme)
        setting = replace(self.setting, captured=captured)
        chips = ChipColumns((self.chip,))
        return price_with(op, chips, setting, self.kernel, dict(numbers), tables=(table,) if table else ())

    def as_sample(self, fixed: Mapping[str, float]) -> Sample:
        """What `robust.fit` needs: measured seconds, and a prediction from the coefficients that it varies."""
        return Sample(
            measured_s=self.rows.time_s,
            predict=lambda values: np.asarray(self.price({**fixed, **values}).time_s, np.float64),
        )


def matmul(rows: Measurements, as_scheme: Scheme) -> Matmul:
    """The op that a table's rows measured."""
    m, n, k = (rows.size(name) for name in ("m", "n", "k"))
    return Matmul(name="measured", part="ffn", scheme=as_scheme, m=m, n=n, k=k)


def cells(table: Measurements) -> list[Cell]:
    """The table by chip, runtime, version and format, in sorted order; names are resolved by the catalogue."""
    found = []
    for (chip_name, runtime, version, dtype), rows in table.groups("chip", "runtime", "version", "dtype"):
        chip = catalogue.chip(chip_name, at="chip")
        as_scheme = scheme(dtype, at="dtype")
        kernel = kernel_of(as_scheme, runtime, chip)
        cell = Cell(chip=chip, runtime=runtime, version=version, scheme=as_scheme, kernel=kernel, rows=table.rows(rows))
        found.append(cell)
    return found


def of_chips(found: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """The cells of some chips."""
    return [cell for cell in found if cell.chip.name in names]


def numbers_for(kernels: Mapping[str, Levels], cell: Cell) -> Numbers:
    """All coefficients of a cell: the chip's, the family's, the loop's."""
    merged: Numbers = {}
    for name in ("machine", cell.kernel.name, loop_of(cell.runtime)):
        levels = kernels[name]
        merged.update(levels.get("shared") or {})
        merged.update(for_lineage(levels, lineage(cell.chip)))
        merged.update((levels.get("chips") or {}).get(cell.chip.name) or {})
    return merged


def for_lineage(levels: Levels, name: str) -> Numbers:
    """The values of a lineage: its own, else the default ones."""
    return {**(levels.get("default") or {}), **((levels.get("generations") or {}).get(name) or {})}


def numbers_without(without: Mapping[str, Any], cell: Cell) -> Numbers | None:
    """All coefficients of a cell from fits that never saw its chip; None where only that chip measured the family."""
    fitted = without[cell.chip.name]
    if cell.kernel.name not in fitted:
        return None
    return {**absent(), **fitted["machine"], **fitted[cell.kernel.name], **LOOPS[loop_of(cell.runtime)]}


def absent() -> Numbers:
    """Every kernel coefficient at the value by which its mechanism is absent, and no power limit."""
    return dict.fromkeys(KERNEL, 0.0) | {"dense_share": 0.0, "joule_per_flop": 0.0, "sustained_share": 1.0}
