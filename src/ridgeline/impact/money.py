"""Money: capital over its life, operation, rent, and at which use owning costs what renting costs.

Prices carry their date and their source: one without is refused, since hardware loses half of its price in a few years.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError, did_you_mean
from ridgeline.core.files import Document, load_yaml
from ridgeline.impact.quantity import Quantity, exact
from ridgeline.impact.sheets import fact

YEAR_S = 365.0 * 86400.0
DIMENSIONS: Mapping[str, str] = {
    "server": "usd",
    "rent": "usd/s",
    "spot": "usd/s",
    "electricity": "usd/j",
    "water": "usd/l",
    "carbon": "usd/kg",
}
"""What a price card may hold, and the dimension of each."""

_DATE = re.compile(r"[12][0-9]{3}(-[01][0-9](-[0-3][0-9])?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A card of prices in SI units, by names of DIMENSIONS, and the date and source of each."""

    values: Mapping[str, float]
    evidence: Mapping[str, str]


def read_prices(path: str | os.PathLike[str]) -> Prices:
    """A price card: YAML of `prices: {rent: {value: 2.69 USD/h, date: 2026-03, source: ...}}`.

    Raises: FileFormatError, SpecError: not such a file; a price without date or source, or of another unit.
    """
    document = load_yaml(path)
    cards = document.need("prices", kind=dict)
    values, told = {}, {}
    for name in cards:
        if name not in DIMENSIONS:
            fix = did_you_mean(name, DIMENSIONS, listing=f"prices: {', '.join(DIMENSIONS)}")
            raise SpecError(f"unknown price {name!r}", at=document.where("prices", name), fix=fix)
        card = document.need("prices", name, kind=dict)
        told[name] = _evidence(document, name, card)
        at = document.where("prices", name, "value")
        values[name] = units.parse(document.need("prices", name, "value", kind=str), DIMENSIONS[name], at=at)
    return Prices(values=values, evidence=told)


def _evidence(document: Document, name: str, card: Mapping[str, Any]) -> str:
    for key in ("date", "source"):
        if not str(card.get(key) or "").strip():
            raise SpecError(
                f"a price needs its {key}", at=document.where("prices", name), got=None, fix=f"add `{key}:` to {name}"
            )
    date = str(card["date"])
    if _DATE.fullmatch(date) is None:
        raise SpecError("a date is YYYY, YYYY-MM or YYYY-MM-DD", at=document.where("prices", name, "date"), got=date)
    return f"{card['source']}, {date}"


def annuity(interest: float, years: float) -> float:
    """Share of a price to pay each year so that price and interest are paid after its life.

    Raises: DomainError: a life that is not above 0, or negative interest.
    """
    if not (years > 0 and 0 <= interest < 1):
        raise DomainError(
            "a lifetime is above 0 and interest is 0 to 1", at="lifetime", got=years, fix="give years > 0"
        )
    return interest / (1.0 - (1.0 + interest) ** -years) if interest > 0 else 1.0 / years


def owning_usd_per_s(server_usd: float, it_w: float, *, lifetime_s: float | None = None) -> dict[str, Quantity]:
    """What a server costs each second of its life, used or not, by part; energy apart.

    Args:
        server_usd: price of the server.
        it_w: power of the facility that is reserved for it.
        lifetime_s: over which it is written off; that of the facts by default.
    Raises: DomainError: a price or power below 0, or a lifetime not above 0.
    """
    if not (server_usd >= 0 and it_w >= 0):
        raise DomainError("prices and powers are >= 0", at="server_usd", got=(server_usd, it_w), fix="check the signs")
    interest = fact("money", "interest").quantity
    life = fact("money", "chip_lifetime", "s").quantity if lifetime_s is None else exact(_positive(lifetime_s))
    facility, network = fact("money", "facility_price", "usd/w").quantity, fact("money", "network_share").quantity
    building = fact("money", "facility_lifetime", "s").quantity
    staff = fact("money", "staff_share").quantity
    return {
        "server": _yearly(exact(server_usd), interest, life),
        "network": _yearly(network * server_usd, interest, life),
        "facility": _yearly(facility * it_w, interest, building),
        "staff": staff * (server_usd / YEAR_S),
    }


def break_even_utilisation(owning: Quantity, running_usd_per_s: float, rent_usd_per_s: float) -> Quantity:
    """Share of the time in use at which owning costs what renting for that share costs; above 1: renting is cheaper.

    Args:
        owning: USD per second, used or not.
        running_usd_per_s: energy and water of a second in use.
        rent_usd_per_s: of the same machine.
    Raises: DomainError: rent that does not even pay for the energy.
    """
    margin = rent_usd_per_s - running_usd_per_s
    if margin <= 0:
        raise DomainError(
            "the rent is below the cost of the energy alone: owning never pays",
            at="rent",
            got=rent_usd_per_s,
            fix="rent",
        )
    return owning * (1.0 / margin)


def _yearly(price: Quantity, interest: Quantity, life: Quantity) -> Quantity:
    """Per second: cheap money and long lives at the low end."""
    pairs = ((price.value, interest.value, life.value), (price.low, interest.low, life.high))
    value, low, high = (
        amount * annuity(rate, span / YEAR_S) / YEAR_S
        for amount, rate, span in (*pairs, (price.high, interest.high, life.low))
    )
    return Quantity(value, low, high)


def _positive(lifetime_s: float) -> float:
    if not lifetime_s > 0:
        raise DomainError("a lifetime is above 0", at="lifetime", got=lifetime_s, fix='give it like "5 years"')
    return lifetime_s
