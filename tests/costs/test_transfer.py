"""Copies: bytes over the slowest tier on the way, and what a machine without a tier says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.transfer import TIERS, price_copy
from ridgeline.hardware.machine import machine
from ridgeline.workloads.ops import Copy

DGX = MachineColumns((machine("8x h100-sxm"),))


def copied(size: object, source: str = "dram", target: str = "dram", on: MachineColumns = DGX, **more: object) -> Price:
    op = Copy(name="copy", part="p", size_bytes=size, source=source, target=target)  # type: ignore[arg-type]
    return price_copy(op, on, Setting(**more))  # type: ignore[arg-type]


@given(tier=st.sampled_from(TIERS), size=st.integers(0, 2**40), more=st.integers(1, 2**30))
def test_a_copy_never_gets_faster_when_bytes_are_added(tier: str, size: int, more: int) -> None:
    price = copied(np.array([size, size + 1, size + 1 + more], float), tier)
    assert np.all(np.diff(price.time_s) >= 0)
    assert np.all(price.time_s >= price.floor_s)


@pytest.mark.parametrize("tier", TIERS)
def test_direction_does_not_matter_and_nothing_costs_nothing(tier: str) -> None:
    assert copied(1e9, tier, "dram").time_s == copied(1e9, "dram", tier).time_s
    assert copied(0.0, tier).time_s == 0


def test_a_copy_within_memory_reads_and_writes() -> None:
    size = 1e10
    assert copied(size, runtime="ideal").time_s == pytest.approx(2 * size / 3.35e12)


def test_tiers_farther_away_are_slower() -> None:
    times = [float(copied(1e9, tier).time_s) for tier in ("dram", "peer", "host", "nvme")]
    assert times == sorted(times)


def test_a_host_copy_is_bound_by_its_port() -> None:
    size = 1e10
    assert copied(size, "host").time_s == pytest.approx(size / (0.82 * 64e9), rel=0.01)


def test_drives_are_shared_by_the_chips_of_a_node() -> None:
    node = machine("8x h100-sxm").node
    assert node is not None and node.nvme_bandwidth_bytes_per_s is not None
    size = 1e11
    assert copied(size, "nvme", runtime="ideal").time_s == pytest.approx(size / (node.nvme_bandwidth_bytes_per_s / 8))


def test_a_machine_without_drives_says_so() -> None:
    whole = machine("8x h100-sxm")
    assert whole.node is not None
    bare = replace(whole, node=replace(whole.node, nvme_bytes=None))
    with pytest.raises(SpecError, match="nvme"):
        copied(1e9, "nvme", on=MachineColumns((bare,)))


def test_a_system_on_chip_shares_its_memory_with_the_host() -> None:
    apple = MachineColumns((machine("m2-max"),))
    moved = 1e9
    assert (
        copied(moved, "host", on=apple, runtime="ideal").time_s
        == copied(moved, "dram", on=apple, runtime="ideal").time_s
    )


def test_an_unknown_tier_names_the_nearest() -> None:
    with pytest.raises(DomainError, match="host"):
        copied(1e9, "hosts")
