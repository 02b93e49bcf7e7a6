"""From families of kernels and measured rows to a coefficient file: pooled values, generations, chips, and errors.

Three fits nest: pooled over every chip (the default of chips never seen), pooled over the chips of a generation, and
one chip alone; each pulls to the wider one. A residual table then explains what the physics of a chip leaves. Errors
are measured on shapes that no fit saw, and once more for each chip with values fitted without it (leave one chip
out), as a chip with only a datasheet would be priced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.costs import residual
from ridgeline.costs.fits.common import Document, even, intervals_of, write
from ridgeline.costs.fits.fill import table_of
from ridgeline.costs.fits.robust import Array, Knob, Sample, errors, fit
from ridgeline.costs.residual import Grid, Table
from ridgeline.hardware.catalogue import chip as chip_of
from ridgeline.hardware.chip import Chip

POOLED_ROWS, CHIP_ROWS, HELD_ROWS, ALL_ROWS = 500, 1500, 4000, 10**6
"""Rows per sample for pooled fits, for fits of one chip, for errors, and for residual tables."""

Load = Callable[[str, str, int], tuple[Sample, ...]]
"""(gpu, part of `common.chosen`, rows) -> samples of one chip."""


Derive = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Fitted entries by kernel -> entries of families that were never measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kernel family: where it was measured, what is fitted, what its source code fixes.

    `borrowers` are generations that take the values of another generation, because their kernels descend from its.
    `kin` names, for generations on which another family's kernel does the work, that family: an unmeasured chip takes
    its values. `published` are numbers that a document gives of generations without rows; the others are the default's.
    """

    kernel: str
    gpus: tuple[str, ...]
    load: Load
    knobs: Mapping[str, Knob]
    habits: Mapping[str, float]
    grid: Grid | None = None
    neighbours: int = 6
    borrowers: Mapping[str, str] = field(default_factory=dict)
    kin: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the fit of a family gives: its entry of the file, tables, errors, intervals, values without each chip."""

    entry: Mapping[str, Any]
    tables: Mapping[str, Table]
    errors: Mapping[str, Any]
    intervals: Mapping[str, Any]
    without: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Values pooled over all chips and over the chips of each generation, with the rows that gave them."""

    rows: Mapping[str, tuple[Sample, ...]]
    default: dict[str, float]
    generations: dict[str, dict[str, float]]


def fit_levels(family: Family) -> Levels:
    """What chips have in common."""
    rows = {gpu: family.load(gpu, "fit", POOLED_ROWS) for gpu in family.gpus}
    default = _pool(family, rows, family.gpus, {})
    generations = {name: _pool(family, rows, gpus, default) for name, gpus in _generations(family.gpus).items()}
    return Levels(rows=rows, default=default, generations=generations)


def fit_chip(family: Family, gpu: str, levels: Levels) -> tuple[dict[str, float], dict[str, Table]]:
    """Values of one chip, pulled to its generation's, and its residual tables by variant."""
    rows = family.load(gpu, "fit", CHIP_ROWS)
    values = fit(family.knobs, rows, family.habits, levels.generations[chip_of(gpu).generation])
    return values, residual_tables(family, gpu, values)


def fit_family(family: Family, done: Mapping[str, Result]) -> Result:
    """Fit one family and score it; `done` are the families before it."""
    levels = fit_levels(family)
    generations = levels.generations
    lent = {name: generations[lender] for name, lender in family.borrowers.items() if lender in generations}
    for name, kin in family.kin.items():
        entry = done[kin].entry if kin in done and name not in generations else {}
        if entry:
            lent[name] = entry["generations"].get(name, entry["default"])
    chips: dict[str, dict[str, float]] = {}
    tables: dict[str, Table] = {}
    scores: dict[str, Any] = {}
    without: dict[str, Any] = {}
    known: list[Array] = []
    guessed: dict[str, list[Array]] = {}
    for gpu in family.gpus:
        chip = chip_of(gpu)
        chips[chip.name], mine = fit_chip(family, gpu, levels)
        tables.update({f"{chip.name}|{family.kernel}|{variant}": table for variant, table in mine.items()})
        held, spread = family.load(gpu, "held", HELD_ROWS), family.load(gpu, "spread", ALL_ROWS)
        stages = {
            "start": ratio_of(family, held, {name: knob.start for name, knob in family.knobs.items()}, {}),
            "physics": ratio_of(family, held, chips[chip.name], {}),
            "with_residual": ratio_of(family, held, chips[chip.name], mine),
        }
        known.append(1.0 / ratio_of(family, spread, chips[chip.name], mine))
        rest = tuple(other for other in family.gpus if other != gpu)
        if rest:
            relative = done.get(family.kin.get(chip.generation, ""))
            borrowed = relative.without.get(chip.name) if relative else None
            without[chip.name] = borrowed or _without(family, levels.rows, rest, chip)
            stages["chip_left_out"] = ratio_of(family, held, without[chip.name], {})
            guessed.setdefault(chip.generation, []).append(1.0 / ratio_of(family, spread, without[chip.name], {}))
        scores[chip.name] = {stage: errors(ratio, np.ones_like(ratio)) for stage, ratio in stages.items()}
    return Result(
        entry={
            "shared": dict(family.habits),
            "default": levels.default,
            "generations": {**generations, **lent, **{name: dict(values) for name, values in family.published.items()}},
            "chips": chips,
        },
        tables=tables,
        errors=scores,
        intervals={
            "calibrated": intervals_of(np.concatenate(known)),
            **({"datasheet": even(guessed)} if guessed else {}),
        },
        without=without,
    )


def fit_all(kind: str, command: str, families: Sequence[Family], data: Sequence[Mapping[str, Any]], folder: Path,
            facts: Mapping[str, Any], derived: Derive = lambda kernels: {}) -> Mapping[str, Any]:  # fmt: skip
    """Fit every family; write `coefficients/KIND.yaml` and `residuals/KIND.npz` in `folder`.

    `facts` are entries of the file that are not fitted; `derived` makes families that were never measured out of those
    that were. Returns errors by kernel and chip.
    """
    results: dict[str, Result] = {}
    for family in families:
        results[family.kernel] = fit_family(family, results)
    without: dict[str, dict[str, Any]] = {}
    for kernel, result in results.items():
        for chip, values in result.without.items():
            without.setdefault(chip, {})[kernel] = values
    entries = {kernel: result.entry for kernel, result in results.items()}
    document = Document(
        kind=kind,
        command=command,
        data=data,
        errors={kernel: result.errors for kernel, result in results.items()},
        kernels={**facts, **entries, **derived(entries)},
        intervals={**{kernel: result.intervals for kernel, result in results.items()}, "any": _any(results.values())},
        without=without,
    )
    write(document, folder / "coefficients" / f"{kind}.yaml")
    tables = {key: table for result in results.values() for key, table in result.tables.items()}
    if tables:
        residual.save(folder / "residuals" / f"{kind}.npz", tables)
    return document.errors


def residual_tables(family: Family, gpu: str, values: Mapping[str, float]) -> dict[str, Table]:
    """Tables of one chip by variant, from all rows that a fit may see."""
    if family.grid is None:
        return {}
    known = {**family.habits, **values}
    found: dict[str, tuple[list[Array], list[tuple[Array, ...]]]] = {}
    for sample in family.load(gpu, "fit", ALL_ROWS):
        off = np.log(sample.measured_s / sample.predict(known))
        for place in (place for place in sample.places if np.any(place.rows)):
            ratios, dims = found.setdefault(place.variant, ([], []))
            ratios.append(off[place.rows])
            dims.append(tuple(np.asarray(dim)[place.rows] for dim in place.dims))
    grid = family.grid
    return {
        variant: table_of(
            grid,
            [np.concatenate(axis) for axis in zip(*dims, strict=True)],
            np.concatenate(ratios),
            family.neighbours,
        )
        for variant, (ratios, dims) in found.items()
    }


def _any(results: Iterable[Result]) -> dict[str, list[float]]:
    """The interval of a family without its own: from the middle of the families' ends."""
    found: dict[str, list[list[float]]] = {}
    for result in results:
        for regime, ends in result.intervals.items():
            found.setdefault(regime, []).append(ends)
    return {regime: [float(end) for end in np.median(ends, axis=0)] for regime, ends in found.items()}


def show(kind: str, scores: Mapping[str, Any]) -> str:
    """Errors as lines of text: median and 90th percentile per kernel, chip and stage."""
    lines = []
    for kernel, by_chip in scores.items():
        for chip, by in by_chip.items():
            stages = "  ".join(f"{stage} {s['median_pct']}/{s['p90_pct']}" for stage, s in by.items())
            lines.append(f"{kind:8} {kernel:24} {chip:14} {stages}")
    return "\n".join(lines) + "\n"


def _pool(
    family: Family, rows: Mapping[str, tuple[Sample, ...]], gpus: Sequence[str], centre: Mapping[str, float]
) -> dict[str, float]:
    """One fit over several chips; each weighs the same, whatever its rows."""
    sizes = {gpu: sum(sample.measured_s.size for sample in rows[gpu]) for gpu in gpus}
    mean = sum(sizes.values()) / len(sizes)
    samples = [replace(sample, weight=mean / sizes[gpu]) for gpu in gpus for sample in rows[gpu]]
    return fit(family.knobs, samples, family.habits, centre)


def _without(
    family: Family, rows: Mapping[str, tuple[Sample, ...]], rest: Sequence[str], chip: Chip
) -> dict[str, float]:
    """What a chip would be priced with, had it not been measured: its generation if others remain, else the pool."""
    default = _pool(family, rows, rest, {})
    siblings = [gpu for gpu in rest if chip_of(gpu).generation == chip.generation]
    return _pool(family, rows, siblings, default) if siblings else default


def _generations(gpus: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for gpu in gpus:
        groups.setdefault(chip_of(gpu).generation, []).append(gpu)
    return groups


def ratio_of(family: Family, held: Sequence[Sample], values: Mapping[str, float], tables: Mapping[str, Table]) -> Array:
    """Priced over measured time of held-out rows, with residual tables where given."""
    known = {**family.habits, **values}
    parts = []
    for sample in held:
        priced = sample.predict(known)
        for place in sample.places:
            if place.variant in tables:
                dims = [np.asarray(dim)[place.rows] for dim in place.dims]
                priced[place.rows] *= np.exp(residual.interpolate(tables[place.variant], dims))
        parts.append(np.maximum(priced, sample.floor_s) / sample.measured_s)
    return np.concatenate(parts) if parts else np.zeros(0)
