"""A number with the range that its sources leave open."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ridgeline.core.errors import DomainError


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value >= 0 between two bounds. Sums add bounds, products multiply them: all at their worst at once."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse a value outside its own range, and one that is no number."""
        if not (0 <= self.low <= self.value <= self.high < math.inf):
            raise DomainError(
                "a quantity lies between its bounds, which are finite and >= 0",
                at="quantity",
                got=(self.low, self.value, self.high),
                fix="give low <= value <= high",
            )

    def __add__(self, other: Quantity) -> Quantity:
        """The sum."""
        return Quantity(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, other: Quantity | float) -> Quantity:
        """The product with another quantity, or with an exact number >= 0."""
        by = other if isinstance(other, Quantity) else exact(other)
        return Quantity(self.value * by.value, self.low * by.low, self.high * by.high)

    __rmul__ = __mul__

    def over(self, other: Quantity) -> Quantity:
        """The quotient. Raises DomainError: the divisor may be 0."""
        if other.low <= 0:
            raise DomainError(
                "cannot divide by what may be 0", at="quantity", got=other.low, fix="give a bound above 0"
            )
        return Quantity(self.value / other.value, self.low / other.high, self.high / other.low)

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def exact(value: float) -> Quantity:
    """A number without a range."""
    return Quantity(float(value), float(value), float(value))


NOTHING = exact(0.0)


def total(parts: Iterable[Quantity]) -> Quantity:
    """The sum of any number of quantities."""
    found = NOTHING
    for part in parts:
        found = found + part
    return found
