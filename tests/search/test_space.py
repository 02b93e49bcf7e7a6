"""Spaces: points, columns and the unit cube, each way and back; grids and samples hold legal points only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search.spaces import bowl, everything, problems

from ridgeline.core.errors import RidgelineError
from ridgeline.search.space import Choice, Ordered, Range, Space

MIXED = bowl().space


@given(st.integers(0, 2**32 - 1))
def test_points_survive_columns_and_the_unit_cube(seed: int) -> None:
    points = MIXED.sample(np.random.default_rng(seed), 50)
    assert MIXED.is_legal(points).all()
    assert np.allclose(MIXED.encode(MIXED.columns(points)), points, atol=1e-12)
    assert np.allclose(MIXED.from_unit(MIXED.unit(points)), points)
    assert len(np.unique(MIXED.keys(points))) == len(np.unique(points, axis=0))


@given(problems())
def test_a_grid_holds_every_legal_point_once(problem) -> None:
    points, _ = everything(problem)
    space = problem.space
    whole = space.numbered(np.arange(int(space.size)))
    assert np.array_equal(points, whole[space.is_legal(whole)])
    assert np.array_equal(space.keys(whole), np.arange(int(space.size)))
    pieces = np.concatenate(list(space.grid(chunk=3)))
    assert np.array_equal(pieces, points)


def test_samples_are_uniform_over_legal_points() -> None:
    axes = (Choice(name="a", values=("x", "y", "z")), Ordered(name="b", values=(1.0, 2.0, 3.0, 4.0)))
    space = Space(axes=axes, legal=lambda c: (c["a"] != "x") | (c["b"] > 3.0))
    points = space.sample(np.random.default_rng(1), 90_000)
    _, counts = np.unique(space.keys(points), return_counts=True)
    assert len(counts) == 9
    assert np.all(np.abs(counts - 10_000) < 5 * 100)  # five standard deviations


def test_one_legal_point_among_a_million_is_found_and_none_is_said() -> None:
    axes = tuple(Ordered(name=name, values=tuple(map(float, range(100)))) for name in "abc")
    rare = Space(axes=axes, legal=lambda c: (c["a"] == 7) & (c["b"] == 8) & (c["c"] == 9))
    assert rare.sample(np.random.default_rng(0), 2).tolist() == [[7, 8, 9]] * 2
    with pytest.raises(RidgelineError, match="no point of the space is legal"):
        Space(axes=axes, legal=lambda c: c["a"] < 0).sample(np.random.default_rng(0), 1)


def test_a_range_needs_levels_for_a_grid() -> None:
    with pytest.raises(RidgelineError, match="a range has no grid"):
        next(MIXED.grid())
    levels = np.concatenate(list(MIXED.grid(levels=3)))
    assert sorted(set(MIXED.columns(levels)["share"])) == pytest.approx([0.1, 1.0, 10.0])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"kind": ["fsat"]}, "did you mean 'fast'"),
        ({"kind": [3.0]}, "takes names"),
        ({"n0": ["a"]}, "takes numbers"),
        ({"n0": [0.5]}, "has no value"),
        ({"share": [20.0]}, "lies in 0.1"),
        ({"colour": [1.0]}, "unknown axis"),
    ],
)
def test_values_that_no_axis_has_are_named(columns, words: str) -> None:
    good = {name: column[:1] for name, column in MIXED.columns(MIXED.sample(np.random.default_rng(0), 1)).items()}
    with pytest.raises(RidgelineError, match=words):
        MIXED.encode({**good, **columns})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(name="a", values=()),
        lambda: Choice(name="a", values=("x", "x")),
        lambda: Ordered(name="a", values=(2.0, 1.0)),
        lambda: Ordered(name="a", values=(1.0, float("nan"))),
        lambda: Range(name="a", low=1.0, high=1.0),
        lambda: Range(name="a", low=0.0, high=1.0, log=True),
        lambda: Space(axes=()),
        lambda: Space(axes=(Range(name="a", low=0, high=1), Range(name="a", low=0, high=1))),
        lambda: MIXED.columns(np.zeros((1, 2))),
        lambda: MIXED.columns(np.full((1, 6), 99.0)),
        lambda: MIXED.columns(np.full((1, 6), np.nan)),
        lambda: MIXED.encode({"kind": ["fast"]}),
    ],
)
def test_axes_and_points_that_cannot_be_are_refused(make) -> None:
    with pytest.raises(RidgelineError):
        make()
