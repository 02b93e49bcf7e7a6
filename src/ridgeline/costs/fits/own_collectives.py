"""The fit of one chip's collectives on a table of its own: the library first, then frameworks' kernels on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ridgeline.core.errors import SpecError
from ridgeline.costs.fits.collective import KNOBS, LIBRARIES, SOURCES, SWITCH_KNOBS, Cell, cells, fitted
from ridgeline.costs.fits.own import ROWS_PER_NUMBER, Fitted, Numbers, unmeasured
from ridgeline.costs.fits.robust import Array, errors
from ridgeline.costs.measurements import Measurements, need_rows, too_fast
from ridgeline.hardware.chip import Chip

KIND = "collective"


def fit_collectives(table: Measurements, chip: Chip) -> Fitted:
    """Fit every family that the rows show, all of one chip.

    Rows faster than the links are set aside.

    Raises: SpecError: no known kernel, or too few rows. DomainError: most rows faster than the links.
    """
    found = cells(table)
    if not found:
        got = ", ".join(np.unique(table.label("kernel")))
        raise SpecError("no rows of a known kernel", at=table.path.name, got=got, fix=f"column kernel: {[*SOURCES]}")
    checked = too_fast([(cell.floor_s(unmeasured(KIND, cell.library, chip)), cell.rows) for cell in found])
    aside = [row for _, rows in checked for row in rows]
    found = [cell.part(kept) for cell, (kept, _) in zip(found, checked, strict=True) if np.any(kept)]
    kernels: dict[str, Numbers] = {}
    scores: dict[str, Any] = {}
    for family in (name for name in KNOBS if any(cell.family == name for cell in found)):
        mine = [cell for cell in found if cell.family == family]
        start = unmeasured(KIND, family, chip)
        below = {name: kernels.get(name) or unmeasured(KIND, name, chip) for name in LIBRARIES}
        times = np.concatenate([cell.time_s for cell in mine])
        needed = ROWS_PER_NUMBER * len(_knobs(family, mine))
        need_rows(replace(table, time_s=times, columns={}), needed, f"the {family} kernels")
        seen = [cell.half(fits=True) for cell in mine if np.any(cell.fits)]
        values = fitted(family, seen, lambda cell, known=below: known[cell.library], start)  # type: ignore[misc]
        kernels[family] = {**start, **values}
        scores[family] = _scores(mine, start, kernels[family], below)
    rows = sum(len(cell.time_s) for cell in found)
    return Fitted(kind=KIND, rows=rows, kernels=kernels, tables={}, errors=scores, set_aside=aside)


def _knobs(family: str, chosen: Sequence[Cell]) -> list[str]:
    """What is fitted: numbers of reductions in the switch only where a switch reduces."""
    switch = any(level.reduces_in_switch for cell in chosen for level in cell.machines.machines[0].levels)
    return [name for name in KNOBS[family] if switch or name not in SWITCH_KNOBS]


def _scores(chosen: Sequence[Cell], start: Numbers, after: Numbers, below: dict[str, Numbers]) -> dict[str, Any]:
    """Errors on the half that the fit did not see."""
    held = [cell.half(fits=False) for cell in chosen if not np.all(cell.fits)]
    if not held:
        return {"rows": 0}

    def ratio(values: Numbers) -> Array:
        return np.concatenate([_priced(cell, values, below) / cell.time_s for cell in held])

    before, found = ratio(start), ratio(after)
    return {
        "datasheet": errors(before, np.ones_like(before)),
        "physics": errors(found, np.ones_like(found)),
        "calibrated": errors(found, np.ones_like(found)),
        "spread_log": float(np.std(np.log(found))),
    }


def _priced(cell: Cell, values: Numbers, below: dict[str, Numbers]) -> Array:
    if cell.family in LIBRARIES:
        return cell.priced_s(values, None)
    return cell.priced_s(below[cell.library], values)
