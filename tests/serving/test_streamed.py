"""A fleet whose runs are summed up as they come answers as one that keeps them."""

from __future__ import annotations

import math

import pytest
from tests.serving.test_fleet import fleet_of, traffic_of
from tests.serving.test_step_table import stepper_of

from ridgeline.core.errors import DomainError
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.power_table import sample_power
from ridgeline.serving.record.run_statistics import RunStatistics
from ridgeline.serving.record.streamed import Collector, sums_between

EXACT = 1e-9


@pytest.mark.parametrize("lanes", [[1], [3], [1, 2]])
def test_runs_that_are_collected_as_they_come_answer_as_those_that_are_kept(
    lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridgeline.serving.fleet.fleet.KEPT", 90)
    power = sample_power(stepper_of("meta-llama/Llama-3.1-8B", 1), low=1, high=400, tokens=420)
    powers = {"pool0": power, "pool1": power}
    kept = answers(fleet_of(traffic_of(3), lanes).play(), powers=powers).whole
    fleet = fleet_of(traffic_of(3), lanes)
    collector = Collector(fleet.members, powers, window_s=0.1)
    fleet.on_runs = collector
    played = fleet.play()
    assert all(not lane.runs.size for lane in played.lanes)
    found = answers(played, powers=powers, streamed=collector.streamed)
    for name in ("batch", "kv_use_frac", "kv_use_peak_frac", "energy_j", "energy_j_per_output_token"):
        assert getattr(found.whole, name) == pytest.approx(getattr(kept, name), rel=EXACT), name
    assert found.whole.busy_frac == pytest.approx(kept.busy_frac, rel=EXACT)
    assert found.bound.kind == "unknown"
    assert found.whole.overall.ttft_s == kept.overall.ttft_s


def test_a_stretch_takes_its_part_of_the_windows() -> None:
    collected = RunStatistics(window_s=1.0)
    assert sums_between(collected, 0.0, 5.0)["busy_s"] == 0.0
    fleet = fleet_of(traffic_of(1), [1])
    fleet.on_runs = Collector(fleet.members, window_s=0.05)
    played = fleet.play()
    statistics = fleet.on_runs.streamed["pool0"]
    parts = [sums_between(statistics, a, a + 0.7)["decode_tokens"] for a in (0.7 * i for i in range(40))]
    assert sum(parts[1:]) + sums_between(statistics, 1e-12, 0.7)["decode_tokens"] == pytest.approx(
        sums_between(statistics, 0.0, math.inf)["decode_tokens"], rel=EXACT
    )
    with pytest.raises(DomainError, match="pool"):
        answers(played, streamed={})
