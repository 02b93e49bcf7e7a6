"""Values whose numbers may be columns: apply one change to every column inside, whatever holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Holder = TypeVar("Holder")


def map_columns(value: Holder, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Holder:
    """`value` with `change` applied to each array in it; dataclasses and tuples are rebuilt, the rest is kept."""
    return _mapped(value, change)  # type: ignore[no-any-return]


def columns_of(value: Any) -> list[NDArray[Any]]:
    """Every array in a value, in the order of its fields."""
    found: list[NDArray[Any]] = []

    def keep(column: NDArray[Any]) -> NDArray[Any]:
        found.append(column)
        return column

    map_columns(value, keep)
    return found


def _mapped(value: Any, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray):
        return change(value) if value.ndim else value
    if isinstance(value, tuple):
        items = tuple(_mapped(item, change) for item in value)
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        changed = {name: new for name, old in parts.items() if (new := _mapped(old, change)) is not old}
        return replace(value, **changed) if changed else value
    return value
