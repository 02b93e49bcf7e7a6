"""Published training runs as cases with their measured speed, read from `published/training.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import FileFormatError
from ridgeline.core.tables import Labels, Table, from_mapping, read_table
from ridgeline.training.predict import COLUMNS, NUMBERS, TEXT, Kind

Column = NDArray[np.float64]

EXTRA: dict[str, Kind] = {"metric": "text", "notes": "text", "group": "text", "source": "text", "value": "number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Measured runs: `cases` to predict, `speed` as published, and the family that each row is scored in.

    `measured` is tokens/s per chip, or seconds per step where `is_step_time`. `weight` makes every configuration count
    once, however many releases measured it.
    """

    cases: Table
    measured: Column
    is_step_time: NDArray[np.bool_]
    weight: Column
    family: tuple[str, ...]

    def log_error(self, step_s: Column, tokens_per_s_per_chip: Column) -> Column:
        """log(predicted / published speed), per row."""
        predicted = np.where(self.is_step_time, 1.0 / step_s, tokens_per_s_per_chip)
        published = np.where(self.is_step_time, 1.0 / self.measured, self.measured)
        return np.log(predicted / published)


def read_runs(path: Path) -> Runs:
    """Rows with a speed (tokens/s per chip, or step time where that is all), without those marked SUSPECT.

    Notes say what no column does: LoRA. Raises FileFormatError when the file is no such table.
    """
    table = read_table(path, columns=dict(COLUMNS) | EXTRA)
    if not all(table.has(name) for name in EXTRA):
        raise FileFormatError("not a table of published runs", at=str(path), fix="give published/training.csv")
    metric, notes = table.labels("metric").texts(), table.labels("notes").texts()
    groups, sources = table.labels("group").texts(), table.labels("source").texts()
    has_speed = {group for group, name in zip(groups, metric, strict=True) if name == "tok_s_gpu"}
    chosen = [
        row
        for row in range(table.rows)
        if (metric[row] == "tok_s_gpu" or (metric[row] == "step_s" and groups[row] not in has_speed))
        and "SUSPECT" not in notes[row]
    ]
    rows = np.array(chosen, dtype=np.intp)
    cases = _cases(table, rows, [notes[row] for row in chosen])
    kept = [groups[row] for row in chosen]
    return Runs(
        cases=cases,
        measured=table.number("value")[rows],
        is_step_time=np.array([metric[row] == "step_s" for row in chosen]),
        weight=np.array([1.0 / kept.count(group) for group in kept]),
        family=tuple(_family(sources[row], cases, i) for i, row in enumerate(chosen)),
    )


def _cases(table: Table, rows: NDArray[np.intp], notes: Sequence[str]) -> Table:
    columns: dict[str, object] = {}
    for name in TEXT:
        if table.has(name):
            columns[name] = _texts(table.labels(name), rows)
    for name in NUMBERS:
        if table.has(name):
            columns[name] = table.number(name)[rows]
    columns["lora"] = ["true" if "LoRA" in note else "" for note in notes]
    return from_mapping(columns, columns=COLUMNS)


def _texts(labels: Labels, rows: NDArray[np.intp]) -> list[str]:
    texts = labels.texts()
    return [texts[row] for row in rows]


def _family(source: str, cases: Table, row: int) -> str:
    """The repository that published it, with mixtures of experts, and the two generations of BLOOM runs, apart."""
    repository = source.partition("@")[0].rpartition("/")[2]
    chip = cases.labels("gpu").texts()[row]
    expert = cases.number("ep")[row] > 1 or "moe" in cases.labels("framework").texts()[row].lower()
    if repository == "bigscience":
        return f"{repository} {chip[:4]}"
    return f"{repository}, experts" if expert else repository
