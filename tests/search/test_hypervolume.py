"""Hypervolumes against counting cells of a grid, which integers make exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import RidgelineError
from ridgeline.search.hypervolume import hypervolume


@given(st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 6)] * m), min_size=1, max_size=8)))
def test_it_is_the_number_of_unit_cells_that_some_point_dominates(points) -> None:
    worst = 5
    cells = itertools.product(range(worst), repeat=len(points[0]))
    wanted = sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)
    assert hypervolume(points, [worst] * len(points[0])) == pytest.approx(wanted)


def test_what_is_infeasible_counts_for_nothing() -> None:
    assert hypervolume([[np.inf, 0], [np.nan, 1]], [2, 2]) == 0.0
    assert hypervolume([[1, 1], [np.inf, 0]], [2, 2]) == 1.0
    with pytest.raises(RidgelineError, match="finite number per objective"):
        hypervolume([[1, 1]], [np.inf, 2])
