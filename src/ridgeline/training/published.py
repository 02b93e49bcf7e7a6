"""Published training runs as cases with their measured speed, read from `published/training.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases
from ridgeline.core.errors import FileFormatError
from ridgeline.core.tables import Labels, Table, encode, read_table
from ridgeline.training.prepare import NUMBERS, TEXTS

Column = NDArray[np.float64]

EXTRA = ("metric", "notes", "group", "source")
"""Columns of the table that say what was measured, and where; the number itself is `value`."""

SPELLED = {"chip": "gpu", "chips": "n_gpus", "zero": "zero_stage", "framework_version": "version"}
"""How the table spells columns of a case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Measured runs: `cases` to predict, `speed` as published, and the family that each row is scored in.

    `measured` is tokens/s per chip, or seconds per step where `is_step_time`. `weight` makes every configuration count
    once, however many releases measured it.
    """

    cases: Cases
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
    kinds: dict[str, Literal["number", "text"]] = dict.fromkeys((*map(_spelled, TEXTS), *EXTRA), "text")
    kinds |= dict.fromkeys((*map(_spelled, NUMBERS), "value"), "number")
    table = read_table(path, columns=kinds)
    if not all(table.has(name) for name in (*EXTRA, "value")):
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


def _cases(table: Table, rows: NDArray[np.intp], notes: Sequence[str]) -> Cases:
    numbers = {name: np.nan_to_num(table.number(_spelled(name)))[rows] for name in NUMBERS}
    texts = {name: _taken(table.labels(_spelled(name)), rows) for name in TEXTS}
    texts["lora"] = _taken(encode(["true" if "LoRA" in note else "" for note in notes]), np.arange(rows.size))
    return Cases(rows.size, numbers, texts)


def _spelled(name: str) -> str:
    return SPELLED.get(name, name)


def _taken(labels: Labels, rows: NDArray[np.intp]) -> Labels:
    """The labels of some rows, with empty text for a missing cell."""
    codes = np.where(labels.codes < 0, len(labels.values), labels.codes)[rows]
    return Labels(codes.astype(np.int32), (*labels.values, ""))


def _family(source: str, cases: Cases, row: int) -> str:
    """The repository that published it, with mixtures of experts, and the two generations of BLOOM runs, apart."""
    repository = source.partition("@")[0].rpartition("/")[2]
    expert = cases.number("ep")[row] > 1 or "moe" in cases.text("framework", row).lower()
    chip = cases.text("chip", row)
    if repository == "bigscience":
        return f"{repository} {chip[:4]}"
    return f"{repository}, experts" if expert else repository
