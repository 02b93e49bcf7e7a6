"""What a terminal shows of a simulated run."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.golden.test_simulation_screen import known_answers
from tests.serving.played_cases import random_played, with_unserved

from ridgeline.api.simulations.simulation_view import MARK, cell, plain, told
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.latency import Promise, latency_of


def test_every_class_has_its_column_and_no_line_is_wider_than_the_screen() -> None:
    played = random_played(3)
    classes = tuple(Promise(name=f"class {i}", ttft_s=0.1 * (i + 1)) for i in range(5))
    found = answers(played, classes=classes, class_code=np.arange(played.arrival_s.size) % 5)
    screen = plain(found)
    assert all(each.name in screen for each in classes)
    assert all(len(line) <= 110 for line in screen.splitlines())
    assert "<= 100 ms" in screen


def test_percentiles_of_small_samples_are_marked_and_explained() -> None:
    screen = plain(known_answers())
    assert f"{MARK}17.9 ms" in screen
    assert "MLPerf" in screen
    large = latency_of(np.random.default_rng(0).exponential(0.1, 30_000), 0.95)
    assert large is not None
    values = [(p.value, p.low, p.high, p.indicative) for p in large.percentiles]
    shown = [cell(large, lambda _, value=value: value)[0] for value in values]  # type: ignore[misc]
    assert [text.startswith(MARK) for text in shown] == [False, False, True, True]


def test_a_percentile_without_a_bound_says_so() -> None:
    assert cell(None, lambda _: (0.0, 0.0, 0.0, False)) == ("-", "")
    found = latency_of(np.array([0.1, 0.2]), 0.95)
    assert cell(found, lambda _: (0.2, 0.1, math.inf, True)) == (f"{MARK}200 ms", "100..?")
    assert cell(found, lambda _: (0.0015, 0.0004, 0.002, False)) == ("1.50 ms", "400 us..2.00")


def test_names_that_look_like_markup_are_text() -> None:
    assert "batch [low]" in plain(known_answers())
    hostile = answers(random_played(1), classes=(Promise(name="[bold]x[/bold]"),))
    assert "[/nope]" in plain(hostile, title="[/nope]")


def test_lost_requests_and_notes_are_told() -> None:
    screen = plain(answers(with_unserved(random_played(2)), warm_up=0.0))
    assert "rejected" in screen
    assert "unfinished" in screen
    assert "still there when the run ended" in screen
    assert "rejected" not in plain(known_answers())


def test_a_run_of_nothing_prints() -> None:
    played = random_played(1)
    nothing = replace(played, end=np.full_like(played.end, 3), last_s=np.full_like(played.last_s, np.nan))
    assert "bound by" in plain(answers(nothing))


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("requests", 12_345, "12,345"),
        ("queue", 0.4, "0.4"),
        ("queue_peak", 20_000.0, "20,000"),
        ("energy_j", 5.4e9, "5.40 GJ"),
        ("power_peak_w_per_chip", 639.0, "639 W"),
        ("energy_j_per_request", math.nan, "-"),
        ("slo_met_frac", 0.985, "98.5%"),
        ("goodput_request_per_s", 2.5, "2.50 request/s"),
    ],
)
def test_a_number_reads_with_its_unit(name: str, value: float, text: str) -> None:
    assert told(name, value) == text
