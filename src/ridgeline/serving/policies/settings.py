"""Checks of settings that policies of several kinds have."""

from __future__ import annotations

import math

from ridgeline.core.errors import DomainError


def positive(value: float, name: str) -> float:
    """A number above 0. Raises DomainError."""
    if not 0 < value < math.inf:
        raise DomainError(f"{name} is above 0", at=name, got=value, fix=f"give a {name} above 0")
    return value


def interval(interval_s: float) -> float:
    """Time between two decisions. Raises DomainError: not above 0."""
    if not 0 < interval_s < math.inf:
        raise DomainError("an interval is above 0", at="interval", got=interval_s, fix="give interval=10s")
    return interval_s
