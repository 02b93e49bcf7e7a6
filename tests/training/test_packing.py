"""Batches of unequal sequences, and stages of unequal speed, against brute force and bounds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.training.islands import split_layers
from ridgeline.training.packing import SequenceCost, balanced, optimal, packed, static_mesh_s

COST = SequenceCost(linear=1e-6, square=1e-11, turn=1e-8)
lengths = st.lists(st.sampled_from([100, 900, 4000, 16000, 60000]), min_size=1, max_size=6)


@given(sizes=st.lists(st.integers(1, 100), min_size=1, max_size=30))
def test_packing_keeps_every_sequence_and_needs_few_rows(sizes: list[int]) -> None:
    rows = packed(sizes, 100)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in row) <= 100 for row in rows)
    fewest = -(-sum(sizes) // 100)
    assert fewest <= len(rows) <= max(2 * fewest, 1)


@given(sizes=lengths)
def test_the_greedy_assignment_keeps_to_memory_and_adds_up(sizes: list[int]) -> None:
    found = balanced(sizes, 8, 8192, COST)
    loads = np.zeros(8)
    for size, first, count in zip(sizes, found.first.tolist(), found.ranks.tolist(), strict=True):
        assert size <= count * 8192 and first % count == 0 and first + count <= 8
        loads[first : first + count] += COST.of(np.array([float(size)]), float(count))[0]
    assert loads == pytest.approx(found.load_s)
    assert 0 < found.balance <= 1


@pytest.mark.parametrize("sizes", [[900, 900, 4000], [16000, 100, 100, 4000], [60000, 16000], [8000] * 3])
def test_the_integer_program_is_brute_force_and_no_worse_than_greedy(sizes: list[int]) -> None:
    pytest.importorskip("scipy")
    blocks = [(start, wide) for wide in (1, 2, 4) for start in range(0, 4, wide)]
    best = np.inf
    for choice in itertools.product(blocks, repeat=len(sizes)):
        if any(size > wide * 16384 for size, (_, wide) in zip(sizes, choice, strict=True)):
            continue
        loads = np.zeros(4)
        for size, (start, wide) in zip(sizes, choice, strict=True):
            loads[start : start + wide] += COST.of(np.array([float(size)]), float(wide))[0]
        best = min(best, loads.max())
    exact = optimal(sizes, 4, 16384, COST)
    assert exact.time_s == pytest.approx(best, rel=1e-3)
    assert exact.time_s <= balanced(sizes, 4, 16384, COST).time_s * (1 + 1e-3)


def test_a_long_sequence_hides_what_goes_round_and_a_short_one_does_not() -> None:
    behind = replace(COST, hidden=True)
    tokens = np.array([100.0, 1e6])
    attention, passing = COST.square * tokens**2 / 8, COST.turn * tokens * 7 / 8
    shown, hidden = COST.of(tokens, 8.0), behind.of(tokens, 8.0)
    assert shown - hidden == pytest.approx([attention[0], passing[1]])
    assert behind.of(tokens, 1.0) == pytest.approx(COST.of(tokens, 1.0))


def test_groups_per_sequence_beat_a_mesh_that_is_cut_for_the_longest() -> None:
    draw = np.random.default_rng(3)
    sizes = np.minimum(draw.lognormal(8.0, 1.5, 128), 262144).astype(int).clip(1).tolist()
    static = static_mesh_s(sizes, 32, 32, COST)
    own = balanced(sizes, 32, 8192, COST).time_s
    work = float(COST.of(np.array(sizes, float), 1.0).sum()) / 32
    assert work <= own < static


def test_batches_that_cannot_be_say_why() -> None:
    with pytest.raises(DomainError, match="fits no group"):
        balanced([100_000], 4, 8192, COST)
    with pytest.raises(DomainError, match="power of two"):
        balanced([10], 6, 8192, COST)
    with pytest.raises(DomainError, match="longer than a row"):
        packed([200], 100)
    with pytest.raises(DomainError, match="whole numbers"):
        packed([], 100)
    with pytest.raises(DomainError, match="a divisor of 32"):
        static_mesh_s([10], 32, 5, COST)


@given(layers=st.integers(3, 9), times=st.lists(st.sampled_from([1.0, 1.5, 3.0]), min_size=2, max_size=3))
def test_layers_go_to_stages_by_speed_as_brute_force_would(layers: int, times: list[float]) -> None:
    held = split_layers(layers, times)
    assert sum(held) == layers and min(held) >= 1
    options = itertools.product(range(1, layers + 1), repeat=len(times))
    best = min(max(n * t for n, t in zip(option, times, strict=True)) for option in options if sum(option) == layers)
    assert max(n * t for n, t in zip(held, times, strict=True)) == pytest.approx(best)
    with pytest.raises(DomainError, match="at most 1 stages"):
        split_layers(1, times)
