"""Every study runs, is quick, explains what it misses, and says what the committed coverage page says."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from tests.pace import PACE

from ridgeline.studies.frame import find, names, trial
from ridgeline.studies.frame.coverage import page
from ridgeline.studies.frame.view import figure_svg

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"
PLAYED = frozenset(
    {"bytescale", "fastswitch", "fuyou", "llumnix", "polca", "qmoe", "semi-pd", "sn40l-experts", "splitwise"}
)
"""Studies that simulate loads or search codes, again for each uncertain assumption: more than three seconds each."""
SECONDS = 20.0 * PACE
"""Of one core, for a study with its sensitivity."""


def _committed() -> dict[str, list[str]]:
    """Verdicts by study, in the order of its claims."""
    found: dict[str, list[str]] = {}
    name = ""
    for row in re.findall(r"^\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        cells = row.split(" | ")
        if len(cells) == 7 and cells[6] in ("reproduced", "trend", "not reproduced"):
            name = cells[1].strip("` ") or name
            found.setdefault(name, []).append(cells[6])
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in PLAYED else []) for name in names()]
)
def test_a_study_says_what_the_coverage_page_says(name: str) -> None:
    started = time.process_time()
    told = trial(find(name))
    assert time.process_time() - started < SECONDS
    assert find(name).name == name
    picture = figure_svg(told)
    assert picture.count("<svg") == 1
    assert not re.search(r"\bnan\b", picture)
    for judged in told.judged:
        if judged.verdict == "reproduced":
            assert not judged.claim.why, f"{judged.claim.metric} is reproduced; its `why` is out of date"
        else:
            assert judged.claim.why, f"{judged.claim.metric}: {judged.ours} against {judged.claim.ends}; say why"
    if not os.environ.get("RIDGELINE_REGOLD"):
        assert [str(j.verdict) for j in told.judged] == _committed()[name], "make regold, and read the diff"


def test_the_coverage_page_holds_every_study() -> None:
    if os.environ.get("RIDGELINE_REGOLD"):
        PAGE.write_text(page([trial(find(name), sensitivity=False) for name in names()]), encoding="utf-8")
    assert sorted(_committed()) == sorted(names())
    assert len({find(name).n for name in names()}) == len(names())
