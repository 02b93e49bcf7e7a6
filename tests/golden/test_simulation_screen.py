"""The screen of a simulated run, letter by letter."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.serving.test_answers import loaded

from ridgeline.api.simulations.simulation_view import plain
from ridgeline.serving.record.answer_values import Answers
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.latency import Promise

GOLDEN = Path(__file__).with_name("simulation_screen.txt")


def known_answers() -> Answers:
    """A small run of two classes; watts and prices are set by hand, so that no coefficient shows here."""
    played = loaded(3.0)
    classes = (Promise(name="chat", ttft_s=0.02), Promise(name="batch [low]", e2e_s=3.0))
    found = answers(played, classes=classes, class_code=np.arange(400) % 2, rent_usd_per_chip_s=2.5 / 3600)
    watts = {"power_w": 567.0, "power_w_per_chip": 283.5, "power_peak_w_per_chip": 639.0}
    joules = {"energy_j": 75_300.0, "energy_j_per_request": 189.0, "energy_j_per_output_token": 5.85}
    return replace(found, steady=replace(found.steady, **watts, **joules))


def test_the_screen_is_the_committed_one() -> None:
    screen = plain(known_answers(), title="a model on 2x a chip")
    if os.environ.get("RIDGELINE_REGOLD"):
        GOLDEN.write_text(screen, encoding="utf-8")
    assert screen == GOLDEN.read_text(encoding="utf-8")
