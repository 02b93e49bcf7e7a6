"""Laws of lengths: their notation, their means and shapes, and that they never leave their range."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.core.errors import RidgelineError
from ridgeline.core.seeding import stream
from ridgeline.workloads.traffic import parse_law
from ridgeline.workloads.traffic.lengths import names

DRAWS = 200_000
# Five standard errors of the mean of the widest law here (cv 2) over DRAWS.
NEAR = 5 * 2 / math.sqrt(DRAWS)


@pytest.mark.parametrize(
    ("text", "mean", "cv"),
    [
        ("1024", 1024, 0.0),
        ("8k", 8000, 0.0),
        ("fixed(7)", 7, 0.0),
        ("uniform(800, 1024)", 912, 65 / 912),
        ("uniform(low=1, high=3)", 2, math.sqrt(2 / 3) / 2),
        ("lognormal(mean=1024, sigma=0.8)", 1024, math.sqrt(math.expm1(0.64))),
        ("lognormal(mean=1000, cv=1.5)", 1000, 1.5),
        ("lognormal(mean=1000, p50=600)", 1000, math.sqrt(math.expm1(2 * math.log(1 / 0.6)))),
        ("gamma(500, cv=2)", 500, 2.0),
        ("exponential(3000)", 3000, 1.0),
        ("geometric(4)", 4, math.sqrt(3) / 2),
        ("range(1024, ratio=0.8)", 921.5, 0.0644),
        ("around(1000, ratio=20%)", 1000, 0.1157),
    ],
)
def test_a_law_has_its_mean_and_variation(text: str, mean: float, cv: float) -> None:
    law = parse_law(text)
    drawn = law.sample(DRAWS, stream(1, text))
    assert drawn.dtype == np.int64
    assert drawn.mean() == pytest.approx(mean, rel=max(NEAR, 1e-3))
    assert law.mean == pytest.approx(mean, rel=2e-3)
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.05, abs=1e-9)


def test_a_lognormal_has_its_percentiles() -> None:
    drawn = parse_law("lognormal(p50=900, p99=8k)").sample(DRAWS, stream(1, "p"))
    assert np.percentile(drawn, 50) == pytest.approx(900, rel=0.02)
    assert np.percentile(drawn, 99) == pytest.approx(8000, rel=0.04)


def test_ranges_end_where_benchmarks_end_them() -> None:
    below = parse_law("range(1024, ratio=0.8)").sample(DRAWS, stream(1, "r"))
    assert (below.min(), below.max()) == (819, 1024)
    around = parse_law("around(1000, ratio=0.2)").sample(DRAWS, stream(1, "r"))
    assert (around.min(), around.max()) == (800, 1200)


def test_draws_are_clipped_to_min_and_max() -> None:
    drawn = parse_law("exponential(100, min=50, max=200)").sample(DRAWS, stream(1, "c"))
    assert (drawn.min(), drawn.max()) == (50, 200)


def test_times_have_units_and_may_be_below_one() -> None:
    drawn = parse_law("uniform(100ms, 0.2s)", "s").seconds(1000, stream(1, "t"))
    assert 0.1 <= drawn.min() < drawn.max() <= 0.2
    with pytest.raises(RidgelineError, match="unit is missing"):
        parse_law("uniform(1, 2)", "s")


def test_lengths_of_a_file_are_drawn_as_often_as_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("prompt_tokens,output_tokens\n10,1\n10,1\n40,3\n", encoding="utf-8")
    law = parse_law('empirical("a b.csv")', folder=tmp_path)
    drawn = law.sample(DRAWS, stream(1, "e"))
    assert law.mean == 20
    assert (drawn == 40).mean() == pytest.approx(1 / 3, abs=NEAR)
    output = parse_law("empirical(a b.csv)", folder=tmp_path, column="output_tokens")
    assert set(output.sample(100, stream(1, "e")).tolist()) == {1, 3}


def test_the_same_stream_gives_the_same_lengths() -> None:
    law = parse_law("lognormal(mean=1024, sigma=0.8)")
    assert np.array_equal(law.sample(100, stream(3, "x")), law.sample(100, stream(3, "x")))
    assert not np.array_equal(law.sample(100, stream(3, "x")), law.sample(100, stream(4, "x")))


@settings(max_examples=300)
@given(text=st.text(max_size=40) | st.from_regex(r"[a-z]{1,10}\([ -~]{0,30}\)", fullmatch=True))
def test_any_text_is_a_law_or_a_named_error(text: str) -> None:
    try:
        drawn = parse_law(text).sample(10, stream(0, "any"))
    except RidgelineError as error:
        assert error.at and error.fix
    else:
        assert drawn.min() >= 1


@settings(max_examples=300)
@given(
    name=st.sampled_from([name for name in names() if name != "empirical"]),
    values=st.lists(
        st.sampled_from(["0", "1", "-1", "1e-300", "1e300", "nan", "inf", "0.5", "2147483647", "1k", "%", "1e-3"]),
        max_size=3,
    ),
    keys=st.lists(st.sampled_from(["mean", "sigma", "p50", "p99", "cv", "ratio", "min", "max", "x"]), max_size=3),
)
def test_any_numbers_make_a_law_or_a_named_error(name: str, values: list[str], keys: list[str]) -> None:
    named = [f"{key}={value}" for key, value in zip(keys, values, strict=False)]
    for inside in (values, named):
        try:
            drawn = parse_law(f"{name}({', '.join(inside)})").sample(10, stream(0, "any"))
        except RidgelineError as error:
            assert error.at and error.fix
        else:
            assert 1 <= drawn.min() <= drawn.max() <= 2**31 - 1


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(RidgelineError, match="lognormal"):
        parse_law("lognrmal(mean=5, sigma=1)")
    with pytest.raises(RidgelineError, match="sigma"):
        parse_law("lognormal(mean=5, sgima=1)")
