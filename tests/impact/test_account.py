"""Accounts: parts add up, costs are linear at fixed rates, ranges hold their values, bad places are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, UnknownNameError
from ridgeline.hardware import catalogue
from ridgeline.impact.account import Account, Place, account
from ridgeline.impact.carbon import Purchase, grid, grid_names, operational_carbon_kg
from ridgeline.impact.quantity import Quantity, exact, total
from ridgeline.impact.sheets import NAMES, fact, sheet

EXACT = 1e-9
KWH = 3.6e6


def place(**changes: object) -> Place:
    given_ = {"name": "here", "grid": grid("FR"), "pue": 1.2, "water_l_per_j": 1 / KWH, "usd_per_j": 0.1 / KWH}
    return Place(**(given_ | changes))  # type: ignore[arg-type]


def of(chip_j: float, chip_s: float, where: Place | None = None, **more: object) -> Account:
    chip, node = catalogue.chip("h100-sxm"), catalogue.node("dgx-h100")
    return account(chip_j=chip_j, chip_s=chip_s, chip=chip, node=node, place=where or place(), **more)  # type: ignore[arg-type]


@given(watts=st.floats(0, 700), hours=st.floats(1e-3, 1e5), pue=st.floats(1, 3))
def test_parts_add_up_and_scopes_grow(watts: float, hours: float, pue: float) -> None:
    a = of(watts * hours * 3600, hours * 3600, place(pue=pue))
    assert sum(a.parts_j.values()) == pytest.approx(a.energy_j["site"], rel=EXACT)
    scopes = list(a.energy_j.values())
    assert scopes == sorted(scopes)
    assert a.energy_j["site"] == pytest.approx(pue * a.energy_j["rack"], rel=EXACT)
    for part in (a.operational_kg, a.carbon_kg, a.water_total_l, a.cost_usd):
        assert part.low <= part.value <= part.high


@given(watts=st.floats(1, 700), times=st.floats(0.1, 1e4))
def test_carbon_water_and_money_are_linear_at_fixed_rates(watts: float, times: float) -> None:
    """Law L3: as much again costs as much again, against a recomputation from the energies."""
    one, many = of(watts * 3600, 3600), of(watts * 3600 * times, 3600 * times)
    for name in ("operational_kg", "carbon_kg", "water_total_l", "cost_usd"):
        first, second = getattr(one, name), getattr(many, name)
        assert second.value == pytest.approx(first.value * times, rel=EXACT)
        assert second.high == pytest.approx(first.high * times, rel=EXACT)
    assert one.operational_kg.value == pytest.approx(one.energy_j["site"] * 56.04e-3 / KWH, rel=EXACT)
    assert one.water_l["site"].value == pytest.approx(one.energy_j["rack"] / KWH, rel=EXACT)
    assert one.money_usd["energy"].value == pytest.approx(one.energy_j["site"] * 0.1 / KWH, rel=EXACT)
    assert one.materials_kg is not None
    assert many.materials_kg is not None
    assert many.materials_kg["copper"].value == pytest.approx(one.materials_kg["copper"].value * times, rel=EXACT)


def test_water_of_training_gpt3_is_that_of_its_study() -> None:
    """Li et al., arXiv 2304.03271: 1,287 MWh in US data centres with a WUE of 0.55 L/kWh and a PUE of 1.17 take 0.7
    million litres on site and 5.4 in all."""
    a = of(480 * 3600, 3600, place(grid=grid("US"), pue=1.17, water_l_per_j=0.55 / KWH))
    times = 1287e3 * KWH / a.energy_j["rack"]
    on_site, off_site = (a.water_l[name].value * times for name in ("site", "electricity"))
    assert on_site == pytest.approx(0.70e6, rel=0.02)
    assert on_site + off_site == pytest.approx(5.4e6, rel=0.02)


@pytest.mark.parametrize("pue", [0.99, 0.0, -1.0, float("nan"), 50.0])
def test_a_pue_below_one_is_refused(pue: float) -> None:
    with pytest.raises(DomainError, match="PUE is 1 or more"):
        place(pue=pue)


@pytest.mark.parametrize(
    "more", [{"lifetime_s": -1.0}, {"lifetime_s": 0.0}, {"utilisation": 0.0}, {"utilisation": 2.0}]
)
def test_lives_and_use_that_cannot_be_are_refused(more: dict[str, float]) -> None:
    with pytest.raises(DomainError, match=r"lifetime|utilisation"):
        of(3600.0, 10.0, **more)


def test_an_unknown_region_names_its_neighbours() -> None:
    with pytest.raises(UnknownNameError) as caught:
        grid("Frnace")
    assert "FR" in str(caught.value)


def test_regions_are_found_by_code_and_name() -> None:
    assert grid("France") == grid("FR") == grid("fra")
    assert len(grid_names().canonical) > 45
    for name in grid_names().canonical:
        found = grid(name)
        assert 20 < found.carbon_kg_per_j.value * 3.6e9 < 900, name
        assert found.year >= 2022


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_of_a_sheet_has_a_source_and_a_kind(name: str) -> None:
    """Each fact is read in its own unit: sources, kinds and ranges are checked as it is."""
    document = sheet(name)
    for section in ("", "rack", "lift"):
        holder = document.data.get(section, {}) if section else document.data
        for key, written in (holder.get("facts") or {}).items():
            assert written["source"] in document.data["sources"], key
            number = written["value"]
            assert isinstance(number, int | float | str)
    for source in document.data["sources"].values():
        assert source["document"]
        assert source["date"]
        assert source["kind"] in ("datasheet", "measured", "estimated", "assumed")


def test_a_fact_with_a_range_keeps_its_unit() -> None:
    found = fact("fabrication", "fab_carbon_intensity", "kg/j")
    assert found.quantity.low * 3.6e9 == pytest.approx(450)
    assert found.kind == "assumed"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)), max_size=6), st.floats(0, 1e3))
def test_quantities_keep_their_order(triples: list[tuple[float, float, float]], by: float) -> None:
    parts = [Quantity(*(sorted(three)[1], sorted(three)[0], sorted(three)[2])) for three in triples]
    whole = total(parts) * by
    assert whole.low <= whole.value <= whole.high
    assert whole.value == pytest.approx(sum(part.value for part in parts) * by, rel=EXACT)
    with pytest.raises(DomainError):
        exact(1.0).over(Quantity(1.0, 0.0, 2.0))
    with pytest.raises(DomainError):
        Quantity(1.0, 2.0, 3.0)


def test_hourly_loads_meet_hourly_grids() -> None:
    assert operational_carbon_kg([1.0, 2.0], [3.0, 0.5]).tolist() == [3.0, 1.0]
    with pytest.raises(DomainError):
        operational_carbon_kg([-1.0], [1.0])


@given(frac=st.floats(0, 1), more=st.floats(0, 1), stated=st.floats(0, 50), residual=st.floats(60, 900))
def test_contracts_mix_what_they_state_with_the_residual_mix(
    frac: float, more: float, stated: float, residual: float
) -> None:
    """The location-based number does not know of contracts; the market-based one lies between their ends."""
    per_j = 1e-3 / KWH
    less, bought = sorted((frac, more))
    rates = {"contract_kg_per_j": stated * per_j, "residual_kg_per_j": residual * per_j}
    purchases = [Purchase(contract_frac=share, **rates) for share in (less, bought)]
    found = [of(3600.0, 10.0, place(purchase=purchase)) for purchase in purchases]
    plain = of(3600.0, 10.0)
    assert plain.market_kg is None
    values = [a.market_kg.value for a in found if a.market_kg is not None]
    assert values[1] <= values[0] * (1 + EXACT)
    site = plain.energy_j["site"] * per_j
    assert stated * site * (1 - EXACT) <= values[1] <= values[0] <= residual * site * (1 + EXACT)
    assert all(a.operational_kg == plain.operational_kg for a in found)


def test_without_a_residual_mix_the_grid_stands_in_and_is_named() -> None:
    none, half = (of(3600.0, 10.0, place(purchase=Purchase(contract_frac=share))) for share in (0.0, 0.5))
    assert none.market_kg == none.operational_kg
    assert half.market_kg is not None
    assert half.market_kg.value == pytest.approx(half.operational_kg.value / 2, rel=EXACT)
    assert any("residual mix" in note for note in half.notes)
    assert not any("residual mix" in note for note in of(3600.0, 10.0, place(purchase=Purchase(contract_frac=1))).notes)


@pytest.mark.parametrize(
    "odd", [{"contract_frac": 1.5}, {"contract_frac": -0.1}, {"contract_frac": 1, "contract_kg_per_j": -1.0}]
)
def test_contracts_that_cannot_be_are_refused(odd: dict[str, float]) -> None:
    with pytest.raises(DomainError):
        Purchase(**odd)
