"""Typed reading of a configuration: each value is checked where it is taken, and every complaint says file, line and
field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ridgeline.core.errors import FileFormatError, SpecError, nearest
from ridgeline.core.files import Document
from ridgeline.workloads.ops import Dim

LARGEST = 10**9
"""No size of a published model comes near; beyond it a number is a mistake, and products of sizes stay exact."""


class Config:
    """A mapping inside a document. A key that holds null counts as absent; keys that nobody asks for are ignored, since
    publishers add fields at will.
    """

    __slots__ = ("data", "document", "outer", "path")

    def __init__(self, document: Document, path: tuple[str | int, ...] = (), outer: Config | None = None) -> None:
        """Stand on the mapping at `path`. Raises SpecError when there is none."""
        data = document.data
        for key in path:
            inside = isinstance(data, list) and isinstance(key, int) and key < len(data)
            data = data[key] if inside else data.get(key) if isinstance(data, dict) else None
        if not isinstance(data, dict):
            where = ".".join(map(str, path)) if path else "a model configuration"
            raise SpecError(f"{where} is not a mapping", at=document.where(*path), got=data, fix="give an object")
        self.document, self.path, self.data, self.outer = document, path, data, outer

    @classmethod
    def of(cls, source: Document | Mapping[str, Any], name: str = "<config>") -> Config:
        """A configuration from a document or from a plain mapping."""
        if isinstance(source, Document):
            return cls(source)
        text = json.dumps(source, default=str)
        return cls(Document(data=dict(source), name=name, text=text, syntax="json"))

    def at(self, key: str = "") -> str:
        """`file:line:column` of a field; the field alone where a mapping of Python has no such text."""
        keys = (*self.path, *((key,) if key else ()))
        try:
            return self.document.where(*keys)
        except FileFormatError:
            return f"{self.document.name} {'.'.join(map(str, keys))}"

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.data.get(key) is not None

    def sub(self, key: str) -> Config:
        """The mapping under a key."""
        return Config(self.document, (*self.path, key), self)

    def holder(self, key: str) -> Config:
        """The nearest mapping that has the field, or this one: some fields of a text part stand outside it."""
        if self.has(key) or self.outer is None:
            return self
        found = self.outer.holder(key)
        return found if found.has(key) else self

    def error(self, what: str, key: str = "", *, fix: str = "") -> SpecError:
        """A complaint about a field, with its value and place."""
        return SpecError(what, at=self.at(key), got=self.data.get(key) if key else None, fix=fix)

    def size(self, *keys: str, default: Dim | None = None) -> float:
        """A whole number >= 1 under the first of `keys` that is there. Raises SpecError: absent without default, or
        else.
        """
        return self._whole(keys, 1, default)

    def amount(self, *keys: str, default: Dim | None = None) -> float:
        """A whole number >= 0, likewise."""
        return self._whole(keys, 0, default)

    def _whole(self, keys: tuple[str, ...], least: int, default: Dim | None) -> float:
        key = self._find(keys)
        if key is None:
            if default is None:
                raise self.missing(*keys)
            return float(default)
        return self._checked(self.data[key], key, least)

    def _checked(self, value: Any, key: str, least: int) -> float:
        whole = type(value) is int or (type(value) is float and value.is_integer())
        if not whole or not least <= value <= LARGEST:
            what = f"{key} is not a whole number of {least} to {LARGEST}"
            raise SpecError(what, at=self.at(key), got=value, fix="give the size as the publisher states it")
        return float(value)

    def _find(self, keys: tuple[str, ...]) -> str | None:
        return next((key for key in keys if self.has(key)), None)

    def missing(self, *keys: str) -> SpecError:
        """The complaint that none of `keys` is there; it names the nearest fields that are."""
        near = nearest(keys[0], self.data)
        also = f" (or {', '.join(keys[1:])})" if keys[1:] else ""
        fix = f"did you mean {' or '.join(map(repr, near))}?" if near else f"add {keys[0]!r}{also}"
        return SpecError(f"{keys[0]}{also} is missing", at=self.at(), fix=fix)

    def flag(self, *keys: str, default: bool = False) -> bool:
        """True or false under the first of `keys` that is there."""
        key = self._find(keys)
        if key is None:
            return default
        value = self.data[key]
        if not isinstance(value, bool):
            raise self.error(f"{key} is not true or false", key)
        return value

    def text(self, *keys: str, default: str | None = None) -> str:
        """Text under the first of `keys` that is there."""
        key = self._find(keys)
        if key is None:
            if default is None:
                raise self.missing(*keys)
            return default
        value = self.data[key]
        if not isinstance(value, str):
            raise self.error(f"{key} is not text", key)
        return value

    def ratio(self, *keys: str, default: float) -> float:
        """A positive finite number under the first of `keys` that is there."""
        key = self._find(keys)
        if key is None:
            return default
        value = self.data[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LARGEST:
            raise self.error(f"{key} is not a positive number", key)
        return float(value)

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty when absent."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{key} is not a list of texts", key)
        return list(value)

    def amounts(self, key: str) -> list[float]:
        """A list of whole numbers >= 0; empty when absent."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"{key} is not a list of whole numbers", key)
        return [self._checked(item, key, 0) for item in value]

    def per_layer(self, key: str, values: list[Any], count: int) -> list[Any]:
        """`values` read from `key`, which must have at least one entry per layer; extra ones belong to draft layers."""
        if len(values) < count:
            what = f"{key} has {len(values)} entries for {count} layers"
            raise SpecError(what, at=self.at(key), got=len(values), fix="give one entry per layer")
        return values[:count]
