"""Clocks and power caps of deployments: the highest clock whose power stays below a cap, row by row.

Below its full clock a chip's units slow down while memory and links keep pace, so that only what waits for units takes
longer; units draw r v^2 of what they drew (`costs.serving_power`). Clocks are searched on a grid, as drivers step them.

A closed form holds a cap with one clock per row, by the mean power of its steady state (`hold_power`). Over time each
iteration has a clock of its own, by its own power (`Governor`): prompts slow down where decoding need not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems, Rows
from ridgeline.core.errors import DomainError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.op_energy import leakage_w, number
from ridgeline.costs.serving_power import serving_power_w
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.hardware.clocking import at_clock, leaking
from ridgeline.hardware.topology import Machine
from ridgeline.serving.deployment import Deployment, Outcome
from ridgeline.serving.step_work import work_of
from ridgeline.serving.stepper import Stepper
from ridgeline.workloads.model import Batch

Column = NDArray[np.float64]
Evaluate = Callable[[Deployment, Problems, Rows], Outcome]

STEPS, LEVELS = 64, 49
"""The grid: clocks 1, 1 - 1/64, ... down to a quarter."""

SLACK = 0.03
"""Relative: by so much an iteration may seem to pass its cap, since clocks are interpolated between sizes."""


def locked(machines: MachineColumns, clock_frac: Column) -> MachineColumns:
    """The machines of each row at its clock."""
    return _by_row(machines, clock_frac, lambda machine, frac: replace(machine, chip=at_clock(machine.chip, frac)))


def _by_row(machines: MachineColumns, column: Column, change: Callable[[Machine, float], Machine]) -> MachineColumns:
    """The machines of each row, changed by its number."""
    index = np.zeros(column.size, np.intp) if machines.index is None else machines.index
    keys, of_row = np.unique(np.stack([index.astype(np.float64), column]), axis=1, return_inverse=True)
    changed = tuple(change(machines.machines[int(place)], float(value)) for place, value in keys.T)
    return MachineColumns(changed, np.asarray(of_row, np.intp).reshape(-1))


def warmed(machines: MachineColumns, temperature_c: Column) -> MachineColumns:
    """The machines with what their chips leak at each row's temperature beyond what their idle power holds."""
    if np.all(temperature_c == number("reference_c")):
        return machines

    def changed(machine: Machine, celsius: float) -> Machine:
        chip = machine.chip
        return replace(machine, chip=leaking(chip, leakage_w(chip.idle_w - chip.leakage_w, celsius)))

    return _by_row(machines, temperature_c, changed)


def hold_power(d: Deployment, evaluate: Evaluate, problems: Problems, rows: Rows) -> Deployment:
    """The deployment with the highest clocks that keep `power_cap_w`, where a row has one.

    A cap above what a row draws changes nothing. Rows whose cap lies below idle power, or below what the lowest clock
    draws, get a problem.
    """
    cap, clock = d.cases["power_cap_w"], d.cases["clock_frac"]
    idle = np.broadcast_to(d.machines.chips.gather(lambda chip: chip.idle_w), cap.shape)
    below = np.flatnonzero((cap > 0) & (cap < idle))
    words = "of the idle chip; give more, no clock gets there"
    told = [f"the power cap of {cap[i]:g} W is below the {idle[i]:g} W {words}" for i in below.tolist()]
    problems.flag_each(rows[below], told)
    capped = np.flatnonzero((cap > 0) & (cap >= idle))
    if not capped.size:
        return d
    part = replace(d.rows(capped), bulk=True)
    limit, full = cap[capped], clock[capped]

    def fits(level: NDArray[np.intp]) -> NDArray[np.bool_]:
        slowed = replace(part, machines=locked(part.machines, full * (1.0 - level / STEPS)))
        outcome = evaluate(slowed, Problems(capped.size), np.arange(capped.size, dtype=np.intp))
        power: NDArray[np.bool_] = np.broadcast_to(outcome.power_w_per_chip, limit.shape) <= limit
        return power

    high, good = highest_clock(fits, capped.size)
    lost = capped[~good]
    told = [f"the chip draws more than its power cap of {cap[i]:g} W even at a quarter clock" for i in lost.tolist()]
    problems.flag_each(rows[lost], told)
    held = clock.copy()
    held[capped] = full * (1.0 - high / STEPS)
    return replace(d, machines=locked(d.machines, held))


def highest_clock(
    fits: Callable[[NDArray[np.intp]], NDArray[np.bool_]], rows: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Steps of the grid below the full clock at which each row first fits, and whether it does at the lowest clock."""
    low, high = np.zeros(rows, np.intp), np.full(rows, LEVELS - 1, np.intp)
    lowest = fits(high)
    while np.any(low < high):
        middle = (low + high) // 2
        good = fits(middle)
        low, high = np.where(good, low, np.minimum(middle + 1, high)), np.where(good, middle, high)
    return high, lowest


@dataclass(frozen=True, slots=True)
class Governor:
    """Holds every iteration of a lane below a power limit: the highest clock at which it draws no more.

    A chip's own limiter averages over some milliseconds, about as long as iterations last.
    """

    cap_w: float

    def __call__(self, stepper: Stepper, batch: Batch) -> Stepper:
        """The stepper at the clock of each row of a batch; the lowest where none keeps the limit."""
        plain = replace(stepper, pace=None)
        work = work_of(plain.step(_charged(batch, stepper.drafts)), stepper.model)
        host_s = np.asarray(plain.host_s(batch))
        sizes = (batch.decode_seqs, batch.decode_context, batch.prefill_seqs, batch.prefill_tokens, host_s)
        rows = int(np.broadcast(*(np.asarray(size) for size in sizes)).size)
        full = np.broadcast_to(stepper.machines.gather(lambda machine: machine.chip.clock_frac), (rows,))

        def slowed(level: NDArray[np.intp]) -> Stepper:
            return replace(plain, machines=locked(stepper.machines, full * (1.0 - level / STEPS)))

        def fits(level: NDArray[np.intp]) -> NDArray[np.bool_]:
            at = slowed(level)
            per_s = 1.0 / (np.asarray(at.step(batch).time_s) + host_s)
            load = work.load(per_s, 0.0, chips=stepper.plan.chips, context=batch.decode_context)
            power: NDArray[np.bool_] = np.broadcast_to(serving_power_w(load, at.machines.chips), (rows,)) <= self.cap_w
            return power

        level, _ = highest_clock(fits, rows)
        return slowed(level)


def refuse_excess(power_w: Column, clocks: Column, *, full: float, cap_w: float) -> None:
    """Refuse iterations that ran. Raises DomainError: some drew more than the cap at the lowest clock."""
    lowest = clocks <= full * (1.0 - (LEVELS - 1.5) / STEPS)
    if np.any((power_w > cap_w * (1.0 + SLACK)) & lowest):
        what = f"some iterations draw more than the power cap of {cap_w:g} W even at a quarter clock"
        raise DomainError(what, at="power_cap_w", got=cap_w, fix="give more, or a smaller max_batch")


def governor(cap_w: float, chip: Chip) -> Governor | None:
    """The governor of a cap; None: 0, there is none. Raises DomainError: a cap below what the idle chip draws."""
    if cap_w <= 0:
        return None
    if cap_w < chip.idle_w:
        what = f"the power cap of {cap_w:g} W is below the {chip.idle_w:g} W of the idle chip"
        raise DomainError(what, at="power_cap_w", got=cap_w, fix="give more, no clock gets there")
    return Governor(cap_w)


def at_clocks(chip: Chip, clock_frac: Column) -> ChipColumns:
    """A chip at the clock of each row, to the nearest step of the grid."""
    keys, of_row = np.unique(np.round(clock_frac * STEPS) / STEPS, return_inverse=True)
    return ChipColumns(tuple(at_clock(chip, float(frac)) for frac in keys), np.asarray(of_row, np.intp).reshape(-1))


def _charged(batch: Batch, drafts: float | Column) -> Batch:
    """What the law of power counts of an iteration: prompt tokens as decoding ones without a past."""
    width = 1.0 + np.asarray(drafts)
    tokens = np.asarray(batch.prefill_seqs) * np.asarray(batch.prefill_tokens)
    seqs = np.asarray(batch.decode_seqs) + tokens / width
    context = np.asarray(batch.decode_seqs) * np.asarray(batch.decode_context) / np.maximum(seqs, 1e-9)
    return Batch(decode_seqs=seqs, decode_context=np.maximum(context, 1.0), decode_tokens=width)
