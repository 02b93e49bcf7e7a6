"""Collectives: laws of any alpha-beta model, limits of rings, what links and runtimes change, and measured times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.dtypes import dtype
from ridgeline.core.errors import DomainError
from ridgeline.costs.coefficients import coefficient_file, merged
from ridgeline.costs.collective import PASSES, price_collective
from ridgeline.costs.fits.collective import LIBRARIES, Cell, cells
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.measurements import read
from ridgeline.costs.price import Price, Setting
from ridgeline.hardware.machine import machine
from ridgeline.hardware.topology import Machine
from ridgeline.workloads.ops import Collective

MACHINES = ("8x h100-sxm", "32x h100-sxm", "8x a100-80gb-sxm", "8x l40s", "16x l40s", "72x gb200", "16x mi300x")
RUNTIMES = ("vllm", "trtllm", "sglang", "torch", "nccl")

machines = st.sampled_from(MACHINES)
kinds = st.sampled_from(sorted(PASSES))
runtimes = st.sampled_from(RUNTIMES)
byte_counts = st.integers(min_value=0, max_value=2**36)
rank_counts = st.sampled_from([1, 2, 3, 4, 6, 8])


def columns(*names: str | Machine, index: list[int] | None = None) -> MachineColumns:
    on = tuple(machine(name) if isinstance(name, str) else name for name in names)
    return MachineColumns(on, None if index is None else np.array(index))


def collective(kind: str, size: object, ranks: object, **more: object) -> Collective:
    return Collective(name="c", part="tp", kind=kind, message_bytes=size, ranks=ranks, **more)  # type: ignore[arg-type]


def priced(
    kind: str, size: object, ranks: object, on: object = "8x h100-sxm", runtime: str = "nccl", **more: object
) -> Price:
    where = on if isinstance(on, MachineColumns) else columns(on)  # type: ignore[arg-type]
    captured = bool(more.pop("captured", True))
    return price_collective(collective(kind, size, ranks, **more), where, Setting(runtime=runtime, captured=captured))


def time_s(*arguments: object, **more: object) -> np.ndarray:
    return np.asarray(priced(*arguments, **more).time_s)  # type: ignore[arg-type]


@given(kind=kinds, on=machines, runtime=runtimes, size=byte_counts, more=st.integers(1, 2**30), ranks=rank_counts)
def test_a_collective_never_gets_faster_when_bytes_are_added(
    kind: str, on: str, runtime: str, size: int, more: int, ranks: int
) -> None:
    sizes = np.array([size, size + 1, size + 1 + more], dtype=float)
    assert np.all(np.diff(time_s(kind, sizes, ranks, on, runtime)) >= 0)


@given(kind=kinds, on=machines, runtime=runtimes, captured=st.booleans(), size=byte_counts, ranks=rank_counts)
def test_no_collective_beats_the_links_it_crosses(
    kind: str, on: str, runtime: str, captured: bool, size: int, ranks: int
) -> None:
    price = priced(kind, float(size), ranks, on, runtime, captured=captured)
    assert np.all(price.time_s >= price.floor_s)
    assert np.isfinite(price.time_s)


@given(
    kind=st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "alltoall"]), runtime=runtimes, size=byte_counts
)
def test_more_ranks_in_one_switched_domain_never_take_less_time(kind: str, runtime: str, size: int) -> None:
    ranks = np.array([1.0, 2.0, 4.0, 8.0])
    times = time_s(kind, float(size), ranks, "8x a100-80gb-sxm", runtime)
    # The custom kernels give up at a buffer limit that may fall with ranks, never rise: the order holds for each.
    assert np.all(np.diff(times) >= -1e-12)


@given(kind=kinds, runtime=runtimes, size=byte_counts, ranks=rank_counts, factor=st.floats(1.0, 8.0))
def test_faster_links_never_slow_a_collective(kind: str, runtime: str, size: int, ranks: int, factor: float) -> None:
    slow = machine("32x h100-sxm")
    levels = tuple(replace(level, bandwidth_bytes_per_s=level.bandwidth_bytes_per_s * factor) for level in slow.levels)
    fast = replace(slow, levels=levels)
    before, after = (time_s(kind, float(size), ranks, columns(on), runtime) for on in (slow, fast))
    assert after <= before * (1 + 1e-12)


@pytest.mark.parametrize("kind", sorted(PASSES))
@pytest.mark.parametrize("on", MACHINES)
def test_one_rank_or_no_bytes_cost_nothing(kind: str, on: str) -> None:
    assert time_s(kind, 1e6, 1, on) == 0
    assert time_s(kind, 0.0, 2, on) == 0


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_an_ideal_all_reduce_of_a_large_buffer_moves_what_a_ring_moves(ranks: int) -> None:
    size, rate = 1e12, machine("8x a100-80gb-sxm").levels[0].bandwidth_bytes_per_s
    expected = 2 * (ranks - 1) / ranks * size / rate
    assert time_s("all_reduce", size, ranks, "8x a100-80gb-sxm", "ideal") == pytest.approx(expected)
    assert time_s("all_gather", size, ranks, "8x a100-80gb-sxm", "ideal") == pytest.approx(expected / 2)
    assert time_s("reduce_scatter", size, ranks, "8x a100-80gb-sxm", "ideal") == pytest.approx(expected / 2)
    assert time_s("alltoall", size, ranks, "8x a100-80gb-sxm", "ideal") == pytest.approx(expected / 2)


def test_large_buffers_reach_a_fixed_share_of_the_link() -> None:
    price = priced("all_reduce", np.array([1e10, 1e13]), 8, "8x a100-80gb-sxm")
    share = np.asarray(price.floor_s) / price.time_s
    assert 0.6 < share[1] < 0.95
    assert share[0] == pytest.approx(share[1], rel=0.05)


def test_small_messages_cost_latency_that_grows_with_the_ring() -> None:
    times = time_s("all_reduce", 1024.0, np.array([2.0, 4.0, 8.0]))
    # Measured on H100 with NCCL: 6.8, 9.7 and 15.6 us.
    assert times * 1e6 == pytest.approx([6.8, 9.7, 15.6], rel=0.12)


def test_switches_that_add_help_large_floating_point_all_reduces_only() -> None:
    plain = machine("8x h100-sxm")
    without = replace(plain, levels=(replace(plain.levels[0], reduces_in_switch=False),))
    size = 1e9
    assert time_s("all_reduce", size, 8, columns(plain)) < 0.9 * time_s("all_reduce", size, 8, columns(without))
    whole = {"dtype": dtype("int8")}
    assert time_s("all_reduce", size, 8, columns(plain), **whole) == pytest.approx(
        time_s("all_reduce", size, 8, columns(without), **whole)
    )
    assert time_s("all_gather", size, 8, columns(plain)) == time_s("all_gather", size, 8, columns(without))


def test_a_group_that_leaves_the_node_pays_for_the_network() -> None:
    size = 1e9
    inside = time_s("all_reduce", size, 2, "16x h100-sxm")
    across = time_s("all_reduce", size, 2, "16x h100-sxm", stride=8)
    nic = machine("16x h100-sxm").levels[1].bandwidth_bytes_per_s
    assert across > 5 * inside
    assert across >= size / nic


def test_two_nodes_share_the_network_among_their_chips() -> None:
    """A hierarchical all-reduce of two DGX H100 runs near the rate of one node: published busbw is 350-480 GB/s."""
    size = 8e9
    busbw = 2 * 15 / 16 * size / time_s("all_reduce", size, 16, "16x h100-sxm")
    assert 250e9 < busbw < 480e9


def test_host_buses_fall_off_a_cliff_with_more_chips() -> None:
    size = 256e6
    bus = [2 * (n - 1) / n * size / time_s("all_reduce", size, n, "8x l40s") / 1e9 for n in (2, 4, 8)]
    assert bus[0] == pytest.approx(20, rel=0.2)
    assert bus[1] == pytest.approx(5, rel=0.3)
    assert 0.8 < bus[2] < 2.5


def test_the_cliff_of_the_measured_host_stays_with_its_chip() -> None:
    """Four chips on one root complex share its bus; another host divides it evenly, as far as anybody knows."""
    size = 64 * 2**20

    def bus_gbps(on: str, ranks: int) -> float:
        return 2 * (ranks - 1) / ranks * size / float(time_s("all_reduce", size, ranks, on)) / 1e9

    falls = {on: bus_gbps(on, 2) / bus_gbps(on, 4) for on in ("8x l40s", "8x rtx-pro-6000-server", "8x a40")}
    assert falls["8x l40s"] > 3.0
    assert falls["8x rtx-pro-6000-server"] == pytest.approx(2.0, rel=0.25)
    assert falls["8x a40"] < falls["8x l40s"]


def test_all_to_all_across_nodes_is_bound_by_the_network() -> None:
    size = 1e8
    nic = machine("32x h100-sxm").levels[1].bandwidth_bytes_per_s
    assert time_s("alltoall", size, 32, "32x h100-sxm") >= size * 24 / 32 / nic


def test_a_mesh_serves_small_groups_with_few_of_its_links() -> None:
    size = 1e9
    mesh = machine("8x mi300x").levels[0].bandwidth_bytes_per_s
    assert time_s("all_gather", size, 2, "8x mi300x", "ideal") == pytest.approx(size / 2 / (mesh / 7))


def test_a_torus_has_short_rings_but_long_ways_between_pairs() -> None:
    plain = machine("8x h100-sxm")
    ring = replace(plain.levels[0], size=64, reduces_in_switch=False)
    torus = replace(ring, kind="torus")
    switched = replace(plain, count=64, levels=(ring,), node=None)
    neighbours = replace(plain, count=64, levels=(torus,), node=None)
    assert time_s("all_reduce", 1024.0, 64, columns(neighbours)) < time_s("all_reduce", 1024.0, 64, columns(switched))
    assert time_s("alltoall", 1e9, 64, columns(neighbours)) > 2 * time_s("alltoall", 1e9, 64, columns(switched))


def test_serving_frameworks_beat_the_library_on_small_all_reduces() -> None:
    sizes = np.array([1e3, 1e4, 1e5, 5e5])
    library = time_s("all_reduce", sizes, 8, runtime="nccl")
    for runtime in ("vllm", "sglang", "trtllm"):
        assert np.all(time_s("all_reduce", sizes, 8, runtime=runtime) < library)
    assert np.all(time_s("all_gather", sizes, 8, runtime="vllm") == time_s("all_gather", sizes, 8, runtime="nccl"))


def test_an_eager_all_reduce_is_not_faster_than_its_launch() -> None:
    sizes = np.array([256.0, 1e5, 1e8])
    graph = time_s("all_reduce", sizes, 8, runtime="vllm")
    eager = time_s("all_reduce", sizes, 8, runtime="vllm", captured=False)
    assert np.all(eager > graph)
    assert eager[0] > 1.5e-5


def test_rows_on_different_machines_are_priced_as_each_alone() -> None:
    names = ("8x h100-sxm", "8x l40s", "16x h200-sxm", "72x gb200")
    sizes = np.array([1e4, 1e6, 1e8, 1e9])
    together = time_s(
        "all_reduce", sizes, np.array([8.0, 4.0, 16.0, 72.0]), columns(*names, index=[0, 1, 2, 3]), "vllm"
    )
    alone = [
        float(time_s("all_reduce", size, ranks, name, "vllm"))
        for size, ranks, name in zip(sizes, (8, 4, 16, 72), names, strict=True)
    ]
    assert together == pytest.approx(alone)


def test_ranks_and_bytes_broadcast() -> None:
    grid = time_s("all_reduce", np.array([[1e3], [1e6]]), np.array([2.0, 4.0, 8.0]))
    assert grid.shape == (2, 3)
    assert grid[1, 2] == time_s("all_reduce", 1e6, 8)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(DomainError, match="all_reduce"):
        priced("allreduce", 1e6, 8)


def test_a_group_larger_than_its_machine_is_refused() -> None:
    with pytest.raises(DomainError, match="more ranks"):
        priced("all_reduce", 1e6, 16, "8x h100-sxm")


@pytest.fixture(scope="module")
def measured(shared_data: Path) -> list[Cell]:
    return cells(read(shared_data / "silicon" / "collectives.parquet", "collectives"))


def off(chosen: list[Cell], *, left_out: bool) -> np.ndarray:
    """Absolute errors on the shapes that no fit saw."""
    parts = []
    for cell in chosen:
        known = {
            family: coefficient_file("collective")["without"][cell.chip][family]
            if left_out
            else merged("collective", family, cell.chip, cell.generation)
            for family in (cell.library, cell.family)
        }
        held = cell.half(fits=False)
        own = None if cell.family in LIBRARIES else known[cell.family]
        parts.append(np.abs(held.priced_s(known[cell.library], own) / held.time_s - 1.0))
    return np.concatenate(parts)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("chip", "limit"), [("a100-80gb-sxm", 0.08), ("h100-sxm", 0.08), ("h200-sxm", 0.08), ("l40s", 0.15)]
)
def test_measured_collectives_are_met(measured: list[Cell], chip: str, limit: float) -> None:
    """The target is 10 %; three libraries on L40S, measured on unlike hosts, differ by more between themselves."""
    mine = [cell for cell in measured if cell.chip == chip and not cell.eager]
    assert np.median(off(mine, left_out=False)) < limit


@pytest.mark.shared_data
@pytest.mark.parametrize(("chip", "limit"), [("a100-80gb-sxm", 0.20), ("h100-sxm", 0.10), ("h200-sxm", 0.10)])
def test_chips_of_which_only_the_datasheet_is_known_are_met(measured: list[Cell], chip: str, limit: float) -> None:
    """L40S is the only chip on a host bus, so leaving it out leaves nothing to learn that from (about 33 %)."""
    mine = [cell for cell in measured if cell.chip == chip and not cell.eager]
    assert np.median(off(mine, left_out=True)) < limit
