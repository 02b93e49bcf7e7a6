"""Flows that share links: max-min fair rates, and the networks of training clusters whose links they share.

A network is links with capacities and, for each pair of ports, the shortest paths between them. Flows take one path by
hash, as ECMP does, or are sprayed packet by packet over all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream

Column = NDArray[np.float64]
Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """Links and shortest paths.

    Attributes:
        ports: how many chips are attached.
        capacity_bytes_per_s: of each link, one direction.
        paths: link numbers of every shortest path from one port to another.
    """

    name: str
    ports: int
    capacity_bytes_per_s: Column
    paths: Callable[[int, int], Sequence[Path]]


@dataclass(frozen=True, slots=True)
class Flow:
    """Traffic from one port to another."""

    source: int
    target: int


def max_min_rates(
    capacity: Column, flow: NDArray[np.intp], link: NDArray[np.intp], share: Column, flows: int
) -> Column:
    """Max-min fair rates by progressive filling: all rates grow together until a link is full, whose flows then stop.

    `capacity` is of each link; `flow`, `link` and `share` are entries that say which share of a flow's bytes crosses
    which link; `flows` is how many there are. Returns a rate per flow, infinite for flows that cross no link.

    Source: Bertsekas and Gallager, Data Networks, 1992, section 6.5.2.
    """
    rates = np.full(flows, np.inf)
    grown = 0.0
    left = np.array(capacity, dtype=np.float64)
    active = np.zeros(flows, dtype=np.bool_)
    active[flow] = True
    while active.any():
        live = active[flow]
        load = np.bincount(link[live], weights=share[live], minlength=left.size)
        used = load > 0
        step = float(np.min(left[used] / load[used]))
        grown += step
        left[used] -= step * load[used]
        full = used & (left <= 1e-12 * capacity)
        stopped = np.unique(flow[live & full[link]])
        rates[stopped] = grown
        active[stopped] = False
    return rates


def rates_of(network: Network, flows: Sequence[Flow], *, spray: bool, seed: int = 0) -> Column:
    """Rates of flows that start together, each sprayed over its paths or on one of them by hash.

    Raises DomainError: a flow's port is not there.
    """
    draw = stream(seed, "path by hash")
    flow, link, share = list[int](), list[int](), list[float]()
    for index, one in enumerate(flows):
        if not (0 <= one.source < network.ports and 0 <= one.target < network.ports):
            fix = f"ports are 0 to {network.ports - 1}"
            raise DomainError("no such port", at="flows", got=(one.source, one.target), fix=fix)
        paths = network.paths(one.source, one.target) if one.source != one.target else ()
        chosen = paths if spray or not paths else (paths[int(draw.integers(len(paths)))],)
        for path in chosen:
            flow += [index] * len(path)
            link += list(path)
            share += [1.0 / len(chosen)] * len(path)
    arrays = np.array(flow, dtype=np.intp), np.array(link, dtype=np.intp), np.array(share)
    return max_min_rates(network.capacity_bytes_per_s, *arrays, len(flows))


def ring_flows(ranks: Sequence[int]) -> list[Flow]:
    """Every rank of a ring sends to the next."""
    return [Flow(a, b) for a, b in zip(ranks, [*ranks[1:], *ranks[:1]], strict=True) if a != b]


def all_to_all_flows(ranks: Sequence[int]) -> list[Flow]:
    """Every rank sends to every other."""
    return [Flow(a, b) for a, b in itertools.permutations(ranks, 2)]


def ring_s(
    network: Network, rings: Sequence[Sequence[int]], moved_bytes: float, *, spray: bool, seed: int = 0
) -> float:
    """Seconds in which rings all-reduce `moved_bytes` per rank at once, each at the pace of its slowest flow."""
    flows = [ring_flows(ring) for ring in rings]
    rates = rates_of(network, [flow for ring in flows for flow in ring], spray=spray, seed=seed)
    slowest, start = 0.0, 0
    for ring in flows:
        pace = float(rates[start : start + len(ring)].min(initial=np.inf))
        start += len(ring)
        sent = 2.0 * (len(ring) - 1.0) / max(len(ring), 1) * moved_bytes
        slowest = max(slowest, sent / pace)
    return slowest


class _Links:
    """Links by name while a network is built."""

    def __init__(self) -> None:
        self.number: dict[tuple[object, ...], int] = {}
        self.capacity: list[float] = []

    def add(self, rate: float, *name: object) -> None:
        self.number[name] = len(self.capacity)
        self.capacity.append(rate)

    def network(self, name: str, ports: int, paths: Callable[[int, int], Sequence[Path]]) -> Network:
        return Network(name, ports, np.array(self.capacity), paths)


def _whole(**sizes: int) -> None:
    for name, value in sizes.items():
        if value != int(value) or value < 1:
            raise DomainError(f"{name} is a whole number", at=name, got=value, fix="give a number from 1")


def fat_tree(leaves: int, per_leaf: int, spines: int, rate: float, *, up_rate: float = 0.0) -> Network:
    """Two levels: `per_leaf` ports on each leaf, each leaf on every spine at `up_rate` (as a port, if left out)."""
    _whole(leaves=leaves, per_leaf=per_leaf, spines=spines)
    links = _Links()
    for port in range(leaves * per_leaf):
        links.add(rate, "in", port)
        links.add(rate, "out", port)
    for leaf, spine in itertools.product(range(leaves), range(spines)):
        links.add(up_rate or rate, "up", leaf, spine)
        links.add(up_rate or rate, "down", leaf, spine)

    def paths(a: int, b: int) -> list[Path]:
        first, last = links.number["in", a], links.number["out", b]
        here, there = a // per_leaf, b // per_leaf
        if here == there:
            return [(first, last)]
        return [
            (first, links.number["up", here, spine], links.number["down", there, spine], last)
            for spine in range(spines)
        ]

    return links.network("fat tree", leaves * per_leaf, paths)


def rail_optimised(nodes: int, rails: int, rate: float, *, inside: float, spines: int = 0) -> Network:
    """One switch per rail joins chip r of every node. Traffic to another rail first crosses the node's own links
    (`inside`, bytes/s), or the spines, if there are any.
    """
    _whole(nodes=nodes, rails=rails)
    links = _Links()
    for node, rail in itertools.product(range(nodes), range(rails)):
        for name, speed in (("in", rate), ("out", rate), ("away", inside), ("home", inside)):
            links.add(speed, name, node, rail)
    for rail, spine in itertools.product(range(rails), range(spines)):
        links.add(rate * nodes / spines, "up", rail, spine)
        links.add(rate * nodes / spines, "down", rail, spine)

    def paths(a: int, b: int) -> list[Path]:
        (here, rail), (there, goal) = divmod(a, rails), divmod(b, rails)
        n = links.number
        crossed = (n["away", here, rail], n["home", here, goal]) if rail != goal else ()
        if here == there:
            return [crossed]
        if rail == goal or not spines:
            return [(*crossed, n["in", here, goal], n["out", there, goal])]
        ends = n["in", here, rail], n["out", there, goal]
        return [(ends[0], n["up", rail, spine], n["down", goal, spine], ends[1]) for spine in range(spines)]

    return links.network("rail-optimised", nodes * rails, paths)


def dragonfly(groups: int, routers: int, per_router: int, rate: float, *, global_rate: float = 0.0) -> Network:
    """Groups of fully joined routers; one link between each two groups; minimal routes (Kim et al., ISCA 2008)."""
    _whole(groups=groups, routers=routers, per_router=per_router)
    links = _Links()
    for port in range(groups * routers * per_router):
        links.add(rate, "in", port)
        links.add(rate, "out", port)
    for group, a, b in itertools.product(range(groups), range(routers), range(routers)):
        if a != b:
            links.add(rate, "local", group, a, b)
    for a, b in itertools.permutations(range(groups), 2):
        links.add(global_rate or rate, "global", a, b)

    def gate(group: int, other: int) -> int:
        """The router of a group that has the link to another."""
        return (other - (other > group)) % routers

    def local(group: int, a: int, b: int) -> Path:
        return (links.number["local", group, a, b],) if a != b else ()

    def paths(a: int, b: int) -> list[Path]:
        (here, mine), (there, its) = (divmod(port // per_router, routers) for port in (a, b))
        ends = links.number["in", a], links.number["out", b]
        if here == there:
            return [(ends[0], *local(here, mine, its), ends[1])]
        way = (*local(here, mine, gate(here, there)), links.number["global", here, there])
        return [(ends[0], *way, *local(there, gate(there, here), its), ends[1])]

    return links.network("dragonfly", groups * routers * per_router, paths)


def torus(sides: Sequence[int], rate: float) -> Network:
    """A torus with links of `rate` each way along each dimension; routes take the dimensions in every order."""
    _whole(**{f"side {index}": side for index, side in enumerate(sides)})
    links = _Links()
    places = list(itertools.product(*(range(side) for side in sides)))
    for place, dimension, step in itertools.product(places, range(len(sides)), (1, -1)):
        if sides[dimension] > 1:
            links.add(rate, place, dimension, step)

    def walk(place: tuple[int, ...], goal: tuple[int, ...], order: Sequence[int]) -> Path:
        path, now = list[int](), list(place)
        for dimension in order:
            side = sides[dimension]
            ahead = (goal[dimension] - now[dimension]) % side
            step = 1 if ahead <= side - ahead else -1
            for _ in range(min(ahead, side - ahead)):
                path.append(links.number[tuple(now), dimension, step])
                now[dimension] = (now[dimension] + step) % side
        return tuple(path)

    def paths(a: int, b: int) -> list[Path]:
        differing = [d for d in range(len(sides)) if places[a][d] != places[b][d]]
        return list(dict.fromkeys(walk(places[a], places[b], order) for order in itertools.permutations(differing)))

    return links.network("torus", len(places), paths)
