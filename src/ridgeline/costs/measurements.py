"""Measured tables: one row per kernel, its sizes and its time, read from Parquet or CSV and checked before any fit.

Columns follow the tables of `ridgeline bench` and of AIConfigurator: `gpu` (or `chip`), `backend` (or `runtime`),
`version`, `dtype`, sizes, and one of `time_s`, `latency_ms`, `latency_us`; `power_w` may be absent or empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, FileFormatError, SpecError, did_you_mean
from ridgeline.core.files import sha256_of

Column = NDArray[np.float64] | NDArray[np.object_]

SIZES: Mapping[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention_prefill": ("batch", "isl", "heads", "kv_heads", "head_dim"),
    "attention_decode": ("batch", "kv_len", "heads", "kv_heads", "head_dim"),
    "moe": ("tokens", "hidden", "inter", "topk", "experts", "tp", "ep"),
    "collectives": ("num_gpus", "message_bytes"),
    "elementwise": ("rows", "width"),
    "copy": ("copied_bytes",),
}
"""Sizes that each kind of table must hold; a table's kind is the first whose sizes it holds all."""
MAY_BE_ZERO = ("head_dim", "message_bytes", "kv_heads")
TIMES: Mapping[str, float] = {"time_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}
ALIASES: Mapping[str, str] = {"gpu": "chip", "backend": "runtime", "runtime_version": "version"}
LABELS = ("chip", "runtime", "version", "dtype", "kernel", "op", "kv_dtype", "gemm_dtype", "distribution")
FILE_ROW = "file_row"
"""Where rows stand in their file, from 1: a column that a part of a table may carry, for messages."""
TOLERANCE = 1.10
"""A boosting clock may beat the datasheet's peak by this much; anything faster is a wrong unit or a wrong shape."""
UNITS: Mapping[float, str] = {1e3: "1000 times", 1e6: "a million times", 1e9: "a billion times"}
ENOUGH = 0.99
"""Share of rows that a likely unit must make possible."""
FAR = 10.0
"""How far below its bound a single row must be before a wrong unit is likelier than a wrong size or format."""
MOST = 0.5
"""Share of rows below the hardware bound from which a table is refused whole; fewer are set aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """A checked table of one kind.

    Attributes:
        kind: gemm, attention_prefill, ...
        path, sha256: the file it came from.
        time_s: seconds per call, finite and > 0, one per row.
        columns: labels (text) and sizes (numbers) by canonical name, one value per row.
    """

    kind: str
    path: Path
    sha256: str
    time_s: NDArray[np.float64]
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return int(self.time_s.size)

    def size(self, name: str) -> NDArray[np.float64]:
        """A numeric column."""
        values: NDArray[np.float64] = np.asarray(self.columns[name], np.float64)
        return values

    def label(self, name: str) -> NDArray[np.str_]:
        """A text column, empty text where the table lacks it."""
        values = self.columns.get(name)
        return np.full(len(self), "") if values is None else np.asarray(values, str)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Measurements:
        """A part of the table."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return Measurements(
            kind=self.kind, path=self.path, sha256=self.sha256, time_s=self.time_s[chosen], columns=columns
        )

    def groups(self, *labels: str) -> list[tuple[tuple[str, ...], NDArray[np.bool_]]]:
        """Every combination of labels that occurs, sorted, with its rows."""
        joined = np.array(["\x1f".join(row) for row in zip(*(self.label(name) for name in labels), strict=True)])
        return [(tuple(key.split("\x1f")), joined == key) for key in sorted(set(joined.tolist()))]


def read(path: Path, kind: str | None = None) -> Measurements:
    """Read and check a table.

    Raises:
        FileFormatError: no such file, or neither Parquet nor CSV.
        SpecError: no rows, missing columns.
        DomainError: a time or size that is NaN, infinite, zero or negative.
    """
    table = {ALIASES.get(name, name): values for name, values in _load(path).items()}
    kind = kind or _kind(table, path)
    missing = [name for name in SIZES[kind] if name not in table]
    if missing:
        raise SpecError(f"a {kind} table needs the column {missing[0]!r}", at=path.name, fix=f"columns: {SIZES[kind]}")
    time_s = _time_s(table, path)
    columns: dict[str, Column] = {}
    for name, values in table.items():
        if name in LABELS:
            columns[name] = np.where(values == None, "", values).astype(object)  # noqa: E711 - elementwise
        elif values.dtype.kind in "iuf":
            columns[name] = values.astype(np.float64)
    for name in SIZES[kind]:
        _check_positive(columns.get(name), name, path, zero_ok=name in MAY_BE_ZERO)
    return Measurements(kind=kind, path=path, sha256=sha256_of(path), time_s=time_s, columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A row that no fit may see: faster than the hardware allows. `row` counts from 1 in its file."""

    row: int
    what: str
    time_s: float
    bound_s: float

    @property
    def said(self) -> str:
        """The row in words, with the unit that would explain it."""
        ratio = self.bound_s / self.time_s
        near = [words for factor, words in UNITS.items() if ratio <= factor * TOLERANCE and ratio > FAR]
        hint = f"; perhaps a unit, {near[0]} too small" if near else ""
        return f"row {self.row} ({self.what}): {self.time_s:.3g} s where the bound is {self.bound_s:.3g} s{hint}"

    def entry(self) -> dict[str, object]:
        """The row as a provenance lists it."""
        return {"row": self.row, "what": self.what, "time_s": self.time_s, "bound_s": self.bound_s}


def too_fast(
    parts: Sequence[tuple[NDArray[np.float64], Measurements]],
) -> list[tuple[NDArray[np.bool_], list[SetAside]]]:
    """Rows below the hardware bound, for each (bounds, rows) of a table: which to keep, and what is set aside.

    Raises: DomainError when most rows of the table are below it: that is a wrong unit, and the error names the likely
        one, or wrong sizes, formats or chip.
    """
    bounds = [np.broadcast_to(floor, rows.time_s.shape) for floor, rows in parts]
    wrong = [bound / rows.time_s > TOLERANCE for bound, (_, rows) in zip(bounds, parts, strict=True)]
    aside = [
        [_aside(rows, int(place), float(bound[place])) for place in np.flatnonzero(beats)]
        for bound, beats, (_, rows) in zip(bounds, wrong, parts, strict=True)
    ]
    everything = np.concatenate(wrong)
    if np.mean(everything) > MOST:
        ratio = np.concatenate([bound / rows.time_s for bound, (_, rows) in zip(bounds, parts, strict=True)])
        first = next(row for rows in aside for row in rows)
        factors = [factor for factor in UNITS if np.mean(ratio <= factor * TOLERANCE) >= ENOUGH]
        hint = "check sizes, dtype and chip"
        if factors:
            hint = f"times look {UNITS[factors[0]]} too small: {_unit_hint(factors[0])}"
        raise DomainError(
            f"{np.count_nonzero(everything)} of {everything.size} rows are faster than the chip's peak allows",
            at=f"{parts[0][1].path.name} row {first.row}",
            got=f"{first.time_s:.3g} s where the bound is {first.bound_s:.3g} s",
            fix=hint,
        )
    return [(~beats, rows) for beats, rows in zip(wrong, aside, strict=True)]


def _aside(table: Measurements, place: int, bound_s: float) -> SetAside:
    sizes = [name for name in (*SIZES[table.kind], "window") if name in table.columns]
    words = [table.label(name)[place] for name in ("op", "dtype", "kernel") if name in table.columns]
    words += [f"{name}={table.size(name)[place]:.0f}" for name in sizes if np.isfinite(table.size(name)[place])]
    row = int(table.size(FILE_ROW)[place]) if FILE_ROW in table.columns else place + 1
    what = " ".join(word for word in words if word)
    return SetAside(row=row, what=what, time_s=float(table.time_s[place]), bound_s=bound_s)


def need_rows(table: Measurements, count: int, what: str) -> None:
    """Refuse to fit `what` on fewer rows. Raises SpecError that says how many are needed."""
    if len(table) < count:
        raise SpecError(
            f"too few measurements to fit {what}", at=table.path.name, got=len(table), fix=f"give at least {count} rows"
        )


def _unit_hint(factor: float) -> str:
    given, meant = {1e3: ("latency_ms", "seconds"), 1e6: ("time_s", "microseconds"), 1e9: ("time_s", "nanoseconds")}[
        factor
    ]
    return f"a column named {given} that holds {meant}, or the like; columns are time_s, latency_ms or latency_us"


def _load(path: Path) -> Mapping[str, Column]:
    if not path.is_file():
        raise FileFormatError("no such table", at=str(path), fix="give a .parquet or .csv file")
    reader = {".parquet": "read_parquet", ".csv": "read_csv"}.get(path.suffix.lower())
    if reader is None:
        raise FileFormatError("measurements come as .parquet or .csv", at=str(path), got=path.suffix, fix="convert it")
    try:
        with duckdb.connect() as connection:
            connection.execute("set threads = 1")
            result = connection.execute(f"select * from {reader}(?)", [str(path)])  # noqa: S608 - reader is ours
            fetched = result.fetchnumpy()
    except duckdb.Error as error:
        raise FileFormatError(
            "the table cannot be read", at=path.name, got=str(error).splitlines()[0], fix="write it again"
        ) from error
    return {str(name): _filled(values) for name, values in fetched.items()}


def _filled(values: NDArray[np.generic]) -> Column:
    """Empty cells become NaN in numbers and None in text."""
    if not np.ma.isMaskedArray(values):
        return np.asarray(values)
    if values.dtype.kind in "iuf":
        return np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    return np.ma.filled(np.ma.asarray(values).astype(object), None)


def _kind(table: Mapping[str, Column], path: Path) -> str:
    for kind, sizes in SIZES.items():
        if all(name in table for name in sizes):
            return kind
    raise SpecError(
        "no kind of measurements has these columns",
        at=path.name,
        got=sorted(table),
        fix="gemm needs m, n, k, dtype, chip and latency_ms; see docs for the other kinds",
    )


def _time_s(table: Mapping[str, Column], path: Path) -> NDArray[np.float64]:
    found = [name for name in TIMES if name in table]
    if not found:
        near = did_you_mean("latency_ms", list(table))
        raise SpecError(
            "the table has no time column", at=path.name, fix=f"name it time_s, latency_ms or latency_us; {near}"
        )
    values = table[found[0]]
    if values.size == 0:
        raise SpecError("the table has no rows", at=path.name, got=0, fix="measure something")
    _check_positive(values, found[0], path, zero_ok=False)
    time_s: NDArray[np.float64] = values.astype(np.float64) * TIMES[found[0]]
    return time_s


def _check_positive(values: Column | None, name: str, path: Path, *, zero_ok: bool) -> None:
    if values is None or values.dtype.kind not in "iuf":
        raise DomainError(f"column {name!r} must hold numbers", at=path.name, fix="see the columns in docs")
    numbers = values.astype(np.float64)
    good = np.isfinite(numbers) & ((numbers >= 0) if zero_ok else (numbers > 0))
    if not np.all(good):
        row = int(np.flatnonzero(~good)[0])
        raise DomainError(
            f"{np.count_nonzero(~good)} of {good.size} values are not finite and positive",
            at=f"{path.name} row {row + 1} column {name}",
            got=float(numbers[row]),
            fix="drop these rows or measure them again",
        )


def columns_of(table: Measurements, names: Sequence[str]) -> tuple[NDArray[np.float64], ...]:
    """Several numeric columns."""
    return tuple(table.size(name) for name in names)
