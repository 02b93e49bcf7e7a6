"""Two pools at steady state: the closed form against its own equations."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.serving.disaggregated import Pair
from ridgeline.serving.steady import Curve

TIGHT = 1e-9


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Pools whose decode steps grow with the batch, more slowly than in proportion to it."""
    slots = float(draw(st.integers(1, 512)))
    knots = tuple(np.array([max(slots * share, 1.0)]) for share in (0.0, 0.25, 1.0))
    first = draw(st.floats(1e-3, 0.05))
    slopes = [draw(st.floats(0.0, 1.0)) * first / knots[i + 1][0] for i in range(2)]
    second = first + slopes[0] * (knots[1][0] - knots[0][0])
    third = second + slopes[1] * (knots[2][0] - knots[1][0])
    return Pair(
        prompt_s=draw(st.floats(1e-3, 2.0)),
        waves=float(draw(st.integers(1, 4))),
        prefill_lanes=float(draw(st.integers(1, 16))),
        decode_lanes=float(draw(st.integers(1, 16))),
        transfer_s=draw(st.floats(0.0, 0.1)),
        step_s=Curve(
            knots=(knots[0], knots[1], knots[2]),
            times_s=(np.array([first]), np.array([second]), np.array([third])),
        ),
        slots=np.array([slots]),
        lag_steps=1.0,
        iterations=float(draw(st.integers(0, 2000))),
        tokens_per_step=1.0,
        osl=100.0,
    )


@given(pair=pairs(), share=st.floats(0.001, 1.0))
def test_resident_sequences_solve_their_equation(pair: Pair, share: float) -> None:
    rate = share * pair.capacity
    n = pair.resident(rate)
    assert (n <= pair.slots * (1 + TIGHT)).all()
    balance = rate * pair.iterations * pair.step_s(n) / pair.decode_lanes
    assert np.allclose(n, balance, rtol=1e-7, atol=1e-12) or np.allclose(n, pair.slots)


@given(pair=pairs(), first=st.floats(0.01, 1.0), second=st.floats(0.01, 1.0))
def test_times_never_fall_as_the_rate_grows(pair: Pair, first: float, second: float) -> None:
    low, high = (pair.times(share * pair.capacity) for share in sorted((first, second)))
    for before, after in zip(low, high, strict=True):
        assert (after >= before * (1 - TIGHT)).all()


@given(pair=pairs(), concurrency=st.floats(0.5, 500.0))
def test_requests_in_flight_add_up_or_the_pools_are_full(pair: Pair, concurrency: float) -> None:
    rate = pair.closed_rate(concurrency)
    full = rate >= pair.capacity * (1 - 1e-9)
    assert (full | (np.abs(pair.in_flight(rate) / concurrency - 1.0) < 1e-6)).all()
