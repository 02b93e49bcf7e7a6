"""Fields of forms, made from the columns that the command line is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ridgeline.api.tables.columns import NUMBER, Column
from ridgeline.apps.web.labels import label
from ridgeline.core.errors import SpecError, did_you_mean
from ridgeline.workloads.catalogue import model_names

Values = Mapping[str, Any]
FILE_LAW = "empirical"
"""The one law of lengths that reads a file."""
MOST_TEXT = 400
"""Characters of a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of a form.

    Attributes:
        label: its name as people say it.
        kind: number or text.
        default: shown at the start; empty: nothing, which means the column's own default.
        empty: what an empty field means.
        choices: legal texts; suggestions: usual ones, anything else may be typed.
        low, high: ends of a slider on a logarithmic scale; 0: no slider.
        more: shown only when asked for.
        lines: of a text of several lines; 0: one.
    """

    name: str
    kind: str
    doc: str
    label: str = ""
    default: str = ""
    empty: str = ""
    choices: tuple[str, ...] = ()
    suggestions: str = ""
    low: float = 0.0
    high: float = 0.0
    more: bool = False
    lines: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "label": self.label or label(self.name)}


def fields_of(
    columns: Sequence[Column],
    *,
    first: Mapping[str, str],
    sliders: Mapping[str, tuple[float, float]],
    suggest: Mapping[str, str],
) -> tuple[Field, ...]:
    """A field per column.

    Args:
        columns: of a task.
        first: those shown at once, with what stands in them at the start.
        sliders: ends of those that have one.
        suggest: the list of suggestions of those that have one.
    """
    made = [
        Field(
            name=column.name,
            kind=column.kind,
            doc=column.doc,
            default=first.get(column.name, ""),
            empty=_default(column),
            choices=tuple(choice for choice in column.choices if choice),
            suggestions=suggest.get(column.name, ""),
            low=sliders.get(column.name, (0.0, 0.0))[0],
            high=sliders.get(column.name, (0.0, 0.0))[1],
            more=column.name not in first,
        )
        for column in columns
    ]
    order = {name: i for i, name in enumerate(first)}
    return tuple(sorted(made, key=lambda field: order.get(field.name, len(order))))


def given(fields: Sequence[Field], values: Values, *, needed: Sequence[str] = ()) -> dict[str, Any]:
    """What was filled in, as `rl` takes it.

    Raises:
        SpecError: a field that there is not, a value that is none, a needed one that is empty.
    """
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise SpecError(f"the form has no field {name[:80]!r}", at=name[:80], fix=did_you_mean(name, known))
        if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > MOST_TEXT:
            raise SpecError("a value is a short text or a number", at=name, got=value)
        text = str(value).strip()
        if text and known[name].suggestions == "models":
            model_names().resolve(text, at=name)  # a page takes bundled names, never paths of this machine
        if FILE_LAW in text.casefold():
            fix = "the command line reads files"
            raise SpecError("the page reads no files of this machine", at=name, got=text, fix=fix)
        if text:
            found[name] = _number(text) if known[name].kind == NUMBER else text
    for name in needed:
        if name not in found:
            fix = f"such as {known[name].default}" if known[name].default else "fill it in"
            raise SpecError(f"{name} is needed", at=name, fix=fix)
    return found


def _default(column: Column) -> str:
    """The default of a column where it says something."""
    value = column.default
    if value in (None, "", 0):
        return ""
    return f"{value:g}" if isinstance(value, float | int) else value


def _number(text: str) -> float | str:
    """A plain number; anything else may be a quantity with a unit, which `rl` reads."""
    try:
        return float(text) if text.replace(".", "", 1).replace("e", "", 1).lstrip("+-").isdigit() else text
    except ValueError:
        return text
