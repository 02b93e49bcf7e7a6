"""Pipelines across unlike islands: other chips, other networks, slow links between them; layers split by speed.

Tensor and data parallelism stay inside an island, pipeline neighbours may stand in two (Holmes, arXiv 2312.03549).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.training.graph import Schedule
from ridgeline.training.layout import Layout
from ridgeline.training.schedules import Times, pipeline
from ridgeline.training.setup import VALUE_BYTES, Setup
from ridgeline.training.step import ONCE, train_step
from ridgeline.training.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    """Neighbouring pipeline stages on equal chips.

    Attributes:
        stages: how many. setup: its chips and links.
        away_bytes_per_s: of a chip to the next island (the NIC that both have, or a share of a long link).
        away_s: latency there.
    """

    stages: int
    setup: Setup
    away_bytes_per_s: float
    away_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse islands that cannot be."""
        if self.stages < 1 or not self.away_bytes_per_s > 0 or not self.away_s >= 0:
            fix = "give stages from 1 and the rate of the link between islands"
            raise DomainError("an island has stages and a link", at="island", got=self.stages, fix=fix)


@dataclass(frozen=True, slots=True)
class IslandStep:
    """A step across islands: layers of each stage, the pipeline in time, gradients of the slowest island, all in s."""

    layers: tuple[int, ...]
    schedule: Schedule
    gradients_s: float

    @property
    def step_s(self) -> float:
        """Pipeline and gradients."""
        return self.schedule.makespan_s + self.gradients_s


def split_layers(layers: int, layer_s: Sequence[float]) -> tuple[int, ...]:
    """Whole layers per stage so that the slowest stage is as fast as can be; each stage has one at least.

    Args:
        layers:  in all.
        layer_s: seconds that each stage needs for one.
    Returns: how many each has. Giving each further layer to the stage that would then be done first is optimal, since
        stage times only grow.
    Raises: DomainError: fewer layers than stages, or a time that is not above 0.
    """
    times = np.asarray(layer_s, float)
    if layers < times.size or not np.all(times > 0):
        fix = f"use at most {max(layers, 1)} stages"
        raise DomainError("each stage has a layer and a time", at="layers", got=(layers, times.size), fix=fix)
    held: NDArray[np.intp] = np.ones(times.size, dtype=np.intp)
    for _ in range(layers - times.size):
        held[int(np.argmin((held + 1) * times))] += 1
    return tuple(int(count) for count in held)


def island_step(work: Work, layout: Layout, islands: Sequence[Island], *, even: bool = False) -> IslandStep:
    """One step of a pipeline over islands.

    `layout` is one row: tp, dp, micro-batch and the rest hold in each island; its `pp` and `chips` are ignored. `even`
    splits layers by number instead of speed.
    """
    stages = sum(island.stages for island in islands)
    layers = int(np.max(work.layers))
    micro_batches = int(np.max(np.asarray(layout.micro_batches)))
    each: list[tuple[float, float]] = []
    gradients = 0.0
    for island in islands:
        chips = np.asarray(layout.tp * layout.dp * layout.cp * stages, float)
        part = replace(layout, pp=float(stages), chips=chips, vp=1.0)
        step = train_step(work, part, island.setup)
        own = float(np.ceil(layers / stages))
        busy = sum(float(np.max(step.terms[name])) for name in step.terms if name not in ONCE)
        passes = 3.0 + float(np.max(np.asarray(layout.redone_matmul)))
        layer_s = busy / micro_batches / own
        each += [(layer_s / passes, layer_s * (passes - 1.0) / passes)] * island.stages
        gradients = max(gradients, float(np.max(step.terms["data_parallel"])) + float(np.max(step.terms["optimizer"])))
    totals = [forward + backward for forward, backward in each]
    held = split_layers(layers, [1.0] * stages if even else totals)
    sent = float(np.max(layout.micro_batch * work.seq * work.hidden * VALUE_BYTES / (layout.cp * layout.tp)))
    hops: list[tuple[float, float]] = []
    for island in islands:
        block = float(np.max(layout.tp * layout.cp * layout.dp))
        inside = float(np.max(island.setup.links.direct_bytes_per_s(2.0 * block, 2.0)))
        hops += [(sent / inside, 0.0)] * (island.stages - 1) + [(sent / island.away_bytes_per_s, island.away_s)]
    times = Times(
        forward_s=[f * n for (f, _), n in zip(each, held, strict=True)],
        backward_s=[b * n for (_, b), n in zip(each, held, strict=True)],
        weights_s=[0.0] * stages,
        hops=hops[:-1],
    )
    return IslandStep(held, pipeline("1f1b", stages, micro_batches, times), gradients)
