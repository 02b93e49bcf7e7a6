"""The sheets of facts under `facts/`: each number with its source, its kind, and its range where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from ridgeline.core import units
from ridgeline.core.errors import SpecError
from ridgeline.core.files import Document, parse_yaml
from ridgeline.impact.quantity import Quantity

KINDS = ("datasheet", "measured", "estimated", "assumed")
NAMES = ("cooling", "fabrication", "grids", "materials", "metrics", "money", "row", "server", "transport")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A number in SI units and why it is believed; `source` is the document."""

    quantity: Quantity
    kind: str
    source: str
    how: str = ""

    @property
    def value(self) -> float:
        """The number alone."""
        return self.quantity.value


@cache
def sheet(name: str) -> Document:
    """One sheet, by the name of its file."""
    source = resources.files("ridgeline.impact") / "facts" / f"{name}.yaml"
    return parse_yaml(source.read_text("utf-8"), name=source.name)


@cache
def fact(name: str, key: str, dimension: str = "1", section: str = "") -> Evidence:
    """A fact of a sheet.

    Args:
        name: of the sheet.
        key: of the fact, under `facts`.
        dimension: of `core.units`, as "kg/j".
        section: that holds the `facts`; the sheet itself by default.
    Raises: SpecError: no such fact, no source, no kind, or a value outside its range.
    """
    document = sheet(name)
    place = (section, "facts", key) if section else ("facts", key)
    return evidence(document, document.need(*place, kind=dict), dimension, document.where(*place))


def evidence(document: Document, written: Mapping[str, Any], dimension: str, at: str) -> Evidence:
    """A fact as written: value, source, kind (its own, or its source's), range, how."""
    sources = document.need("sources", kind=dict)
    source = sources.get(written.get("source"))
    if source is None:
        raise SpecError(
            "a fact names one of the sheet's sources", at=at, got=written.get("source"), fix="add its source"
        )
    kind = written.get("kind", source["kind"])
    if kind not in KINDS:
        raise SpecError("a fact has a kind", at=at, got=kind, fix=f"one of {', '.join(KINDS)}")
    value = units.parse(written["value"], dimension, at=at, bare_ok=dimension == "1")
    low, high = (_bound(written.get(end), written["value"], value, dimension, at) for end in ("low", "high"))
    text = f"{source['document']} ({source['date']})"
    return Evidence(quantity=Quantity(value, low, high), kind=kind, source=text, how=str(written.get("how", "")))


def _bound(written: float | None, value: str | float, si: float, dimension: str, at: str) -> float:
    """A bound is written in the unit of the value."""
    if written is None:
        return si
    if isinstance(value, str):
        _, _, unit = value.partition(" ")
        return units.parse(f"{written} {unit}", dimension, at=at)
    return float(written)
