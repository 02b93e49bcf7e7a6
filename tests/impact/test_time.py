"""Series, shifting and rows over time: brute force, conservation, delays, and hostile tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, FileFormatError, SpecError, UnknownNameError
from ridgeline.impact.hourly import read_hourly
from ridgeline.impact.row import Battery, default_policy, play_row
from ridgeline.impact.shifting import shift_load
from ridgeline.impact.transport import PATHS, transport_j

HOURS = (
    "timestamp,zone,carbon\n2025-01-01T00:00+01:00,FR,50\n2025-01-01T01:00+01:00,FR,60\n2025-01-01T02:00+01:00,FR,70\n"
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hours.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_hours_are_read_in_si_and_repeat(tmp_path: Path) -> None:
    found = read_hourly(write(tmp_path, HOURS), zone="FR")
    np.testing.assert_allclose(found.values * 3.6e9, [50, 60, 70])
    assert found.start.isoformat() == "2024-12-31T23:00:00+00:00"
    np.testing.assert_allclose(found.at(np.array([0, 3599, 3600, 3 * 3600])) * 3.6e9, [50, 50, 60, 50])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("2025-01-01T01:00+01:00,FR,60\n", ""), "1 hours are missing, the first after 2024-12-31T23:00:00"),
        (("T02:00+01:00,FR", "T02:00+01:00,DE"), "several zones"),
        (("FR", "DE"), "of zone DE, not FR"),
        (("+01:00", ""), "without a zone"),
        (("T02:00", "T01:00"), "repeat or go back"),
        (("T02:00", "T02:30"), "not whole hours"),
        (("2025-01-01T00:00+01:00", "yesterday"), "not a time of ISO 8601"),
        (("carbon", "words"), "no column of values"),
        (("timestamp", "when"), "no column of times"),
        ((",70", ",70,1"), "as many cells"),
        ((",70", ",lots"), "lots"),
    ],
)
def test_odd_hours_are_named(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises((SpecError, FileFormatError, Exception), match=words) as caught:
        read_hourly(write(tmp_path, HOURS.replace(*change)), zone="FR")
    assert hasattr(caught.value, "screen")


def test_gaps_are_filled_only_if_asked_and_counted(tmp_path: Path) -> None:
    gap = write(tmp_path, HOURS.replace("2025-01-01T01:00+01:00,FR,60\n", ""))
    found = read_hourly(gap, interpolate=True)
    assert found.filled == 1
    np.testing.assert_allclose(found.values * 3.6e9, [50, 60, 70])


def test_clocks_are_known_or_refused(tmp_path: Path) -> None:
    local = write(tmp_path, HOURS.replace("+01:00", ""))
    assert read_hourly(local, clock="Europe/Paris").start.isoformat() == "2024-12-31T23:00:00+00:00"
    with pytest.raises(UnknownNameError):
        read_hourly(local, clock="Mars/Base")


@given(
    costs=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=2),
    units_=st.integers(0, 3),
)
def test_the_cheapest_hours_are_as_good_as_any_schedule(costs: list[list[int]], units_: int) -> None:
    """Brute force over all ways of placing whole units of energy, one per hour and site at most."""
    found = shift_load(units_ * 3600.0, costs, most_w=1.0)
    slots = [cost for row in costs for cost in row]
    chosen = [
        sum(c for c, used in zip(slots, pick, strict=True) if used)
        for pick in product((0, 1), repeat=len(slots))
        if sum(pick) == units_
    ]
    assert found.cost == pytest.approx(3600.0 * min(chosen))
    assert found.energy_j.sum() == pytest.approx(units_ * 3600.0)
    assert (found.energy_j <= 3600.0 + 1e-9).all()


@given(costs=st.lists(st.floats(0, 10), min_size=4, max_size=8), hours=st.floats(0.1, 4))
def test_one_piece_costs_no_less_than_pieces_and_no_more_than_starting_at_once(
    costs: list[float], hours: float
) -> None:
    pieces, piece = (shift_load(hours * 3600, costs, most_w=1.0, whole=whole) for whole in (False, True))
    assert pieces.cost <= piece.cost * (1 + 1e-9) + 1e-12
    assert piece.cost <= piece.base * (1 + 1e-9) + 1e-12
    used = np.flatnonzero(piece.energy_j[0] > 0)
    assert np.all(np.diff(used) == 1)


def test_moving_a_load_counts_and_a_load_that_does_not_fit_is_refused() -> None:
    stays = shift_load(3600.0, [[2.0], [1.0]], most_w=1.0, moving=[0.0, 5.0])
    assert stays.energy_j[0, 0] == 3600.0
    assert shift_load(3600.0, [[2.0], [1.0]], most_w=1.0).saved_frac == pytest.approx(0.5)
    with pytest.raises(DomainError, match="do not fit"):
        shift_load(1e9, [1.0, 2.0], most_w=1.0)


def demands(servers: int, steps: int, low: float, high: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, size=(servers, steps))


def test_without_a_policy_nothing_is_held_back_and_an_overload_opens_the_breaker() -> None:
    demand = np.full((10, 60), 600.0)
    run = play_row(demand, np.zeros(10), limit_w=3000, idle_w=100, most_w=700)
    np.testing.assert_array_equal(run.power_w, demand.sum(0))
    assert run.opened_s == pytest.approx(9.0)  # 10 s at twice the rating
    assert run.lost_frac == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_caps_hold_low_priority_first_and_keep_the_breaker_closed(seed: int) -> None:
    demand = demands(40, 2000, 300, 700, seed)
    high = np.arange(40) < 20
    limit = 40 * 700 / 1.3  # 30 % more servers than the row was built for (POLCA)
    run = play_row(demand, high, limit_w=limit, idle_w=100, most_w=700, policy=default_policy())
    assert np.isnan(run.opened_s)
    assert run.capped_frac[0] >= run.capped_frac[1]
    assert 0.0 <= run.hard_frac <= run.capped_frac[0]
    gentle = replace(default_policy(), second_threshold=1.0, brake_cap=1.0)
    assert play_row(demand * 0.9, high, limit_w=limit, idle_w=100, most_w=700, policy=gentle).hard_frac == 0.0
    assert run.lost_frac[0] > run.lost_frac[1]
    assert run.power_w[200:].mean() < demand.sum(0)[200:].mean()


def test_a_cap_holds_only_after_its_delays() -> None:
    demand = np.concatenate([np.full((10, 5), 100.0), np.full((10, 95), 500.0)], axis=1)
    policy = default_policy()
    run = play_row(demand, np.zeros(10), limit_w=6000, idle_w=100, most_w=700, policy=policy)
    held = int(np.flatnonzero(run.power_w < demand.sum(0) - 1e-9)[0]) if np.any(run.power_w < demand.sum(0)) else -1
    assert held == -1 or held >= 5 + policy.telemetry_delay + policy.actuation_delay


def test_the_brake_acts_when_caps_are_late() -> None:
    demand = np.concatenate([np.full((10, 5), 100.0), np.full((10, 95), 690.0)], axis=1)
    run = play_row(demand, np.ones(10), limit_w=6000, idle_w=100, most_w=700, policy=default_policy())
    assert run.brakes >= 1
    assert run.power_w[20:30].max() <= 0.4 * 7000 + 1e-9


def test_a_battery_conserves_energy_and_shaves_the_peak() -> None:
    demand = demands(10, 300, 100, 700, 3)
    battery = Battery(capacity_j=50_000.0, power_w=1500.0)
    run = play_row(demand, np.zeros(10), limit_w=4200, idle_w=100, most_w=700, battery=battery)
    stored = np.concatenate([[battery.capacity_j], run.stored_j])
    np.testing.assert_allclose(run.grid_w - run.power_w, np.diff(stored), atol=1e-6)
    assert (run.stored_j >= -1e-6).all()
    assert run.peak_w < demand.sum(0).max()


def test_a_limit_below_idle_is_refused() -> None:
    with pytest.raises(DomainError, match="below the idle power"):
        play_row(np.full((10, 3), 200.0), np.zeros(10), limit_w=500, idle_w=100, most_w=700)
    with pytest.raises(DomainError, match="watts"):
        play_row(np.full((10, 3), -1.0), np.zeros(10), limit_w=5000, idle_w=100, most_w=700)


def test_transport_is_linear_and_knows_its_paths() -> None:
    assert transport_j(2e9, "5g").value == pytest.approx(2 * transport_j(1e9, "5g").value)
    assert transport_j(1e9, "edge").value < transport_j(1e9, "fixed").value < transport_j(1e9, "4g").value
    assert len(PATHS) == 5
    with pytest.raises(UnknownNameError):
        transport_j(1.0, "pigeon")
