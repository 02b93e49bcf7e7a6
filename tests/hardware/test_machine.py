"""Machines as people write them, and the levels that their chips reach each other over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, SpecError, UnknownNameError
from ridgeline.hardware import Level, chip, chips, machine, machine_of, node, nodes
from ridgeline.hardware.topology import UNBOUNDED


@pytest.mark.parametrize(
    ("text", "name", "count", "level_names"),
    [
        ("h200-sxm", "h200-sxm", 1, ()),
        ("8x h100-sxm", "h100-sxm", 8, ("nvlink",)),
        ("8xh100", "h100-sxm", 8, ("nvlink",)),
        (" 8 x H100_SXM ", "h100-sxm", 8, ("nvlink",)),
        ("8*h100", "h100-sxm", 8, ("nvlink",)),
        ("8 × h100", "h100-sxm", 8, ("nvlink",)),
        ("8X H100", "h100-sxm", 8, ("nvlink",)),
        ("12x h100-sxm", "h100-sxm", 12, ("nvlink", "infiniband")),
        ("dgx-h100", "h100-sxm", 8, ("nvlink",)),
        ("4x dgx-h100", "h100-sxm", 32, ("nvlink", "infiniband")),
        ("4 x HGX H100", "h100-sxm", 32, ("nvlink", "infiniband")),
        ("gb200-nvl72", "gb200", 72, ("nvlink",)),
        ("2x gb200-nvl72", "gb200", 144, ("nvlink", "infiniband")),
        ("8x l40s", "l40s", 8, ("pcie", "inter-socket")),
        ("frontier", "mi250x-gcd", 8, ("module", "xgmi")),
        ("cloudmatrix384", "ascend-910c", 384, ("ub",)),
        ("256x tpu-v5e", "tpu-v5e", 256, ("ici",)),
        ("4x rtx-4090", "rtx-4090", 4, ("pcie",)),
        ("2x m2-ultra", "m2-ultra", 2, ("ethernet",)),
        ("8 x 8x H100", "", 0, None),
    ],
)
def test_a_machine_is_read_as_it_is_written(
    text: str, name: str, count: int, level_names: tuple[str, ...] | None
) -> None:
    if level_names is None:
        with pytest.raises(UnknownNameError):
            machine(text)
        return
    built = machine(text)
    assert (built.chip.name, built.count, tuple(level.name for level in built.levels)) == (name, count, level_names)


@pytest.mark.parametrize("text", ["0x h100", "-3x h100", "+2x h100", "1.5x h100", "1_000x h100", "99999999x h100"])
def test_a_count_that_is_no_count_of_chips_is_refused(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        machine(text, at="--on")
    assert caught.value.at == "--on"
    assert caught.value.fix


def test_a_count_too_long_to_be_an_integer_is_refused_without_a_traceback_of_its_own() -> None:
    with pytest.raises(DomainError):
        machine("9" * 5000 + "x h100")


@pytest.mark.parametrize(
    ("text", "nearest"), [("8x h10", "h100"), ("dgx-h10", "dgx-h100"), ("gb200-nvl27", "nvl72"), ("", ""), ("8x", "")]
)
def test_an_unknown_machine_names_the_nearest_chips_and_nodes(text: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        machine(text)
    assert nearest in caught.value.fix.casefold()


names = st.sampled_from(chips())
counts = st.integers(min_value=1, max_value=20_000)


@given(name=names, count=counts)
def test_the_levels_of_a_machine_nest_and_span_exactly_what_is_needed(name: str, count: int) -> None:
    built = machine_of(chip(name), count)
    sizes = [level.size for level in built.levels]
    assert sizes == sorted(set(sizes))
    assert not sizes if count == 1 else sizes[-1] >= count > ([0, 1, *sizes])[len(sizes)]
    assert UNBOUNDED not in sizes
    assert built.node_count * built.node_chips >= count > (built.node_count - 1) * built.node_chips


@given(name=names, count=st.integers(min_value=2, max_value=5000), data=st.data())
def test_a_larger_group_never_sits_further_inside(name: str, count: int, data: st.DataObject) -> None:
    built = machine_of(chip(name), count)
    small = data.draw(st.integers(min_value=2, max_value=count))
    large = data.draw(st.integers(min_value=small, max_value=count))
    order = built.levels.index
    assert order(built.level_for(small)) <= order(built.level_for(large))
    assert built.level_for(count).size >= count


def test_strided_groups_need_the_level_that_holds_their_whole_block() -> None:
    built = machine("4x dgx-h100")
    assert built.level_for(8).name == "nvlink"
    assert built.level_for(4, stride=2).name == "nvlink"
    assert built.level_for(4, stride=8).name == "infiniband"


@pytest.mark.parametrize(("ranks", "stride"), [(1, 1), (0, 1), (9, 1), (2, 0), (8, 2)])
def test_a_group_that_does_not_exist_is_refused(ranks: int, stride: int) -> None:
    with pytest.raises(DomainError):
        machine("8x h100").level_for(ranks, stride=stride)


@given(ranks=st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=8))
def test_a_group_in_a_mesh_has_the_links_to_its_members_and_a_switch_gives_all(ranks: list[int]) -> None:
    mesh, switch = (machine(f"8x {name}").levels[0] for name in ("mi300x", "h100"))
    group = np.array(ranks)
    share = mesh.bandwidth_within(group) / mesh.bandwidth_bytes_per_s
    assert share == pytest.approx((np.clip(group, 1, 8) - 1) / 7)
    assert np.all(switch.bandwidth_within(group) == switch.bandwidth_bytes_per_s)


@pytest.mark.parametrize("name", nodes())
def test_a_whole_node_is_as_many_chips_of_its_kind(name: str) -> None:
    whole, loaded = machine(name), node(name)
    assert (whole.count, whole.chip.name, whole.node_count) == (loaded.chips, loaded.chip, 1)


def test_host_memory_is_shared_by_the_chips_of_a_node() -> None:
    built = machine("8x h100")
    tier = built.host_tier()
    assert tier is not None and built.node is not None and built.node.host_memory_bytes is not None
    assert tier.capacity_bytes == built.node.host_memory_bytes / 8
    port = built.chip.port("host")
    assert port is not None and tier.bandwidth_bytes_per_s <= port.bandwidth_bytes_per_s
    nvme = built.nvme_tier()
    assert nvme is not None and nvme.bandwidth_bytes_per_s < tier.bandwidth_bytes_per_s


def test_a_superchip_brings_its_own_host_memory() -> None:
    built = machine("gh200-96gb")
    assert built.host_tier() == built.chip.tier("host") is not None
    assert built.nvme_tier() is None


def test_a_machine_whose_host_is_not_described_has_no_host_tier() -> None:
    assert machine("m2-ultra").host_tier() is None
    assert machine("4x rtx-4090").host_tier() is None


def test_a_node_of_other_chips_is_refused() -> None:
    with pytest.raises(SpecError, match="holds h100-sxm"):
        machine_of(chip("a100"), 8, node=node("dgx-h100"))


@pytest.mark.parametrize("field", ["size", "bandwidth_bytes_per_s", "latency_s"])
def test_a_level_without_meaning_is_refused(field: str) -> None:
    good = {"name": "x", "kind": "pcie", "size": 2, "bandwidth_bytes_per_s": 1e9, "latency_s": 1e-6}
    with pytest.raises(SpecError):
        Level(**(good | {field: -1}))


def test_chips_nodes_and_machines_can_key_a_cache() -> None:
    assert len({machine("8x h100"), machine("8xH100_SXM"), machine("4x h100")}) == 2
    assert {chip("h100"): 1}[chip("h100-sxm")] == 1
