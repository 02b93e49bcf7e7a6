"""From families of kernels and measured rows to a coefficient file: pooled values, generations, chips, and their errors.

Three fits nest: pooled over every chip (the default of chips never seen), pooled over the chips of a generation, and one
chip alone; each pulls to the wider one. Errors are measured on shapes that no fit saw, and once more for each chip with
values fitted without it (leave one chip out), as a chip with only a datasheet would be priced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import yaml

from ridgeline.costs.fits.robust import Knob, Sample, digest, errors, fit, rounded
from ridgeline.hardware.catalogue import chip as chip_of
from ridgeline.hardware.chip import Chip

POOLED_ROWS, CHIP_ROWS, HELD_ROWS = 500, 1500, 2500
"""Rows per sample for pooled fits, for fits of one chip, and for errors."""

Load = Callable[[str, str, int], tuple[Sample, ...]]
"""(gpu, half, rows) -> samples of one chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kernel family: where it was measured, what is fitted, what its source code fixes."""

    kernel: str
    gpus: tuple[str, ...]
    load: Load
    knobs: Mapping[str, Knob]
    habits: Mapping[str, float]
    next_from: tuple[str, ...] = field(default=())


def distinct(file: Path, names: Sequence[str], where: str) -> list[tuple[str, ...]]:
    """Every combination of labels that the chosen rows hold, sorted."""
    listed = ", ".join(names)
    query = f"select distinct {listed} from '{file}' where {where} order by all"  # noqa: S608 - our own constants
    with duckdb.connect() as connection:
        return [tuple(str(label) for label in row) for row in connection.execute(query).fetchall()]


def gpus_of(file: Path, where: str) -> tuple[str, ...]:
    """The chips that the chosen rows were measured on."""
    return tuple(gpu for (gpu,) in distinct(file, ("gpu",), where))


def count_rows(file: Path) -> int:
    """Rows of a table."""
    with duckdb.connect() as connection:
        found = connection.execute("select count(*) from read_parquet(?)", [str(file)]).fetchone()
    return int(found[0]) if found else 0


def fit_family(family: Family) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the family's entry of a coefficient file, errors by chip)."""
    pooled_rows = {gpu: family.load(gpu, "fit", POOLED_ROWS) for gpu in family.gpus}
    default = _pool(family, pooled_rows, family.gpus, {})
    by_generation = _generations(family.gpus)
    generations = {name: _pool(family, pooled_rows, gpus, default) for name, gpus in by_generation.items()}
    for name in family.next_from if "hopper" in generations else ():
        generations[name] = generations["hopper"]
    chips: dict[str, dict[str, float]] = {}
    scores: dict[str, Any] = {}
    for gpu in family.gpus:
        chip = chip_of(gpu)
        rows = family.load(gpu, "fit", CHIP_ROWS)
        held = family.load(gpu, "held", HELD_ROWS)
        chips[chip.name] = fit(family.knobs, rows, family.habits, generations[chip.generation])
        scores[chip.name] = {
            "before": _score(family, held, {name: knob.start for name, knob in family.knobs.items()}),
            "after": _score(family, held, chips[chip.name]),
        }
        rest = tuple(other for other in family.gpus if other != gpu)
        if rest:
            known = _without(family, pooled_rows, rest, chip)
            scores[chip.name]["chip_left_out"] = _score(family, held, known)
    entry = {
        "shared": dict(family.habits),
        "default": _round(default),
        "generations": {name: _round(values) for name, values in generations.items()},
        "chips": {name: _round(values) for name, values in chips.items()},
    }
    return entry, scores


def write(
    target: Path, kind: str, families: Sequence[Family], data: Sequence[tuple[Path, int]], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Fit every family and write `target`; returns the errors by kernel and chip."""
    kernels: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    for family in families:
        kernels[family.kernel], scores[family.kernel] = fit_family(family)
    document = {
        "kind": kind,
        "provenance": {
            "command": f"python -m ridgeline.costs.fits.{'experts' if kind == 'experts' else 'attention'}",
            "data": [{"file": file.name, "sha256": digest(file), "rows": rows} for file, rows in data],
            "errors": scores,
        },
        **extra,
        "kernels": kernels,
    }
    text = yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)
    target.write_text(text, "utf-8")
    return scores


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
    """What a chip would be priced with, had it not been measured: its generation if others remain there, else the pool."""
    default = _pool(family, rows, rest, {})
    siblings = [gpu for gpu in rest if chip_of(gpu).generation == chip.generation]
    return _pool(family, rows, siblings, default) if siblings else default


def _generations(gpus: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for gpu in gpus:
        groups.setdefault(chip_of(gpu).generation, []).append(gpu)
    return groups


def _score(family: Family, held: Sequence[Sample], values: Mapping[str, float]) -> dict[str, float]:
    known = {**family.habits, **values}
    predicted = np.concatenate([sample.predict(known) for sample in held])
    return errors(predicted, np.concatenate([sample.measured_s for sample in held]))


def _round(values: Mapping[str, float]) -> dict[str, float]:
    return {name: rounded(value) for name, value in values.items()}
