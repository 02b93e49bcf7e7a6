"""How claims are judged, and what the frame refuses."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import SpecError, UnknownNameError
from ridgeline.studies.frame import Assumption, Claim, Outcome, Study, Verdict, find, names, trial


@pytest.mark.parametrize(
    ("value", "kind", "ours", "verdict"),
    [
        (2.0, "ratio", 2.5, "reproduced"),
        (2.0, "ratio", 2.51, "trend"),
        (2.0, "ratio", 0.9, "not reproduced"),
        (0.8, "ratio", 0.5, "trend"),
        (100.0, "absolute", 130.0, "reproduced"),
        (100.0, "absolute", 199.0, "trend"),
        (100.0, "absolute", 49.0, "not reproduced"),
        (70.272, "exact", 70.9, "reproduced"),
        (70.272, "exact", 71.0, "trend"),
    ],
)
def test_a_number_is_judged_by_the_tolerance_of_its_kind(value: float, kind: str, ours: float, verdict: str) -> None:
    assert Claim(metric="m", value=value, kind=kind).judge((ours, ours)) == verdict


def test_a_range_is_reproduced_by_a_sweep_inside_it_and_shown_by_one_that_leaves_it() -> None:
    claim = Claim(metric="gain", value=(1.4, 11.2))
    assert claim.judge((1.4, 11.2)) is Verdict.REPRODUCED
    assert claim.judge((1.3, 5.0)) is Verdict.TREND
    assert claim.judge((0.2, 0.9)) is Verdict.NOT_REPRODUCED


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(0.01, 100))
def test_a_verdict_does_not_depend_on_the_unit_of_an_absolute_number(claim: float, ours: float, unit: float) -> None:
    ratio = ours / claim
    if min(abs(ratio - edge) for edge in (0.5, 0.7, 1.3, 2.0)) < 1e-9:
        return
    verdicts = {Claim(metric="m", value=claim * u, kind="absolute").judge((ours * u, ours * u)) for u in (1.0, unit)}
    assert len(verdicts) == 1


def _study(**more: object) -> Study:
    def run(assumed: Mapping[str, float]) -> Outcome:
        return Outcome(results={"gain": 10.0 * assumed["a"] + assumed["layers"]})

    values: dict[str, object] = {
        "name": "s",
        "n": 1,
        "area": "x",
        "paper": "p",
        "idea": "i",
        "run": run,
        "claims": (Claim(metric="gain", value=22.0),),
        "assumptions": (
            Assumption(name="a", value=1.0, source="s", uncertain=True),
            Assumption(name="layers", value=2, source="s", uncertain=True, whole=True),
        ),
    }
    return Study(**(values | more))  # type: ignore[arg-type]


def test_uncertain_assumptions_move_by_a_fifth_and_whole_ones_by_one_at_least() -> None:
    told = trial(_study())
    assert told.moved == {"a": (10.0, 14.0), "layers": (11.0, 13.0)}
    assert told.verdict is Verdict.TREND
    assert told.to_dict()["sensitivity"]["a"] == {"-20%": 10.0, "+20%": 14.0}


def test_a_study_is_as_good_as_its_worst_claim() -> None:
    told = trial(_study(claims=(Claim(metric="gain", value=12.0), Claim(metric="gain", value=0.5))))
    assert [j.verdict for j in told.judged] == ["reproduced", "not reproduced"]
    assert told.verdict is Verdict.NOT_REPRODUCED


def test_what_compares_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="at least one claim"):
        _study(claims=())
    with pytest.raises(SpecError, match="unknown kind"):
        Claim(metric="m", value=1.0, kind="rate")
    with pytest.raises(SpecError, match="other than 0"):
        Claim(metric="m", value=float("nan"))
    with pytest.raises(SpecError, match="two most uncertain"):
        _study(assumptions=tuple(Assumption(name=n, value=1.0, source="s", uncertain=True) for n in "abc"))


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="deepseek-v3-insights"):
        find("deepseek-v3-insight")
    assert find("DeepSeek V3 insights").name in names()
