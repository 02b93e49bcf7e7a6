"""Models that take turns on a lane: how many stay in its memory, where the others wait, and what a switch costs.

All are of one structure and format, those of the pool's model: a composition of experts, or fine-tuned siblings. Their
weights are whole on every replica, and one of them is in the batch at a time (`engine.adapters` with one slot).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.core.errors import CapacityError, DomainError, SpecError
from ridgeline.hardware.topology import Machine
from ridgeline.serving.deployment import Deployment, Pool
from ridgeline.serving.engine.adapters import Adapters, HostTier
from ridgeline.serving.engine.prefix import Order
from ridgeline.serving.fleet.loading import load_bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Residence:
    """Choices of models.

    Attributes:
        kept: models whose weights stay in the memory of the chips.
        host: models that host memory holds (0: as many as fit, where the catalogue knows it, else all).
        eviction: order in which idle ones leave the chips.
    """

    kept: int = 1
    host: int = 0
    eviction: object = "lru"

    def __post_init__(self) -> None:
        """Refuse counts that no chip has."""
        if self.kept < 1 or self.host < 0:
            raise DomainError("a chip holds one model at least", at="models_cache", got=self, fix="give models_cache 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """What models that take turns cost on a lane.

    Attributes:
        kept: models that stay on a chip.
        taken_bytes: of a chip's memory, for those beside the first.
        load_s: of one model from where all of them are, or from host memory.
        fetch_s: of one from below host memory.
        host: models that host memory holds (0: all).
        order: makes the order in which idle ones leave.
    """

    kept: int
    taken_bytes: float
    load_s: float
    fetch_s: float
    host: int
    order: Callable[[], Order]

    def adapters(self, of: Sequence[int]) -> Adapters:
        """For one engine; `of` gives the model of each request."""
        tier = HostTier(kept=self.host, load_s=self.load_s, fetch_s=self.fetch_s) if self.host else None
        return Adapters(of, slots=1, kept=self.kept, load_s=self.load_s, whole=True, order=self.order(), host=tier)


def models_of(column: Any) -> list[int] | None:
    """The model of each request; those that name none are of one more. None where no request names one."""
    if not (column >= 0).any():
        return None
    named: list[int] = np.where(column >= 0, column, column.max() + 1).tolist()
    return named


def model_costs(
    d: Deployment, lanes: Pool, residence: Residence, *, source: str, count: int, order: Callable[[], Order]
) -> ModelCosts:
    """Costs on the machine of a deployment.

    Args:
        d: the deployment.
        lanes: of the pool.
        residence: what stays where.
        source: where weights come from, as `load_bytes_per_s` takes it.
        count: of different models in the load.
        order: makes an order of eviction.
    Raises:
        SpecError: lanes that share the chips of a replica. CapacityError: models that leave no memory for a sequence.
        DomainError: the catalogue does not know a rate.
    """
    plan, machine = lanes.stepper.plan, d.machines.machines[0]
    per = _number(plan.dp) * _number(plan.pp)
    if per > 1:
        fix = "take dp 1 and pp 1"
        raise SpecError("models take turns on replicas of one lane", at="models", got=f"{per:g} lanes", fix=fix)
    weights = _number(lanes.memory.weights_bytes)
    taken = (residence.kept - 1) * weights
    free = _number(lanes.memory.free_bytes - lanes.memory.sequence_bytes)
    if taken > free:
        fix = f"lower models_cache to {int(free // weights) + 1}, or take smaller formats"
        what = f"{residence.kept} models leave no memory for a sequence"
        raise CapacityError(what, at="models_cache", got=residence.kept, fix=fix)
    load_s = weights / load_bytes_per_s(machine, source)
    if source != "host" and residence.host:
        fix = "leave out models_host, or load_from"
        raise SpecError("host memory is not where models come from", at="models_host", got=source, fix=fix)
    host = (residence.host or _fit(machine, weights)) if source == "host" else 0
    host = 0 if host >= count else host
    fetch_s = max(weights / load_bytes_per_s(machine, "nvme"), load_s) if host else load_s
    return ModelCosts(kept=residence.kept, taken_bytes=taken, load_s=load_s, fetch_s=fetch_s, host=host, order=order)


def _fit(machine: Machine, weights_bytes: float) -> int:
    """Models that a chip's share of host memory holds; 0 where the catalogue does not know it."""
    tier = machine.host_tier()
    return 0 if tier is None or not math.isfinite(tier.capacity_bytes) else int(tier.capacity_bytes // weights_bytes)


def _number(value: Any) -> float:
    return float(np.ravel(np.asarray(value, float))[0])
