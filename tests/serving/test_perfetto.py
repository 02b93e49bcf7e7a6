"""Traces for Perfetto: valid by the format, true to the run, bounded, and whole or absent."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.played_cases import random_played, with_unserved
from tests.serving.test_step_table import stepper_of

from ridgeline.core.errors import DomainError, FileFormatError
from ridgeline.serving.record.perfetto import Excerpt, write_trace
from ridgeline.serving.record.played import run_ends_s
from ridgeline.serving.record.power_table import sample_power

PHASES = {"M", "X", "C", "b", "e"}
MICRO = 1e6


def written(played: Any, path: Path, **options: Any) -> dict[str, Any]:
    write_trace(played, path, **options)
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def check_format(trace: dict[str, Any]) -> None:
    """The rules of the Trace Event Format that viewers rely on."""
    tracks: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    opened: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for event in trace["traceEvents"]:
        assert event["ph"] in PHASES
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert 0 <= event["ts"] < math.inf
        if event["ph"] == "X":
            assert event["dur"] >= 0
            tracks["run", event["pid"], event["tid"]].append(event["ts"])
        elif event["ph"] == "C":
            assert all(isinstance(value, float | int) for value in event["args"].values())
            tracks["counter", event["pid"], event["name"]].append(event["ts"])
        elif event["ph"] in "be":
            key = (event["cat"], event["id"])
            tracks["async", *key].append(event["ts"])
            if event["ph"] == "b":
                opened[key].append(event["name"])
            else:
                assert opened[key].pop() == event["name"]
    assert not any(opened.values())
    for times in tracks.values():
        assert all(a <= b for a, b in itertools.pairwise(times))


@pytest.mark.parametrize("seed", range(10))
def test_traces_follow_the_format_and_show_every_run_and_request(seed: int, tmp_path: Path) -> None:
    played = with_unserved(random_played(seed))
    trace = written(played, tmp_path / "trace.json")
    check_format(trace)
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == sum(lane.runs.size for lane in played.lanes)
    for i, lane in enumerate(played.lanes):
        mine = [event for event in slices if event["pid"] == 2 + i]
        ends = [(event["ts"] + event["dur"]) / MICRO for event in mine]
        np.testing.assert_allclose(ends, run_ends_s(lane.runs), atol=2e-9)
        tokens = sum(event["args"]["iterations"] * event["args"]["sequences"] for event in mine)
        assert tokens == (lane.runs["iterations"] * lane.runs["sequences"]).sum()
    decodes = [event for event in trace["traceEvents"] if event["ph"] == "b" and event["name"] == "decode"]
    assert len(decodes) == np.isfinite(played.first_s).sum()


def test_a_trace_holds_the_power_where_it_is_known(tmp_path: Path) -> None:
    power = sample_power(stepper_of("meta-llama/Llama-3.1-8B", 1), low=1, high=400, tokens=420)
    trace = written(random_played(3), tmp_path / "trace.json", powers={"serving": power})
    check_format(trace)
    watts = [event["args"]["W"] for event in trace["traceEvents"] if event["name"] == "power"]
    assert watts
    assert all(2 * power.chip.idle_w <= each <= 2 * power.chip.tdp_w for each in watts)


def test_an_excerpt_is_bounded_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    played = random_played(6)
    runs = sum(lane.runs.size for lane in played.lanes)
    trace = written(played, tmp_path / "t.json", excerpt=Excerpt(runs=10, requests=3))
    check_format(trace)
    assert sum(event["ph"] == "X" for event in trace["traceEvents"]) == 10
    assert sum(event["ph"] == "b" and event["name"] == "queued" for event in trace["traceEvents"]) == 3
    note = trace["otherData"]["note"]
    assert f"10 of {runs:,} runs" in note
    assert f"3 of {played.arrival_s.size:,} requests" in note
    middle = played.end_s / 2
    later = written(played, tmp_path / "t.json", excerpt=Excerpt(start_s=middle))
    check_format(later)
    times = [event["ts"] for event in later["traceEvents"] if event["ph"] != "M"]
    assert times
    assert min(times) >= middle * MICRO - 1e-3
    none = written(played, tmp_path / "t.json", excerpt=Excerpt(runs=0, requests=0))
    check_format(none)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    title = '</script><img src=x>"\\\n'
    assert written(random_played(1), tmp_path / "t.json", name=title)["otherData"]["title"] == title


def test_a_trace_that_fails_half_way_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.json"
    path.write_text("old")

    def broken(*_: object) -> Any:
        yield {"ph": "M"}
        raise RuntimeError("cut")

    monkeypatch.setattr("ridgeline.serving.record.perfetto._events", broken)
    with pytest.raises(RuntimeError, match="cut"):
        write_trace(random_played(1), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_impossible_places_and_excerpts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="folder"):
        write_trace(random_played(1), tmp_path / "nowhere" / "t.json")
    with pytest.raises(DomainError, match="excerpt"):
        Excerpt(start_s=2.0, end_s=1.0)
    with pytest.raises(DomainError, match="excerpt"):
        Excerpt(runs=-1)
