"""Errors say what, where, what was got and what would be right, in one line and on one screen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core import errors
from ridgeline.core.errors import RidgelineError, UnknownNameError, did_you_mean, nearest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RidgelineError)]


def test_every_kind_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(code.startswith("RL01") and len(code) == 6 for code in codes)


def test_the_line_holds_all_four_parts() -> None:
    error = UnknownNameError("unknown chip 'h10'", at="study.yaml:12:11", got="h10", fix="did you mean 'h100'?")
    assert error.line() == "unknown chip 'h10' at study.yaml:12:11 (got 'h10'); did you mean 'h100'?"
    assert str(error) == error.line()
    assert (error.what, error.at, error.got, error.fix) == (
        "unknown chip 'h10'",
        "study.yaml:12:11",
        "h10",
        "did you mean 'h100'?",
    )


def test_parts_that_are_absent_leave_no_trace() -> None:
    assert RidgelineError("it broke").line() == "it broke"
    assert RidgelineError("it broke").screen() == "error RL0100: it broke"


def test_falsy_values_are_shown_as_got() -> None:
    assert "got 0" in RidgelineError("x", got=0).line()
    assert "got  ''" in RidgelineError("x", got="").screen()


def test_the_screen_is_laid_out() -> None:
    assert UnknownNameError("unknown chip", at="a.yaml:1:2", got="h10", fix="say h100").screen() == (
        "error RL0103: unknown chip\n  at   a.yaml:1:2\n  got  'h10'\n  fix  say h100"
    )


@given(what=st.text(), at=st.text(), got=st.text() | st.lists(st.integers()), fix=st.text())
def test_the_line_is_one_line_whatever_it_holds(what: str, at: str, got: object, fix: str) -> None:
    assert len(RidgelineError(what, at=at, got=got, fix=fix).line().splitlines()) <= 1


@given(got=st.text() | st.lists(st.integers()) | st.integers(min_value=10**200))
def test_a_long_value_is_shortened(got: object) -> None:
    assert len(RidgelineError("x", got=got).screen()) <= 160


@pytest.mark.parametrize(
    ("name", "expected"),
    [("h100_sxn", "h100_sxm"), ("H100-SXM", "h100_sxm"), ("a100", "a100_sxm"), ("MI300", "mi300x")],
)
def test_the_nearest_name_comes_first(name: str, expected: str) -> None:
    assert nearest(name, ["mi300x", "h100_sxm", "a100_sxm", "h100_pcie"])[0] == expected


def test_nothing_near_is_said_to_be_so() -> None:
    assert nearest("zzz", ["h100_sxm"]) == ()
    assert did_you_mean("zzz", ["h100_sxm"], listing="`ridgeline catalogue chips` lists them") == (
        "no close name is known `ridgeline catalogue chips` lists them"
    )


def test_the_order_of_the_choices_does_not_matter() -> None:
    choices = ["b100", "b200", "b300", "h100", "h200"]
    assert nearest("b10", choices) == nearest("b10", reversed(choices))
