"""What happens to the fleet while it serves, from a file: replicas fail, are slow, come and go.

events:
- {at: 30 s, fail: 1, for: 20 s}
- {at: 60 s, slow: 0, factor: 2.5, for: 30 s}
- {at: 90 s, replicas: 3}
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ridgeline.core import units
from ridgeline.core.errors import SpecError
from ridgeline.core.files import Document, load_yaml
from ridgeline.core.forms import Place, validated
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member
from ridgeline.serving.fleet.upkeep import fail_together, replicas_of
from ridgeline.sim import Simulation


class _EventForm(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    at: str
    fail: int | None = Field(default=None, ge=0)
    slow: int | None = Field(default=None, ge=0)
    replicas: int | None = Field(default=None, ge=0)
    factor: float | int = Field(default=1, ge=1)
    lasts: str = Field(default="", alias="for")


class _ScenarioForm(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    events: list[_EventForm]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens to a replica (`fail`, `slow`), or to their number (`replicas`)."""

    where: str
    time_s: float
    what: str
    number: int
    factor: float = 1.0
    for_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Events in time."""

    events: Sequence[Event] = ()

    def arm(self, fleet: Fleet) -> None:
        """They will happen to this fleet. Raises SpecError for a replica that it has not."""
        if not self.events:
            return
        if fleet.control is None:
            fleet.control = Simulation()
        replicas = replicas_of(fleet.entry)
        for event in self.events:
            most = len(replicas) - (event.what != "replicas")
            if event.number > most:
                fix = f"the fleet has {len(replicas)}; replicas count from 0"
                raise SpecError(
                    "the scenario names a replica that is not there", at=event.where, got=event.number, fix=fix
                )
            fleet.control.schedule_at(event.time_s, _happen, fleet, fleet.control, event, replicas)


def load_scenario(path: str | os.PathLike[str]) -> Scenario:
    """Read a scenario file. Raises RidgelineError that names the place of what is wrong."""
    document = load_yaml(path)
    form = validated(_ScenarioForm, document, part=_part, page="see the page on the emulator")
    return Scenario(events=tuple(_event(document, i, one) for i, one in enumerate(form.events)))


def _part(loc: Place) -> type[BaseModel]:
    return _ScenarioForm if len(loc) == 1 else _EventForm


def _event(document: Document, i: int, form: _EventForm) -> Event:
    where = document.where("events", i)
    named = [name for name in ("fail", "slow", "replicas") if getattr(form, name) is not None]
    if len(named) != 1:
        fix = "give one of fail: N, slow: N, replicas: N"
        raise SpecError("an event does one thing", at=where, got=", ".join(named) or "nothing", fix=fix)
    if named[0] == "replicas" and (form.lasts or form.factor != 1):
        raise SpecError("a number of replicas stays until the next event", at=where, fix="leave out for and factor")
    return Event(
        where=where,
        time_s=units.parse(form.at, "s", at=where),
        what=named[0],
        number=int(getattr(form, named[0])),
        factor=float(form.factor),
        for_s=units.parse(form.lasts, "s", at=where) if form.lasts else 0.0,
    )


def _happen(fleet: Fleet, control: Simulation, event: Event, replicas: dict[int, list[Member]]) -> None:
    if event.what == "replicas":
        _scale(fleet, control.now_s, event.number, replicas)
        return
    lanes = replicas[event.number]
    if event.what == "fail":
        fail_together(fleet, [lane for lane in lanes if lane.up], control.now_s)
        if event.for_s:
            control.schedule(event.for_s, _start, fleet, control, lanes)
        return
    usual = [lane.engine.times for lane in lanes]
    for lane in lanes:
        _pace(fleet, lane, slower(lane.engine.times, event.factor), control.now_s)
    if event.for_s:
        control.schedule(event.for_s, _paces, fleet, control, lanes, usual)


def _start(fleet: Fleet, control: Simulation, lanes: Sequence[Member]) -> None:
    for lane in lanes:
        fleet.start(lane, control.now_s)


def _paces(fleet: Fleet, control: Simulation, lanes: Sequence[Member], times: Sequence[StepTimes]) -> None:
    for lane, pace in zip(lanes, times, strict=True):
        _pace(fleet, lane, pace, control.now_s)


def _pace(fleet: Fleet, lane: Member, times: StepTimes, time_s: float) -> None:
    """From its next boundary a lane iterates so fast."""
    lane.engine.times = times
    fleet.cut(lane, time_s)


def _scale(fleet: Fleet, time_s: float, wanted: int, replicas: dict[int, list[Member]]) -> None:
    """The first so many are up; those beyond finish what they have."""
    for number, lanes in replicas.items():
        for lane in lanes:
            if number < wanted and not lane.up:
                fleet.start(lane, time_s)
        for lane in [lane for lane in lanes if number >= wanted and lane.up]:
            fleet.drain(lane, time_s)


def slower(times: StepTimes, factor: float) -> StepTimes:
    """Every iteration takes `factor` times as long."""

    def scaled(values: Sequence[Any]) -> list[Any]:
        return [scaled(v) if isinstance(v, Sequence) else v * factor for v in values]

    return replace(
        times,
        body_s=scaled(times.body_s),
        decode_s=scaled(times.decode_s),
        context_s=scaled(times.context_s),
        bends_s=scaled(times.bends_s),
        extra_s=scaled(times.extra_s),
        prefix_s=scaled(times.prefix_s),
        launch_s=times.launch_s * factor,
        host_s=times.host_s * factor,
        host_sequence_s=times.host_sequence_s * factor,
    )
