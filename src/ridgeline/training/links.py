"""Links between chips as columns: how fast a group of ranks of each row can gather, exchange and pass on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.hardware.topology import MESH_KINDS, UNBOUNDED, Level, Node
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Links:
    """Levels inner to outer, each with a value per row (or one for all): size in chips, bytes/s per chip and direction,
    and whether the level is a mesh, of which a small group uses only a part. Exchanges reach `exchange_share` of the
    rates between nodes.
    """

    sizes: tuple[Column, ...]
    rates_bytes_per_s: tuple[Column, ...]
    meshes: tuple[Column, ...]
    exchange_share: Dim = 1.0

    def direct_bytes_per_s(self, block: Dim, ranks: Dim) -> Column:
        """Bandwidth of a chip within a group of `ranks` that stand within `block` neighbouring chips."""
        return self._choose(np.asarray(block, float), np.asarray(ranks, float))

    def gather_bytes_per_s(self, ranks: Dim, stride: Dim) -> Column:
        """Rate at which every member of a group of `ranks`, `stride` chips apart, can receive one whole buffer.

        Inside a domain each member has its own link. From one domain to the next, all members of the domain share the
        way in, since a ring or a tree brings each byte into a domain once (hierarchical all-gather).
        """
        block = np.asarray(ranks, float) * stride
        rate = np.asarray(np.inf)
        inner = np.ones(1)
        for level, (size, speed, mesh) in enumerate(zip(self.sizes, self.rates_bytes_per_s, self.meshes, strict=True)):
            members = np.maximum(1.0, inner / stride) if level else np.ones(1)
            within = np.minimum(np.asarray(ranks, float), np.maximum(size / stride, 1.0))
            share = _mesh_share(mesh, within, size)
            used = (block > inner) | (level == 0)
            rate = np.where(used, np.minimum(rate, members * speed * share), rate)
            inner = size
        return np.asarray(rate, float)

    def exchange_s(self, ranks: Dim, stride: Dim, sent_bytes: Dim, copies: Dim) -> tuple[Column, Column]:
        """Seconds of a dispatch to experts: (inside the innermost level, beyond it), for a group of `ranks`.

        `sent_bytes` are what a rank sends when each token goes to `copies` experts. The share of partners that stand in
        a level decides how much of it crosses that level; between domains a token travels once per domain, however many
        of its experts are there (DeepEP, arXiv 2412.19437, section 3.2.2), and fans out inside.
        """
        group = np.maximum(np.asarray(ranks, float), 1.0)
        reached, inside, outside = np.ones(1), np.zeros(1), np.zeros(1)
        for level, (size, speed, mesh) in enumerate(zip(self.sizes, self.rates_bytes_per_s, self.meshes, strict=True)):
            members = np.clip(size / np.asarray(stride, float), 1.0, group)
            crossing = np.maximum(members - reached, 0.0) / group
            rate = speed * np.where(size >= UNBOUNDED, self.exchange_share, 1.0)
            time = sent_bytes * crossing / (rate * _mesh_share(mesh, members, size))
            if level == 0:
                inside = time
            else:
                outside = outside + time * _distinct_share(group / reached, copies)
            reached = np.maximum(members, reached)
        return np.asarray(inside, float), np.asarray(outside, float)

    def slowed(self, level: int, share: float) -> Links:
        """The same links with one level at a share of its rate: oversubscribed, or colliding (training.flows says how
        much). `level` counts from the innermost.
        """
        if not 0.0 < share <= 1.0 or not 0 <= level < len(self.sizes):
            fix = f"a share in 0 to 1 of level 0 to {len(self.sizes) - 1}"
            raise DomainError("no such share of a level", at="slowed", got=(level, share), fix=fix)
        rates = tuple(rate * (share if i == level else 1.0) for i, rate in enumerate(self.rates_bytes_per_s))
        return replace(self, rates_bytes_per_s=rates)

    def between_nodes(self, rings: Column, exchanges: Column) -> Links:
        """The same links where rings between nodes reach one share of the ports' rates, and exchanges another."""
        levels = zip(self.sizes, self.rates_bytes_per_s, strict=True)
        rates = tuple(np.asarray(rate * np.where(size >= UNBOUNDED, rings, 1.0)) for size, rate in levels)
        return replace(self, rates_bytes_per_s=rates, exchange_share=exchanges / rings)

    def _choose(self, block: Column, ranks: Column) -> Column:
        speed = self.rates_bytes_per_s[-1]
        chosen = np.asarray(speed * _mesh_share(self.meshes[-1], ranks, self.sizes[-1]), float)
        for size, rate, mesh in list(zip(self.sizes, self.rates_bytes_per_s, self.meshes, strict=True))[-2::-1]:
            chosen = np.where(block <= size, rate * _mesh_share(mesh, ranks, size), chosen)
        return chosen


def _distinct_share(domains: Dim, copies: Dim) -> Column:
    """Expected distinct domains among `copies` even choices, per choice: N (1 - (1 - 1/N)^k) / k."""
    n, k = np.maximum(np.asarray(domains, float), 1.0), np.maximum(np.asarray(copies, float), 1.0)
    return np.asarray(np.minimum(1.0, n * (1.0 - (1.0 - 1.0 / n) ** k) / k))


def _mesh_share(mesh: Column, ranks: Dim, size: Column) -> Column:
    """Part of a chip's links that lead to members of the group: all of them, unless the level is a mesh."""
    peers = np.clip(np.asarray(ranks, float), 2.0, size) - 1.0
    return np.where(mesh > 0, peers / (size - 1.0), 1.0)


def links_of(nodes: Sequence[Node], index: NDArray[np.intp] | None = None) -> Links:
    """The links of each row's node; rows point into `nodes` (None: all rows use `nodes[0]`)."""
    depth = max(len(node.levels) for node in nodes)
    padded = [(*node.levels, *[node.levels[-1]] * (depth - len(node.levels))) for node in nodes]
    pick = np.zeros(1, dtype=np.intp) if index is None else index

    def column(level: int, value: str) -> Column:
        return np.array([_value(levels[level], value) for levels in padded], dtype=np.float64)[pick]

    sizes, rates, meshes = (
        tuple(column(level, value) for level in range(depth)) for value in ("size", "bandwidth_bytes_per_s", "mesh")
    )
    return Links(sizes, rates, meshes)


def _value(level: Level, name: str) -> float:
    return float(level.kind in MESH_KINDS) if name == "mesh" else float(getattr(level, name))
