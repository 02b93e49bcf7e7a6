"""Prices of measured GEMMs on held-out shapes, in the three regimes that `validate` reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs import residual
from ridgeline.costs.coefficients import coefficient_file
from ridgeline.costs.fits.common import sets_interval
from ridgeline.costs.fits.gemm_cells import Cell, cells, numbers_for, numbers_without
from ridgeline.costs.measurements import Measurements
from ridgeline.costs.residual import Table

FEW_ROWS, MANY_ROWS = 64.0, 1024.0
"""Rows of A up to which a GEMM is a decode step's, and from which it is a prefill's."""
HOST_BOUND = 0.5
"""A cell is the host's when the host sets the time of more than this share of its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Priced and measured seconds of one cell in one regime.

    `size` names a size class per row, `sets_interval` the rows that say how wide intervals are; `apart` marks cells
    whose times the host or a long run's power limit set.
    """

    kind: str
    regime: str
    chip: str
    runtime: str
    version: str
    dtype: str
    kernel: str
    priced_s: NDArray[np.float64]
    measured_s: NDArray[np.float64]
    size: NDArray[np.str_]
    sets_interval: NDArray[np.bool_]
    apart: bool = False

    def rows(self, chosen: NDArray[np.bool_]) -> Scored:
        """A part of the group."""
        return replace(
            self,
            priced_s=self.priced_s[chosen],
            measured_s=self.measured_s[chosen],
            size=self.size[chosen],
            sets_interval=self.sets_interval[chosen],
        )


def scored(table: Measurements) -> list[Scored]:
    """Score the bundled numbers on the held-out half of a table."""
    bundled = coefficient_file("gemm")
    return scored_cells(cells(table), bundled["kernels"], bundled["without"], residual.tables("gemm"))


def scored_cells(
    found: Sequence[Cell],
    kernels: Mapping[str, Any],
    without: Mapping[str, Any],
    tables: Mapping[str, Table],
) -> list[Scored]:
    """The held-out half of every cell, by physics, with its residual table, and as if the chip were unmeasured."""
    groups = []
    for cell in found:
        held = cell.part(~cell.fit_half)
        if len(held.rows) == 0:
            continue
        own = numbers_for(kernels, held)
        regimes = [("physics", own, None), ("calibrated", own, tables.get(held.residual_key))]
        guessed = numbers_without(without, held)
        if guessed is not None:
            regimes.append(("datasheet", guessed, None))
        apart = cell.sustained or _host_bound(held, own)
        groups += [_group(held, regime, numbers, table, apart=apart) for regime, numbers, table in regimes]
    return groups


def size_class(m: NDArray[np.float64]) -> NDArray[np.str_]:
    """Decode-like, mixed or prefill-like, by the rows of A."""
    return np.where(m <= FEW_ROWS, "m<=64", np.where(m < MANY_ROWS, "m<1024", "m>=1024"))


def _host_bound(held: Cell, numbers: Mapping[str, float]) -> bool:
    waited, device = (np.asarray(held.price(numbers, captured=captured).time_s) for captured in (False, True))
    return bool(np.mean(waited > 1.2 * device) > HOST_BOUND)


def _group(held: Cell, regime: str, numbers: Mapping[str, float], table: Table | None, *, apart: bool) -> Scored:
    return Scored(
        kind="gemm",
        regime=regime,
        chip=held.chip.name,
        runtime=held.runtime,
        version=held.version,
        dtype=held.scheme.name,
        kernel=held.kernel.name,
        priced_s=np.asarray(held.price(numbers, table).time_s, np.float64),
        measured_s=held.rows.time_s,
        size=size_class(held.rows.size("m")),
        sets_interval=sets_interval(*(held.rows.size(name) for name in ("m", "n", "k"))),
        apart=apart,
    )
