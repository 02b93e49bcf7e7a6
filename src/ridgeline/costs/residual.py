"""Residual tables: what measurements of a chip say beyond the physics, as a smooth factor over the logarithm of sizes.

A table holds, on a regular grid over log2 of some dimensions, the logarithm of measured over priced time, pulled to 0
where few measurements lie near a knot. Between knots it is interpolated multilinearly; one step outside the grid it has
faded to 0 (factor 1). Tables are float16 arrays in `residuals/<kind>.npz`, one per `chip|kernel|variant`.

To add a kind: in its fit, `Table(grid=grid, log_factor=smooth(grid, dims, log_ratio))` per key, and `save` them; in its
room, `time_s * factor(kind, kernel, variant, chips, dims)` before the floor is applied.
"""

from __future__ import annotations

import io
import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.core.files import write_atomic
from ridgeline.costs.coefficients import own_calibrations
from ridgeline.hardware.chip import ChipColumns, Value

ROUNDS = 20
"""Passes of `smooth`; each spreads over the knots what the passes before left unexplained."""
PULL = 1.0
"""Measurements' worth of weight by which every knot is pulled to 0."""
CLIP = 0.7
"""Largest log error that one measurement may contribute: a factor of 2."""
CHUNK = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A regular grid in log2: per axis the first knot, the distance between knots, and their number."""

    start: tuple[float, ...]
    step: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Log of the factor at each knot of a grid."""

    grid: Grid
    log_factor: NDArray[np.float32]


Tables = tuple[Table | None, ...]
"""One table per chip of a call; empty when no chip has one."""


def interpolate(table: Table, dims: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Log of the factor at sizes `dims` (one array of the same length per axis); 0 from one step outside the grid."""
    padded = np.pad(table.log_factor.astype(np.float32), 1).ravel()
    result = np.empty(dims[0].size, np.float32)
    for start in range(0, result.size, CHUNK):
        part = slice(start, start + CHUNK)
        ways = [_place(table.grid, axis, dim[part]) for axis, dim in enumerate(dims)]
        base = ways[0].below
        for way in ways[1:]:
            base += way.below
        result[part] = _blend(padded, base.astype(np.intp), ways, 0)
    return result


def _blend(
    padded: NDArray[np.float32], base: NDArray[np.intp], ways: Sequence[_Way], offset: int
) -> NDArray[np.float32]:
    """Interpolate along the first of the axes left; `offset` leads from the lowest knot around a point to this one."""
    if not ways:
        return padded[offset:].take(base)
    low = _blend(padded, base, ways[1:], offset)
    high = _blend(padded, base, ways[1:], offset + ways[0].stride)
    high -= low
    high *= ways[0].above
    high += low
    return high


def smooth(
    grid: Grid, dims: Sequence[NDArray[np.float64]], log_ratio: NDArray[np.float64], pull: float = PULL
) -> NDArray[np.float32]:
    """Log factors whose interpolation explains `log_ratio` (log of measured over priced time) at sizes `dims`."""
    shape = tuple(n + 2 for n in grid.count)
    corners = list(_corners(grid, dims))
    weight = sum(np.bincount(i, w, minlength=int(np.prod(shape))) for i, w in corners)
    knots = np.zeros(int(np.prod(shape)))
    left = np.clip(log_ratio, -CLIP, CLIP)
    for _ in range(ROUNDS):
        now = sum(w * knots[i] for i, w in corners)
        pushed = sum(np.bincount(i, w * (left - now), minlength=knots.size) for i, w in corners)
        knots += (pushed - pull * knots) / (weight + pull)
    inner = tuple(slice(1, -1) for _ in grid.count)
    return knots.reshape(shape)[inner].astype(np.float16).astype(np.float32)


class _Way(NamedTuple):
    """Where points lie along an axis: flat index of the knot below, share of the knot above, distance between both."""

    below: NDArray[np.float32]
    above: NDArray[np.float32]
    stride: int


def _place(grid: Grid, axis: int, dim: NDArray[np.float64]) -> _Way:
    """Indices stay float32, exact up to 2**24 knots, since converting each axis costs more than all else here."""
    place = dim.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.log2(place, out=place)
    place -= np.float32(grid.start[axis] - grid.step[axis])
    if grid.step[axis] != 1.0:
        place *= np.float32(1.0 / grid.step[axis])
    np.fmax(place, np.float32(0.0), out=place)
    np.minimum(place, np.float32(grid.count[axis] + 1 - 1e-3), out=place)
    below = np.floor(place)
    place -= below
    stride = math.prod(n + 2 for n in grid.count[axis + 1 :])
    if stride != 1:
        below *= np.float32(stride)
    return _Way(below=below, above=place, stride=stride)


def _corners(grid: Grid, dims: Sequence[NDArray[np.float64]]) -> Sequence[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """(flat index into the padded grid, weight) of the 2**axes knots around each point."""
    ways = [_place(grid, axis, dim) for axis, dim in enumerate(dims)]
    corners = []
    for corner in itertools.product((0, 1), repeat=len(ways)):
        index = sum(way.below + side * way.stride for way, side in zip(ways, corner, strict=True))
        weight = np.prod(
            [way.above if side else 1.0 - way.above for way, side in zip(ways, corner, strict=True)], axis=0
        )
        corners.append((np.asarray(index).astype(np.intp), weight))
    return corners


def save(path: Path, tables: Mapping[str, Table]) -> None:
    """Write tables by key; the same tables give the same bytes."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for key in sorted(tables):
        grid = tables[key].grid
        arrays[key] = tables[key].log_factor.astype(np.float16)
        arrays[f"{key}|grid"] = np.array([grid.start, grid.step, grid.count], np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


@cache
def tables(kind: str) -> Mapping[str, Table]:
    """The tables of one op kind by `chip|kernel|variant`: bundled ones, then those beside calibrations of one's own.

    Numbers of one's own come with their own tables or with none: bundled tables correct the bundled numbers only.
    """
    source = resources.files("ridgeline.costs") / "residuals" / f"{kind}.npz"
    found: Mapping[str, Table] = Stored(source.read_bytes()) if source.is_file() else {}
    for path, document in own_calibrations(kind):
        kernels = document.need("kernels", kind=dict)
        own = tuple(f"{chip}|{name}|" for name, by in kernels.items() for chip in by.get("chips") or {})
        found = {key: table for key, table in found.items() if not key.startswith(own)}
        beside = path.with_suffix(".npz")
        if beside.is_file():
            found = {**found, **{key: table for key, table in _load_own(beside).items() if key.startswith(own)}}
    return found


class Stored(Mapping[str, Table]):
    """The tables of a file by key, each read when it is first asked for: a call needs a few of some hundred."""

    def __init__(self, data: bytes) -> None:
        """Read the keys."""
        self._file = np.load(io.BytesIO(data), allow_pickle=False)
        self._read: dict[str, Table | None] = {key: None for key in self._file.files if not key.endswith("|grid")}

    def __getitem__(self, key: str) -> Table:
        """Raises SpecError: a table that does not fill its grid."""
        table = self._read[key]
        if table is None:
            table = self._read[key] = _table(key, self._file[key], self._file[f"{key}|grid"])
        return table

    def __iter__(self) -> Iterator[str]:
        """Their keys."""
        return iter(self._read)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._read)


def _load_own(path: Path) -> dict[str, Table]:
    try:
        return dict(Stored(path.read_bytes()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            "the residual tables beside a calibration cannot be read", at=str(path), got=str(error),
            fix="run `ridgeline calibrate` again",
        ) from error  # fmt: skip


def _table(key: str, log_factor: NDArray[np.float16], grid: NDArray[np.float32]) -> Table:
    start, step, count = grid.tolist()
    made = Grid(start=tuple(start), step=tuple(step), count=tuple(int(n) for n in count))
    if log_factor.shape != made.count or not np.all(np.isfinite(log_factor)):
        raise SpecError("a residual table must fill its grid with finite numbers", at=key, fix="run the fit again")
    return Table(grid=made, log_factor=log_factor.astype(np.float32))


def factor(kind: str, kernel: str, variant: str, chips: ChipColumns, dims: Sequence[NDArray[np.float64]]) -> Value:
    """Measured over priced time at sizes `dims`: 1 for chips, kernels and sizes that were never measured.

    `dims` are one-dimensional arrays of one length (sizes > 0, in the order of the grid's axes); their rows are those
    of `chips.index` when it has one.
    """
    return factor_by(tables_of(kind, kernel, variant, chips), chips.index, dims)


def tables_of(kind: str, kernel: str, variant: str, chips: ChipColumns) -> Tables:
    """The table of each chip (None where it was not measured); empty when none has one."""
    known = tables(kind)
    held = tuple(known.get(f"{chip.name}|{kernel}|{variant}") for chip in chips.chips)
    return held if any(held) else ()


def factor_by(held: Tables, index: NDArray[np.intp] | None, dims: Sequence[NDArray[np.float64]]) -> Value:
    """`factor` with given tables, one per chip; `index` says which chip a row is of (None: all of the first)."""
    if not held:
        return 1.0
    if index is None or len(held) == 1:
        return np.exp(interpolate(held[0], dims)).astype(np.float64) if held[0] else 1.0
    result = np.ones(dims[0].size)
    rows = np.broadcast_to(index, result.shape)
    for position, table in enumerate(held):
        if table is not None:
            mine = rows == position
            result[mine] = np.exp(interpolate(table, [dim[mine] for dim in dims]))
    return result
