"""Design spaces: named axes, points as rows of a matrix, and what is legal, said over whole columns.

A point is a row of float64 with one coordinate per axis: the index of a value on a discrete axis, a number in [0, 1] on
a range. `columns` turns points into the values that a problem is evaluated with, `unit` into the unit cube that
continuous methods walk in; both have their way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError, SpecError, UnknownNameError, did_you_mean

Points = NDArray[np.float64]
Columns = Mapping[str, NDArray[np.float64] | NDArray[np.str_]]
Legal = Callable[[Columns], NDArray[np.bool_]]

MOST_COUNTED = 2**62
"""Points that one integer can number."""

CHUNK = 65_536
"""Points of a grid at once."""

TRIES = 400
"""Rounds of draws of which none was legal before a large space counts as empty."""

LISTED = 2**20
"""Combinations that may be listed whole to find the legal ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Values without an order, such as names: each is as near to any other."""

    name: str
    values: tuple[str, ...] | tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse axes without values or with equal ones."""
        _check_values(self.name, self.values)

    @property
    def size(self) -> int:
        """How many values."""
        return len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Numbers in rising order: neighbours on the axis are near in effect."""

    name: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse axes whose values do not rise."""
        _check_values(self.name, self.values)
        if not np.all(np.isfinite(self.values)) or any(
            a >= b for a, b in zip(self.values, self.values[1:], strict=False)
        ):
            raise SpecError("the values of an ordered axis rise", at=self.name, got=self.values, fix="sort them")

    @property
    def size(self) -> int:
        """How many values."""
        return len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Any number from `low` to `high`; with `log`, equal steps are equal ratios."""

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse empty ranges, and logarithms of what is not positive."""
        lowest = 0.0 if self.log else -math.inf
        if not (lowest < self.low < self.high < math.inf):
            raise SpecError("a range rises, and is positive if logarithmic", at=self.name, got=(self.low, self.high))

    def at(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at coordinates in [0, 1]."""
        found = self.low * (self.high / self.low) ** unit if self.log else self.low + (self.high - self.low) * unit
        return np.asarray(np.clip(found, self.low, self.high))

    def coordinate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates in [0, 1] of values."""
        if self.log:
            return np.asarray(np.log(values / self.low) / math.log(self.high / self.low))
        return np.asarray((values - self.low) / (self.high - self.low))


Axis = Choice | Ordered | Range


@dataclass(frozen=True, kw_only=True)
class Space:
    """Named axes and which of their combinations are legal (`legal=None`: all)."""

    axes: tuple[Axis, ...]
    legal: Legal | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse spaces without axes, or with two of one name."""
        names = [axis.name for axis in self.axes]
        if not names or len(set(names)) < len(names):
            raise SpecError("a space has axes with different names", at="axes", got=names, fix="name each axis once")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes, in the order of a point's coordinates."""
        return tuple(axis.name for axis in self.axes)

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Values per axis; infinity on a range."""
        return np.array([math.inf if isinstance(axis, Range) else axis.size for axis in self.axes])

    @property
    def discrete(self) -> NDArray[np.bool_]:
        """Which axes have values that can be counted."""
        return np.isfinite(self.sizes)

    @property
    def size(self) -> float:
        """Combinations, legal or not; infinity if an axis is a range."""
        return float(np.prod(self.sizes))

    def axis(self, name: str) -> Axis:
        """The axis of that name. Raises UnknownNameError with the nearest ones."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise UnknownNameError(f"unknown axis {name!r}", at="axis", got=name, fix=did_you_mean(name, self.names))

    def columns(self, points: Points) -> Columns:
        """Values by axis, each [points]. Raises DomainError: coordinates that no axis has."""
        rows = self._checked(points)
        return {axis.name: _values(axis, rows[:, place]) for place, axis in enumerate(self.axes)}

    def encode(self, columns: Mapping[str, ArrayLike]) -> Points:
        """The points with these values. Raises UnknownNameError, DomainError: a missing axis, a value that none has."""
        for name in columns:
            self.axis(name)
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise DomainError("a point has a value on each axis", at=missing[0], fix=f"give {', '.join(missing)}")
        found = [_coordinates(axis, np.atleast_1d(np.asarray(columns[axis.name]))) for axis in self.axes]
        return np.stack(np.broadcast_arrays(*found), axis=1)

    def unit(self, points: Points) -> Points:
        """Points in the unit cube: the middle of a value's cell on discrete axes."""
        rows = np.asarray(points, dtype=np.float64)
        return np.where(self.discrete, (rows + 0.5) / np.where(self.discrete, self.sizes, 1.0), rows)

    def from_unit(self, unit: ArrayLike) -> Points:
        """The points whose cells hold these places of the unit cube; what lies outside is moved to the border."""
        rows = np.clip(np.nan_to_num(np.asarray(unit, dtype=np.float64), nan=0.5), 0.0, 1.0)
        counted = np.where(self.discrete, self.sizes, 1.0)
        return np.where(self.discrete, np.minimum(np.floor(rows * counted), counted - 1.0), rows)

    def is_legal(self, points: Points) -> NDArray[np.bool_]:
        """Which points are legal."""
        if self.legal is None or len(points) == 0:
            return np.ones(len(points), dtype=np.bool_)
        return np.broadcast_to(np.asarray(self.legal(self.columns(points)), dtype=np.bool_), (len(points),)).copy()

    def keys(self, points: Points) -> NDArray[np.uint64]:
        """A number per point, equal for equal points: its place in the grid, or a 64-bit mix where there are ranges.

        The mix takes different points for equal with a chance of 3e-8 in a million of them.
        """
        rows = np.asarray(points, dtype=np.float64)
        if self.size <= MOST_COUNTED:
            return np.asarray(rows.astype(np.uint64) @ self._strides)
        key = np.zeros(len(rows), dtype=np.uint64)
        for bits in np.ascontiguousarray(rows + 0.0).view(np.uint64).T:
            key = _mix(key * np.uint64(0x9E3779B97F4A7C15) + bits)
        return key

    @cached_property
    def _strides(self) -> NDArray[np.uint64]:
        steps = [math.prod(int(size) for size in self.sizes[place + 1 :]) for place in range(len(self.axes))]
        return np.array(steps, dtype=np.uint64)

    def numbered(self, numbers: NDArray[np.integer]) -> Points:
        """The points with these places in the whole grid (the last axis runs fastest)."""
        left = np.asarray(numbers, dtype=np.uint64)[:, None]
        return np.asarray((left // self._strides) % self.sizes.astype(np.uint64), dtype=np.float64)

    def grid(self, *, levels: int = 0, chunk: int = CHUNK) -> Iterator[Points]:
        """All legal points, a chunk at a time; ranges at `levels` equal steps.

        Raises: DomainError: a range without levels, more points than can be counted.
        """
        if levels < 2 and not self.discrete.all():
            name = self.names[int(np.flatnonzero(~self.discrete)[0])]
            raise DomainError("a range has no grid", at=name, fix="give levels >= 2, or sample the space")
        counts = [int(size) if math.isfinite(size) else levels for size in self.sizes]
        total = math.prod(counts)
        if total > MOST_COUNTED:
            raise DomainError("the grid has too many points to count", at="space", got=float(total), fix="sample it")
        steps = np.where(self.discrete, 1.0, 1.0 / max(levels - 1, 1))
        for start in range(0, total, chunk):
            places = np.unravel_index(np.arange(start, min(start + chunk, total)), counts)
            points = np.stack(places, axis=1).astype(np.float64) * steps
            kept = points[self.is_legal(points)]
            if len(kept):
                yield kept

    @cached_property
    def listed(self) -> Points:
        """All legal points of a space of at most LISTED combinations. Raises DomainError: there is none."""
        found = list(self.grid())
        if not found:
            raise _empty()
        return np.concatenate(found)

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        """Points at random, legal or not, each axis by itself."""
        return self.from_unit(rng.random((count, len(self.axes))))

    def sample(self, rng: np.random.Generator, count: int) -> Points:
        """Legal points at random, each as likely as any other; the same one may come twice.

        Raises: DomainError: none legal among many draws.
        """
        found: list[Points] = []
        have = tries = 0
        while have < count:
            drawn = self.draw(rng, min(max(2 * (count - have), 64), CHUNK))
            kept = drawn[self.is_legal(drawn)]
            found.append(kept)
            have += len(kept)
            tries += 1
            if have < count and self.size <= LISTED:
                return self.listed[rng.integers(0, len(self.listed), count)]
            if have == 0 and tries == TRIES:
                raise _empty()
        return np.concatenate(found)[:count] if found else np.empty((0, len(self.axes)))

    def _checked(self, points: Points) -> Points:
        rows = np.asarray(points, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.axes):
            raise DomainError(
                "points have a row each and a coordinate per axis", at="points", got=rows.shape,
                fix=f"give (points, {len(self.axes)})",
            )  # fmt: skip
        highest = np.where(self.discrete, self.sizes - 1.0, 1.0)
        bad = ~((rows >= 0.0) & (rows <= highest) & (~self.discrete | (rows == np.floor(rows))))
        if bad.any():
            row, place = (int(where) for where in np.argwhere(bad)[0])
            raise DomainError("no such coordinate", at=self.names[place], got=float(rows[row, place]))
        return rows


def _empty() -> DomainError:
    what = "no point of the space is legal, as far as is known"
    return DomainError(what, at="space", fix="loosen what is legal, or widen the axes")


def _check_values(name: str, values: Sequence[object]) -> None:
    if not values or len(set(values)) < len(values):
        raise SpecError("an axis has at least one value, each once", at=name, got=values, fix="list its values")


def _values(axis: Axis, places: NDArray[np.float64]) -> NDArray[np.float64] | NDArray[np.str_]:
    if isinstance(axis, Range):
        return axis.at(places)
    return np.asarray(axis.values)[places.astype(np.intp)]


def _coordinates(axis: Axis, values: NDArray[np.generic]) -> NDArray[np.float64]:
    if isinstance(axis, Range):
        numbers = np.asarray(values, dtype=np.float64)
        if not np.all((numbers >= axis.low) & (numbers <= axis.high)):
            raise DomainError(f"{axis.name} lies in {axis.low:g} .. {axis.high:g}", at=axis.name, got=values[0])
        return np.clip(axis.coordinate(numbers), 0.0, 1.0)
    known = np.asarray(axis.values)
    texts = known.dtype.kind == "U"
    if texts != (values.dtype.kind in "UO"):
        kind = "names" if texts else "numbers"
        raise DomainError(f"{axis.name} takes {kind}", at=axis.name, got=values[0], fix=f"give {axis.values[0]!r}")
    values = values.astype(np.str_) if texts else values.astype(np.float64)
    order = np.argsort(known, kind="stable")
    spots = np.minimum(np.searchsorted(known, values, sorter=order), axis.size - 1)
    found = order[spots]
    wrong = np.flatnonzero(known[found] != values)
    if wrong.size:
        got = str(values[wrong[0]])
        fix = did_you_mean(got, [str(value) for value in axis.values])
        raise UnknownNameError(f"{axis.name} has no value {got!r}", at=axis.name, got=got, fix=fix)
    return found.astype(np.float64)


def _mix(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
