"""Clocks and power caps of deployments: the highest clock whose power stays below a cap, row by row.

Below its full clock a chip's units slow down while memory and links keep pace, so that only what waits for units takes
longer; units draw r v^2 of what they drew (`costs.serving_power`). Clocks are searched on a grid, as drivers step them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems, Rows
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.clocking import at_clock
from ridgeline.serving.deployment import Deployment, Outcome

Column = NDArray[np.float64]
Evaluate = Callable[[Deployment, Problems, Rows], Outcome]

STEPS, LEVELS = 64, 49
"""The grid: clocks 1, 1 - 1/64, ... down to a quarter."""


def locked(machines: MachineColumns, clock_frac: Column) -> MachineColumns:
    """The machines of each row at its clock."""
    index = np.zeros(clock_frac.size, np.intp) if machines.index is None else machines.index
    keys, of_row = np.unique(np.stack([index.astype(np.float64), clock_frac]), axis=1, return_inverse=True)
    chosen = [(machines.machines[int(place)], float(frac)) for place, frac in keys.T]
    slowed = tuple(replace(machine, chip=at_clock(machine.chip, frac)) for machine, frac in chosen)
    return MachineColumns(slowed, np.asarray(of_row, np.intp).reshape(-1))


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

    low, high = np.zeros(capped.size, np.intp), np.full(capped.size, LEVELS - 1, np.intp)
    lost = capped[~fits(high)]
    told = [f"the chip draws more than its power cap of {cap[i]:g} W even at a quarter clock" for i in lost.tolist()]
    problems.flag_each(rows[lost], told)
    while np.any(low < high):
        middle = (low + high) // 2
        good = fits(middle)
        low, high = np.where(good, low, np.minimum(middle + 1, high)), np.where(good, middle, high)
    held = clock.copy()
    held[capped] = full * (1.0 - high / STEPS)
    return replace(d, machines=locked(d.machines, held))
