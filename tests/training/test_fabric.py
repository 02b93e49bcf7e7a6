"""Fabrics in words, and what they leave of the rates between nodes."""

from __future__ import annotations

from typing import Any

import pytest

import ridgeline as rl
from ridgeline.core.errors import DomainError
from ridgeline.training.fabric import Fabric, fabric_of, shares

WIDE = 9.0
"""Links in a node over ports between nodes, as of eight H100."""


def left(text: str, nodes: int = 8) -> tuple[float, float]:
    """Shares for rings and exchanges of nodes of eight chips."""
    return shares(fabric_of(text), nodes, 8, WIDE)


def test_words_say_a_fabric() -> None:
    assert fabric_of("") == Fabric()
    assert fabric_of("2:1 fat-tree Sprayed") == Fabric(oversubscribed=2.0, sprayed=True)
    assert fabric_of("rail scattered hashed") == Fabric(kind="rail", scattered=True)


@pytest.mark.parametrize(
    ("text", "told"), [("fat tree", "not a word"), ("1:2", "2:1"), ("x:1", "2:1"), ("rails", "rail")]
)
def test_other_words_are_refused(text: str, told: str) -> None:
    with pytest.raises(DomainError, match=told):
        fabric_of(text)


def test_a_tree_with_as_many_ports_up_as_down_loses_nothing_when_packets_are_sprayed() -> None:
    assert left("fat-tree sprayed") == pytest.approx((1.0, 1.0))
    assert left("fat-tree sprayed scattered") == pytest.approx((1.0, 1.0))


def test_flows_on_one_path_collide_and_spraying_them_does_not() -> None:
    for text in ("fat-tree", "fat-tree scattered", "fat-tree 2:1"):
        one, all_paths = left(text), left(f"{text} sprayed")
        assert all(0 < a <= b <= 1 for a, b in zip(one, all_paths, strict=True))
    assert left("fat-tree")[0] < 0.8


def test_few_ports_upwards_hurt_exchanges_and_rings_only_where_neighbours_are_apart() -> None:
    # Half of the traffic of four nodes under each leaf of eight nodes leaves the leaf.
    rings, exchanges = left("fat-tree 4:1 sprayed")
    assert rings == pytest.approx(1.0) and exchanges < 0.6
    assert left("fat-tree 4:1 sprayed scattered")[0] < 1.0


def test_rails_carry_rings_in_full_whoever_stands_where() -> None:
    assert left("rail")[0] == left("rail scattered")[0] == 1.0


def test_nodes_under_one_leaf_and_single_nodes_do_not_see_the_fabric() -> None:
    assert left("fat-tree 8:1", nodes=4) == left("fat-tree 8:1", nodes=1) == (1.0, 1.0)


CASE: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "on": "128x h100-sxm", "seq": 2048, "global_batch": 128}


def test_a_step_waits_for_its_fabric_and_a_plan_knows_it() -> None:
    steps = [rl.predict("training", zero=3, network=text, **CASE) for text in ("", "rail", "fat-tree 4:1 scattered")]
    assert steps[0].step_s == steps[1].step_s < steps[2].step_s
    assert steps[0].exposed_comm_frac < steps[2].exposed_comm_frac
    plan = rl.plan_training(**CASE, network="fat-tree 4:1 scattered", shown=1)
    best = plan.best[0]
    assert rl.predict("training", **best.columns).step_s == pytest.approx(best.step_s)
    assert best.step_s >= rl.plan_training(**CASE, shown=1).best[0].step_s
    with pytest.raises(rl.RidgelineError, match="not a word of networks"):
        rl.predict("training", network="string", **CASE)


def test_fabrics_differ_by_row() -> None:
    words = ["fat-tree 4:1 scattered", "", "fat-tree 4:1 scattered"]
    table = {"model": [CASE["model"]] * 3, "chip": ["h100-sxm"] * 3, "chips": [128, 128, 8], "seq": [2048] * 3}
    table |= {"global_batch": [128] * 3, "zero": ["3"] * 3}
    with_fabric, without = (rl.predict_table("training", table | more)["step_s"] for more in ({"network": words}, {}))
    assert with_fabric[0] > without[0] and with_fabric[1] == without[1] and with_fabric[2] == without[2]
