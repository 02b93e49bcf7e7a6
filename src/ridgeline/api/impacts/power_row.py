"""`rl.power_row`: a row of servers under one power limit, from a file; how many more of them its breaker could feed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.impacts.power_trace import read_power
from ridgeline.api.impacts.row_demand import row_demand
from ridgeline.api.simulations.simulate import simulate
from ridgeline.core import units
from ridgeline.core.errors import DomainError, RidgelineError, SpecError, did_you_mean
from ridgeline.core.files import Document, load_yaml
from ridgeline.impact.row import Battery, RowPolicy, RowRun, default_policy, play_row

if TYPE_CHECKING:
    from ridgeline.api.impacts.row_form import GroupModel, RowFile

Array = NDArray[np.float64]

PRIORITIES = ("low", "high")
MOST_SERVERS, MOST_STEPS = 10_000, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Servers that do the same.

    Attributes:
        name, count, high: of the file. together: all in step, as ranks of one training run are; else spread over time.
        demand_w: of one server at the wall without caps, one value per step.
        idle_w, most_w: of one server.
    """

    name: str
    count: int
    high: bool
    together: bool
    demand_w: Array
    idle_w: float
    most_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """The row with `times` as many servers as the file says.

    Attributes:
        servers: how many. largest_w: what all of them could draw. demand_w: what they would draw without caps, by step.
        run: what they did.
    """

    times: float
    servers: int
    largest_w: float
    demand_w: Array
    run: RowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRow:
    """A row, played with one or several numbers of servers."""

    name: str
    limit_w: float
    step_s: float
    groups: tuple[Group, ...]
    played: tuple[Scaled, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the series as plain values, for JSON."""
        return {
            "verb": "row",
            "limit_w": self.limit_w,
            "step_s": self.step_s,
            "played": [self._plain(one) for one in self.played],
        }

    def _plain(self, one: Scaled) -> dict[str, Any]:
        run = one.run
        return {
            "times": one.times,
            "servers": one.servers,
            "largest_w": one.largest_w,
            "peak_w": run.peak_w,
            "mean_w": float(run.grid_w.mean()),
            "peak_demand_w": float(one.demand_w.max()),
            "capped_frac": dict(zip(PRIORITIES, run.capped_frac, strict=True)),
            "lost_frac": dict(zip(PRIORITIES, run.lost_frac, strict=True)),
            "brakes": run.brakes,
            "opened_s": None if math.isnan(run.opened_s) else run.opened_s,
        }

    def to_csv(self) -> str:
        """Series of the last number of servers: time, demand, power of the servers, power at the breaker, battery."""
        last = self.played[-1]
        time_s = np.arange(last.demand_w.size) * self.step_s
        columns = (time_s, last.demand_w, last.run.power_w, last.run.grid_w, last.run.stored_j)
        rows = [",".join(f"{value:.6g}" for value in row) for row in zip(*columns, strict=True)]
        return "\n".join(["time_s,demand_w,power_w,breaker_w,stored_j", *rows, ""])

    def __rich__(self) -> Any:
        """The table that a terminal shows."""
        from ridgeline.api.impacts.power_row_view import power_row_view

        return power_row_view(self)


def power_row(
    path: str | os.PathLike[str], *, limit: str | float = "", times: Sequence[float] = (1.0,), capped: bool = True
) -> PlayedRow:
    """Play the row of a file.

    Args:
        path: YAML: `limit`, `servers` (groups with `count`, `priority`, and a table of `power` with `idle` and `most`,
            or a `case` of `simulate serving`), and if wanted `step`, `policy`, `battery`.
        limit: instead of the file's.
        times: numbers of servers to play, in units of the file's.
        capped: False: nobody caps anything; the battery and the breaker act alone.
    Raises:
        RidgelineError: what is wrong, with file, line and column where it stands.
    """
    document = load_yaml(path)
    from ridgeline.api.impacts.row_form import validate  # pydantic takes longer to import than the rest

    file = validate(document)
    step_s = units.parse(file.step, "s", at=document.where("step"), bare_ok=True)
    given, at = (limit, "limit") if limit != "" else (file.limit, document.where("limit"))
    limit_w = units.parse(given, "w", at=at, bare_ok=True)
    if not (step_s > 0 and limit_w > 0):
        raise DomainError("a row has a limit and a step above 0", at=at, got=given, fix="as 100 kW and 1 s")
    folder = Path(path).parent
    groups = tuple(_group(document, name, group, folder, step_s) for name, group in file.servers.items())
    if not groups:
        raise SpecError("a row needs servers", at=document.where("servers"), fix="add a group")
    policy, battery = _policy(document, file) if capped else None, _battery(document, file)
    played = tuple(_played(groups, factor, limit_w, step_s, policy, battery) for factor in times)
    return PlayedRow(name=Path(path).name, limit_w=limit_w, step_s=step_s, groups=groups, played=played)


def _group(document: Document, name: str, group: GroupModel, folder: Path, step_s: float) -> Group:
    at = document.where("servers", name)
    if not 1 <= group.count <= MOST_SERVERS:
        raise SpecError("a group has servers", at=at, got=group.count, fix=f"give 1 to {MOST_SERVERS:,}")
    if group.priority not in PRIORITIES:
        fix = did_you_mean(group.priority, PRIORITIES, listing="low or high")
        raise SpecError("unknown priority", at=document.where("servers", name, "priority"), got=group.priority, fix=fix)
    if (group.power is None) == (group.case is None):
        raise SpecError("a group has a table of power or a case", at=at, fix="give one of `power` and `case`")
    try:
        demand, idle, most = _simulated(group, step_s) if group.power is None else _read(group, folder, step_s, at)
    except RidgelineError as error:
        error.at = error.at if error.at.startswith(at) else f"{at}: {error.at}"
        raise
    if demand.size > MOST_STEPS:
        raise DomainError(f"a row has at most {MOST_STEPS:,} steps", at=at, got=demand.size, fix="give a longer step")
    high = group.priority == "high"
    return Group(
        name=name, count=group.count, high=high, together=group.together, demand_w=demand, idle_w=idle, most_w=most
    )


def _simulated(group: GroupModel, step_s: float) -> tuple[Array, float, float]:
    if group.idle is not None or group.most is not None:
        raise SpecError("idle and most belong to a table of power", at="idle", fix="leave them out beside a case")
    run = simulate("serving", **(group.case or {}))
    demand, idle, most = row_demand([run], step_s=step_s)
    return demand[0], idle, most


def _read(group: GroupModel, folder: Path, step_s: float, at: str) -> tuple[Array, float, float]:
    if group.idle is None or group.most is None:
        fix = "say what a server draws at rest and at most, as `idle: 1.5 kW` and `most: 6.5 kW`"
        raise SpecError("a table of power needs idle and most", at=at, fix=fix)
    idle, most = (units.parse(getattr(group, name), "w", at=f"{at} {name}", bare_ok=True) for name in ("idle", "most"))
    trace = read_power(folder / str(group.power))
    steps = max(int(trace.duration_s / step_s), 1)
    if steps > MOST_STEPS:
        raise DomainError(f"a row has at most {MOST_STEPS:,} steps", at=at, got=steps, fix="give a longer step")
    middle = trace.time_s[0] + (np.arange(steps) + 0.5) * step_s
    demand = np.interp(middle, trace.time_s, trace.power_w)
    if demand.max() > most * (1 + 1e-9):
        raise SpecError("the table exceeds the most of a server", at=at, got=f"{demand.max():g} W", fix="raise `most`")
    return demand, idle, most


def _policy(document: Document, file: RowFile) -> RowPolicy:
    """The usual policy with what the file changes."""
    given = {} if file.policy is None else file.policy.model_dump(exclude_none=True)
    changed = {
        name: units.parse(value, "s", at=document.where("policy", name), bare_ok=True)
        if name.endswith("_delay")
        else value
        for name, value in given.items()
    }
    return replace(default_policy(), **changed)


def _battery(document: Document, file: RowFile) -> Battery | None:
    if file.battery is None:
        return None
    parts = (("capacity", "j"), ("power", "w"))
    values = [
        units.parse(getattr(file.battery, name), dimension, at=document.where("battery", name), bare_ok=True)
        for name, dimension in parts
    ]
    if min(values) < 0:
        raise DomainError("a battery holds something", at=document.where("battery"), got=min(values), fix="give > 0")
    return Battery(capacity_j=values[0], power_w=values[1])


def _played(
    groups: Sequence[Group],
    times: float,
    limit_w: float,
    step_s: float,
    policy: RowPolicy | None,
    battery: Battery | None,
) -> Scaled:
    counts = [round(group.count * times) for group in groups]
    if not (0 < times < math.inf and 1 <= sum(counts) <= MOST_SERVERS):
        raise DomainError("a row has servers", at="times", got=times, fix=f"1 to {MOST_SERVERS:,} servers in all")
    steps = max(group.demand_w.size for group in groups)
    demand = np.concatenate([_servers(group, count, steps) for group, count in zip(groups, counts, strict=True)])
    high = np.repeat([group.high for group in groups], counts)
    # A row's policy knows one server: the least idle power, and the largest of all.
    idle, most = min(group.idle_w for group in groups), max(group.most_w for group in groups)
    run = play_row(
        demand, high, limit_w=limit_w, idle_w=idle, most_w=most, step_s=step_s, policy=policy, battery=battery
    )
    return Scaled(
        times=times,
        servers=sum(counts),
        largest_w=sum(group.most_w * count for group, count in zip(groups, counts, strict=True)),
        demand_w=demand.sum(axis=0),
        run=run,
    )


def _servers(group: Group, count: int, steps: int) -> Array:
    """Demands of so many servers; they are at different places of their series unless they work together."""
    series = np.resize(group.demand_w, steps)
    late = np.zeros(count, np.intp) if group.together else np.arange(count) * group.demand_w.size // max(count, 1)
    found: Array = series[(np.arange(steps)[None, :] + late[:, None]) % steps]
    return found
