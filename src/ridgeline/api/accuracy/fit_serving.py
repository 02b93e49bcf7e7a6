"""`python -m ridgeline.api.accuracy.fit_serving FILE`: serving predictions beside measured engines, and host constants.

Prints errors by runtime, chip and model, and for each runtime the host time per iteration, host time per sequence and
admission lag at which its errors are least. It changes no file: constants go into `serving/runtimes/*.yaml` by hand, so
that each change is seen. Errors of kernels are not to be compensated here: fit kernels first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.accuracy.endtoend import SERVING_POINTS
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.cases import Cases, Problems
from ridgeline.core.tables import Table, from_mapping
from ridgeline.serving.deployment import evaluate
from ridgeline.serving.predict import deployment_for, grouped

Column = NDArray[np.float64]

HOST_STEP_S = (0.0, 0.5e-3, 1.0e-3, 1.5e-3, 2.0e-3, 2.5e-3, 3.0e-3)
HOST_SEQUENCE_S = (0.0, 10e-6, 20e-6, 30e-6)
LAGS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
FIT_SHARE = 4
"""Every fourth row is fitted; all are reported."""

LARGEST = 0.5
"""Logarithmic errors count up to this, so that rows with another cause do not pull."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Cases and what was measured of them; `labels` say runtime, chip and model, `runtimes` the engine alone."""

    table: dict[str, NDArray[np.generic]]
    ttft_s: Column
    tpot_s: Column
    labels: NDArray[np.str_]
    runtimes: NDArray[np.str_]

    def some(self, chosen: NDArray[np.bool_]) -> Points:
        """The chosen rows."""
        return Points(
            table={name: column[chosen] for name, column in self.table.items()},
            ttft_s=self.ttft_s[chosen],
            tpot_s=self.tpot_s[chosen],
            labels=self.labels[chosen],
            runtimes=self.runtimes[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Predicted over measured minus one; NaN where there is no prediction."""

    ttft: Column
    tpot: Column

    def loss(self) -> float:
        """Mean of the capped logarithmic errors of both times."""
        both = np.concatenate([self.ttft, self.tpot])
        sizes = np.minimum(np.abs(np.log1p(both[np.isfinite(both)])), LARGEST)
        return float(sizes.mean()) if sizes.size else float("inf")


def load(path: Path) -> Points:
    """Measured serving points, as columns of `predict serving`."""
    import duckdb

    found = duckdb.connect().execute(SERVING_POINTS, [str(path)]).fetchnumpy()
    plain = {name: np.ma.filled(column, "" if column.dtype.kind == "O" else np.nan) for name, column in found.items()}
    ttft_s, tpot_s = plain.pop("measured_ttft_s"), plain.pop("measured_tpot_s")
    plain["moe_weights"] = np.where(plain["moe_weights"] == plain["weights"], "", plain["moe_weights"]).astype(object)
    parts = zip(plain["runtime"], plain["chip"], plain["model"], strict=True)
    return Points(
        table=plain,
        ttft_s=ttft_s.astype(float),
        tpot_s=tpot_s.astype(float),
        labels=np.array([f"{engine} {chip} {model}" for engine, chip, model in parts]),
        runtimes=plain["runtime"].astype(str),
    )


def errors(points: Points, **constants: float) -> Errors:
    """Errors of the predictions, with some constants of the runtimes replaced (fields of `Runtime`)."""
    table: Table = from_mapping(points.table, columns=wanted("serving"))
    cases, problems = intake("serving", table)
    ttft_s, tpot_s = np.full(cases.rows, np.nan), np.full(cases.rows, np.nan)
    with np.errstate(all="ignore"):
        for rows, predicted in _predictions(cases, problems, constants):
            ttft_s[rows], tpot_s[rows] = predicted
    bad = ~problems.ok
    ttft_s[bad] = tpot_s[bad] = np.nan
    return Errors(ttft=ttft_s / points.ttft_s - 1.0, tpot=tpot_s / points.tpot_s - 1.0)


def _predictions(
    cases: Cases, problems: Problems, constants: dict[str, float]
) -> Iterator[tuple[NDArray[np.intp], tuple[Column, Column]]]:
    for group in grouped(cases, problems):
        deployment = deployment_for(group, group.rows, cases)
        changed = replace(deployment, runtime=replace(deployment.runtime, **constants))  # type: ignore[arg-type]
        outcome = evaluate(changed, problems, group.rows)
        yield group.rows, (np.asarray(outcome.ttft_s), np.asarray(outcome.tpot_s))


def fitted(points: Points) -> dict[str, float]:
    """Host constants of least loss on a coarse grid, then the lag."""
    best = {"host_step_s": 0.0, "host_sequence_s": 0.0}
    least = float("inf")
    for step_s, sequence_s in product(HOST_STEP_S, HOST_SEQUENCE_S):
        loss = errors(points, host_step_s=step_s, host_sequence_s=sequence_s).loss()
        if loss < least:
            least, best = loss, {"host_step_s": step_s, "host_sequence_s": sequence_s}
    lags = [(errors(points, **best, admission_lag_steps=lag).loss(), lag) for lag in LAGS]
    return {**best, "admission_lag_steps": min(lags)[1]}


def report(points: Points) -> list[str]:
    """Lines of median, 90th percentile and signed median errors in percent, per label and overall."""
    found = errors(points)
    lines = []
    for label in ["all", *sorted(set(points.labels.tolist()))]:
        mine = (points.labels == label) | (label == "all")
        cells = []
        for column in (found.tpot[mine], found.ttft[mine]):
            finite = 100.0 * column[np.isfinite(column)]
            if finite.size:
                size = np.abs(finite)
                cells.append(f"{np.median(size):6.1f} /{np.quantile(size, 0.9):6.1f} /{np.median(finite):+6.1f}")
        lines.append(f"{label[:64]:<64} {int(mine.sum()):>4}  " + "  ".join(cells))
    return lines


def main(path: str) -> None:
    """Print the report and the fitted constants."""
    points = load(Path(path))
    out = ["errors in percent: TPOT median / p90 / bias, then TTFT", *report(points)]
    for name in sorted(set(points.runtimes.tolist())):
        every = np.flatnonzero(points.runtimes == name)[::FIT_SHARE]
        chosen = np.zeros(points.runtimes.size, dtype=bool)
        chosen[every] = True
        best = ", ".join(f"{key} {value:g}" for key, value in fitted(points.some(chosen)).items())
        out.append(f"least errors of {name}: {best}")
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
