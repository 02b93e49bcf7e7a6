"""The notation of laws and processes: that of `core.notation`, or one plain value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.notation import parse_call

_CALL = re.compile(r"[A-Za-z][\w-]*\s*\(.*\)", re.DOTALL)
_LONGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A name with the values behind it, still as text."""

    name: str
    plain: tuple[str, ...]
    named: Mapping[str, str]
    at: str
    text: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a law or process can be given.

    Args:
        dimension: of `core.units`, or "text".
        least, most: the range of its value, both included.
        above:     whether `least` itself is left out.
    """

    name: str
    dimension: str
    least: float = 0.0
    most: float = 1e15
    above: bool = True


def parse(text: object, *, at: str) -> Call:
    """The call that a text (or a plain number) writes; a plain value has the name "". Raises SpecError."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        fix = "write a number or for example lognormal(mean=1024, sigma=0.8)"
        raise SpecError("not a law", at=at, got="null" if text is None else text, fix=fix)
    written = str(text).strip()
    if not written or len(written) > _LONGEST:
        raise SpecError("empty or endless text", at=at, got=written, fix="write for example 1024 or uniform(800, 1024)")
    if _CALL.fullmatch(written) is None:
        return Call(name="", plain=(written,), named={}, at=at, text=written)
    call = parse_call(written, at=at, example="lognormal(mean=1024, sigma=0.8)")
    return Call(name=call.name, plain=call.plain, named=call.named, at=at, text=written)


def bind(call: Call, parameters: Sequence[Parameter], *, needed: int) -> dict[str, float | str]:
    """The values of a call by the names of its parameters; plain values fill them in order, the first `needed` must be.

    Raises:
        SpecError, UnknownNameError, UnitError: too many values, an unknown name, a missing or impossible value.
    """
    names = [one.name for one in parameters]
    shown = f"{call.name}({', '.join(names)})"
    if len(call.plain) > len(names):
        raise SpecError("too many values", at=call.at, got=call.text, fix=f"write {shown}")
    given = dict(zip(names, call.plain, strict=False))
    for key, value in call.named.items():
        if key not in names:
            fix = did_you_mean(key, names, listing=f"write {shown}")
            raise UnknownNameError(f"{call.name} has no {key!r}", at=call.at, fix=fix)
        if key in given:
            raise SpecError(f"{key} is given twice", at=call.at, got=call.text, fix="keep one of them")
        given[key] = value
    for name in names[:needed]:
        if name not in given:
            raise SpecError(f"{call.name} needs {name}", at=call.at, got=call.text, fix=f"write {shown}")
    return {one.name: quantity(given[one.name], one, at=call.at) for one in parameters if one.name in given}


def quantity(text: str, parameter: Parameter, *, at: str) -> float | str:
    """One value in SI, within its range. Raises UnitError or SpecError."""
    if parameter.dimension == "text":
        return text
    value = units.parse(text, parameter.dimension, at=f"{at} {parameter.name}".strip())
    low = value > parameter.least if parameter.above else value >= parameter.least
    if not (low and value <= parameter.most):
        edge = "above" if parameter.above else "at least"
        fix = f"it is {edge} {parameter.least:g} and at most {parameter.most:g}"
        raise SpecError(f"{parameter.name} is out of range", at=at, got=text, fix=fix)
    return value


def number(values: Mapping[str, float | str], name: str, default: float | None = None) -> float:
    """A bound value that is a number."""
    value = values.get(name, default)
    if not isinstance(value, int | float):
        raise DomainError(f"{name} is no number", at=name, got=value, fix="give one")
    return float(value)
