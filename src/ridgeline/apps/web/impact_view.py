"""Impact: a served request from the chip to the meter, in joules, carbon, water, money and materials, with ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ridgeline.api.impacts.impact import Impact
from ridgeline.api.impacts.impact import impact as account
from ridgeline.api.impacts.impact_view import SCOPES
from ridgeline.api.predictions.predict import predict as predicted
from ridgeline.apps.cli.flags import SHORT
from ridgeline.apps.web.blocks import Answer, Block, bar, command_of, numbers, table, text
from ridgeline.apps.web.fields import Field, given
from ridgeline.apps.web.predict_view import PREDICT
from ridgeline.core import units
from ridgeline.impact.carbon import grid_names
from ridgeline.impact.quantity import Quantity, total

_YES = ("no", "yes")
_OWN: tuple[Field, ...] = (
    Field(name="site", kind="text", doc="site of the catalogue", default="sweden", suggestions="sites"),
    Field(
        name="grid",
        kind="text",
        label="Electricity grid",
        doc="a country's electricity, instead of the site's",
        choices=grid_names().canonical,
    ),
    Field(name="pue", kind="number", label="PUE", doc="energy at the meter over IT energy, instead of the site's"),
    Field(name="rented", kind="text", doc="the machine is rented, not owned", default="no", choices=_YES, empty="no"),
    Field(name="cooling", kind="text", doc="a kind of cooling: PUE and water from the weather", more=True),
    Field(name="temperature", kind="number", doc="outdoor air, degrees Celsius", more=True),
    Field(name="humidity", kind="number", doc="relative, of outdoor air, 0 to 1", empty="0.5", more=True),
    Field(name="spot", kind="text", doc="rented at the spot price", choices=_YES, empty="no", more=True),
    Field(name="lifetime", kind="text", doc="over which hardware is written off: 5 years", more=True),
    Field(name="utilisation", kind="number", doc="share of the lifetime in use, 0 to 1", more=True),
    Field(name="accuracy", kind="number", doc="of the model at its task, for intelligence per watt", more=True),
)
_ARGUMENTS = {"temperature": "temperature_c", "humidity": "humidity_frac", "accuracy": "accuracy_frac"}
_FLAGS = ("rented", "spot")
_UNITS = {"j": "J", "gco2e": "gCO2e", "usd": "USD", "ml": "mL", "l": "L", "w": "W", "1m": "1M"}
_LOAD = tuple(field for field in PREDICT if field.name != "site")
IMPACT: tuple[Field, ...] = (
    *(field for field in _LOAD if not field.more),
    *_OWN,
    *(field for field in _LOAD if field.more),
)


def impact(values: Mapping[str, Any]) -> Answer:
    """The account of a request."""
    asked = given(IMPACT, values, needed=("model", "on"))
    mine = {field.name for field in _OWN}
    case = {name: value for name, value in asked.items() if name not in mine}
    own = {name: value for name, value in asked.items() if name in mine}
    flags = [name for name in _FLAGS if own.pop(name, "no") == "yes"]
    arguments = {_ARGUMENTS.get(name, name): value for name, value in own.items()}
    arguments.update(dict.fromkeys(flags, True))
    found = account(predicted("serving", **case), **arguments)
    command = command_of(("impact",), {**case, **own}, SHORT)
    return Answer(
        title=found.job.what,
        blocks=list(_blocks(found)),
        rows=list(_rows(found)),
        command=" ".join([command, *(f"--{name}" for name in flags)]),
        python=_python(case, arguments),
    )


def _blocks(found: Impact) -> Iterator[Block]:
    a, place = found.account, found.account.place
    grams = place.intensity.value * 3.6e9
    yield text(f"At {place.name}: PUE {place.pue:.3g}, {grams:.4g} gCO2e/kWh.", kind="why")
    money = total(a.money_usd.values())
    yield numbers(
        [
            ("energy at the meter", _joules(a.energy_j["site"]), f"per {found.job.unit}"),
            ("carbon", _grams(a.carbon_kg.value), f"operation and making; {_between(a.carbon_kg, _grams)}"),
            ("water", _litres(a.water_total_l.value), f"that is known; {_between(a.water_total_l, _litres)}"),
            ("money", _dollars(money.value), f"per {found.job.unit}; {_between(money, _dollars)}"),
        ]
    )
    site = max(a.energy_j["site"], 1e-300)
    parts = sorted(((n.replace("_", " "), j) for n, j in a.parts_j.items() if j > 0), key=lambda part: -part[1])
    words = [(name, joules, f"{joules / site:.1%}") for name, joules in parts]
    yield bar(f"Where {_joules(site)} at the meter goes", words, site)
    scopes = [(f"{name}: {SCOPES[name]}", _joules(j), f"{j / site:.1%}") for name, j in a.energy_j.items()]
    phases = [(f"{name}, by time", _joules(share * site), f"{share:.1%}") for name, share in a.phases.items()]
    yield table("Energy by scope, each with the ones before", ("scope", "energy", "share"), [*scopes, *phases])
    for title, quantities, write in _groups(found):
        if quantities:
            rows = [(_words(name), write(q.value), _between(q, write)) for name, q in quantities.items()]
            yield table(title, ("part", "value", "range"), rows)
    yield table("Sources of the grid", ("figure", "source"), list(place.grid.sources.items()))
    yield from (text(note, kind="note") for note in a.notes)


def _words(name: str) -> str:
    """A part's or a metric's name, its units as they are written."""
    return " ".join(_UNITS.get(word, word) for word in name.split("_"))


def _groups(found: Impact) -> Iterator[tuple[str, dict[str, Quantity], Any]]:
    a = found.account
    making = {f"making {name}": part for name, part in (a.embodied_kg or {}).items()}
    yield "Carbon", {"operation": a.operational_kg, **making}, _grams
    yield "Water", dict(a.water_l), _litres
    yield "Money", dict(a.money_usd), _dollars
    yield "Materials", dict(a.materials_kg or {}), _grams
    yield "To compare", dict(found.metrics), lambda value: f"{value:.4g}"


def _rows(found: Impact) -> Iterator[dict[str, Any]]:
    """A row per figure, in SI units or those of its name."""
    a = found.account
    for name, joules in (*a.energy_j.items(), *a.parts_j.items()):
        yield {"of": "energy_j", "part": name, "value": joules, "low": joules, "high": joules}
    named = {"operational_kg": {"operation": a.operational_kg}, "embodied_kg": a.embodied_kg, "water_l": a.water_l}
    named |= {"money_usd": a.money_usd, "materials_kg": a.materials_kg, "metrics": found.metrics}
    for of, quantities in named.items():
        for name, quantity in (quantities or {}).items():
            yield {"of": of, "part": name, **quantity.to_dict()}


def _python(case: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    inner = ", ".join(["'serving'", *(f"{name}={value!r}" for name, value in case.items())])
    outer = ", ".join(["served", *(f"{name}={value!r}" for name, value in own.items())])
    return f"import ridgeline as rl\n\nserved = rl.predict({inner})\nresult = rl.impact({outer})\nprint(result)\n"


def _between(quantity: Quantity, write: Any) -> str:
    return "" if quantity.low == quantity.high else f"{write(quantity.low)} to {write(quantity.high)}"


def _joules(value: float) -> str:
    return units.si(value, "J")


def _grams(value: float) -> str:
    return units.si(value * 1e3, "g")


def _litres(value: float) -> str:
    return units.si(value, "L")


def _dollars(value: float) -> str:
    return f"${value:.3g}"
