"""Studies under a sweep: points are runs with other assumptions."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ridgeline.api.sweeps.sweep import sweep
from ridgeline.core.errors import UnknownNameError
from ridgeline.studies.frame import find
from ridgeline.studies.frame.swept import VERBS


def test_a_point_is_the_study_with_that_assumption(tmp_path: Path) -> None:
    spec, out = tmp_path / "spec.yaml", tmp_path / "out.parquet"
    spec.write_text("task: study deepseek-v3-insights\naxes:\n  tokens per device: [16, 32]\n")
    assert sweep(spec, out=out, verbs=VERBS).summary.failed == 0
    study = find("deepseek-v3-insights")
    metric = study.claims[0].metric
    found = duckdb.sql(f'SELECT "tokens per device", "{metric}", "{metric}, verdict" FROM \'{out}\'').fetchall()
    for tokens, value, verdict in found:
        ours = study.run(study.assumed(**{"tokens per device": tokens})).results[metric]
        assert value == pytest.approx(ours) and verdict == str(study.claims[0].judge((value, value)))
    assert len(found) == 2


def test_an_unknown_assumption_or_study_names_the_nearest(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("task: study deepseek-v3-insights\naxes:\n  tokens per devise: [16]\n")
    with pytest.raises(UnknownNameError, match="tokens per device"):
        sweep(spec, out=tmp_path / "out.csv", verbs=VERBS)
    spec.write_text("task: study deepseek-v3-insight\naxes:\n  a: [16]\n")
    with pytest.raises(UnknownNameError, match="study deepseek-v3-insights"):
        sweep(spec, out=tmp_path / "out.csv", verbs=VERBS)
