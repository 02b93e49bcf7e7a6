"""Money: annuities in closed form, cards with their evidence, break-even, and figures to compare."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.impact.metrics import CODECARBON, codecarbon_csv, intelligence_per_watt, software_carbon_intensity_kg
from ridgeline.impact.money import YEAR_S, annuity, break_even_utilisation, owning_usd_per_s, read_prices
from ridgeline.impact.quantity import exact, total

CARD = """prices:
  rent: {value: 2.5 USD/h, date: "2026-03", source: a cloud}
  electricity: {value: 0.1 USD/kWh, date: "2025", source: a utility}
"""


@given(rate=st.floats(1e-4, 0.5), years=st.floats(0.5, 40))
def test_an_annuity_pays_price_and_interest(rate: float, years: float) -> None:
    """The present value of its payments is the price."""
    paid = annuity(rate, years)
    assert paid * (1 - (1 + rate) ** -years) / rate == pytest.approx(1.0)
    assert paid > 1 / years
    assert annuity(0.0, years) == 1 / years


@given(price=st.floats(1, 1e7), power=st.floats(0, 1e5), times=st.floats(0.1, 100))
def test_owning_is_linear_in_its_price(price: float, power: float, times: float) -> None:
    one, many = (total(owning_usd_per_s(p, w).values()) for p, w in ((price, power), (price * times, power * times)))
    assert many.value == pytest.approx(one.value * times)
    assert one.low <= one.value <= one.high
    written_off = owning_usd_per_s(price, 0.0, lifetime_s=5 * YEAR_S)["server"]
    assert written_off.value * 5 * YEAR_S > price


def test_break_even_is_where_owning_costs_what_renting_does() -> None:
    owning, energy, rent = exact(0.002), 0.0005, 0.0045
    use = break_even_utilisation(owning, energy, rent)
    assert owning.value + use.value * energy == pytest.approx(use.value * rent)
    with pytest.raises(DomainError, match="never pays"):
        break_even_utilisation(owning, energy, 0.0001)


def test_a_card_is_read_in_si_with_its_evidence(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(CARD)
    found = read_prices(path)
    assert found.values["rent"] == pytest.approx(2.5 / 3600)
    assert found.values["electricity"] == pytest.approx(0.1 / 3.6e6)
    assert found.evidence["rent"] == "a cloud, 2026-03"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((', date: "2026-03"', ""), "needs its date"),
        ((", source: a cloud", ""), "needs its source"),
        (('"2026-03"', '"last spring"'), "YYYY"),
        (("rent:", "rnet:"), "unknown price"),
        (("2.5 USD/h", "2.5 USD"), "2.5 USD"),
    ],
)
def test_cards_without_evidence_are_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(CARD.replace(*change))
    with pytest.raises(Exception, match=words) as caught:
        read_prices(path)
    assert hasattr(caught.value, "screen")


@pytest.mark.parametrize("life", [-1.0, 0.0])
def test_negative_lifetimes_are_refused(life: float) -> None:
    with pytest.raises(DomainError, match="lifetime"):
        owning_usd_per_s(1e5, 1e3, lifetime_s=life)


def test_figures_to_compare() -> None:
    assert software_carbon_intensity_kg(exact(2.0), exact(1.0), 6.0).value == 0.5
    assert intelligence_per_watt(0.8, 400.0) == 0.002
    with pytest.raises(DomainError):
        intelligence_per_watt(80, 400)
    with pytest.raises(DomainError):
        software_carbon_intensity_kg(exact(1), exact(1), 0)


def test_codecarbon_s_table_has_its_columns() -> None:
    (row,) = csv.DictReader(io.StringIO(codecarbon_csv({"duration": 2.0, "emissions": 0.5})))
    assert tuple(row) == CODECARBON
    assert row["emissions"] == "0.5"
    with pytest.raises(DomainError):
        codecarbon_csv({"watts": 1})


def test_a_spec_error_is_what_a_broken_card_raises(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("prices: []\n")
    with pytest.raises(SpecError):
        read_prices(path)
