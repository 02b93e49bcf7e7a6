"""Fit the training coefficients to published runs: `python -m ridgeline.training.fit DATA/published/training.csv`.

Every coefficient starts at its prior and may move by its `sigma` (natural logarithm); what the runs do not identify
stays there. The loss is soft-L1 on the logarithm of predicted over published speed; all configurations weigh the same.
The result is written to `coefficients.yaml` with the data's hash, counts and errors, in sample and in 5-fold
cross-validation over configurations. Needs scipy (the `fit` extra).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems
from ridgeline.core.errors import MissingExtraError, SpecError
from ridgeline.core.files import load_yaml, sha256_of, write_atomic
from ridgeline.core.seeding import stream
from ridgeline.training.prepare import Catalogue, Group, bundled, prepare
from ridgeline.training.profile import Coefficients
from ridgeline.training.published import Runs, read_runs

Column = NDArray[np.float64]
Entries = Mapping[str, Mapping[str, float]]

NOISE = 0.1
"""Log error up to which the loss is quadratic: the spread between software releases of one configuration."""

FOLDS = 5

SHARES = ("matrix_share", "attention_share", "scan_share", "expert_share", "exchange")
"""Groups of coefficients that are shares of a hardware rate."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Runs that the model can evaluate: groups of rows, and the rows in them."""

    runs: Runs
    groups: Sequence[Group]
    rows: NDArray[np.intp]

    def log_errors(self, values: Mapping[str, float]) -> Column:
        """log(predicted / published speed) of `rows`, in their order."""
        step_s, rate = (np.full(self.runs.cases.rows, np.nan) for _ in range(2))
        fitted = Coefficients(values)
        for group in self.groups:
            step = group.step(fitted)
            step_s[group.rows] = step.step_s
            rate[group.rows] = step.tokens / (step.step_s * step.chips)
        return self.runs.log_error(step_s, rate)[self.rows]


def prepared(runs: Runs, catalogue: Catalogue) -> Prepared:
    """Resolve and check the runs once. Rows of unknown models or chips are left out."""
    problems = Problems(runs.cases.rows)
    groups = prepare(runs.cases, problems, catalogue)
    return Prepared(runs, groups, np.flatnonzero(problems.ok))


def fitted_values(data: Prepared, entries: Entries, keep: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Coefficients fitted to the runs (those of `keep`, aligned with `data.rows`, if given).

    Raises: MissingExtraError: scipy is not installed. SpecError: fewer runs than coefficients.
    """
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise MissingExtraError("fitting needs scipy", at="training.fit", fix="pip install ridgeline[fit]") from error
    values = {name: entry["prior"] for name, entry in entries.items()}
    free = [name for name, entry in entries.items() if entry["sigma"] > 0]
    used = np.ones(data.rows.size, dtype=bool) if keep is None else keep
    if used.sum() < len(free):
        raise SpecError("too few runs to fit", at="rows", got=int(used.sum()), fix=f"give at least {len(free)}")
    sigma = np.array([entries[name]["sigma"] for name in free])
    weight = np.sqrt(data.runs.weight[data.rows][used])

    def residuals(moves: Column) -> Column:
        trial = values | {name: values[name] * float(np.exp(m)) for name, m in zip(free, moves, strict=True)}
        return np.concatenate([data.log_errors(trial)[used] * weight / NOISE, moves / sigma])

    # A share of a rate or of a link cannot exceed one; its prior lies below, so the start is inside.
    most = [-np.log(values[name]) if name.startswith(SHARES) else np.inf for name in free]
    bounds = (np.full(len(free), -np.inf), np.array(most))
    found = least_squares(residuals, np.zeros(len(free)), bounds=bounds, loss="soft_l1", ftol=1e-4, max_nfev=20)
    moved = {name: float(f"{values[name] * np.exp(m):.4g}") for name, m in zip(free, found.x, strict=True)}
    return values | moved


def cross_validated(data: Prepared, entries: Entries) -> Column:
    """Log errors of each run by a fit that saw none of its configuration (release siblings share a fold)."""
    key = [tuple(_signature(data, row)) for row in data.rows]
    order = {value: index for index, value in enumerate(dict.fromkeys(key))}
    fold = np.array([order[value] % FOLDS for value in key])
    errors = np.full(data.rows.size, np.nan)
    for held in range(FOLDS):
        values = fitted_values(data, entries, keep=fold != held)
        errors[fold == held] = data.log_errors(values)[fold == held]
    return errors


LEAST_LEFT_OUT = 3
"""A framework or chip with fewer runs says nothing when it is left out."""

CALIBRATED_WITH = 3
"""Runs of other configurations of the same stack, drawn at random, that set its one scalar."""


def left_out(data: Prepared, entries: Entries, column: str) -> tuple[list[str], Column, Column]:
    """Errors of each run by a fit that saw none of its framework, or chip: what a new one may expect.

    `column` is `framework` or `chip`. Returns the group of each run; log errors; log errors after one scalar from
    CALIBRATED_WITH other configurations of the group (NaN for groups that are too small).
    """
    names = np.array([data.runs.cases.text(column, row) for row in data.rows])
    configurations = np.array([str(_signature(data, row)) for row in data.rows])
    errors, scaled = (np.full(data.rows.size, np.nan) for _ in range(2))
    draw = stream(0, "runs of a stack")
    for name in dict.fromkeys(names.tolist()):
        held = np.flatnonzero(names == name)
        if held.size < LEAST_LEFT_OUT:
            continue
        errors[held] = data.log_errors(fitted_values(data, entries, keep=names != name))[held]
        for row in held.tolist():
            others = np.unique(configurations[held], return_index=True)[1]
            others = held[others[configurations[held[others]] != configurations[row]]]
            if others.size >= CALIBRATED_WITH:
                chosen = draw.choice(others, CALIBRATED_WITH, replace=False)
                scaled[row] = errors[row] - np.median(errors[chosen])
    return names.tolist(), errors, scaled


def _by_name(names: Sequence[str], log_errors: Column) -> dict[str, dict[str, float]]:
    percent, known = 100.0 * np.expm1(log_errors), np.isfinite(log_errors)
    kinds = {"all": known} | {name: known & (np.array(names) == name) for name in dict.fromkeys(names)}
    return {name: _summary(percent[rows]) for name, rows in kinds.items() if rows.any()}


def _signature(data: Prepared, row: int) -> list[str]:
    cases = data.runs.cases
    texts = [cases.text(name, row) for name in ("model", "chip", "precision", "framework", "recompute")]
    sizes = ("chips", "seq", "global_batch", "micro_batch", "tp", "pp", "ep")
    return texts + [str(cases.number(name)[row]) for name in sizes]


def errors_by_family(data: Prepared, log_errors: Column) -> dict[str, dict[str, float]]:
    """Median, 90th percentile and bias of the error of predicted speed, in percent, per family and for all."""
    percent = 100.0 * np.expm1(log_errors)
    family = np.array([data.runs.family[row] for row in data.rows])
    names = ["all", *sorted(set(data.runs.family))]
    chosen = {name: percent[(family == name) | (name == "all")] for name in names}
    return {name: _summary(values) for name, values in chosen.items() if values.size}


def _summary(percent: Column) -> dict[str, float]:
    size = np.abs(percent)
    middle, high, bias = float(np.median(size)), float(np.quantile(size, 0.9)), float(np.median(percent))
    return {"n": len(percent), "median": round(middle, 1), "p90": round(high, 1), "bias": round(bias, 1)}


def _yaml(entries: Entries, values: Mapping[str, float], document: Mapping[str, Any], facts: Sequence[str]) -> str:
    head = Path(str(resources.files("ridgeline.training") / "coefficients.yaml")).read_text("utf-8")
    comment = [line for line in head.splitlines() if line.startswith("#")]
    lines = [*comment, f"kind: {document['kind']}", f"source: {document['source']}", *facts, "coefficients:"]
    for name, entry in entries.items():
        lines.append(f"  {name}: {{value: {values[name]:g}, prior: {entry['prior']:g}, sigma: {entry['sigma']:g}}}")
    return "\n".join(lines) + "\n"


def _facts(data: Prepared, path: Path, tables: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    pairs = sorted(
        {
            (group.setup.profile.name, group.setup.chips.chips[i].name)
            for group in data.groups
            for i in np.unique(group.setup.chips.index if group.setup.chips.index is not None else [0])
        }
    )
    lines = [
        "provenance:",
        "  command: python -m ridgeline.training.fit",
        f"  data: [{{file: {path.name}, sha256: {sha256_of(path)}, rows: {data.rows.size}}}]",
        "  errors:  # percent of predicted speed: median and p90 of the size, median with its sign",
    ]
    for title, table in tables.items():
        lines.append(f"    {title}:")
        for name, row in table.items():
            cells = ", ".join(f"{key}: {value:g}" for key, value in row.items())
            lines.append(f'      "{name}": {{{cells}}}')
    lines.append("calibrated:")
    lines += [f"  - [{profile}, {chip}]" for profile, chip in pairs]
    return lines


def main(arguments: Sequence[str], catalogue: Catalogue | None = None) -> None:
    """Fit and write `coefficients.yaml`."""
    parser = argparse.ArgumentParser(prog="python -m ridgeline.training.fit", description=__doc__)
    parser.add_argument("data", type=Path, help="published/training.csv")
    parser.add_argument("--left-out", action="store_true", help="also leave out each framework and chip (slow)")
    parser.add_argument("--dry-run", action="store_true", help="print the errors, write nothing")
    options = parser.parse_args(arguments)
    target = Path(str(resources.files("ridgeline.training") / "coefficients.yaml"))
    document = load_yaml(target).data
    entries: Entries = document["coefficients"]
    data = prepared(read_runs(options.data), catalogue or bundled())
    values = fitted_values(data, entries)
    priors = {name: entry["prior"] for name, entry in entries.items()}
    tables = {
        "priors": errors_by_family(data, data.log_errors(priors)),
        "fitted": errors_by_family(data, data.log_errors(values)),
        "cross_validated": errors_by_family(data, cross_validated(data, entries)),
    }
    chips = [data.runs.cases.text("chip", row) for row in data.rows]
    tables["fitted_by_chip"] = _by_name(chips, data.log_errors(values))
    for column in ("framework", "chip") if options.left_out else ():
        names, errors, scaled = left_out(data, entries, column)
        tables[f"left_out_{column}"] = _by_name(names, errors)
        tables[f"left_out_{column}_after_three_runs"] = _by_name(names, scaled)
    for title, table in tables.items():
        sys.stdout.write(f"{title}\n")
        for name, row in table.items():
            sys.stdout.write(f"  {name:32s} {row}\n")
    if not options.dry_run:
        write_atomic(target, _yaml(entries, values, document, _facts(data, options.data, tables)))


if __name__ == "__main__":
    main(sys.argv[1:])
