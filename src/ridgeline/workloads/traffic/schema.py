"""The form of a traffic file: its keys and their kinds. pydantic stops here; `spec.py` gives them meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ridgeline.core.errors import SpecError, nearest
from ridgeline.core.files import Document

Text = str | int | float
"""A quantity or a law: text, or a plain number."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SloModel(_Part):
    """What is promised: times like "1s" or "40ms"."""

    ttft: Text | None = None
    tpot: Text | None = None
    e2e: Text | None = None


class SessionsModel(_Part):
    """How sessions run; see `sessions.Sessions`."""

    turns: Text
    think: Text = "0s"
    system: Text = 0
    parallel: Text | None = None
    context: Text | None = None
    block: Text | None = None


class ClassModel(_Part):
    """One class: a trace, or arrivals with lengths, or a share of the arrivals of all."""

    trace: str | None = None
    format: str | None = None
    time_scale: Text | None = None
    sample: Text | None = None
    rate: Text | None = None
    arrivals: Text | None = None
    share: Text | None = None
    prompt: Text | None = None
    output: Text | None = None
    sessions: SessionsModel | None = None
    slo: SloModel | None = None
    priority: int = 0
    weight: Text = 1.0
    tenant: Text = 0
    adapter: Text | None = None


class TrafficFile(_Part):
    """The whole file."""

    seed: int | None = None
    requests: Text | None = None
    duration: Text | None = None
    arrivals: Text | None = None
    classes: dict[str, ClassModel]


def validate(document: Document) -> TrafficFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    try:
        return TrafficFile.model_validate(document.data)
    except ValidationError as error:
        raise _explained(document, error.errors()) from error


def _explained(document: Document, errors: Sequence[Any]) -> SpecError:
    # A misspelt key also leaves the field that was meant missing, and is what to tell.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    loc = first["loc"]
    path = _present(document.data, loc)
    where = document.where(*path)
    if first["type"] == "extra_forbidden":
        known = _keys(loc)
        hits = nearest(str(loc[-1]), known)
        if ")" in str(loc[-1]):
            fix = "inside braces YAML splits at commas: put the law in quotes"
            return SpecError("half a law stands as a key", at=where, got=str(loc[-1]), fix=fix)
        fix = f"did you mean {' or '.join(map(repr, hits))}?" if hits else f"known: {', '.join(sorted(known))}"
        return SpecError(f"unknown key {str(loc[-1])!r}", at=where, fix=fix)
    dotted = ".".join(map(str, path)) or "the file"
    if first["type"] == "missing":
        return SpecError(f"{'.'.join(map(str, loc))} is missing", at=where, fix=f"add {loc[-1]!r} here")
    if first["type"] in ("model_type", "dict_type"):
        return SpecError(f"{dotted} is not a mapping", at=where, fix="give keys with values; see the page on traffic")
    got = first["input"] if isinstance(first["input"], str | int | float) else type(first["input"]).__name__
    return SpecError(f"{dotted}: {first['msg']}", at=where, got=got, fix="see the page on traffic")


def _keys(loc: Sequence[str | int]) -> Sequence[str]:
    inside: dict[str, type[BaseModel]] = {"sessions": SessionsModel, "slo": SloModel}
    depth = len(loc)
    model: type[BaseModel] = (
        TrafficFile if depth == 1 else ClassModel if depth == 3 else inside.get(str(loc[2]), ClassModel)
    )
    return list(model.model_fields)


def _present(data: object, loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """The part of `loc` that is in the file: pydantic adds names of its own behind it."""
    path: list[str | int] = []
    for part in loc:
        if not (isinstance(data, Mapping) and part in data):
            break
        data = data[part]
        path.append(part)
    return tuple(path)
