"""Model code that a host runs operator by operator, as research baselines do: unfused kernels, and a host that leads.

The host issues the kernels of a layer while the device runs earlier ones; a step is therefore as long as the longer of
both. Engines that capture a step in a graph, or that issue it from compiled code, have no such bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware.chip import Value
from ridgeline.plans.cache import copied_cache
from ridgeline.steps.step import price_step
from ridgeline.workloads.graph import Graph, Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Eager:
    """What eager execution costs beside the kernels.

    Attributes:
        host_block_s: host time to issue one layer: its kernels, through an interpreter and a framework's dispatcher.
        cache_copies: how often a step copies each layer's cache to make it longer (0: it has its whole length ahead).
    """

    host_block_s: Value
    cache_copies: Value = 1.0

    def __post_init__(self) -> None:
        """Refuse costs below nothing."""
        if not np.all((np.asarray(self.host_block_s) >= 0) & (np.asarray(self.cache_copies) >= 0)):
            raise DomainError("eager execution costs nothing or more", at="eager", got=self, fix="give both >= 0")


def eager_time_s(graph: Graph, machines: MachineColumns, eager: Eager) -> Value:
    """Seconds of one step, host included: the longer of what the device runs and what the host takes to issue it.

    Args:
        graph: of one rank, as `plans.parallelise` gives it; sizes scalar or columns.
        machines: one per row.
        eager: how the code is run.
    """
    step = price_step(
        copied_cache(graph, copies=eager.cache_copies), machines, Setting(runtime="torch", captured=False)
    )
    layers = sum((np.asarray(item.count, float) for item in graph.items if isinstance(item, Repeat)), np.float64(0.0))
    longer: Value = np.maximum(step.time_s, layers * eager.host_block_s)
    return longer
