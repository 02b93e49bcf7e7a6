"""How chips are joined: levels of links from the innermost domain outwards, nodes of a kind, machines of a size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware.chip import Chip, Fact, MemoryTier

UNBOUNDED = 2**40
"""Size of a level that spans however many chips a machine has (a data-centre fabric)."""

MESH_KINDS = frozenset({"nvlink-mesh", "xgmi-mesh", "hccs-mesh", "roce-mesh", "xe-link"})
"""Kinds in which a chip has one link to each peer, so that a smaller group uses fewer of its links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of a topology: `size` chips that reach each other at `bandwidth_bytes_per_s`.

    Attributes:
        kind: what joins them: nvswitch, nvlink-mesh, nvlink-pair, on-package, pcie, xgmi-mesh, torus, infiniband, ...
        size: chips in one domain of this level; UNBOUNDED for a fabric.
        bandwidth_bytes_per_s: per chip and direction, summed over its links of this level.
        latency_s: one small message between two chips, hardware and wire, without the software of a collective.
        reduces_in_switch: whether switches can add what passes through them (NVLS, SHARP).
    """

    name: str
    kind: str
    size: int
    bandwidth_bytes_per_s: float
    latency_s: float
    reduces_in_switch: bool = False

    def __post_init__(self) -> None:
        """Refuse domains of one chip and links without bandwidth."""
        rate = np.asarray(self.bandwidth_bytes_per_s)
        sound = np.all(rate > 0) and np.all(rate < math.inf)
        if not (self.size >= 2 and sound and 0 <= self.latency_s < math.inf):
            raise SpecError(
                "a level joins at least 2 chips with positive bandwidth and latency >= 0",
                at=self.name,
                got=self,
                fix="give size, bandwidth and latency",
            )

    def bandwidth_within(self, ranks: ArrayLike) -> NDArray[np.float64]:
        """Bytes/s per chip and direction inside a group of `ranks` chips of this level, same shape.

        In a mesh only the links to members of the group help: (ranks - 1) of (size - 1). Elsewhere the whole port does.
        """
        group = np.clip(np.asarray(ranks, dtype=np.float64), 1.0, float(self.size))
        share = (group - 1.0) / (self.size - 1.0) if self.kind in MESH_KINDS else np.ones_like(group)
        return np.asarray(self.bandwidth_bytes_per_s * share, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A kind of server, rack or pod: `chips` accelerators of one kind, the levels that join them, and their host.

    `levels` go inner to outer with growing size; the last one is unbounded. Numbers the source does not give are None.
    `facts` keeps the evidence by key (for levels `levels.NAME.bandwidth`).
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    chip: str
    chips: int
    levels: tuple[Level, ...]
    host_cpu: str = ""
    host_memory_bytes: float | None = None
    host_memory_bandwidth_bytes_per_s: float | None = None
    nic_count: int = 0
    nic_bandwidth_bytes_per_s: float | None = None
    nvme_bytes: float | None = None
    nvme_bandwidth_bytes_per_s: float | None = None
    cxl_bytes: float | None = None
    cxl_bandwidth_bytes_per_s: float | None = None
    cxl_latency_s: float = 0.0
    max_power_w: float | None = None
    price_usd: float | None = None
    rent_usd_per_s: float | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that levels nest and end in a fabric, so that any number of chips has a level that spans it."""
        sizes = [level.size for level in self.levels]
        if self.chips < 1 or not sizes or sizes != sorted(set(sizes)) or sizes[-1] != UNBOUNDED:
            raise SpecError(
                "the levels of a node grow from inner to outer and end in one without size",
                at=self.name,
                got=sizes,
                fix="order them and leave out the size of the outermost",
            )

    def __hash__(self) -> int:
        """By name, so that nodes can key a cache although their facts cannot be hashed."""
        return hash(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`count` chips of one kind with the levels they need to reach each other, inner to outer.

    Ranks are numbered so that neighbours are as close as they can be; `levels` is empty for one chip. Level sizes are
    those of the hardware, except that a fabric spans exactly `count`.
    """

    name: str
    chip: Chip
    count: int
    levels: tuple[Level, ...]
    node: Node | None = None

    def __post_init__(self) -> None:
        """Check that the levels span the machine."""
        if self.count < 1 or (self.count > 1 and (not self.levels or self.levels[-1].size < self.count)):
            raise SpecError(
                "a machine needs at least one chip and levels that span all of them", at=self.name, got=self.count
            )

    @property
    def node_chips(self) -> int:
        """Chips in one node (of a machine without a node: all of them)."""
        return min(self.node.chips, self.count) if self.node else self.count

    @property
    def node_count(self) -> int:
        """Nodes that hold the machine; the last may be partly used."""
        return -(-self.count // self.node_chips)

    def level_for(self, ranks: int, *, stride: int = 1) -> Level:
        """The innermost level that holds the block of chips from which a group takes every `stride`-th of `ranks`.

        Raises: DomainError: fewer than 2 ranks, a stride below 1, or a block larger than the machine.
        """
        block = ranks * stride
        if not (ranks >= 2 and stride >= 1 and block <= self.count):
            raise DomainError(
                f"{self.name} has no group of {ranks} ranks at stride {stride}",
                at="ranks",
                got=ranks,
                fix=f"a group has 2 to {self.count} ranks" if self.count > 1 else "one chip has no groups",
            )
        return next(level for level in self.levels if level.size >= block)

    def host_tier(self) -> MemoryTier | None:
        """Host memory as one chip can use it when all chips do: its share of capacity and of bandwidth."""
        own = self.chip.tier("host")
        if own is not None or self.node is None or self.node.host_memory_bytes is None:
            return own
        port = self.chip.port("host")
        shared = self.node.host_memory_bandwidth_bytes_per_s
        rates = [port.bandwidth_bytes_per_s if port else math.inf, shared / self.node.chips if shared else math.inf]
        if min(rates) == math.inf:
            return None
        return MemoryTier(
            name="host",
            technology="DDR",
            capacity_bytes=self.node.host_memory_bytes / self.node.chips,
            bandwidth_bytes_per_s=min(rates),
            latency_s=port.latency_s if port else 0.0,
        )

    def nvme_tier(self) -> MemoryTier | None:
        """Local drives as one chip can use them when all chips do; None where the node's drives are not known."""
        own = self.chip.tier("nvme")
        node = self.node
        if own is not None or node is None or node.nvme_bytes is None or node.nvme_bandwidth_bytes_per_s is None:
            return own
        return MemoryTier(
            name="nvme",
            technology="NVMe",
            capacity_bytes=node.nvme_bytes / node.chips,
            bandwidth_bytes_per_s=node.nvme_bandwidth_bytes_per_s / node.chips,
        )

    def cxl_tier(self) -> MemoryTier | None:
        """CXL memory of the node as one chip can use it when all chips do, over the port to its host; None where there
        is none.
        """
        node = self.node
        if node is None or node.cxl_bytes is None or node.cxl_bandwidth_bytes_per_s is None:
            return None
        port = self.chip.port("host")
        share = node.cxl_bandwidth_bytes_per_s / node.chips
        return MemoryTier(
            name="cxl",
            technology="CXL",
            capacity_bytes=node.cxl_bytes / node.chips,
            bandwidth_bytes_per_s=min(share, port.bandwidth_bytes_per_s) if port else share,
            latency_s=node.cxl_latency_s + (port.latency_s if port else 0.0),
        )


def levels_spanning(levels: tuple[Level, ...], count: int) -> tuple[Level, ...]:
    """The levels that `count` chips need, inner to outer; the fabric, if among them, gets the size `count`."""
    if count == 1:
        return ()
    last = next(i for i, level in enumerate(levels) if level.size >= count)
    kept = levels[: last + 1]
    outer = kept[-1]
    if outer.size != UNBOUNDED:
        return kept
    return (*kept[:-1], _resized(outer, count))


def _resized(level: Level, size: int) -> Level:
    return Level(
        name=level.name,
        kind=level.kind,
        size=size,
        bandwidth_bytes_per_s=level.bandwidth_bytes_per_s,
        latency_s=level.latency_s,
        reduces_in_switch=level.reduces_in_switch,
    )
