"""Which assumption, moved a little, changes the winner: the search is run again among the engines that did well."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from ridgeline.core.errors import PlanError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Level, Machine
from ridgeline.search.planning.kept import objectives
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Question
from ridgeline.search.planning.search import Found, find
from ridgeline.search.planning.spaces import Space
from ridgeline.serving.deployment import Deployment

STEP = 0.1
"""Relative change of an assumption."""

COUNTS = frozenset({"replicas", "prefill_workers", "decode_workers"})
LOADS = frozenset({"request_rate_per_s", "concurrency", "isl", "osl", "prefix_hit_frac", "acceptance_frac"})

ON_CHIP = frozenset({"registers", "shared", "l2"})

Asked = tuple[Question, Predictor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One assumption, and how question and prices follow when it is multiplied by a factor."""

    name: str
    moved: Callable[[Question, Predictor, float], Asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of the winner.

    Attributes:
        name, factor: of the assumption.
        case: the winner then; empty where no candidate keeps the limits.
        plan_changes: whether it is another plan (degrees, formats, runtime, machine, settings or mode).
        sizes_change: whether it has other numbers of replicas or workers.
        objective: its first objective over that of the winner as asked (below 1: better).
    """

    name: str
    factor: float
    case: Mapping[str, float | str]
    plan_changes: bool
    sizes_change: bool
    objective: float


def sensitivity(found: Found, predictor: Predictor) -> Iterator[Moved]:
    """Every assumption moved down and up by `STEP`, among the engines of the best deployments, one after another.

    Args:
        found: what the search found; it has a winner.
        predictor: as of the search.
    """
    winner = _winner(found)
    assert winner is not None, "there is a winner"
    for shift in shifts(found.question):
        for factor in (1.0 - STEP, 1.0 + STEP):
            question, priced = shift.moved(found.question, predictor, factor)
            among = [_asked_again(space, question) for space in found.contenders]
            try:
                again = find(question, priced, top=1, among=among)
            except PlanError:
                again = None
            if again is not None and again.interrupted:
                raise KeyboardInterrupt  # the winner among some of the engines says nothing
            now = None if again is None else _winner(again)
            yield _compared(shift.name, factor, winner, now)


def _winner(found: Found) -> tuple[Mapping[str, float | str], float] | None:
    """The case of the best deployment, and its first objective."""
    best = found.best
    if best.rows is None:
        return None
    columns = {name: column[:1] for name, column in best.screened.items()}
    return best.rows.case(0), float(objectives(found.question, columns)[0, 0])


def _compared(
    name: str,
    factor: float,
    winner: tuple[Mapping[str, float | str], float],
    now: tuple[Mapping[str, float | str], float] | None,
) -> Moved:
    if now is None:
        return Moved(name=name, factor=factor, case={}, plan_changes=True, sizes_change=True, objective=math.nan)
    return Moved(
        name=name,
        factor=factor,
        case=now[0],
        plan_changes=_parts(winner[0], COUNTS | LOADS) != _parts(now[0], COUNTS | LOADS),
        sizes_change=_parts(winner[0], LOADS) != _parts(now[0], LOADS),
        objective=now[1] / winner[1],
    )


def _parts(case: Mapping[str, float | str], without: frozenset[str]) -> dict[str, float | str]:
    return {name: value for name, value in case.items() if name not in without and value == value}


def _asked_again(space: Space, question: Question) -> Space:
    """The engines of a space under the load of a question."""
    load = {"isl": question.isl, "osl": question.osl, "prefix_hit_frac": question.prefix_hit_frac}
    if question.acceptance_frac:
        load["acceptance_frac"] = question.acceptance_frac
    decode = None if space.decode is None else space.decode.put(**load)
    return replace(space, rows=space.rows.put(**load), decode=decode)


def shifts(question: Question) -> Iterator[Shift]:
    """The assumptions of a question that matter to it."""
    yield _field("prompt tokens (ISL)", "isl", whole=True)
    yield _field("output tokens (OSL)", "osl", whole=True)
    for name, field in (("rate", "rate_per_s"), ("requests in flight", "concurrency")):
        if getattr(question, field):
            yield _field(name, field)
    for name, field in (("prefix hits", "prefix_hit_frac"), ("acceptance of drafts", "acceptance_frac")):
        if getattr(question, field):
            yield _field(name, field, most=1.0)
    for name in ("ttft", "tpot", "e2e"):
        if math.isfinite(getattr(question.slo, f"{name}_s")):
            yield _limit(name)
    if len(question.machines) > 1 and "cost" in question.objectives:
        for place, allowed in enumerate(question.machines):
            yield _price(allowed.machine.chip.name, place)
    for place, allowed in enumerate(question.machines):
        of = f" of {allowed.machine.chip.name}" if len(question.machines) > 1 else ""
        yield _machine(f"memory bandwidth{of}", place, _faster_memory)
        yield _machine(f"clock of the chip{of}" if not of else f"clock{of}", place, _faster_clock)
        if allowed.chips > 1:
            yield _machine(f"link bandwidth{of}", place, _faster_links)
    yield Shift(name="host time per iteration", moved=_host)


def _field(name: str, field: str, *, whole: bool = False, most: float = math.inf) -> Shift:
    def moved(question: Question, predictor: Predictor, factor: float) -> Asked:
        value = min(getattr(question, field) * factor, most)
        return replace(question, **{field: max(round(value), 1.0) if whole else value}), predictor

    return Shift(name=name, moved=moved)


def _limit(name: str) -> Shift:
    def moved(question: Question, predictor: Predictor, factor: float) -> Asked:
        slo = replace(question.slo, **{f"{name}_s": getattr(question.slo, f"{name}_s") * factor})
        return replace(question, slo=slo), predictor

    return Shift(name=f"limit on {name.upper()}", moved=moved)


def _price(chip: str, place: int) -> Shift:
    def moved(question: Question, predictor: Predictor, factor: float) -> Asked:
        machines = list(question.machines)
        machines[place] = replace(machines[place], usd_per_s=machines[place].usd_per_s * factor)
        return replace(question, machines=tuple(machines)), predictor

    return Shift(name=f"price of {chip}", moved=moved)


def _machine(name: str, place: int, change: Callable[[Machine, float], Machine]) -> Shift:
    def moved(question: Question, predictor: Predictor, factor: float) -> Asked:
        machines = list(question.machines)
        chip = machines[place].machine.chip.name
        machines[place] = replace(machines[place], machine=change(machines[place].machine, factor))

        def changed(deployment: Deployment) -> Deployment:
            old = deployment.machines
            new = tuple(change(one, factor) if one.chip.name == chip else one for one in old.machines)
            return replace(deployment, machines=MachineColumns(new, old.index))

        return replace(question, machines=tuple(machines)), replace(predictor, change=changed)

    return Shift(name=name, moved=moved)


def _faster_memory(machine: Machine, factor: float) -> Machine:
    tiers = tuple(
        replace(tier, bandwidth_bytes_per_s=tier.bandwidth_bytes_per_s * factor) if tier.name == "dram" else tier
        for tier in machine.chip.tiers
    )
    return _with_chip(machine, replace(machine.chip, tiers=tiers))


def _faster_clock(machine: Machine, factor: float) -> Machine:
    """Everything on the chip but its main memory runs faster."""
    chip = machine.chip
    matrix, vector = (
        {name: rate * factor for name, rate in rates.items()}
        for rates in (chip.matrix_flops_per_s, chip.vector_flops_per_s)
    )
    tiers = tuple(
        replace(tier, bandwidth_bytes_per_s=tier.bandwidth_bytes_per_s * factor) if tier.name in ON_CHIP else tier
        for tier in chip.tiers
    )
    clock_hz = chip.clock_hz * factor
    faster = replace(chip, matrix_flops_per_s=matrix, vector_flops_per_s=vector, tiers=tiers, clock_hz=clock_hz)
    return _with_chip(machine, faster)


def _faster_links(machine: Machine, factor: float) -> Machine:
    def faster(levels: tuple[Level, ...]) -> tuple[Level, ...]:
        return tuple(replace(one, bandwidth_bytes_per_s=one.bandwidth_bytes_per_s * factor) for one in levels)

    node = None if machine.node is None else replace(machine.node, levels=faster(machine.node.levels))
    return replace(machine, levels=faster(machine.levels), node=node)


def _with_chip(machine: Machine, chip: Chip) -> Machine:
    return replace(machine, chip=chip)


def _host(question: Question, predictor: Predictor, factor: float) -> Asked:
    def changed(deployment: Deployment) -> Deployment:
        r = deployment.runtime
        slower = replace(r, host_step_s=r.host_step_s * factor, host_sequence_s=r.host_sequence_s * factor)
        return replace(deployment, runtime=slower)

    return question, replace(predictor, change=changed)
