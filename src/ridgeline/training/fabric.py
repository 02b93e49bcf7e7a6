"""What a fabric leaves of the rates of its ports: oversubscription, paths that collide, jobs that stand scattered.

A case says it in words, as "fat-tree 2:1 hashed scattered". Rings of data parallelism and exchanges of experts are
played as max-min fair flows (`flows`) on such a fabric of the job's size, and their slowest flow sets the pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, did_you_mean
from ridgeline.core.seeding import stream
from ridgeline.training.flows import Flow, Network, fat_tree, rail_optimised, rates_of, ring_flows
from ridgeline.training.links import Links

Column = NDArray[np.float64]

KINDS = ("fat-tree", "rail")
WORDS = (*KINDS, "hashed", "sprayed", "ordered", "scattered")

LEAF_PORTS = 32
"""Ports of a leaf switch towards chips, as many go up: half of a common switch of 64 ports."""

MOST_NODES = 16
"""Nodes that are played; larger jobs see the shares of this size."""

DRAWS = 4
"""Times that paths and places are drawn where chance decides."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """How nodes are joined.

    Attributes:
        kind: fat-tree (two levels, the ports of a node on one leaf) or rail (a switch per chip of a node).
        oversubscribed: ports towards chips over ports upwards.
        sprayed: packets go over all shortest paths; else each flow is hashed onto one.
        scattered: nodes of the job in any order; else neighbours stand together.
    """

    kind: str = "fat-tree"
    oversubscribed: float = 1.0
    sprayed: bool = False
    scattered: bool = False


def fabric_of(text: str) -> Fabric:
    """The fabric that words say. Raises DomainError: a word that is none of them."""
    found = Fabric()
    for word in text.lower().split():
        up, _, down = word.partition(":")
        if down:
            ratio = _number(up) / _number(down)
            if not ratio >= 1:
                raise DomainError("ports down over ports up, from 1:1", at="network", got=word, fix='write "2:1"')
            found = replace(found, oversubscribed=ratio)
        elif word in KINDS:
            found = replace(found, kind=word)
        elif word in ("hashed", "sprayed"):
            found = replace(found, sprayed=word == "sprayed")
        elif word in ("ordered", "scattered"):
            found = replace(found, scattered=word == "scattered")
        else:
            fix = did_you_mean(word, WORDS, listing=f"words: {', '.join(WORDS)}, and a ratio such as 2:1")
            raise DomainError("not a word of networks", at="network", got=word, fix=fix)
    return found


def shared(links: Links, words: Sequence[str], of: NDArray[np.intp], nodes: Column, chips: Column) -> Links:
    """The links of each row with what its fabric leaves of the rates between nodes.

    Args:
        links: of the rows.
        words: of distinct fabrics ("": all ports in full); `of` says which of them each row has.
        of:    see words.
        nodes: of each job.
        chips: of each node.
    """
    inside, outside = (np.broadcast_to(links.rates_bytes_per_s[level], of.shape) for level in (0, -1))
    jobs, which = np.unique(np.stack([of, np.ceil(nodes), chips, inside / outside]), axis=1, return_inverse=True)
    found = np.ones((2, jobs.shape[1]))
    for place, (code, count, size, wider) in enumerate(jobs.T.tolist()):
        if words[int(code)]:
            found[:, place] = shares(fabric_of(words[int(code)]), int(count), int(size), wider)
    rings, exchanges = found[:, which.reshape(-1)]
    return links.between_nodes(rings, exchanges)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


@cache
def shares(fabric: Fabric, nodes: int, chips: int, inside: float) -> tuple[float, float]:
    """Shares of a port's rate that rings between nodes, and exchanges of all with all, reach.

    Args:
        fabric: how the nodes are joined.
        nodes:  of the job; no more than MOST_NODES are played.
        chips:  of a node, each with a port.
        inside: rate of the links in a node over that of a port, for what changes rails there.
    """
    played = min(nodes, MOST_NODES)
    if played < 2:
        return 1.0, 1.0
    network = _network(fabric, played, chips, inside)
    drawn = range(1 if fabric.sprayed and not fabric.scattered else DRAWS)
    found = [_shares(network, fabric, played, chips, seed) for seed in drawn]
    rings, exchanges = (float(np.mean(values)) for values in zip(*found, strict=True))
    return rings, exchanges


def _network(fabric: Fabric, nodes: int, chips: int, inside: float) -> Network:
    """The fabric of so many nodes, with ports of rate 1."""
    if fabric.kind == "rail":
        return rail_optimised(nodes, chips, 1.0, inside=inside)
    per_leaf = max(LEAF_PORTS // chips, 1) * chips
    leaves = -(-nodes * chips // per_leaf)
    spines = max(1, round(per_leaf / fabric.oversubscribed))
    return fat_tree(leaves, per_leaf, spines, 1.0)


def _shares(network: Network, fabric: Fabric, nodes: int, chips: int, seed: int) -> tuple[float, float]:
    order = np.arange(nodes)
    if fabric.scattered:
        # A job on some of the nodes of a larger cluster: its neighbours stand under other leaves.
        stream(seed, "scattered").shuffle(order)
    places = [[int(node) * chips + chip for node in order] for chip in range(chips)]
    rings = [flow for ring in places for flow in ring_flows(ring)]
    paced = float(np.min(rates_of(network, rings, spray=fabric.sprayed, seed=seed)))
    # Every chip to its peer of each other node, and to one of another rail: what experts ask for.
    pairs = [
        Flow(source, target)
        for chip, ring in enumerate(places)
        for here, source in enumerate(ring)
        for there in range(nodes)
        if there != here
        for target in (ring[there], places[(chip + 1 + there) % chips][there])
    ]
    each = 2.0 * (nodes - 1)
    exchanged = float(np.min(rates_of(network, pairs, spray=fabric.sprayed, seed=seed))) * each
    return min(paced, 1.0), min(exchanged, 1.0)
