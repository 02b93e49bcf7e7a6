"""Max-min fair rates: hand cases, conservation, and what networks are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.training.flows import (
    Flow,
    Network,
    all_to_all_flows,
    dragonfly,
    fat_tree,
    max_min_rates,
    rail_optimised,
    rates_of,
    ring_flows,
    ring_s,
    torus,
)

EXACT = 1e-9


def rates(capacity: list[float], paths: list[list[int]]) -> np.ndarray:
    """Rates of flows that each take one path."""
    flow = [index for index, path in enumerate(paths) for _ in path]
    link = [one for path in paths for one in path]
    arrays = np.array(flow, dtype=np.intp), np.array(link, dtype=np.intp), np.ones(len(flow))
    return max_min_rates(np.array(capacity), *arrays, len(paths))


def test_flows_on_one_link_share_it_and_the_long_way_gets_the_least() -> None:
    assert rates([6.0], [[0], [0], [0]]).tolist() == [2.0, 2.0, 2.0]
    # The parking lot: the flow over all links shares the narrow one, the others take what it leaves.
    assert rates([2.0, 10.0, 4.0], [[0, 1, 2], [0], [1], [2]]).tolist() == [1.0, 1.0, 9.0, 3.0]
    assert rates([1.0], [[], [0]]).tolist() == [np.inf, 1.0]


@given(data=st.data(), links=st.integers(1, 6), count=st.integers(1, 10))
def test_no_link_is_overfull_and_every_flow_has_a_full_link_where_it_is_fastest(
    data: st.DataObject, links: int, count: int
) -> None:
    capacity = data.draw(st.lists(st.sampled_from([1.0, 3.0, 7.0]), min_size=links, max_size=links))
    routes = st.lists(st.integers(0, links - 1), min_size=1, max_size=links, unique=True)
    paths = data.draw(st.lists(routes, min_size=count, max_size=count))
    found = rates(capacity, paths)
    load = np.array([sum(found[i] for i, path in enumerate(paths) if link in path) for link in range(links)])
    assert np.all(load <= np.array(capacity) * (1 + EXACT))
    for i, path in enumerate(paths):
        assert any(
            load[link] >= capacity[link] * (1 - EXACT)
            and found[i] >= max(found[j] for j, other in enumerate(paths) if link in other) - EXACT
            for link in path
        )


NETWORKS = [
    fat_tree(4, 4, 4, 10.0),
    rail_optimised(4, 4, 10.0, inside=80.0),
    rail_optimised(4, 4, 10.0, inside=80.0, spines=4),
    dragonfly(4, 4, 1, 10.0),
    torus((4, 4), 10.0),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize("spray", [True, False])
def test_every_network_joins_every_pair_and_keeps_to_its_links(network: Network, spray: bool) -> None:
    flows = all_to_all_flows(range(network.ports))
    found = rates_of(network, flows, spray=spray)
    assert np.all(found > 0) and np.all(np.isfinite(found))
    for flow in flows[:: network.ports]:
        paths = network.paths(flow.source, flow.target)
        assert len({len(path) for path in paths}) == 1 and all(len(set(path)) == len(path) for path in paths)
    alone = rates_of(network, [Flow(0, network.ports - 1)], spray=spray)
    assert alone[0] >= 10.0 - EXACT


@given(seed=st.integers(0, 1000))
def test_spraying_fills_a_full_fat_tree_and_hashing_collides(seed: int) -> None:
    network = fat_tree(4, 4, 4, 10.0)
    shift = [Flow(port, (port + 4) % 16) for port in range(16)]
    sprayed = rates_of(network, shift, spray=True)
    hashed = rates_of(network, shift, spray=False, seed=seed)
    assert np.allclose(sprayed, 10.0)
    assert hashed.min() <= 10.0 + EXACT and hashed.mean() < 10.0


def test_rings_on_rails_do_not_meet_and_rings_across_rails_pay() -> None:
    network = rail_optimised(8, 8, 50.0, inside=50.0)
    rails = [[node * 8 + rail for node in range(8)] for rail in range(8)]
    along = ring_s(network, rails, 1000.0, spray=True)
    assert along == pytest.approx(2.0 * 7.0 / 8.0 * 1000.0 / 50.0)
    skewed = [[node * 8 + (rail + node) % 8 for node in range(8)] for rail in range(8)]
    assert ring_s(network, skewed, 1000.0, spray=True) >= along


def test_neighbours_on_a_torus_have_links_of_their_own() -> None:
    network = torus((4, 4, 2), 10.0)
    assert np.allclose(rates_of(network, ring_flows(range(2)), spray=False), 10.0)
    far = network.paths(0, network.ports - 1)
    assert len(far[0]) == 3 and len(far) == 6


def test_ports_that_are_not_there_are_refused() -> None:
    with pytest.raises(DomainError, match="ports are 0 to 15"):
        rates_of(NETWORKS[0], [Flow(0, 99)], spray=True)
    with pytest.raises(DomainError, match="whole number"):
        fat_tree(0, 4, 4, 1.0)
