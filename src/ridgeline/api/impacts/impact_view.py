"""An account as people read it: energy by scope and part, then carbon, water, money and figures to compare."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.core import units
from ridgeline.impact.quantity import Quantity, total

if TYPE_CHECKING:
    from ridgeline.api.impacts.impact import Impact

Write = Callable[[float], str]

SCOPES = {
    "chips": "accelerators",
    "server": "with host, fans and supplies",
    "rack": "with switches and distribution",
    "site": "at the meter",
}


def impact_view(found: Impact) -> RenderableType:
    """The whole screen."""
    a, place = found.account, found.account.place
    title = f"{found.job.what} at {place.name}, PUE {place.pue:.3g}, {_grams_per_kwh(place.intensity.value)} gCO2e/kWh"
    parts: list[RenderableType] = [Text(title, style="bold"), _energy(found)]
    parts.append(_table("carbon", {"operation": a.operational_kg, **_making(a.embodied_kg)}, _kg))
    bought = place.purchase
    if bought is not None and a.market_kg is not None:
        words = f"market-based, {bought.contract_frac:.0%} under contract: {_kg(a.market_kg.value)} of operation"
        parts.append(Text(f"{words}; the table is location-based", style="dim"))
    parts.append(_table("water", a.water_l, _litres))
    if a.money_usd:
        parts.append(_table("money", a.money_usd, _usd))
    if a.materials_kg:
        heavy = sorted(a.materials_kg.items(), key=lambda item: -item[1].value)[:5]
        parts.append(_table("materials", dict(heavy), _kg, sums=False))
    parts.append(_table("to compare", found.metrics, lambda value: f"{value:.4g}", sums=False))
    parts += [Text(note, style="dim") for note in a.notes]
    return Group(*parts)


def plain(found: Impact, *, width: int = 110) -> str:
    """The same screen as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(impact_view(found))
    return out.getvalue()


def _energy(found: Impact) -> Table:
    a = found.account
    table = _plain_table(("energy", "", "share of the meter"))
    site = max(a.energy_j["site"], 1e-300)
    write = _watt_hours if site >= 3.6 else _joules
    for name, meaning in SCOPES.items():
        table.add_row(f"{name}: {meaning}", write(a.energy_j[name]), f"{a.energy_j[name] / site:.1%}")
    for name, share in a.phases.items():
        table.add_row(f"  {name}, by time", write(share * a.energy_j["site"]), f"{share:.1%}")
    for name, joules in a.parts_j.items():
        if joules > 0 and name != "chips":
            table.add_row(f"  {name.replace('_', ' ')}", write(joules), f"{joules / site:.1%}")
    return table


def _making(parts: Mapping[str, Quantity] | None) -> dict[str, Quantity]:
    return {f"making {name}": part for name, part in (parts or {}).items()}


def _table(title: str, parts: Mapping[str, Quantity], write: Write, *, sums: bool = True) -> Table:
    table = _plain_table((title, "", "between"))
    rows: Iterable[tuple[str, Quantity]] = parts.items()
    if sums and len(parts) > 1:
        rows = (*parts.items(), ("total", total(parts.values())))
    for name, part in rows:
        spread = "" if part.low == part.high else f"{write(part.low)} and {write(part.high)}"
        table.add_row(name.replace("_", " "), write(part.value), spread)
    return table


def _plain_table(head: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(head[0])
    table.add_column(head[1], justify="right", style="bold")
    table.add_column(head[2], style="dim")
    return table


def _joules(value: float) -> str:
    return units.si(value, "J")


def _watt_hours(value: float) -> str:
    return units.si(value / 3600.0, "Wh")


def _kg(value: float) -> str:
    return units.si(value * 1e3, "g")


def _litres(value: float) -> str:
    return units.si(value, "L")


def _usd(value: float) -> str:
    return f"${value:.4g}"


def _grams_per_kwh(kg_per_j: float) -> str:
    return f"{kg_per_j * 3.6e9:.4g}"
