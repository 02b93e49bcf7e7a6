"""What the fits of all kinds share beside `robust.fit`: the split into halves, scores, and the coefficient file.

A fit module (`fits/<kind>.py`) reads its table with `measurements.read`, fits on the rows of `is_fit_half`, and
returns a `Document`, which `write` turns into `coefficients/<kind>.yaml`. `intervals_of` gives the `intervals` section
from held-out errors. `without` holds, for each measured chip, the numbers that a fit gives it when all rows of that
chip are left out, by kernel: `validate` prices the chip with them for its datasheet regime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ridgeline.core.files import sha256_of, write_atomic
from ridgeline.costs.fits.robust import rounded
from ridgeline.costs.measurements import SetAside

Array = NDArray[np.float64]
SALT = np.uint64(0x51D9E1)
"""Makes the halves of the fits other than those of any split that the measured tables were made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A coefficient file: see `coefficients.py` for `kernels`, `interval.py` for `intervals`.

    `set_aside` are rows of the table that were faster than the hardware allows, which the provenance lists; `measured`
    are rows that a price keeps beside the numbers, by chip.
    """

    kind: str
    command: str
    data: Sequence[Mapping[str, Any]]
    errors: Mapping[str, Any]
    kernels: Mapping[str, Any]
    intervals: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, Any] = field(default_factory=dict)
    set_aside: Sequence[SetAside] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)


def hash_unit(*columns: Array) -> Array:
    """A number in [0, 1) per row that depends on the values of the columns alone (splitmix64, chained)."""
    state = np.full(columns[0].shape, SALT, np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            state = state + np.asarray(column, float).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state.astype(np.float64) / 2.0**64


def is_fit_half(*columns: Array) -> NDArray[np.bool_]:
    """Which rows a fit may see; the others score it. A shape is on one side on every chip."""
    return hash_unit(*columns) < 0.5


def sets_interval(*columns: Array) -> NDArray[np.bool_]:
    """Which of the rows that no fit saw say how wide intervals are; the last quarter checks whether they cover."""
    place = hash_unit(*columns)
    quarter: NDArray[np.bool_] = (place >= 0.5) & (place < 0.75)
    return quarter


def chosen(half: str, *columns: Array) -> NDArray[np.bool_]:
    """Rows of a part: `fit`, `held` (all that no fit saw), `spread` (those of them that set intervals) or `all`."""
    if half == "all":
        return np.ones(columns[0].shape, dtype=bool)
    if half == "spread":
        return sets_interval(*columns)
    rows: NDArray[np.bool_] = is_fit_half(*columns) == (half == "fit")
    return rows


def sampled(rows: NDArray[np.bool_], limit: int, *columns: Array) -> NDArray[np.intp]:
    """Positions of at most `limit` of the rows, the same ones every time."""
    positions = np.flatnonzero(rows)
    order = np.argsort(hash_unit(*(np.asarray(column, float)[positions] for column in columns[::-1])), kind="stable")
    chosen: NDArray[np.intp] = np.sort(positions[order[:limit]])
    return chosen


def intervals_of(ratio: Array, weight: Array | None = None) -> list[float]:
    """[p10, p90] of measured over priced time, as the `intervals` section holds them; rows may weigh unequally."""
    if weight is None:
        return [rounded(float(q)) for q in np.quantile(ratio, (0.1, 0.9))]
    order = np.argsort(ratio, kind="stable")
    reached = np.cumsum(weight[order]) - weight[order] / 2.0
    return [rounded(float(q)) for q in np.interp((0.1, 0.9), reached / weight.sum(), ratio[order])]


def even(groups: Mapping[str, Sequence[Array]]) -> list[float]:
    """The interval of ratios by group, each group weighing the same whatever its rows.

    Prices of a chip never measured are as wrong as those of the generations that were left out: two chips of one
    generation, of which one stays in the fit, must not outvote a chip that is alone in its own.
    """
    rows = [row for row in (np.concatenate(parts) for parts in groups.values()) if row.size]
    weight = np.concatenate([np.full(part.size, 1.0 / part.size) for part in rows])
    return intervals_of(np.concatenate(rows), weight)


def source(path: Path, rows: int) -> dict[str, Any]:
    """One entry of the provenance: which file, which bytes, how many rows."""
    return {"file": path.name, "sha256": sha256_of(path), "rows": rows}


def write(document: Document, path: Path) -> None:
    """Write the YAML; the same document gives the same bytes."""
    provenance = {"command": document.command, "data": list(document.data), "errors": document.errors}
    if document.set_aside:
        provenance["set_aside"] = [row.entry() for row in document.set_aside]
    data = {
        "kind": document.kind,
        "provenance": provenance,
        "kernels": document.kernels,
        "intervals": document.intervals,
        "without": document.without,
    }
    if document.measured:
        data["measured"] = document.measured
    text = yaml.safe_dump(_plain(data), sort_keys=False, width=120, default_flow_style=None)
    write_atomic(path, text)


def _plain(value: Any) -> Any:
    """Ordinary containers and rounded floats, as YAML writes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return rounded(float(value))
    return value
