"""Pareto fronts against the definition, on random tables with ties, NaN and infinity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import RidgelineError
from ridgeline.search.pareto import front, ranks

_small = st.integers(0, 5).map(float) | st.sampled_from([float("nan"), float("inf")])


def _beats(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.all(one <= other) and np.any(one < other))


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(_small, min_size=width, max_size=width), max_size=30))
    return np.asarray(rows, dtype=float).reshape(-1, width)


@given(tables())
def test_the_front_is_what_the_definition_says(table: np.ndarray) -> None:
    ok = np.isfinite(table).all(axis=1)
    wanted = [
        ok[i] and not any(ok[j] and _beats(table[j], table[i]) for j in range(len(table))) for i in range(len(table))
    ]
    assert front(table).tolist() == wanted


@given(tables())
def test_every_row_of_a_later_rank_is_beaten_by_one_of_the_rank_before(table: np.ndarray) -> None:
    order = ranks(table)
    assert ((order == 0) == front(table)).all()
    for row in np.flatnonzero(order > 0):
        assert any(_beats(table[better], table[row]) for better in np.flatnonzero(order == order[row] - 1))


def test_a_front_larger_than_a_block_is_kept_whole() -> None:
    angle = np.linspace(0.01, 1.5, 5000)
    arc = np.stack([1 - np.cos(angle), 1 - np.sin(angle), np.ones_like(angle)], axis=1)
    both = np.concatenate([arc, arc + 0.5])
    assert front(both).tolist() == [True] * 5000 + [False] * 5000


def test_a_list_of_numbers_is_no_table() -> None:
    with pytest.raises(RidgelineError, match="rows and columns"):
        front([1.0, 2.0])
