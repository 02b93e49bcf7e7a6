"""Predictions against published training runs, and the fit that made the coefficients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgeline.core.cases import Problems
from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.training import bundled, coefficients, predict_training
from ridgeline.training.fit import Prepared, errors_by_family, fitted_values, prepared
from ridgeline.training.published import Runs, read_runs

DENSE_MEDIAN, DENSE_P90 = 0.05, 0.18
"""Error of speed on dense runs: release siblings of one configuration differ by 6 % in the median, 29 % at p90."""

EXPERTS_MEDIAN = 0.10
"""Mixtures of experts: dispatch, capture and routing differ by release and are not columns of the table."""

ALL_P90, BIAS = 0.18, 0.04
"""Of all runs together."""

RAN_AND_FITS = 0.97
"""Runs that ran did fit. The rest keep more than we know of: FSDP in the notes only, state in 8 bits."""

RECOMPUTE_NEEDED, FITS_ALREADY = 0.9, 0.9
"""Published runs are tuned: they recompute where they must, and do not where they need not."""


@pytest.fixture(scope="module")
def runs(shared_data: Path) -> Runs:
    """The visible published runs."""
    return read_runs(shared_data / "published" / "training.csv")


@pytest.fixture(scope="module")
def data(runs: Runs) -> Prepared:
    """The same, resolved."""
    return prepared(runs, bundled())


def errors(runs: Runs) -> np.ndarray:
    """|predicted / published speed - 1| of each run, NaN where it cannot be evaluated."""
    found = predict_training(runs.cases, Problems(runs.cases.rows))
    step_s, rate = found["step_s"], found["tokens_per_s_per_chip"]
    assert isinstance(step_s, np.ndarray) and isinstance(rate, np.ndarray)
    return np.abs(np.expm1(runs.log_error(step_s, rate)))


@pytest.mark.shared_data
def test_speed_of_published_dense_and_expert_runs(runs: Runs) -> None:
    error = errors(runs)
    experts = np.array(["experts" in family for family in runs.family])
    known = np.isfinite(error)
    assert known.mean() > 0.95
    assert np.median(error[known & ~experts]) <= DENSE_MEDIAN
    assert np.quantile(error[known & ~experts], 0.9) <= DENSE_P90
    assert np.median(error[known & experts]) <= EXPERTS_MEDIAN
    assert np.quantile(error[known], 0.9) <= ALL_P90


@pytest.mark.shared_data
def test_speed_is_not_biased_and_what_ran_is_said_to_fit(runs: Runs) -> None:
    found = predict_training(runs.cases, Problems(runs.cases.rows))
    step_s, rate, fits = (np.asarray(found[name]) for name in ("step_s", "tokens_per_s_per_chip", "fits"))
    signed = np.expm1(runs.log_error(step_s, rate))
    known = np.isfinite(signed)
    assert abs(np.median(signed[known])) <= BIAS
    assert fits[known].mean() >= RAN_AND_FITS


@pytest.mark.shared_data
def test_memory_says_which_fsdp_runs_had_to_recompute(data: Prepared) -> None:
    needed, fitting = [], []
    for group in data.groups:
        if group.setup.profile.name != "llm-foundry":
            continue
        redone = np.asarray(group.layout.redone_matmul) >= 1
        fits = group.step().memory.fits
        assert fits[redone].all()
        fitting += fits[~redone].tolist()
        bare = dict.fromkeys(("redone_matmul", "redone_attention", "redone_vector"), 0.0 * redone)
        without = type(group.layout)(**{**_columns(group.layout), **bare})
        needed += (~type(group)(group.rows, group.work, without, group.setup).step().memory.fits)[redone].tolist()
    assert np.mean(needed) >= RECOMPUTE_NEEDED
    assert np.mean(fitting) >= FITS_ALREADY


def _columns(layout: object) -> dict[str, object]:
    return {name: getattr(layout, name) for name in layout.__dataclass_fields__}  # type: ignore[attr-defined]


@pytest.mark.shared_data
def test_the_fit_beats_its_priors_and_too_few_runs_are_refused(data: Prepared) -> None:
    values = coefficients().values
    entries = {name: {"prior": value, "sigma": 0.0} for name, value in values.items()}
    fitted = errors_by_family(data, data.log_errors(values))["all"]["median"]
    worse = data.log_errors({name: value * (1.3 if "matrix_share" in name else 1.0) for name, value in values.items()})
    assert fitted < errors_by_family(data, worse)["all"]["median"]
    some = {name: {"prior": 1.0, "sigma": 0.1} for name in list(entries)[:20]}
    with pytest.raises(SpecError, match="too few runs to fit"):
        fitted_values(data, entries | some, keep=np.arange(data.rows.size) < 5)


@pytest.mark.shared_data
def test_another_table_is_refused(shared_data: Path) -> None:
    with pytest.raises(FileFormatError, match="not a table of published runs"):
        read_runs(shared_data / "silicon" / "gpu_specs.csv")


def test_every_coefficient_is_positive_or_absent_and_no_share_exceeds_one() -> None:
    for name, value in coefficients().values.items():
        assert value >= 0.0, name
        if name.startswith(("matrix_share", "attention_share", "scan_share", "expert_share", "exchange")):
            assert value <= 1.0, name
