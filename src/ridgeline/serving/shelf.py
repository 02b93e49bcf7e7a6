"""Folders of YAML facts inside this package: read once, and found by name or alias."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from ridgeline.core.files import Document, parse_yaml
from ridgeline.core.names import Names


@cache
def documents(folder: str) -> Mapping[str, Document]:
    """Every file of the folder by the `name` that it states, in the order of the files."""
    shelf = resources.files("ridgeline.serving") / folder
    files = sorted((file for file in shelf.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    found = (parse_yaml(file.read_text("utf-8"), name=file.name) for file in files)
    return {document.data["name"]: document for document in found}


def names(kind: str, folder: str, *, listing: str) -> Names:
    """The resolver of what the folder holds, by name and aliases; `kind` and `listing` are for its errors."""
    aliases = {name: tuple(document.data["aliases"]) for name, document in documents(folder).items()}
    return Names(kind, aliases, listing=listing)
