"""What stands around a chip, and what making it takes: closed forms, published data points, monotony."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, SpecError, UnknownNameError
from ridgeline.hardware import catalogue, chips
from ridgeline.impact.embodied import (
    die_carbon_kg,
    die_yield,
    dies_per_wafer,
    embodied_carbon,
    fabrication_water_l,
    server_embodied_carbon,
    silicon_of,
)
from ridgeline.impact.facility import COOLING, overhead, wet_bulb_c
from ridgeline.impact.materials import elements_kg
from ridgeline.impact.quantity import total
from ridgeline.impact.scopes import server_power

H100, DGX = catalogue.chip("h100-sxm"), catalogue.node("dgx-h100")


@given(watts=st.lists(st.floats(0, 700), min_size=2, max_size=20))
def test_a_server_draws_its_parts_and_more_as_its_chips_draw_more(watts: list[float]) -> None:
    ordered = np.sort(np.array(watts))
    found = server_power(ordered, H100, DGX)
    assert np.all(np.diff(found.wall_w) >= -1e-9)
    assert np.all(found.wall_w >= found.chips_w)
    np.testing.assert_allclose(sum(found.parts().values()), found.rack_total_w, rtol=1e-12)


def test_a_full_server_stays_below_its_rating_and_a_busy_one_meets_the_measured_wall() -> None:
    """DGX H100: 10.2 kW at most. MLPerf v4.1, 8x H200 MaxQ serving llama2-70b: 6.28 kW at the wall; its boards are
    not published, 480 W is the mean of serving runs on H100 (ML.ENERGY v3)."""
    assert server_power(700.0, H100, DGX).wall_w < DGX.max_power_w
    assert server_power(480.0, H100, DGX).wall_w == pytest.approx(6280, rel=0.1)


def test_a_node_without_a_host_is_its_chips() -> None:
    pi = catalogue.chip("raspberry-pi-5")
    found = server_power(5.0, pi, catalogue.default_node(pi))
    assert found.wall_w == found.chips_w == 5.0


def test_power_that_a_chip_cannot_draw_is_refused() -> None:
    with pytest.raises(DomainError, match="draws 0 to 700 W"):
        server_power(7000.0, H100, DGX)


@given(area=st.floats(1e-6, 2e-3), density=st.floats(0, 1e4))
def test_yield_falls_with_area_and_lies_between_its_bounds(area: float, density: float) -> None:
    """Murphy lies between Poisson and Seeds."""
    found = die_yield(area, density)
    assert math.exp(-area * density) <= found * (1 + 1e-9)
    assert found <= 1 / (1 + area * density) * (1 + 1e-6) or area * density < 1e-6
    assert die_yield(2 * area, density) <= found


def test_dies_of_a_wafer_as_the_formula_counts() -> None:
    assert dies_per_wafer(1e-4) == pytest.approx(math.pi * 150**2 / 100 - math.pi * 300 / math.sqrt(200), rel=1e-12)
    with pytest.raises(DomainError):
        dies_per_wafer(1.0)


def test_embodied_carbon_of_an_a100_meets_published_studies() -> None:
    """318 kg with an eighth of an instance (Chien et al. 2023), 181 kg for the PCIe card (ADEME 2025): both must lie
    within the ranges that our sources leave."""
    board = total(embodied_carbon(catalogue.chip("a100-80gb-sxm")).values())
    assert board.low < 181 < board.high
    node = catalogue.node("dgx-a100")
    share = total(server_embodied_carbon(catalogue.chip("a100-80gb-sxm"), node).values()) * (1 / 8)
    assert share.low < 318 < share.high


@given(area=st.floats(1e-5, 8e-4))
def test_carbon_of_a_die_grows_faster_than_its_area(area: float) -> None:
    one, two = die_carbon_kg(area, "5"), die_carbon_kg(2 * area, "5")
    assert two.value >= 2 * one.value
    assert die_carbon_kg(area, "28").value < one.value


def test_chips_without_a_published_area_are_told_apart() -> None:
    with pytest.raises(SpecError, match="not published"):
        silicon_of(catalogue.chip("mi300x"))


@pytest.mark.parametrize("name", [n for n in chips() if "die_area" in catalogue.chip(n).facts])
def test_every_chip_with_an_area_has_a_footprint_or_says_which_process_is_unknown(name: str) -> None:
    chip = catalogue.chip(name)
    try:
        parts = embodied_carbon(chip)
    except SpecError as absent:
        assert "process" in absent.what
        return
    whole = total(parts.values())
    assert 5 < whole.value < 600
    assert fabrication_water_l(chip).value > 10


@given(t=st.floats(-20, 45), h=st.floats(0.05, 0.99), kind=st.sampled_from(COOLING))
def test_overhead_never_falls_as_air_warms(t: float, h: float, kind: str) -> None:
    cold, warm = (overhead(kind, air, h) for air in (t, t + 5))
    assert 1 < cold.pue <= warm.pue + 1e-12
    assert 0 <= cold.water_l_per_j <= warm.water_l_per_j + 1e-15


@pytest.mark.parametrize(("t", "h", "wet"), [(20, 0.5, 13.7), (30, 0.5, 22.3), (35, 0.2, 18.9), (10, 0.9, 9.1)])
def test_wet_bulb_meets_psychrometric_tables(t: float, h: float, wet: float) -> None:
    assert float(wet_bulb_c(t, h)) == pytest.approx(wet, abs=0.5)


def test_kinds_of_cooling_and_weather_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="liquid"):
        overhead("liqiud", 20, 0.5)
    with pytest.raises(DomainError):
        overhead("liquid", 300, 0.5)


def test_elements_add_up_to_the_module() -> None:
    found = elements_kg(2515)
    assert total(found.values()).value == pytest.approx(3750, rel=0.01)
    assert max(found, key=lambda name: found[name].value) == "copper"
    with pytest.raises(DomainError):
        elements_kg(-1)
