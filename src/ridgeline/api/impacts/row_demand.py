"""Demands of a row's servers from simulated runs, for `ridgeline.impact.row`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.simulations.simulate import Simulated
from ridgeline.core.errors import DomainError
from ridgeline.hardware import catalogue
from ridgeline.impact.scopes import server_power
from ridgeline.serving.record.series import windows_of

Array = NDArray[np.float64]


def row_demand(runs: Sequence[Simulated], *, step_s: float = 1.0) -> tuple[Array, float, float]:
    """Power at the wall of one server for each run, whose chips all draw what the run's chips do on average.

    Args:
        runs: simulated with their runs of iterations kept; shorter ones start over until the longest ends.
        step_s: of the demands.
    Returns: (servers, steps) W; idle power of the least server; largest power of the greatest.
    Raises: DomainError: no run, or runs that were not kept.
    """
    if not runs:
        raise DomainError("a row needs servers", at="runs", got=0, fix="give a simulated run for each")
    series = [_server_w(run, step_s) for run in runs]
    steps = max(power.size for power, _, _ in series)
    demand = np.stack([np.resize(power, steps) for power, _, _ in series])
    return demand, min(idle for _, idle, _ in series), max(most for _, _, most in series)


def _server_w(run: Simulated, step_s: float) -> tuple[Array, float, float]:
    chip = catalogue.chip(str(run.case["chip"]))
    node = catalogue.default_node(chip)
    windows = windows_of(run.played, width_s=step_s, powers=run.powers)
    each = np.clip(windows["power_w"] / run.answers.whole.chips, 0.0, chip.tdp_w)
    idle, most = (float(server_power(watts, chip, node).wall_w) for watts in (chip.idle_w, chip.tdp_w))
    return np.maximum(server_power(each, chip, node).wall_w, idle), idle, most
