"""Random streams: stable by name, independent of each other (quality D4)."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream

seeds = st.integers(min_value=0, max_value=2**63)
# Correlation of 4,000 independent pairs is below this in all but one of some 1e9 draws (six standard deviations).
LARGEST_CORRELATION = 6 / np.sqrt(4000)


@given(seed=seeds, name=st.text())
def test_the_same_seed_and_name_draw_the_same(seed: int, name: str) -> None:
    assert (stream(seed, name).random(8) == stream(np.uint64(seed), name).random(8)).all()  # type: ignore[arg-type]
    assert (stream(seed, name).random(8) == stream(seed, name).random(8)).all()


@given(seed=seeds, names=st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_other_names_and_other_seeds_draw_otherwise(seed: int, names: list[str]) -> None:
    first, second = (stream(seed, name).random(4) for name in names)
    assert (first != second).any()
    assert (first != stream(seed + 1, names[0]).random(4)).any()


def test_adding_a_component_leaves_the_draws_of_the_others() -> None:
    def draws(components: list[str]) -> dict[str, list[float]]:
        generators = {name: stream(7, name) for name in components}
        taken: dict[str, list[float]] = {name: [] for name in components}
        for _ in range(5):
            for name, generator in generators.items():
                taken[name].append(float(generator.random()))
        return taken

    few, many = draws(["arrivals", "lengths"]), draws(["failures", "arrivals", "noise", "lengths"])
    assert {name: many[name] for name in few} == few


def test_streams_are_uncorrelated() -> None:
    drawn = np.array([stream(0, f"request {i}").standard_normal(4000) for i in range(12)])
    correlation = np.corrcoef(drawn) - np.eye(12)
    assert np.abs(correlation).max() < LARGEST_CORRELATION


def test_draws_are_these_in_every_process_and_version() -> None:
    code = "from ridgeline.core.seeding import stream; print(stream(0, 'arrivals').integers(0, 2**32, 3).tolist())"
    environment = {"PYTHONHASHSEED": "123", "PYTHONPATH": ":".join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (
        shown.stdout.strip()
        == str(stream(0, "arrivals").integers(0, 2**32, 3).tolist())
        == "[2783778250, 2907668858, 2790660510]"
    )


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, np.float64(3)])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(DomainError, match="a seed is a whole number"):
        stream(seed, "x")  # type: ignore[arg-type]


def test_names_that_are_not_valid_unicode_are_names_too() -> None:
    assert (stream(0, "\ud800").random(4) != stream(0, "\ud801").random(4)).any()
