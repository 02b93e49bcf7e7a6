"""Files of a fixed form, held against their pydantic models: the first thing that is wrong, told where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ridgeline.core.errors import SpecError, nearest
from ridgeline.core.files import Document

Model = TypeVar("Model", bound=BaseModel)
Place = Sequence[str | int]


def validated(
    model: type[Model],
    document: Document,
    *,
    part: Callable[[Place], type[BaseModel]],
    page: str,
    odd_key: Callable[[str], tuple[str, str]] | None = None,
) -> Model:
    """The document as the model has it.

    Args:
        model: of the whole file.
        document: what was read.
        part: the model of the part that holds a place.
        page: of the documentation, for messages: "see the page on ...".
        odd_key: what is wrong with a key, and what to do, where it shows a common slip; two empty texts otherwise.
    Raises:
        SpecError: a key is unknown, missing or of another kind.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise _explained(document, error.errors(), part, page, odd_key) from error


def _explained(
    document: Document,
    errors: Sequence[Any],
    part: Callable[[Place], type[BaseModel]],
    page: str,
    odd_key: Callable[[str], tuple[str, str]] | None,
) -> SpecError:
    # A misspelt key also leaves the field that was meant missing, and is what to tell.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    loc = first["loc"]
    path = _present(document.data, loc)
    where, last = document.where(*path), str(loc[-1]) if loc else ""
    if first["type"] == "extra_forbidden":
        what, fix = odd_key(last) if odd_key is not None else ("", "")
        if what:
            return SpecError(what, at=where, got=last, fix=fix)
        known = list(part(loc).model_fields)
        hits = nearest(last, known)
        fix = f"did you mean {' or '.join(map(repr, hits))}?" if hits else f"known: {', '.join(sorted(known))}"
        return SpecError(f"unknown key {last!r}", at=where, fix=fix)
    dotted = ".".join(map(str, path)) or "the file"
    if first["type"] == "missing":
        return SpecError(f"{'.'.join(map(str, loc))} is missing", at=where, fix=f"add {last!r} here")
    if first["type"] in ("model_type", "dict_type"):
        return SpecError(f"{dotted} is not a mapping", at=where, fix=f"give keys with values; {page}")
    got = first["input"] if isinstance(first["input"], str | int | float) else type(first["input"]).__name__
    return SpecError(f"{dotted}: {first['msg']}", at=where, got=got, fix=page)


def _present(data: object, loc: Place) -> tuple[str | int, ...]:
    """The part of `loc` that is in the file: pydantic adds names of its own behind it."""
    path: list[str | int] = []
    for part in loc:
        if not (isinstance(data, Mapping) and part in data):
            break
        data = data[part]
        path.append(part)
    return tuple(path)
