"""`ridgeline validate`: predictions beside measurements, and what is said of the errors.

Regimes are never mixed. `calibrated`: as `predict ops` answers, on shapes that the fits of that chip did not see.
`physics`: the same rows without the residual tables. `datasheet`: the chip's rows were left out of every fit, so that
it contributed nothing but its datasheet. `extrapolated` (`shape_families.py`): a whole family of shapes was left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.tables.intake import intake, wanted
from ridgeline.api.tables.ops import as_it_is, predict_ops
from ridgeline.core.errors import FileFormatError, UnknownNameError, did_you_mean
from ridgeline.core.files import load_json
from ridgeline.core.tables import Labels, from_mapping
from ridgeline.costs.coefficients import coefficient_file, physics_twin, unmeasured_twin
from ridgeline.costs.fits.common import is_fit_half, sampled, sets_interval
from ridgeline.costs.measurements import SIZES, Measurements, columns_of, read
from ridgeline.costs.power_runs import was_sustained
from ridgeline.costs.validate import ALL, Line, Report, regressions
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip

Floats = NDArray[np.float64]
Texts = NDArray[np.str_]

KINDS = (*SIZES, "power")
TWINS: Mapping[str, Callable[[Chip], Chip]] = {
    "calibrated": as_it_is,
    "physics": physics_twin,
    "datasheet": unmeasured_twin,
}
FITTED_IN: Mapping[str, str] = {"moe": "experts", "collectives": "collective"}
"""Kind of table -> the coefficient file whose provenance names it, where they differ."""
SLICES: tuple[tuple[str, ...], ...] = ((), ("chip",), ("chip", "runtime", "version", "dtype"), ("size",))
LABELS = ("chip", "runtime", "version", "dtype", "size", "shapes")
EDGES_S = (20e-6, 200e-6, 2e-3)
SIZE_CLASSES = ("< 20 us", "20-200 us", "0.2-2 ms", "> 2 ms")
LONG_ENOUGH_S = 0.5e-3
"""Power of shorter kernels is not to be trusted: the sensor averages over more than their loop."""
SUSTAINED = "gemm"
"""The kind whose rows of a run at the power limit stand apart; the others have families of their own for it."""
SUSPECT = ("attention_decode", "a100-80gb-sxm", "trtllm")
WORST, LOOKED_AT, OF_ONE_KERNEL = 20, 400, 2
FEWEST = 30
"""Rows from which a median is worth watching."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Predictions of one kind of quantity in one regime, beside the measurements.

    Attributes:
        labels: chip, runtime, version, dtype, size, bound, kernel, case (the inputs in words); one text per row.
        apart: why the rows stand outside the summary (host-bound loops, ...); empty for ordinary rows.
        covered: 1 where the measurement lies in the 80 % interval, 0 where not, NaN for rows that set the interval or
            carry none.
        known: in the regime `extrapolated`, what the fit that saw their like says of the same rows.
        refused: message -> rows that could not be predicted.
    """

    kind: str
    regime: str
    predicted: Floats
    measured: Floats
    labels: Mapping[str, Texts]
    apart: Texts
    covered: Floats | None = None
    known: Floats | None = None
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def error(self) -> Floats:
        """Predicted over measured, minus 1."""
        return self.predicted / self.measured - 1.0

    def rows(self, chosen: NDArray[np.bool_]) -> Points:
        """Some of the points."""
        labels = {name: values[chosen] for name, values in self.labels.items()}
        return Points(
            kind=self.kind,
            regime=self.regime,
            predicted=self.predicted[chosen],
            measured=self.measured[chosen],
            labels=labels,
            apart=self.apart[chosen],
            covered=None if self.covered is None else self.covered[chosen],
            known=None if self.known is None else self.known[chosen],
            refused=self.refused,
        )


def data_folder(given: str = "") -> Path:
    """The folder or table of measurements: as given, else `data` under $RIDGELINE_SHARED.

    Raises FileFormatError when there is none.
    """
    shared = os.environ.get("RIDGELINE_SHARED", "")
    path = Path(given) if given else Path(shared) / "data" if shared else None
    if path is None or not path.exists():
        raise FileFormatError(
            "no measurements to validate with",
            at="--data",
            got=given or None,
            fix="give a folder that holds silicon/ and published/, or one .parquet or .csv of measurements",
        )
    return path


def validate_kernels(data: Path, kinds: Sequence[str] = (), sample: int = 0) -> list[Points]:
    """Every measured kernel that no fit saw, in every regime.

    Args:
        data: the folder of the measured tables (or one that holds it as `silicon/`), or one table of measurements.
        kinds: which of KINDS; all by default.
        sample: at most so many rows per kind, the same ones every time; 0 is all.
    Raises: UnknownNameError: no such kind. FileFormatError, SpecError, DomainError: a table that cannot be used.
    """
    for kind in kinds:
        if kind not in KINDS:
            fix = did_you_mean(kind, KINDS, listing=f"kinds: {', '.join(KINDS)}")
            raise UnknownNameError(f"no measurements of kind {kind!r}", at="--kinds", fix=fix)
    found: list[Points] = []
    for table in measured_tables(data, kinds):
        held = _unseen(table)
        if sample and len(held) > sample:
            everything = np.ones(len(held), dtype=bool)
            held = held.rows(sampled(everything, sample, *_key(held)))
        if len(held) and (not kinds or table.kind in kinds):
            found += [_priced(held, regime) for regime in TWINS]
        if len(held) and (not kinds or "power" in kinds):
            found += _power(held)
    power = [points for points in found if points.kind == "power"]
    kernels = [points for points in found if points.kind != "power"]
    return [points for points in (*kernels, *_joined(power)) if points.predicted.size]


def _joined(points: Sequence[Points]) -> list[Points]:
    """Points of one kind and regime as one."""
    if not points:
        return []
    first = points[0]
    return [
        Points(
            kind=first.kind,
            regime=first.regime,
            predicted=np.concatenate([each.predicted for each in points]),
            measured=np.concatenate([each.measured for each in points]),
            labels={name: np.concatenate([each.labels[name] for each in points]) for name in first.labels},
            apart=np.concatenate([each.apart for each in points]),
        )
    ]


def measured_tables(data: Path, kinds: Sequence[str]) -> Iterable[Measurements]:
    """The tables of the asked kinds (default: all that are there), or the one table."""
    if data.is_file():
        yield read(data)
        return
    folder = data / "silicon" if (data / "silicon").is_dir() else data
    asked = SIZES if not kinds or "power" in kinds else kinds
    present = [kind for kind in asked if (folder / f"{kind}.parquet").is_file()]
    if not present:
        raise FileFormatError(
            "no measured tables here", at="--data", got=folder.name, fix=f"tables: {', '.join(SIZES)}.parquet"
        )
    for kind in present:
        yield read(folder / f"{kind}.parquet", kind)


def _unseen(table: Measurements) -> Measurements:
    """Rows that no fit saw: the held-out half of a table that a fit was made from, all of any other."""
    kept = _op_rows(table)
    if was_fitted(table):
        kept &= ~is_fit_half(*_key(table))
    return table.rows(kept)


def was_fitted(table: Measurements) -> bool:
    """Whether the bundled numbers were fitted on this very file."""
    kind = FITTED_IN.get(table.kind, table.kind)
    sources = coefficient_file(kind)["provenance"].get("data") or []
    return any(entry.get("sha256") == table.sha256 for entry in sources)


def _covered(table: Measurements, low_s: Floats, high_s: Floats) -> Floats:
    """See `Points.covered`."""
    inside: Floats = ((table.time_s >= low_s) & (table.time_s <= high_s)).astype(np.float64)
    if was_fitted(table):
        inside[sets_interval(*_key(table))] = np.nan
    return inside


def _op_rows(table: Measurements) -> NDArray[np.bool_]:
    """Rows whose op `predict ops` knows: not the message-less dispatch of one framework's experts."""
    if table.kind == "collectives":
        return table.size("message_bytes") > 0
    if table.kind == "attention_prefill":
        return table.size("isl") > 1
    return np.ones(len(table), dtype=bool)


def _key(table: Measurements) -> tuple[Floats, ...]:
    return columns_of(table, SIZES[table.kind])


def _priced(table: Measurements, regime: str) -> Points:
    results, errors = _predict(table, TWINS[regime])
    ends = [np.asarray(results[name], np.float64) for name in ("time_low_s", "time_high_s")]
    seconds = np.asarray(results["time_s"], np.float64)
    said = _texts(results["regime"])
    # A row whose chip never measured its kernel is priced like a datasheet; the twin `datasheet` scores it.
    good = np.isfinite(seconds) & ((said == "datasheet") == (regime == "datasheet"))
    points = Points(
        kind=table.kind,
        regime=regime,
        predicted=seconds,
        measured=table.time_s,
        labels=_labels(table, results),
        apart=_apart(table, _texts(results["bound"])),
        # The physics alone carry no interval of their own.
        covered=None if regime == "physics" else _covered(table, *ends),
        refused=Counter(message for message in errors if message),
    )
    return points.rows(good)


def _power(table: Measurements) -> list[Points]:
    """Board power of kernels long enough for the sensor."""
    if "power_w" not in table.columns:
        return []
    read_w = table.size("power_w")
    held = table.rows(np.isfinite(read_w) & (read_w > 0) & (table.time_s > LONG_ENOUGH_S))
    if not len(held):
        return []
    results, _ = _predict(held, as_it_is)
    measured = {chip for family in coefficient_file("power")["kernels"].values() for chip in family.get("chips") or {}}
    labels = dict(_labels(held, results))
    labels["dtype"] = np.full(len(held), table.kind)
    points = Points(
        kind="power",
        regime="calibrated",
        predicted=np.asarray(results["power_w"], np.float64),
        measured=held.size("power_w"),
        labels=labels,
        apart=np.full(len(held), ""),
    )
    known = np.isin(labels["chip"], sorted(measured)) & np.isfinite(points.predicted)
    return [points.rows(known)]


def _predict(table: Measurements, seen_as: Callable[[Chip], Chip]) -> tuple[dict[str, Floats | Labels], list[str]]:
    names = {"version": "runtime_version"}
    columns = {names.get(name, name): values for name, values in table.columns.items() if name != "power_w"}
    columns["kind"] = np.full(len(table), table.kind, dtype=object)
    columns["weights_cache"] = np.full(len(table), "hot", dtype=object)
    cases, problems = intake("ops", from_mapping(columns, columns=wanted("ops")))
    with np.errstate(all="ignore"):
        results = dict(predict_ops(cases, problems, seen_as))
    return results, problems.column()


def _labels(table: Measurements, results: Mapping[str, Floats | Labels]) -> dict[str, Texts]:
    chips, place = np.unique(table.label("chip"), return_inverse=True)
    names = np.array([catalogue.chip(str(chip)).name for chip in chips])
    variant = table.label("op")
    dtype = np.char.add(np.char.add(variant, np.where(variant != "", " ", "")), table.label("dtype"))
    return {
        "chip": names[place],
        "runtime": table.label("runtime"),
        "version": table.label("version"),
        "dtype": dtype,
        "size": size_classes(table.time_s),
        "bound": _texts(results["bound"]),
        "kernel": _texts(results["kernel_family"]),
        "case": _cases_in_words(table),
    }


def size_classes(time_s: Floats) -> Texts:
    """The class of each duration."""
    return np.array(SIZE_CLASSES)[np.digitize(time_s, EDGES_S)]


def _texts(column: Floats | Labels) -> Texts:
    return np.array(column.texts()) if isinstance(column, Labels) else column.astype(str)


def _cases_in_words(table: Measurements) -> Texts:
    words = np.full(len(table), "")
    for name in (*SIZES[table.kind], "window", "prefix"):
        if name in table.columns:
            values = table.size(name).astype(np.int64)
            words = np.char.add(words, np.char.add(f"{name}=", np.char.add(values.astype(str), " ")))
    return np.char.strip(words)


def _apart(table: Measurements, bound: Texts) -> Texts:
    """Why rows stand apart from the summary; the reasons are those of the tables' own README."""
    why = np.where(bound == "host", "host-bound loop", "")
    if table.kind == SUSTAINED:
        labels = zip(table.label("runtime"), table.label("version"), strict=True)
        power_run = np.array([was_sustained(str(runtime), str(version)) for runtime, version in labels], dtype=bool)
        why = np.where(power_run, "run at the power limit", why)
    kind, chip, runtime = SUSPECT
    if table.kind == kind:
        names, place = np.unique(table.label("chip"), return_inverse=True)
        mine = np.array([catalogue.chip(str(name)).name == chip for name in names])[place]
        why = np.where(mine & (table.label("runtime") == runtime), "suspect: above memory bandwidth", why)
    return why


def lines_of(points: Iterable[Points], by: Sequence[str] = ()) -> list[Line]:
    """One line per kind, regime and combination of the labels `by`; rows that stand apart are left out."""
    lines: list[Line] = []
    for each in points:
        kept = each.rows(each.apart == "")
        if not kept.predicted.size:
            continue
        joined = np.full(kept.predicted.size, "")
        for name in by:
            joined = np.char.add(np.char.add(joined, kept.labels[name]), "\x1f")
        for key in np.unique(joined):
            values = dict(zip(by, str(key).split("\x1f"), strict=False))
            lines.append(_line(kept.rows(joined == key), values))
    return lines


def _line(points: Points, labels: Mapping[str, str]) -> Line:
    error, off = points.error, np.abs(points.error)
    counted = np.zeros(0) if points.covered is None else points.covered[np.isfinite(points.covered)]
    known = None if points.known is None else float(np.median(np.abs(points.known / points.measured - 1.0)))
    texts = {name: labels.get(name, ALL) for name in LABELS}
    return Line(
        kind=points.kind,
        regime=points.regime,
        **texts,
        count=int(off.size),
        median=float(np.median(off)),
        p90=float(np.quantile(off, 0.9)),
        bias=float(np.median(error)),
        covered=float(np.mean(counted)) if counted.size else None,
        known=known,
    )


def lines_apart(points: Iterable[Points]) -> list[tuple[str, Line]]:
    """(reason, line) of what stands outside the summary, in the regime `calibrated`."""
    return [
        (reason, _line(each.rows(each.apart == reason), {}))
        for each in points
        for reason in sorted(set(each.apart.tolist()) - {""})
    ]


def worst(points: Iterable[Points], count: int = WORST) -> list[tuple[Points, int]]:
    """The `count` points that are furthest off, by the logarithm of predicted over measured; ordinary rows only.

    At most a few of each kernel on each chip: one untuned shape would fill the table with its variants.
    """
    listed = list(points)
    found = [
        (float(abs(np.log(each.predicted[row] / each.measured[row]))), place, int(row))
        for place, each in enumerate(listed)
        for row in _furthest(each, LOOKED_AT)
    ]
    chosen: list[tuple[Points, int]] = []
    taken: Counter[tuple[str, ...]] = Counter()
    for _, place, row in sorted(found, key=lambda entry: (-entry[0], *entry[1:])):
        labels = listed[place].labels
        kernel = (listed[place].kind, str(labels["chip"][row]), str(labels["kernel"][row]))
        taken[kernel] += 1
        if taken[kernel] <= OF_ONE_KERNEL and len(chosen) < count:
            chosen.append((listed[place], row))
    return chosen


def _furthest(points: Points, count: int) -> NDArray[np.intp]:
    off = np.where(points.apart == "", np.abs(np.log(points.predicted / points.measured)), -1.0)
    found: NDArray[np.intp] = np.argsort(-off, kind="stable")[:count]
    return found[off[found] >= 0]


def baseline_of(points: Sequence[Points]) -> dict[str, float]:
    """Median error by kind, regime and chip, as a baseline file holds it; medians of few rows say too little."""
    lines = [*lines_of(points), *lines_of(points, ("chip",))]
    kept = [line for line in lines if line.count >= FEWEST]
    return {line.key: round(line.median, 4) for line in sorted(kept, key=lambda line: line.key)}


def read_baseline(path: Path) -> dict[str, float]:
    """The medians of a baseline file. Raises FileFormatError for a file that is none."""
    document = load_json(path)
    medians = document.data.get("medians") if isinstance(document.data, dict) else None
    if not isinstance(medians, dict) or not all(isinstance(value, int | float) for value in medians.values()):
        raise FileFormatError("not a baseline", at=document.where(), fix="write one with --write-baseline FILE")
    return {str(key): float(value) for key, value in medians.items()}


def regressed(points: Sequence[Points], baseline: Mapping[str, float]) -> list[str]:
    """What got worse than the baseline by more than one percent absolute in a median.

    Kinds, and regimes of a kind, of which nothing was scored now pass.
    """
    lines = (*lines_of(points), *lines_of(points, ("chip",)))
    scored = {(line.kind, line.regime) for line in lines}
    mine = {key: value for key, value in baseline.items() if tuple(key.split("/")[:2]) in scored}
    return regressions(Report(lines=lines), mine)
