"""Catalogue: every fact with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline.api import catalogue as shelves
from ridgeline.apps.web.blocks import Answer, command_of, python_of, table
from ridgeline.apps.web.fields import Field, given
from ridgeline.workloads.catalogue import model_names

CATALOGUE = (
    Field(name="kind", kind="text", doc="what to list", default="chips", choices=tuple(shelves.kinds())),
    Field(name="name", kind="text", doc="one of them, with all its facts", suggestions="catalogue"),
)


def catalogue(values: Mapping[str, Any]) -> Answer:
    """A shelf, or one entry."""
    asked = given(CATALOGUE, values)
    kind, name = str(asked.get("kind", "chips")), str(asked.get("name", ""))
    if name and kind == "models":
        name = model_names().resolve(name, at="name")  # bundled names, never paths of this machine
    command = command_of(("catalogue", kind, *([name] if name else [])), {}, {})
    if not name:
        head, lines = shelves.summary(kind)
        block = table(f"{len(lines)} {kind}", head, lines, links="name")
        rows: list[dict[str, Any]] = [dict(zip(head, line, strict=True)) for line in lines]
        return Answer(title=kind, blocks=[block], rows=rows, command=command)
    head, lines = shelves.facts(kind, name)
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    python = python_of(f"{kind.removesuffix('s')}({name!r}", {}) if kind in ("chips", "nodes", "models") else ""
    return Answer(title=name, blocks=[table(name, head, lines)], rows=rows, command=command, python=python)
