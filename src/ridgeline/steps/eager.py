"""Model code that a host runs operator by operator, as research baselines do: unfused kernels, and a host that leads.

The host issues kernels while the device runs earlier ones; a step is therefore as long as the longer of both. Engines
that capture a step in a graph, or that issue it from compiled code, have no such bound.
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
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.ops import Attention, Dim, Matmul, Op, Vector

RMS_NORM, ROPE, ATTENTION, GROW = 8, 18, 7, 2
"""Kernels of one op in eager PyTorch, counted in the block of pytorch-labs/gpt-fast (model.py, 2023-11): a norm without
offsets (cast, square, mean, add, root, two products, cast), rotary positions of queries and keys (nine each: cast, six
products and sums, join, cast), attention (two products, scale, mask, softmax, two casts), new keys and values.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eager:
    """What eager execution costs beside the kernels.

    Attributes:
        host_kernel_s: host time to issue one kernel, through an interpreter and a framework's dispatcher.
        cache_copies: how often a step copies each layer's cache to make it longer (0: it has its whole length ahead).
    """

    host_kernel_s: Value
    cache_copies: Value = 1.0

    def __post_init__(self) -> None:
        """Refuse costs below nothing."""
        if not np.all((np.asarray(self.host_kernel_s) >= 0) & (np.asarray(self.cache_copies) >= 0)):
            raise DomainError("eager execution costs nothing or more", at="eager", got=self, fix="give both >= 0")


def eager_kernels(graph: Graph, *, cache_copies: Dim = 1.0) -> Value:
    """Kernels of one step where nothing is fused but what libraries fuse: matmuls with their bias, layer norm, softmax.

    Args:
        graph: of one rank, before its cache is copied.
        cache_copies: as `Eager` has it; keys and values are a kernel each.
    """
    width = next((op.k for op, _ in graph.walk() if isinstance(op, Matmul)), 0.0)
    count = graph.total(lambda op: _kernels(op, width, cache_copies))
    return np.asarray(count, dtype=np.float64)


def _kernels(op: Op, width: Dim, cache_copies: Dim) -> Dim:
    if isinstance(op, Attention):
        return ATTENTION + GROW * np.maximum(cache_copies, 1.0)
    if isinstance(op, Vector) and op.kind == "norm":
        # An offset beside the gain marks layer norm, which is one kernel; the sum before it is another.
        return np.where(np.asarray(op.weights) > np.asarray(width), 1.0, RMS_NORM) + (op.writes > 1.0)
    if isinstance(op, Vector):
        return float(ROPE) if op.kind == "rope" else op.reads
    return 1.0


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
    host_s = eager_kernels(graph, cache_copies=eager.cache_copies) * eager.host_kernel_s
    longer: Value = np.maximum(step.time_s, host_s)
    return longer
