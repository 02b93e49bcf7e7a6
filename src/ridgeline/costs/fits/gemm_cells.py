"""Measured GEMMs cut into cells of one chip, runtime, version and format, each with the kernel that ran it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import Scheme, scheme
from ridgeline.costs.fits.common import is_fit_half, sampled
from ridgeline.costs.fits.robust import Sample
from ridgeline.costs.gemm import price_with, residual_dims
from ridgeline.costs.gemm_kernels import Kernel, kernel_of
from ridgeline.costs.measurements import Measurements
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.residual import Table, interpolate
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.workloads.ops import Matmul

Array = NDArray[np.float64]

POWER_RUNS = ("0.22.0",)
"""Versions whose loops ran for seconds, so that the power limit held the clock down (README of the tables)."""


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
        return self.runtime == "vllm" and self.version in POWER_RUNS

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
        residual = np.exp(interpolate(table, residual_dims(op, self.rows.time_s.shape))) if table else 1.0
        chips = ChipColumns((self.chip,))
        return price_with(op, chips, setting, self.kernel, dict(numbers), residual=residual)

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
