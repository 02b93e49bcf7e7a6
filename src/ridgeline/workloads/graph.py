"""Graphs of ops that store repetition: a hundred equal layers are one block and a count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.workloads.ops import Dim, Op


@dataclass(frozen=True, slots=True)
class Repeat:
    """`graph` executed `count` times in a row. The count may be an array and may be fractional (a pipeline stage's
    share). Runs have weights of their own, unless it is the same graph `again` (the steps of a sampler).
    """

    graph: Graph
    count: Dim
    again: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Ops and repeated sub-graphs in order of execution."""

    name: str
    items: tuple[Op | Repeat, ...]

    def walk(self) -> Iterator[tuple[Op, Dim]]:
        """Every distinct op with how often it runs."""
        for item in self.items:
            if isinstance(item, Repeat):
                for op, times in item.graph.walk():
                    yield op, times * item.count
            else:
                yield item, 1.0

    def held(self, measure: Callable[[Op], Dim]) -> Dim:
        """Sum of `measure(op)` over what has weights of its own."""
        result: Dim = 0.0
        for item in self.items:
            if isinstance(item, Repeat):
                result = result + item.graph.held(measure) * (1.0 if item.again else item.count)
            else:
                result = result + measure(item)
        return result

    def total(self, measure: Callable[[Op], Dim]) -> Dim:
        """Sum of `measure(op)` over all executions."""
        result: Dim = 0.0
        for op, times in self.walk():
            result = result + measure(op) * times
        return result

    def flops(self) -> Dim:
        """Operations of one execution."""
        return self.total(lambda op: op.flops())

    def parameters(self) -> Dim:
        """Weight elements held."""
        return self.held(lambda op: op.weight_elements())

    def weight_bytes(self) -> Dim:
        """Bytes of the weights held."""
        return self.held(lambda op: op.weight_bytes())

    def moved_bytes(self, role: str | None = None) -> Dim:
        """Bytes read and written by all operands, or by those of one role."""
        return self.total(
            lambda op: sum(
                (np.add(o.read_bytes, o.write_bytes) for o in op.operands() if role in (None, o.role)), start=0.0
            )
        )


Rewrite = Callable[[Op], Iterable[Op]]


def rewrite(graph: Graph, rule: Rewrite) -> Graph:
    """The graph with every op replaced by what `rule` gives for it (itself, several ops, or none)."""
    items: list[Op | Repeat] = []
    for item in graph.items:
        if isinstance(item, Repeat):
            items.append(replace(item, graph=rewrite(item.graph, rule)))
        else:
            items.extend(rule(item))
    return Graph(graph.name, tuple(items))


def scale_repeats(graph: Graph, factor: Callable[[str], Dim]) -> Graph:
    """The graph with each repeated block's count multiplied by `factor(block name)` (pipeline stages hold a share)."""
    items = tuple(
        replace(item, count=item.count * factor(item.graph.name)) if isinstance(item, Repeat) else item
        for item in graph.items
    )
    return Graph(graph.name, items)
