"""Collectives: the fastest of a few protocols, each an alpha-beta law over the levels of links that a group crosses.

A protocol costs `start + hops x hop + moved bytes / (bandwidth x efficiency)`. Rings move (n-1)/n of the buffer per
pass (two passes for an all-reduce) and copy their own n-th once more; switches that add move (n+1)/n once; kernels of
serving frameworks (one-shot, two-shot) replace the library up to a buffer limit. The soft minimum over protocols rises
with every byte. Over several levels the outer ones carry the share that inner ones leave to a rank, and chunks overlap.

Sources: Thakur, Rabenseifner, Gropp, IJHPCA 2005 (rings, trees); NCCL documentation (LL and Simple protocols, NVLS);
vLLM `custom_all_reduce.py` and TensorRT-LLM `customAllReduceKernels` (one-shot and two-shot kernels, buffer limits).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, did_you_mean
from ridgeline.costs.coefficients import Coefficients, own_calibrations
from ridgeline.costs.machine_columns import BUS_KINDS, LevelColumns, MachineColumns
from ridgeline.costs.price import Price, Setting, pnorm, work, zero_where_empty
from ridgeline.costs.room import Numbers
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.hardware.topology import Machine
from ridgeline.workloads.ops import Collective

Array = NDArray[np.float64]

PASSES: Mapping[str, float] = {
    "all_reduce": 2.0,
    "all_gather": 1.0,
    "reduce_scatter": 1.0,
    "alltoall": 1.0,
    "send_recv": 1.0,
}
"""Times that a ring carries the buffer around: a reduce-scatter and then an all-gather make an all-reduce."""

RINGS = frozenset({"all_reduce", "all_gather", "reduce_scatter"})
"""Kinds that pass parts on from neighbour to neighbour; in the others every pair sends its own message."""

FRAMEWORK: Mapping[str, str] = {"vllm": "vllm", "sglang": "vllm", "trtllm": "trtllm"}
"""Serving runtimes that bring all-reduce kernels of their own; any other runtime calls the library."""

DEPLOYED_BUS_EXPONENT = 0.4
"""How ranks on PCIe wait for each other in deployed servers: by this power of the pairs that share the bus. Rings over
switches meet on few links: published rates of four and eight L40S (TensorRT-LLM 0.17, 19 rows) lie between 0.2 and 0.4,
attention data parallelism of eight RTX PRO 6000 (1.0, 6 rows) between 0.4 and 0.8. The host of the measured tables is
far slower (2.1)."""

ONE = np.ones(())

FRAMEWORK_RANKS = 8.0
"""The custom all-reduce kernels are compiled for up to eight peers (vLLM `_SUPPORTED_WORLD_SIZES`)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one level carries; seconds are per byte of the whole buffer at full link rate, zero where nothing crosses.

    `wire_s` moves the bytes in a ring (or straight to the peers), `switch_s` the same where the switch adds, `own_s`
    copies the rank's own part; `contention` multiplies them on a host bus; `hops` messages follow each other.
    """

    wire_s: Array
    switch_s: Array
    own_s: Array
    contention: Array
    hops: Array
    latency_s: Array


@dataclass(frozen=True, slots=True)
class ByTransport:
    """Coefficients of the library per row: one set where chips talk over a host bus, another where links are direct.

    `deployed`: how ranks share the bus is that of servers that people deploy on, not that of the host of the tables.
    """

    machines: MachineColumns
    deployed: bool = False

    def __getitem__(self, name: str) -> Value:
        """The value for each row."""

        def of(machine: Machine) -> float:
            other_host = self.deployed and name == "bus_exponent" and not _measured_by_user(machine.chip.name)
            return DEPLOYED_BUS_EXPONENT if other_host else float(_library_of(machine)[name])

        return self.machines.gather(of)

    def calibrated(self) -> NDArray[np.bool_]:
        """Whether the chip of each row was measured over that transport."""
        return np.asarray(self.machines.gather(lambda machine: float(_library_of(machine).calibrated))) > 0


@cache
def _measured_by_user(chip: str) -> bool:
    """Whether a calibration of one's own holds the chip: its host is then the one that counts."""
    documents = (document for _, document in own_calibrations("collective"))
    return any(chip in (family.get("chips") or {}) for one in documents for family in one.data["kernels"].values())


def _library_of(machine: Machine) -> Coefficients:
    family = "nccl_bus" if any(level.kind in BUS_KINDS for level in machine.levels) else "nccl"
    return Coefficients("collective", family, ChipColumns((machine.chip,)))


def price_collective(op: Collective, machines: MachineColumns, setting: Setting) -> Price:
    """Price a collective of `op.ranks` ranks spaced by `op.stride`; all dimensions broadcast.

    Raises: DomainError: an unknown kind, or a group that is larger than its machine.
    """
    if op.kind not in PASSES:
        raise DomainError("unknown collective", at="kind", got=op.kind, fix=did_you_mean(op.kind, PASSES))
    kernel = kernel_of(op, setting)
    library = ByTransport(machines, deployed=setting.sustained)
    own = Coefficients("collective", kernel, machines.chips) if kernel in FRAMEWORK.values() else None
    ideal = setting.runtime == "ideal"
    time, floor, terms = collective_s(op, machines, library, own, eager=not setting.captured)
    flops, reads, writes = work(op)
    price = Price(
        time_s=floor if ideal else time,
        floor_s=floor,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms={"link": floor} if ideal else terms,
        detail={"ranks": op.ranks},
        calibrated=library.calibrated(),
        kernel="ideal" if ideal else _named(kernel, machines),
    )
    return zero_where_empty(price, np.where(np.asarray(op.ranks) > 1.0, op.message_bytes, 0.0))


def _named(kernel: str, machines: MachineColumns) -> str:
    """The family whose spread an interval comes from: over a host bus the library is another, and frameworks use it."""
    over_bus = [any(level.kind in BUS_KINDS for level in machine.levels) for machine in machines.machines]
    if not any(over_bus):
        return kernel
    return "nccl_bus" if all(over_bus) and kernel == "nccl" else f"{kernel}+nccl_bus"


def collective_s(
    op: Collective, machines: MachineColumns, library: Numbers, own: Numbers | None, *, eager: bool = False
) -> tuple[Array, Array, dict[str, Value]]:
    """(time_s, floor_s, terms) with the given coefficients; `own` holds those of a framework's kernels, if it has any.

    An eager call of a framework copies the buffer to a registered one and is not faster than its launch from the host.
    """
    ranks = np.maximum(np.asarray(op.ranks, dtype=np.float64), 1.0)
    stride = np.maximum(np.asarray(op.stride, dtype=np.float64), 1.0)
    size = np.maximum(np.asarray(op.message_bytes, dtype=np.float64), 0.0)
    _check_fits(op, machines, ranks, stride)
    levels = machines.levels()
    stages = _stages(op.kind, levels, ranks, stride, library)
    floor = size * _overlapped([np.minimum(stage.wire_s, stage.switch_s) for stage in stages], 0.0)
    if not stages:
        return floor, floor, {"link": floor}
    clock_hz = machines.chips.gather(lambda chip: chip.clock_hz)
    time, terms = _library_s(op, stages, size, clock_hz, library)
    if own is not None:
        time = _framework_s(stages[0], levels[0], size, (ranks, stride), clock_hz, time, own)
    if own is not None and eager:
        bandwidth = machines.chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
        copied = np.asarray(own["copies"]) * size / bandwidth
        time = np.asarray(pnorm(8.0, time + copied, np.asarray(own["host_s"])))
        terms = {**terms, "host": np.asarray(own["host_s"])}
    return np.maximum(time, floor), floor, terms


def kernel_of(op: Collective, setting: Setting) -> str:
    """The kernel family that the runtime calls: its own all-reduce, or the library."""
    return FRAMEWORK.get(setting.runtime, "nccl") if op.kind == "all_reduce" else "nccl"


def _check_fits(op: Collective, machines: MachineColumns, ranks: Array, stride: Array) -> None:
    count = machines.gather(lambda machine: float(machine.count))
    if np.any((ranks > 1.0) & ((ranks - 1.0) * stride + 1.0 > count)):
        raise DomainError(
            "a group has more ranks than its machine has chips", at=op.name, got=op.ranks, fix="use a larger machine"
        )


def _stages(kind: str, levels: tuple[LevelColumns, ...], ranks: Array, stride: Array, library: Numbers) -> list[Stage]:
    """One stage per level, inner to outer. `below` members already share a domain of the level inside."""
    stages: list[Stage] = []
    below = np.ones(np.broadcast_shapes(ranks.shape, stride.shape))
    for place, level in enumerate(levels):
        members = np.minimum(ranks, np.maximum(np.floor(np.asarray(level.size) / stride), below))
        if place == len(levels) - 1:
            members = np.maximum(members, ranks)
        mesh_share = np.where(np.asarray(level.mesh) > 0, (members - 1.0) / np.maximum(level.size - 1.0, 1.0), 1.0)
        per_byte_s = np.where(members > below, 1.0 / (level.bandwidth_bytes_per_s * np.maximum(mesh_share, 1e-9)), 0.0)
        busy = np.maximum(np.minimum(members * stride, level.size) / 2.0, 1.0)
        # Powers are dear, and few machines have a bus.
        shared = np.asarray(level.bus) > 0
        contention = np.where(shared, busy ** np.asarray(library["bus_exponent"]), 1.0) if np.any(shared) else ONE
        make = _ring_stage if kind in RINGS else _direct_stage
        stages.append(make(kind, level, (ranks, below, members), per_byte_s, contention, library))
        below = members
    return stages


def _ring_stage(
    kind: str,
    level: LevelColumns,
    group: tuple[Array, Array, Array],
    per_byte_s: Array,
    contention: Array,
    library: Numbers,
) -> Stage:
    """Reduce-scatter and all-gather among `fan` neighbours, each with the share that lower levels left to it."""
    _, below, members = group
    fan, passes = np.ceil(members / below), PASSES[kind]
    share_s = per_byte_s / below
    wire = passes * (fan - 1.0) / fan * share_s
    adds = (np.asarray(level.reduces) > 0) & (kind == "all_reduce")
    around = np.where(level.torus, _torus_hops(fan, level.dimensions), fan - 1.0) if np.any(level.torus) else fan - 1.0
    return Stage(
        wire_s=wire,
        switch_s=np.where(adds, (fan + 1.0) / fan * share_s, wire),
        own_s=share_s / fan,
        contention=contention,
        hops=passes * np.minimum(around, np.asarray(library["tree_hop"]) * np.log2(fan)),
        latency_s=np.asarray(level.latency_s, dtype=np.float64),
    )


def _direct_stage(
    kind: str,
    level: LevelColumns,
    group: tuple[Array, Array, Array],
    per_byte_s: Array,
    contention: Array,
    library: Numbers,
) -> Stage:
    """All-to-all: the part for the members that a rank meets first at this level. Send: all of it, at the outermost."""
    ranks, below, members = group
    fan = np.ceil(members / below)
    if kind == "alltoall":
        # In a torus every message passes through several links, so the traffic counts once per link.
        far = np.maximum(_torus_hops(fan, level.dimensions) / 2.0, 1.0) if np.any(level.torus) else ONE
        links = np.where(level.torus, far, 1.0)
        # One message is posted for each peer; the copy of one's own part is half as dear as in a ring.
        wire, hops = (members - below) / ranks * links * per_byte_s, members - below
        own = np.where(below == 1.0, 0.5 * per_byte_s / ranks, 0.0)
    else:
        outermost = (members == ranks) & (below < ranks)
        wire, hops, own = outermost * per_byte_s, outermost * 1.0, 0.0 * per_byte_s
    return Stage(wire, wire, own, contention, hops, np.asarray(level.latency_s, dtype=np.float64))


def _torus_hops(fan: Array, dimensions: Value) -> Array:
    """Steps around every dimension of a torus of `fan` chips, one after the other; half as many part any two."""
    dims = np.asarray(dimensions, dtype=np.float64)
    hops: Array = dims * np.maximum(fan ** (1.0 / dims) - 1.0, 0.0)
    return hops


def _overlapped(times: list[Array], exposed: Value) -> Array:
    """Stages run as a pipeline of chunks: the slowest, and the `exposed` share of the others."""
    if not times:
        return np.zeros(())
    stacked = np.broadcast_arrays(*times)
    slowest = stacked[0]
    for time in stacked[1:]:
        slowest = np.maximum(slowest, time)
    total: Array = slowest + exposed * (sum(stacked, start=np.float64(0.0)) - slowest)
    return total


def _protocol_s(
    name: str,
    stages: list[Stage],
    size: Array,
    clock_hz: Value,
    c: Numbers,
    *,
    switch: bool = False,
    exposed: Value = 0.0,
) -> tuple[Array, Array]:
    """(fixed, moving) seconds of one protocol: starting takes cycles, a hop the link's latency `hop` times over."""
    hop, own = np.asarray(c[f"{name}_hop"]), np.asarray(c["own_copy"])
    waits = sum((stage.hops * stage.latency_s for stage in stages), start=np.float64(0.0))
    fixed = np.asarray(c[f"{name}_start_cycles"]) / clock_hz + hop * waits
    per_byte = [(stage.switch_s if switch else stage.wire_s + own * stage.own_s) * stage.contention for stage in stages]
    return fixed, size * _overlapped(per_byte, exposed) / np.asarray(c[f"{name}_efficiency"])


def _library_s(
    op: Collective, stages: list[Stage], size: Array, clock_hz: Value, c: Numbers
) -> tuple[Array, dict[str, Value]]:
    """The communication library: low-latency and bandwidth protocols, and adding in the switch where it can."""
    exposed, prefix = c["exposed"], "" if op.kind in RINGS else "p2p_"
    quick = _protocol_s(f"{prefix}ll", stages, size, clock_hz, c)
    started, moving = _protocol_s(f"{prefix}simple", stages, size, clock_hz, c, exposed=exposed)
    # Filling and draining a pipeline of chunks of the best size costs a share that falls as the buffer grows.
    bulk = started, moving + np.sqrt(np.asarray(c["ramp_s"]) * moving)
    candidates = [quick, bulk]
    if op.kind == "all_reduce" and not op.dtype.name.startswith("int"):
        # Switches add floating point; where none does, this candidate repeats the ring with a longer start.
        candidates.append(_protocol_s("switch", stages, size, clock_hz, c, switch=True, exposed=exposed))
    time = _soft_minimum([fixed + moving for fixed, moving in candidates])
    link = np.min(np.broadcast_arrays(*[moving for _, moving in candidates]), axis=0)
    return time, {"link": np.minimum(link, time), "latency": np.maximum(time - link, 0.0)}


def _framework_s(
    inner: Stage,
    level: LevelColumns,
    size: Array,
    group: tuple[Array, Array],
    clock_hz: Value,
    library_s: Array,
    c: Numbers,
) -> Array:
    """The runtime's own all-reduce inside one domain of fast links, up to its buffer limit, else the library."""
    ranks, stride = group
    near = ((ranks - 1.0) * stride < level.size) & (ranks <= FRAMEWORK_RANKS)
    # Over a host bus only two chips can reach each other's memory.
    inside = near & ((np.asarray(level.bus) == 0) | (ranks <= 2.0))
    limit = np.where(ranks <= 2.0, c["limit_pair_bytes"], c["limit_bytes"])
    fixed = np.asarray(c["custom_start_cycles"]) / clock_hz + np.asarray(c["custom_hop"]) * inner.latency_s * np.log2(
        ranks
    )
    per_byte = (inner.wire_s + np.asarray(c["own_copy"]) * inner.own_s) * inner.contention
    own = fixed + size * per_byte / np.asarray(c["custom_efficiency"])
    device: Array = np.where(inside & (size < limit), np.minimum(own, library_s), library_s)
    return device


def _soft_minimum(times: list[Array]) -> Array:
    """(sum t**-8)**(-1/8): at most a few percent below the smallest, rising wherever all times rise."""
    smallest = times[0]
    for time in times[1:]:
        smallest = np.minimum(smallest, time)
    safe = np.maximum(smallest, 1e-30)
    total = sum((_eighth_power(safe / np.maximum(time, 1e-30)) for time in times), start=np.float64(0.0))
    soft: Array = safe / np.sqrt(np.sqrt(np.sqrt(total)))
    return soft


def _eighth_power(ratio: Array) -> Array:
    squared = ratio * ratio
    fourth = squared * squared
    return np.asarray(fourth * fourth)
