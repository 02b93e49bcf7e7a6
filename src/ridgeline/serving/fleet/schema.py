"""The form of a fleet file: its keys and their kinds. pydantic stops here; `spec.py` gives them meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ridgeline.core.errors import SpecError, nearest
from ridgeline.core.files import Document

Text = str | int | float
"""A quantity: text, or a plain number."""


class PoolModel(BaseModel):
    """One pool: its role, its machines, and columns of `predict serving`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: str = "mixed"
    to: str | None = None
    router: str | None = None
    on: str | None = None
    plan: str | None = None
    chip: str | None = None
    node: str | None = None
    replicas: Text | None = None
    tp: Text | None = None
    pp: Text | None = None
    dp: Text | None = None
    ep: Text | None = None
    moe_tp: Text | None = None
    cp: Text | None = None
    weights: str | None = None
    activations: str | None = None
    kv: str | None = None
    moe_weights: str | None = None
    runtime: str | None = None
    runtime_version: Text | None = None
    max_batch: Text | None = None
    max_batched_tokens: Text | None = None
    memory_frac: Text | None = None


class FleetFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    router: str | None = None
    pools: dict[str, PoolModel]


def validate(document: Document) -> FleetFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    try:
        return FleetFile.model_validate(document.data)
    except ValidationError as error:
        raise _explained(document, error.errors()) from error


def _explained(document: Document, errors: Sequence[Any]) -> SpecError:
    # A misspelt key also leaves the field that was meant missing, and is what to tell.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    loc = first["loc"]
    path = _present(document.data, loc)
    where = document.where(*path)
    if first["type"] == "extra_forbidden":
        known = list((FleetFile if len(loc) == 1 else PoolModel).model_fields)
        hits = nearest(str(loc[-1]), known)
        fix = f"did you mean {' or '.join(map(repr, hits))}?" if hits else f"known: {', '.join(sorted(known))}"
        return SpecError(f"unknown key {str(loc[-1])!r}", at=where, fix=fix)
    dotted = ".".join(map(str, path)) or "the file"
    if first["type"] == "missing":
        return SpecError(f"{'.'.join(map(str, loc))} is missing", at=where, fix=f"add {loc[-1]!r} here")
    if first["type"] in ("model_type", "dict_type"):
        return SpecError(f"{dotted} is not a mapping", at=where, fix="give keys with values; see the page on fleets")
    got = first["input"] if isinstance(first["input"], str | int | float) else type(first["input"]).__name__
    return SpecError(f"{dotted}: {first['msg']}", at=where, got=got, fix="see the page on fleets")


def _present(data: object, loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """The part of `loc` that is in the file: pydantic adds names of its own behind it."""
    path: list[str | int] = []
    for part in loc:
        if not (isinstance(data, Mapping) and part in data):
            break
        data = data[part]
        path.append(part)
    return tuple(path)
