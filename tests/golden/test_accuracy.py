"""Accuracy does not get worse unnoticed: medians on a sample of the measured tables, against a committed file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from ridgeline.api.accuracy.endtoend import validate_systems
from ridgeline.api.accuracy.validate import baseline_of, read_baseline, regressed, validate_kernels

BASELINE = Path(__file__).with_name("accuracy.json")
SAMPLE = 2000


@pytest.mark.shared_data
def test_no_median_error_is_worse_than_the_committed_baseline(shared_data: Path) -> None:
    points = [*validate_kernels(shared_data, sample=SAMPLE), *validate_systems(shared_data)]
    if os.environ.get("RIDGELINE_REGOLD"):
        medians = {"sample": SAMPLE, "medians": baseline_of(points)}
        BASELINE.write_text(json.dumps(medians, indent=1) + "\n", encoding="utf-8")
    assert regressed(points, read_baseline(BASELINE)) == []


def test_the_page_names_no_path_of_the_machine_that_wrote_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert not re.search(r"(^|[\s`(])(/\w+){2,}", page)
    assert "| gemm |" in page
    assert "training speed" in page


@pytest.mark.shared_data
def test_a_median_that_got_worse_or_vanished_is_told(shared_data: Path) -> None:
    points = validate_kernels(shared_data, ("collectives",))
    medians = baseline_of(points)
    key = "collectives/calibrated/all/all/all/all/all"
    assert regressed(points, medians) == []
    assert regressed(points, {key: medians[key] - 0.009}) == []
    (worse,) = regressed(points, {key: medians[key] - 0.02})
    assert key in worse
    (gone,) = regressed(points, {"collectives/calibrated/no-such-chip/all/all/all/all": 0.1})
    assert "no longer scored" in gone
