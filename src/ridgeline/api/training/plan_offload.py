"""`rl.plan_offload`: what to move off the chip when a model to train does not fit on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.hardware.chip import ChipColumns
from ridgeline.hardware.machine import machine
from ridgeline.hardware.topology import Machine
from ridgeline.training.layout import Layout
from ridgeline.training.links import links_of
from ridgeline.training.offload import Best, Chain, Moves, best, chain_of, device_need_bytes, host_need_bytes, laid_out
from ridgeline.training.profile import coefficients, profile, recipe
from ridgeline.training.setup import Host, Setup, host_of
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model as model_of
from ridgeline.workloads.model import Model


@dataclass(frozen=True, eq=False, kw_only=True)
class OffloadPlan:
    """What moves where, and what it costs.

    Attributes:
        moves: the choice. `chain`: the model on one chip, with the rates around it.
        found: its schedule, and how many choices were tried.
        step_s, tokens_per_s: of all chips. `busy_frac`: of each resource.
        model_flops_per_s_per_chip: 6 N D convention, attention in (as `predict training`).
        device_bytes, host_bytes: needed.
    """

    moves: Moves
    chain: Chain = field(repr=False)
    found: Best = field(repr=False)
    step_s: float
    tokens_per_s: float
    model_flops_per_s_per_chip: float
    busy_frac: dict[str, float]
    device_bytes: float
    host_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        moves = {name: getattr(self.moves, name) for name in Moves.__dataclass_fields__}
        names = ("step_s", "tokens_per_s", "model_flops_per_s_per_chip", "device_bytes", "host_bytes")
        return {
            "verb": "plan",
            "task": "offload",
            "results": {"moves": moves, "busy_frac": dict(self.busy_frac), "tried": self.found.tried}
            | {name: getattr(self, name) for name in names},
        }

    def with_moves(self, moves: Moves) -> float:
        """Seconds of a step if one chose otherwise."""
        return laid_out(self.chain, moves).makespan_s


def plan_offload(
    model: str | Model,
    *,
    on: str,
    seq: int,
    batch: int = 1,
    precision: str = "bf16",
    framework: str = "deepspeed",
    host_memory: float | str = 0.0,
    host_link: float | str = 0.0,
    drives: float | str = 0.0,
    cxl_memory: float | str = 0.0,
    cxl: float | str = 0.0,
) -> OffloadPlan:
    """Choose what leaves the chip, weights, state or activations, to where, and which updates come back to it.

    Args:
        model:       a name of the catalogue, a path to a config.json, or a `Model`.
        on:          machines; the state is sharded over all their chips (ZeRO-3).
        seq:         tokens per sequence.
        batch:       sequences per chip and step.
        precision:   as of `predict training`.
        framework:   the same.
        host_memory: per chip ("64 GiB"); 0: as the node of the catalogue has it, as the next two.
        host_link:   bytes/s to the host, each direction.
        drives:      bytes/s of all drives per chip.
        cxl_memory:  per chip; 0: as the node has it.
        cxl:         bytes/s of it per chip.
    Raises: UnknownNameError, UnitError; DomainError: nothing fits, or the host is not known.

    Example: `rl.plan_offload("meta-llama/Llama-3.1-8B", on="1x rtx-4090", seq=2048, batch=8, host_memory="256 GiB",
    host_link="25 GB/s", drives="20 GB/s")`
    """
    for name, value in (("seq", seq), ("batch", batch)):
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise DomainError(f"{name} is a whole number", at=name, got=value, fix="give a number from 1")
    whole = machine(on, at="on")
    host = _host(whole, {"capacity_bytes": host_memory, "cxl_bytes": cxl_memory}, "byte", host_of([whole]))
    rates = {"host_bytes_per_s": host_link, "nvme_bytes_per_s": drives, "cxl_bytes_per_s": cxl}
    host = _host(whole, rates, "byte/s", host)
    if whole.node is None:
        raise DomainError("the machine has no node, so no links", at="on", got=whole.name, fix="name a node")
    setup = Setup(
        chips=ChipColumns((whole.chip,)),
        links=links_of([whole.node]),
        profile=profile(framework),
        recipe=recipe(precision),
        coefficients=coefficients(),
        host=host,
    )
    work = work_of(model_of(model) if isinstance(model, str) else model, float(seq))
    count = float(whole.count)
    layout = Layout(
        chips=count, seq=float(seq), global_batch=batch * count, micro_batch=float(batch), dp=count, zero=3.0
    )
    chain = chain_of(work, layout, setup, device_bytes=whole.chip.dram.capacity_bytes)
    found = best(chain)
    step_s = found.schedule.makespan_s
    flops = float((work.flops * 3.0) * batch)
    return OffloadPlan(
        moves=found.moves,
        chain=chain,
        found=found,
        step_s=step_s,
        tokens_per_s=batch * seq * whole.count / step_s,
        model_flops_per_s_per_chip=flops / step_s,
        busy_frac={name: found.schedule.busy_s(name) / step_s for name in found.schedule.resources},
        device_bytes=device_need_bytes(chain, found.moves),
        host_bytes=host_need_bytes(chain, found.moves),
    )


def _host(whole: Machine, given: Mapping[str, float | str], dimension: str, known: Host) -> Host:
    """The host as the catalogue has it, with what is given put in its place."""
    fields = {name: units.parse(value, dimension, at=name, bare_ok=True) for name, value in given.items() if value}
    found = replace(known, **fields)
    if dimension == "byte/s" and not (np.max(found.capacity_bytes) > 0 and np.max(found.host_bytes_per_s) > 0):
        fix = 'give host_memory="256 GiB" and host_link="25 GB/s", or a node of the catalogue that has them'
        raise DomainError("the host of this chip is not known", at="on", got=whole.name, fix=fix)
    return found
