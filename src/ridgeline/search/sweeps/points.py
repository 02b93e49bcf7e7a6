"""The points of a sweep: numbered from 0, the same numbers for the same file whenever and wherever they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, RidgelineError, SpecError
from ridgeline.core.seeding import stream
from ridgeline.core.tables import Labels
from ridgeline.search.sweeps.conditions import holds
from ridgeline.search.sweeps.spec import Axis, Given, Sample, SweepSpec

MOST_POINTS = 10_000_000
MOST_VALUES = 1_000_000
"""Values of one axis."""

Cell = float | str
Read = Callable[[str, Given], Cell]
"""A value of a column by its name as a cell: text, or a number in SI. Raises RidgelineError."""
Codes = NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Columns of points: codes into the distinct values of each, [count].

    Attributes:
        count: points.
        columns: name -> (codes, values).
    """

    count: int
    columns: Mapping[str, tuple[Codes, tuple[Cell, ...]]]

    def part(self, first: int, count: int) -> dict[str, list[Cell]]:
        """Plain values of some points that follow each other."""
        chosen = slice(first, first + count)
        return {
            name: [values[code] for code in codes[chosen].tolist()] for name, (codes, values) in self.columns.items()
        }

    def table(self) -> dict[str, NDArray[np.float64] | Labels]:
        """All points as columns of a table."""
        return {name: _column(codes, values) for name, (codes, values) in self.columns.items()}


def points_of(spec: SweepSpec, *, read: Read, whole: Collection[str]) -> Points:
    """Every point of a sweep that its condition keeps.

    The first axis varies slowest; then come groups that vary together, then the sample.

    Args:
        spec: the file.
        read: makes a cell of a value.
        whole: columns of whole numbers: what a law gives is rounded, and repeats are left out.
    Raises:
        SpecError: too many points, or none. RidgelineError: a value that cannot be, where it stands.
    """
    fixed = [(axis.name, _listed(axis, read)) for axis in spec.fixed]
    factors: list[dict[str, tuple[Cell, ...]]] = [{axis.name: _values(axis, read, whole)} for axis in spec.axes]
    factors += [{axis.name: _listed(axis, read) for axis in group} for group in spec.zips]
    if spec.sample is not None:
        factors.append(_drawn(spec.sample, read, whole))
    sizes = [len(next(iter(factor.values()))) for factor in factors]
    count = math.prod(sizes)
    if count > MOST_POINTS:
        fix = f"take fewer values; at most {MOST_POINTS:,} points"
        raise SpecError("the sweep is too large", at=spec.places["axes"], got=f"{count:.3g} points", fix=fix)
    columns: dict[str, tuple[Codes, tuple[Cell, ...]]] = {
        name: (np.broadcast_to(np.uint8(0), (count,)), values) for name, values in fixed
    }
    number, stride = np.arange(count, dtype=np.int64), count
    for factor, size in zip(factors, sizes, strict=True):
        stride //= size
        codes = (number // stride % size).astype(np.int32)
        columns |= {name: (codes, values) for name, values in factor.items()}
    points = Points(count=count, columns=columns)
    return _kept(points, spec) if spec.where else points


def _kept(points: Points, spec: SweepSpec) -> Points:
    keep = holds(spec.where, points.table(), at=spec.places["where"])
    left = int(np.count_nonzero(keep))
    if not left:
        raise SpecError("no point keeps the condition", at=spec.places["where"], got=spec.where, fix="loosen it")
    return Points(count=left, columns={name: (codes[keep], values) for name, (codes, values) in points.columns.items()})


def _cell(axis: Axis, read: Read, value: Given) -> Cell:
    try:
        return read(axis.name, value)
    except RidgelineError as error:
        error.at = axis.at
        raise


def _listed(axis: Axis, read: Read) -> tuple[Cell, ...]:
    return tuple(_cell(axis, read, value) for value in axis.values)


def _values(axis: Axis, read: Read, whole: Collection[str]) -> tuple[Cell, ...]:
    """The values of an axis; those of a law in order, each once."""
    if not axis.law:
        return _listed(axis, read)
    first, last, *third = (_number(axis, read, value) for value in axis.values)
    if axis.law == "range":
        made = _range(axis, first, last, third[0] if third else 1.0)
    else:
        count = third[0]
        if not (count == math.floor(count) and 1 <= count <= MOST_VALUES):
            fix = f"give a whole number from 1 to {MOST_VALUES:,}"
            raise SpecError(f"{axis.law} takes so many values", at=axis.at, got=axis.values[2], fix=fix)
        if axis.law == "logspace" and not (first > 0 and last > 0):
            raise SpecError("logspace needs ends above 0", at=axis.at, got=axis.values, fix="use linspace")
        steps = np.geomspace if axis.law == "logspace" else np.linspace
        made = np.asarray(steps(first, last, int(count)), dtype=np.float64)
    if axis.name in whole:
        made = np.rint(made)
    return tuple(_cell(axis, read, value) for value in dict.fromkeys(made.tolist()))


def _range(axis: Axis, start: float, end: float, step: float) -> NDArray[np.float64]:
    """START, START + STEP, ... before END, as Python's range has it."""
    count = math.ceil((end - start) / step - 1e-12) if step else 0
    if not 1 <= count <= MOST_VALUES:
        fix = f"write range(START, END, STEP) with 1 to {MOST_VALUES:,} values; END itself is left out"
        raise SpecError("a range without values, or without end", at=axis.at, got=axis.values, fix=fix)
    return np.asarray(start + step * np.arange(count), dtype=np.float64)


def _number(axis: Axis, read: Read, value: Given) -> float:
    found = _cell(axis, read, value)
    if isinstance(found, str):
        raise SpecError(f"{axis.name} holds text, which no law gives", at=axis.at, got=value, fix="give a list")
    return found


def _drawn(sample: Sample, read: Read, whole: Collection[str]) -> dict[str, tuple[Cell, ...]]:
    """Values of every sampled axis, one per point.

    Source: McKay, Beckman and Conover, A comparison of three methods for selecting values of input variables,
    Technometrics 21(2), 1979 (Latin hypercube).
    """
    found: dict[str, tuple[Cell, ...]] = {}
    for axis in sample.axes:
        # A stream of its own for each: another axis leaves the draws of this one alone.
        generator = stream(sample.seed, f"sweep sample {axis.name}")
        share = generator.random(sample.points)
        if sample.method == "latin-hypercube":
            share = (generator.permutation(sample.points) + share) / sample.points
        share = np.minimum(share, np.nextafter(1.0, 0.0))
        if not axis.law:
            values = _listed(axis, read)
            found[axis.name] = tuple(values[i] for i in (share * len(values)).astype(np.int64).tolist())
            continue
        low, high = (_number(axis, read, value) for value in axis.values)
        if not low < high or (axis.law == "loguniform" and low <= 0):
            fix = f"write {axis.law}(LOW, HIGH){' with LOW above 0' if axis.law == 'loguniform' else ''}"
            raise SpecError(f"{axis.law} has no room", at=axis.at, got=axis.values, fix=fix)
        made = low * (high / low) ** share if axis.law == "loguniform" else low + (high - low) * share
        made = np.rint(made) if axis.name in whole else made
        found[axis.name] = tuple(_cell(axis, read, value) for value in made.tolist())
    return found


def _column(codes: Codes, values: Sequence[Cell]) -> NDArray[np.float64] | Labels:
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        return np.array(values, dtype=np.float64)[codes]
    if len(texts) < len(values):
        raise DomainError("a column holds numbers and texts", at="sweep", got=values[:4], fix="give one kind")
    distinct = tuple(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(distinct)}
    return Labels(np.array([place[text] for text in texts], dtype=np.int32)[codes], distinct)
