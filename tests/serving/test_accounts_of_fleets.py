"""Accounts of fleets in which lanes fail, pools hand over and runs are stopped: nothing lost, nothing counted twice."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.serving.test_fleet import RULES, fleet_of, traffic_of
from tests.serving.test_perfetto import check_format
from tests.serving.test_step_table import stepper_of

from ridgeline.core.seeding import stream
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.energy import attributed
from ridgeline.serving.record.perfetto import write_trace
from ridgeline.serving.record.played import DONE, Played
from ridgeline.serving.record.power_table import PowerTable, sample_power
from ridgeline.serving.record.series import windows_of
from ridgeline.sim import Simulation

EXACT = 1e-9
NAMES = {"pool0": "prefill", "pool1": "decode"}


@pytest.fixture(scope="module")
def power() -> PowerTable:
    return sample_power(stepper_of("meta-llama/Llama-3.1-8B", 1), low=1, high=400, tokens=420)


def troubled(seed: int, lanes: list[int], until_s: float = math.inf) -> Played:
    """A fleet in which lanes fail and come back, with scarce caches, perhaps stopped early."""
    draw, control = stream(seed, "trouble"), Simulation()
    rules = replace(
        RULES, cache_tokens=float(draw.choice([400, 4000])), preemption=str(draw.choice(["swap", "recompute"]))
    )
    fleet = fleet_of(traffic_of(seed), lanes, rules, control=control)
    for _ in range(int(draw.integers(0, 4))):
        member = fleet.members[int(draw.integers(0, len(fleet.members)))]
        at = float(draw.uniform(0.1, 3.0))

        def fail(member: object = member, at: float = at) -> None:
            if member.up:  # type: ignore[attr-defined]
                fleet.fail(member, at, retry=bool(seed % 2))  # type: ignore[arg-type]

        def start(member: object = member, at: float = at) -> None:
            if not member.up:  # type: ignore[attr-defined]
                fleet.start(member, at + 0.7)  # type: ignore[arg-type]

        control.schedule_at(at, fail)
        control.schedule_at(at + 0.7, start)
    played = fleet.play(until_s)
    if len(lanes) < 2:
        return played
    return replace(played, lanes=tuple(replace(lane, pool=NAMES[lane.pool]) for lane in played.lanes))


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("lanes", [[2], [2, 2]])
@pytest.mark.parametrize("until_s", [math.inf, 1.5])
def test_energy_and_tokens_are_conserved_whatever_happens(
    seed: int, lanes: list[int], until_s: float, power: PowerTable, tmp_path: Path
) -> None:
    played = troubled(seed, lanes, until_s)
    powers = dict.fromkeys(("pool0", "prefill", "decode"), power)
    found = attributed(played, powers)
    assert found.per_request_j.sum() + found.idle_j == pytest.approx(found.total_j, rel=EXACT)
    assert (found.per_request_j >= -EXACT).all()
    series = windows_of(played, width_s=0.21, powers=powers)
    assert series["energy_j"].sum() == pytest.approx(found.total_j, rel=EXACT)
    assert series["iterations"].sum() == sum(lane.runs["iterations"].sum() for lane in played.lanes)
    assert ((series["busy_frac"] >= 0) & (series["busy_frac"] <= 1 + EXACT)).all()
    up = sum(end - start for lane in played.lanes for start, end in lane.alive_s)
    assert power.chip.idle_w * up * (1 - EXACT) <= found.total_j <= power.chip.tdp_w * up
    told = answers(played, powers=powers, warm_up=0.1)
    done = played.end == DONE
    emitted = played.output_tokens[done].sum()
    assert told.whole.overall.output_tokens_per_s * played.end_s == pytest.approx(emitted, rel=EXACT)
    arrived = int(np.isfinite(played.arrival_s).sum())
    ends = [getattr(told.whole.overall, name) for name in ("done", "rejected", "unfinished", "failed")]
    assert sum(ends) == told.whole.overall.requests == arrived
    json.dumps(told.to_dict(), allow_nan=False)
    write_trace(played, tmp_path / "t.json", powers=powers)
    check_format(json.loads((tmp_path / "t.json").read_text()))


def test_handed_over_sequences_wait_for_the_transfer_in_their_first_gap() -> None:
    """In a decode pool that never queues, gaps and requests hold the same time."""
    played = fleet_of(traffic_of(2, gap_s=0.3), [1, 1], replace(RULES, slots=64)).play()
    apart = replace(played, lanes=tuple(replace(lane, pool=NAMES[lane.pool]) for lane in played.lanes))
    told = answers(apart, warm_up=0.0).whole.overall
    assert told.itl_s is not None
    gaps = (played.output_tokens - 1).sum()
    assert told.itl_s.mean.count == gaps
    assert told.itl_s.mean.value == pytest.approx((played.last_s - played.first_s).sum() / gaps, rel=1e-6)
