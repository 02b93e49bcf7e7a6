"""`rl.compare`: deployments side by side, what differs between them first, then what follows from it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.api.planning.launch import launch_case
from ridgeline.api.predictions.predict import Prediction, predict
from ridgeline.api.tables.columns import DEGREES
from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.core.files import load_json, load_yaml
from ridgeline.hardware import catalogue
from ridgeline.serving.launch import Note, is_command, is_launch_file, read_launch

Value = float | str | None

MOST = 16
"""Deployments that fit side by side."""


@dataclass(frozen=True)
class Compared:
    """Deployments and their predictions.

    Attributes:
        names: of the deployments, as columns are headed.
        predictions: one each.
        notes: what launch files said beside their columns, by deployment.
    """

    names: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    notes: tuple[tuple[Note, ...], ...]

    @property
    def differences(self) -> dict[str, tuple[float | str, ...]]:
        """Inputs that are not equal in all, by column; "" where a deployment has no use for the column."""
        rows = {name: tuple(_input(one.case, name) for one in self.predictions) for name in self.predictions[0].case}
        return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}

    @property
    def results(self) -> dict[str, tuple[float | str, ...]]:
        """Result columns."""
        return {name: tuple(one.values[name] for one in self.predictions) for name in self.predictions[0].values}

    @property
    def ratios(self) -> dict[str, tuple[float, ...]]:
        """Numeric results over the first deployment's; NaN where that is 0 or absent."""
        return {
            name: tuple(_ratio(value, row[0]) for value in row)
            for name, row in self.results.items()
            if not any(isinstance(value, str) for value in row)
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON. Absent results are None."""
        return {
            "deployments": list(self.names),
            "differences": {name: list(row) for name, row in self.differences.items()},
            "results": {name: [_plain(value) for value in row] for name, row in self.results.items()},
            "ratios": {name: [_plain(value) for value in row] for name, row in self.ratios.items()},
            "notes": [[note.line() for note in notes] for notes in self.notes],
        }

    def __rich__(self) -> Any:
        """The tables that a terminal shows."""
        from ridgeline.api.predictions.compare_view import compared_view

        return compared_view(self)


def compare(
    *deployments: Prediction | Mapping[str, Any] | str | os.PathLike[str], on: str = "", **common: Any
) -> Compared:
    """Predict deployments and set them side by side.

    Args:
        deployments: two or more: case files of `predict serving` (YAML, JSON), launch files or folders, command lines
            (`vllm serve ...`), mappings of columns, or predictions.
        on: machines, for those that name none.
        common: columns for those that lack them (the load, as a rule).
    Raises:
        SpecError: fewer than two, or too many. RidgelineError: one of them cannot be read or predicted; named.
    """
    if not 2 <= len(deployments) <= MOST:
        fix = "name two or more case files or launch files"
        raise SpecError(f"2 to {MOST} deployments can be compared", at="compare", got=len(deployments), fix=fix)
    found = [_deployment(one, on, common) for one in deployments]
    names = _names([_name(one, index) for index, one in enumerate(deployments)])
    return Compared(names, tuple(prediction for prediction, _ in found), tuple(notes for _, notes in found))


def read_case(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A case file of columns and values. Raises FileFormatError."""
    place = Path(path)
    document = load_json(place) if place.suffix == ".json" else load_yaml(place)
    if not isinstance(document.data, dict):
        raise FileFormatError("a case is a mapping of columns to values", at=document.where(), fix="write `isl: 1024`")
    return dict(document.data)


def _deployment(one: Any, on: str, common: Mapping[str, Any]) -> tuple[Prediction, tuple[Note, ...]]:
    if isinstance(one, Prediction):
        return one, ()
    notes: tuple[Note, ...] = ()
    if isinstance(one, Mapping):
        case = {**common, **one}
    elif is_command(os.fspath(one)) or is_launch_file(one):
        reading = read_launch(one)
        notes = reading.notes
        machines = "" if "chip" in reading.case else on
        case = {**common, **launch_case(reading, on=machines, given={}), **({"on": machines} if machines else {})}
    else:
        case = {**common, **read_case(one)}
    machines = str(case.pop("on", "") or ("" if case.get("chip") else on))
    return predict("serving", on=machines, plan=str(case.pop("plan", "")), **case), notes


def _name(one: Any, index: int) -> str:
    letter = chr(ord("A") + index)
    if isinstance(one, Prediction | Mapping):
        return letter
    text = os.fspath(one)
    return letter if is_command(text) else Path(text).name or letter


def _names(names: Sequence[str]) -> tuple[str, ...]:
    """Names that tell the deployments apart."""
    return tuple(
        name if names.count(name) == 1 else f"{name} ({chr(ord('A') + index)})" for index, name in enumerate(names)
    )


def _input(case: Mapping[str, float | str], name: str) -> float | str:
    """A column as it counts: the default node by its name, and nothing for the columns of the other mode."""
    if name == "node" and not case["node"]:
        return catalogue.default_node(catalogue.chip(str(case["chip"]))).name
    of_pools = name.startswith(("prefill_", "decode_"))
    of_one = name in (*DEGREES, "replicas", "max_batch")
    return "" if (of_one if case["mode"] == "disagg" else of_pools) else case[name]


def _ratio(value: Any, first: Any) -> float:
    return float(value) / float(first) if float(first) else math.nan


def _plain(value: float | str) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
