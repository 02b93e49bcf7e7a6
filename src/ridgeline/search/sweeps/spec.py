"""Sweep files: which task, what is fixed, which columns vary and how, which points count, and where results go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.core import units
from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import Document, load_yaml
from ridgeline.core.notation import parse_call

Given = str | int | float | bool
"""A value as the file has it."""

METHODS = ("latin-hypercube", "random")
STEPS: Mapping[str, int] = {"linspace": 3, "logspace": 3, "range": 3}
"""Laws of an axis, and the values that each takes at most."""
DRAWS: Mapping[str, int] = {"uniform": 2, "loguniform": 2}
"""Laws of a sampled axis."""
MOST_CHUNK = MOST_SAMPLED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A column that varies: values one by one, or a law with the texts behind its name.

    Attributes:
        name: of the column. at: where it stands.
        values: the values, or what stands in the law's brackets.
        law: "" for a list; a name of STEPS or, in a sample, DRAWS.
    """

    name: str
    at: str
    values: tuple[Given, ...]
    law: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Points drawn from axes: how many, from which seed, by which of METHODS."""

    points: int
    seed: int
    method: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """A sweep file.

    Attributes:
        verb, task: as "predict", "serving".
        out: the file of results; "" if it names none.
        fixed: axes of one value.
        axes: crossed with each other, the first varies slowest. zips: groups that vary together.
        sample: points that each combination of the others is crossed with.
        where: a condition; "" for none.
        chunk: points that are evaluated together; 0: as usual for the task.
        limit_s: time that a point may take; 0: any.
        places: key -> where it stands.
    """

    verb: str
    task: str
    out: str
    fixed: tuple[Axis, ...]
    axes: tuple[Axis, ...]
    zips: tuple[tuple[Axis, ...], ...]
    sample: Sample | None
    where: str
    chunk: int
    limit_s: float
    places: Mapping[str, str]

    def every_axis(self) -> tuple[Axis, ...]:
        """Every column of a point, in the order of the file."""
        zipped = tuple(axis for group in self.zips for axis in group)
        return (*self.fixed, *self.axes, *zipped, *(self.sample.axes if self.sample else ()))


def load_sweep(path: str | os.PathLike[str]) -> SweepSpec:
    """The sweep of a file.

    Raises:
        RidgelineError: what is wrong, with file, line and column where it stands.
    """
    document = load_yaml(path)
    # pydantic takes longer to import than the rest of this package, so only those who read files pay for it.
    from ridgeline.search.sweeps.form import validate

    file = validate(document)
    verb, _, task = file.task.strip().partition(" ")
    fixed = tuple(
        Axis(name=name, at=document.where("fixed", name), values=(value,)) for name, value in file.fixed.items()
    )
    axes = tuple(_axis(document, ("axes", name), value, STEPS) for name, value in file.axes.items())
    zips = tuple(_zip(document, i, group) for i, group in enumerate(file.zip))
    spec = SweepSpec(
        verb=verb,
        task=task.strip(),
        out=file.out or "",
        fixed=fixed,
        axes=axes,
        zips=zips,
        sample=_sample(document, file.sample) if file.sample is not None else None,
        where=file.where or "",
        chunk=_whole(document, file.chunk, "chunk", most=MOST_CHUNK) if file.chunk is not None else 0,
        limit_s=_limit(document, file.limit),
        places={key: document.where(key) for key in ("task", "out", "axes", "where", "chunk", "sample")},
    )
    if not (axes or zips or spec.sample):
        raise SpecError("nothing varies", at=document.where(), fix="add axes:, zip: or sample:")
    _check_names(spec)
    return spec


def _axis(document: Document, keys: tuple[str, ...], value: Given | list[Given], laws: Mapping[str, int]) -> Axis:
    at, name = document.where(*keys), keys[-1]
    if isinstance(value, list):
        if not value:
            raise SpecError("an axis without values", at=at, fix="give at least one")
        return Axis(name=name, at=at, values=tuple(value))
    example = "[1, 2, 4]" if "linspace" in laws else "uniform(128, 8192)"
    written = value.strip() if isinstance(value, str) else ""
    if "(" not in written:
        listing = f"a list such as [{value}], or one of {', '.join(f'{law}(...)' for law in laws)}"
        raise SpecError("one value is no axis", at=at, got=value, fix=f"give {listing}; what stays goes under fixed:")
    call = parse_call(written, at=at, example=example)
    if call.name not in laws:
        fix = did_you_mean(call.name, laws, listing=f"laws here: {', '.join(laws)}")
        raise UnknownNameError(f"unknown law {call.name!r} of an axis", at=at, fix=fix)
    needed = 2 if call.name in ("range", *DRAWS) else 3
    if call.named or not needed <= len(call.plain) <= laws[call.name]:
        forms = {"range": "range(START, END, STEP)", **{law: f"{law}(LOW, HIGH)" for law in DRAWS}}
        fix = f"write {forms.get(call.name, f'{call.name}(FIRST, LAST, COUNT)')}"
        raise SpecError(f"{call.name} takes other values", at=at, got=written, fix=fix)
    return Axis(name=name, at=at, values=call.plain, law=call.name)


def _zip(document: Document, i: int, group: Mapping[str, list[Given]]) -> tuple[Axis, ...]:
    axes = tuple(
        Axis(name=name, at=document.where("zip", i, name), values=tuple(values)) for name, values in group.items()
    )
    lengths = {axis.name: len(axis.values) for axis in axes}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        fix = "give each column of the group as many values"
        raise SpecError("a group of columns that vary together", at=document.where("zip", i), got=lengths, fix=fix)
    return axes


def _sample(document: Document, form: object) -> Sample:
    from ridgeline.search.sweeps.form import SampleForm

    assert isinstance(form, SampleForm), "the form was checked"
    if form.method not in METHODS:
        fix = did_you_mean(form.method, METHODS, listing=f"one of {', '.join(METHODS)}")
        at = document.where("sample", "method")
        raise UnknownNameError(f"unknown method {form.method!r} of a sample", at=at, fix=fix)
    if not form.axes:
        raise SpecError("a sample needs axes", at=document.where("sample", "axes"), fix="give at least one")
    return Sample(
        points=_whole(document, form.points, "sample", "points", most=MOST_SAMPLED),
        seed=_whole(document, form.seed, "sample", "seed", least=0, most=2**63 - 1),
        method=form.method,
        axes=tuple(_axis(document, ("sample", "axes", name), value, DRAWS) for name, value in form.axes.items()),
    )


def _whole(document: Document, value: int, *keys: str, least: int = 1, most: int) -> int:
    if not least <= value <= most:
        fix = f"give a whole number from {least} to {most}"
        raise SpecError(f"{'.'.join(keys)} is out of range", at=document.where(*keys), got=value, fix=fix)
    return value


def _limit(document: Document, value: Given | None) -> float:
    if value is None:
        return 0.0
    at = document.where("limit")
    if isinstance(value, bool):
        raise SpecError("a limit is a time", at=at, got=value, fix="write for example 60s")
    limit = units.parse(value, "s", at=at)
    if limit <= 0:
        raise SpecError("a limit is above 0", at=at, got=value, fix="write for example 60s, or leave it out")
    return limit


def _check_names(spec: SweepSpec) -> None:
    seen: dict[str, Axis] = {}
    for axis in spec.every_axis():
        if axis.name in seen:
            fix = f"keep one of them; the other stands at {seen[axis.name].at}"
            raise SpecError(f"{axis.name} is given twice", at=axis.at, fix=fix)
        seen[axis.name] = axis
