"""LoRA adapters of a pool: their size, what an iteration and a load of them cost, and what they take of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ridgeline.core.errors import CapacityError, DomainError
from ridgeline.costs.price_op import price
from ridgeline.serving.deployment import Deployment, Pool
from ridgeline.serving.engine.adapters import Adapters
from ridgeline.workloads.families.size import LORA_PARTS, adapter_size
from ridgeline.workloads.ops import Vector

KERNELS = 2.0
"""Per matmul: x A (shrink) and its product with B (expand), for all adapters of a batch at once (Punica's SGMV, arXiv
2310.18547, section 4; vLLM's punica wrapper)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Choices of adapters.

    Attributes:
        rank: of every adapter.
        slots: most distinct adapters in a batch (vLLM's `max_loras`).
        cache: most adapters on a chip (0: as many as slots). All others wait in host memory (`max_cpu_loras`).
        targets: attention or all, as `workloads.families.size.adapter_size` takes them.
    """

    rank: float = 16
    slots: int = 8
    cache: int = 0
    targets: str = "attention"

    def __post_init__(self) -> None:
        """Refuse sizes that no adapter has."""
        if self.rank < 1 or self.slots < 1 or (self.cache and self.cache < self.slots):
            fix = "rank and slots are at least 1, the cache is 0 or at least the slots"
            raise DomainError("adapters that cannot run", at="lora", got=self, fix=fix)
        if self.targets not in LORA_PARTS:
            raise DomainError("unknown targets", at="lora_targets", got=self.targets, fix=f"one of {[*LORA_PARTS]}")

    @property
    def kept(self) -> int:
        """Most adapters on a chip."""
        return self.cache or self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraCosts:
    """What the adapters of a lane cost.

    Attributes:
        taken_bytes: of a chip's memory, for all that may be on it.
        load_s: of one adapter over the host link, each chip its own part.
        each_s: per iteration and distinct adapter: its matrices at memory bandwidth.
        first_s: per iteration with any adapter: launches of the kernels.
    """

    lora: Lora
    taken_bytes: float
    load_s: float
    each_s: float
    first_s: float

    def adapters(self, of: Sequence[int]) -> Adapters:
        """For one engine; `of` gives the adapter of each request."""
        return Adapters(
            of,
            slots=self.lora.slots,
            kept=self.lora.kept,
            load_s=self.load_s,
            each_s=self.each_s,
            first_s=self.first_s,
        )


def lora_costs(d: Deployment, lanes: Pool, lora: Lora) -> LoraCosts:
    """Costs on the machine of a deployment. Raises DomainError, CapacityError: no host link, no memory for them."""
    plan, chip = lanes.stepper.plan, d.machines.machines[0].chip
    size = adapter_size(d.model, lora.rank, targets=lora.targets, tp=plan.tp)
    of_pass, matmuls, pp = (float(np.ravel(np.asarray(x, float))[0]) for x in (size.size_bytes, size.matmuls, plan.pp))
    port = chip.port("host")
    if port is None:
        fix = "take a chip with a host port, or a traffic without adapters"
        raise DomainError(f"{chip.name} has no host port to load adapters over", at="adapters", fix=fix)
    taken = lora.kept * of_pass / pp
    free = float(np.ravel(np.asarray(lanes.memory.free_bytes - lanes.memory.sequence_bytes, float))[0])
    if taken > free:
        fix = "lower lora_cache, lora_slots or lora_rank"
        raise CapacityError(f"{lora.kept} adapters leave no memory for a sequence", at="lora_cache", got=taken, fix=fix)
    start = price(Vector(name="lora", part="attention", kind="activation", elements=1.0), d.machines, d.setting)
    return LoraCosts(
        lora=lora,
        taken_bytes=taken,
        load_s=of_pass / pp / port.bandwidth_bytes_per_s,
        each_s=of_pass / chip.dram.bandwidth_bytes_per_s,
        first_s=KERNELS * matmuls * float(np.ravel(np.asarray(start.time_s, float))[0]),
    )
