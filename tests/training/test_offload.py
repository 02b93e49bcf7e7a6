"""Offloading laid out in time: bounds, orders, and what the search chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.training.offload import (
    CPU,
    CXL,
    DEVICE,
    DRIVE,
    GPU,
    HOST,
    NVME,
    Chain,
    Moves,
    best,
    cxl_need_bytes,
    device_need_bytes,
    host_need_bytes,
    laid_out,
    least_s,
)

CHAIN = Chain(
    layers=8,
    forward_s=1.0,
    backward_s=2.0,
    weight_bytes=10.0,
    state_bytes=60.0,
    activation_bytes=40.0,
    input_bytes=2.0,
    device_update_s=0.1,
    host_update_s=1.0,
    link_bytes_per_s=50.0,
    drive_bytes_per_s=40.0,
    device_bytes=1e9,
    host_bytes=1e9,
)
shares = st.sampled_from([0.0, 0.25, 0.5])
places = st.sampled_from([DEVICE, HOST, NVME])


@st.composite
def moves(draw: st.DrawFn) -> Moves:
    """Anything that can leave the chip."""
    return Moves(
        weights=draw(places),
        state=draw(places),
        swapped_frac=draw(shares),
        redone_frac=draw(shares),
        device_updates_frac=draw(shares),
        swap_to=draw(st.sampled_from([HOST, NVME])),
        overlapped=draw(st.booleans()),
    )


def test_everything_on_the_chip_takes_the_sum_of_its_layers() -> None:
    plan = laid_out(CHAIN, Moves())
    assert plan.makespan_s == pytest.approx(8 * (1.0 + 2.0 + 0.1))
    assert plan.resources == (GPU,)
    assert device_need_bytes(CHAIN, Moves()) == pytest.approx(8 * (2 * 10.0 + 60.0 + 40.0))
    assert host_need_bytes(CHAIN, Moves()) == 0.0


@given(chosen=moves())
def test_no_step_is_shorter_than_its_busiest_resource_nor_longer_than_all_in_turn(chosen: Moves) -> None:
    plan = laid_out(CHAIN, chosen)
    assert least_s(CHAIN, chosen) - 1e-9 <= plan.makespan_s <= sum(task.time_s for task in plan.tasks) + 1e-9
    assert plan.makespan_s >= 8 * 3.0
    ends = {task.name: end for task, end in zip(plan.tasks, plan.end_s, strict=True)}
    starts = {task.name: start for task, start in zip(plan.tasks, plan.start_s, strict=True)}
    for layer in range(8):
        assert starts[f"backward {layer}"] >= ends["forward 7"]
        assert starts[f"update {layer}"] >= ends[f"backward {layer}"]
        if f"return {layer}" in ends:
            assert starts[f"backward {layer}"] >= ends[f"return {layer}"] > ends[f"leave {layer}"]


@given(chosen=moves(), faster=st.sampled_from([2.0, 10.0]))
def test_faster_links_drives_and_hosts_never_slow_a_step(chosen: Moves, faster: float) -> None:
    base = laid_out(CHAIN, chosen).makespan_s
    for name in ("link_bytes_per_s", "drive_bytes_per_s"):
        assert laid_out(replace(CHAIN, **{name: getattr(CHAIN, name) * faster}), chosen).makespan_s <= base + 1e-9
    assert laid_out(replace(CHAIN, host_update_s=1.0 / faster), chosen).makespan_s <= base + 1e-9


def test_overlapped_updates_hide_behind_the_backward_pass() -> None:
    apart = laid_out(CHAIN, Moves(state=HOST, overlapped=False))
    hidden = laid_out(CHAIN, Moves(state=HOST))
    assert apart.makespan_s == pytest.approx(8 * 3.0 + 0.2 + 8 * 1.0 + 0.2)
    # The last layer's gradients, update and weights are all that the pass does not hide, with the way back of seven.
    assert hidden.makespan_s == pytest.approx(8 * 3.0 + 7 * 0.2 + 0.2, abs=1.0)


def test_the_chip_takes_updates_off_a_slow_host() -> None:
    slow = replace(CHAIN, host_update_s=5.0, link_bytes_per_s=500.0)
    alone = laid_out(slow, Moves(state=HOST)).makespan_s
    shared = laid_out(slow, Moves(state=HOST, device_updates_frac=0.5)).makespan_s
    assert shared < alone
    found = best(replace(slow, device_bytes=600.0)).moves
    assert found.state == HOST and found.device_updates_frac > 0


def test_the_search_leaves_alone_what_fits_and_moves_what_does_not() -> None:
    assert best(CHAIN).moves == Moves()
    tight = best(replace(CHAIN, device_bytes=420.0))
    assert tight.moves.state != DEVICE
    assert device_need_bytes(CHAIN, tight.moves) <= 420.0
    tighter = best(replace(CHAIN, device_bytes=200.0))
    assert tighter.schedule.makespan_s >= tight.schedule.makespan_s >= best(CHAIN).schedule.makespan_s
    drives = best(replace(CHAIN, device_bytes=200.0, host_bytes=500.0))
    assert drives.moves.state == NVME
    assert host_need_bytes(CHAIN, drives.moves) <= 500.0
    assert {GPU, CPU, DRIVE} <= set(drives.schedule.resources)


def test_state_in_cxl_memory_is_state_on_drives_that_need_no_room_in_the_host() -> None:
    expanded = replace(CHAIN, cxl_bytes_per_s=CHAIN.drive_bytes_per_s, cxl_bytes=1e9)
    for moves in (Moves(state=NVME), Moves(weights=NVME, state=NVME), Moves(swapped_frac=0.5, swap_to=NVME)):
        there = replace(
            moves,
            weights=CXL if moves.weights == NVME else moves.weights,
            state=CXL if moves.state == NVME else moves.state,
            swap_to=CXL if moves.swap_to == NVME else moves.swap_to,
        )
        assert laid_out(expanded, there).makespan_s == pytest.approx(laid_out(CHAIN, moves).makespan_s)
        assert host_need_bytes(expanded, there) == 0.0 < cxl_need_bytes(expanded, there)
        assert device_need_bytes(expanded, there) == device_need_bytes(CHAIN, moves)


def test_cxl_memory_is_used_where_it_is_and_as_far_as_it_has_room() -> None:
    tight = replace(CHAIN, device_bytes=200.0, host_bytes=500.0)
    expanded = replace(tight, cxl_bytes_per_s=10 * CHAIN.drive_bytes_per_s, cxl_bytes=1e9)
    assert best(expanded).schedule.makespan_s < best(tight).schedule.makespan_s
    assert CXL in (best(expanded).moves.state, best(expanded).moves.weights)
    full = best(replace(expanded, cxl_bytes=1.0))
    assert full.schedule.makespan_s == best(tight).schedule.makespan_s


def test_what_cannot_be_moved_is_said() -> None:
    with pytest.raises(DomainError, match="the leanest needs"):
        best(replace(CHAIN, device_bytes=10.0))
    with pytest.raises(DomainError, match="no known rate"):
        laid_out(replace(CHAIN, drive_bytes_per_s=0.0), Moves(state=NVME))
    with pytest.raises(DomainError, match="together too"):
        Moves(swapped_frac=0.75, redone_frac=0.5)
    with pytest.raises(DomainError, match="device, host, nvme and cxl"):
        Moves(weights="moon")
    with pytest.raises(DomainError, match="the rate of the host's link"):
        replace(CHAIN, link_bytes_per_s=0.0)
