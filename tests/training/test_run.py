"""Training runs with failures against closed forms, and their accounts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgeline as rl
from ridgeline.core.errors import DomainError, UnitError, UnknownNameError
from ridgeline.training.checkpoint import Checkpoint, checkpoint_of, expected_s, young_s
from ridgeline.training.reliability import Part, Reliability, published_reliability
from ridgeline.training.run import Job, play_run
from ridgeline.training.scaling import law

HOUR, DAY = 3600.0, 86400.0

PLAIN = Reliability(
    parts=(Part(name="chip", mtbf_chip_s=1000 * HOUR, needs_node=False),),
    detect_s=0.0,
    restart_s=0.2 * HOUR,
    swap_s=0.0,
    repair_s=0.0,
)
EVERY = Checkpoint(interval_s=HOUR, stall_s=60.0, load_s=30.0)
JOB = Job(work_s=60 * DAY, chips=500, node_chips=8, spares=0, checkpoint=EVERY, reliability=PLAIN)

STANDARD_ERRORS = 4.0
"""A mean of independent runs lies within so many of its standard errors, but for one seed in 15,000."""


def walls(job: Job, runs: int) -> np.ndarray:
    """Wall times of so many runs."""
    return np.array([play_run(job, seed).wall_s for seed in range(runs)])


@pytest.mark.parametrize("chips", [50, 300])
def test_the_mean_of_many_runs_is_dalys_closed_form(chips: int) -> None:
    job = replace(JOB, chips=chips, work_s=10 * DAY)
    played = walls(job, 150)
    exact = expected_s(job.work_s, EVERY, PLAIN.mtbf_s(chips), PLAIN.restart_s)
    error = float(played.std(ddof=1)) / math.sqrt(played.size)
    # The closed form has a checkpoint after the last hour too.
    assert abs(played.mean() - exact) <= STANDARD_ERRORS * error + EVERY.stall_s


def test_youngs_interval_is_near_the_best_of_the_closed_form() -> None:
    mtbf_s, stall_s = 2 * HOUR, 30.0

    def cost(interval_s: float) -> float:
        return expected_s(DAY, Checkpoint(interval_s=interval_s, stall_s=stall_s), mtbf_s, 600.0)

    best = min(cost(interval) for interval in np.geomspace(60.0, 4 * HOUR, 400).tolist())
    assert cost(young_s(stall_s, mtbf_s)) <= best * 1.005


@given(
    seed=st.integers(0, 10**6),
    chips=st.sampled_from([64, 4096, 20000]),
    spares=st.integers(0, 3),
    interval_s=st.sampled_from([600.0, HOUR, math.inf]),
    flush_s=st.sampled_from([0.0, 900.0]),
)
def test_time_is_accounted_for_and_work_is_done_once(
    seed: int, chips: int, spares: int, interval_s: float, flush_s: float
) -> None:
    made = Checkpoint(interval_s=interval_s, stall_s=20.0, flush_s=flush_s, load_s=60.0)
    job = Job(
        work_s=2 * DAY if math.isfinite(interval_s) else 2 * HOUR,
        chips=chips,
        node_chips=8,
        spares=spares,
        checkpoint=made,
        reliability=published_reliability(),
    )
    played = play_run(job, seed, keep_spans=True)
    assert sum(played.spent_s.values()) == pytest.approx(played.wall_s, rel=1e-9)
    assert played.wall_s >= job.work_s
    # A slow chip stretches time, not work.
    assert played.spent_s["compute"] >= job.work_s * (1 - 1e-9)
    assert played.spent_s["compute"] <= (job.work_s + played.slow * HOUR) * (1 + 1e-9)
    assert played.spent_s["redo"] >= played.lost_s * (1 - 1e-9) - 1e-6
    ends = [end for _, end, _ in played.spans]
    starts = [start for start, _, _ in played.spans]
    assert starts[1:] == ends[:-1] and starts[0] == 0.0 and ends[-1] == played.wall_s
    assert play_run(job, seed).wall_s == played.wall_s


def test_without_failures_only_checkpoints_are_added() -> None:
    quiet = replace(JOB, reliability=replace(PLAIN, parts=()))
    played = play_run(quiet, 0)
    assert played.wall_s == pytest.approx(JOB.work_s + (60 * 24 - 1) * 60.0)
    assert played.events == 0


def test_spare_nodes_and_faster_detection_shorten_a_run() -> None:
    slow = replace(published_reliability(), repair_s=12 * HOUR)
    job = Job(work_s=10 * DAY, chips=8192, node_chips=8, spares=0, checkpoint=EVERY, reliability=slow)
    alone, spared = walls(job, 40).mean(), walls(replace(job, spares=8), 40).mean()
    quick = walls(replace(job, spares=8, reliability=replace(slow, detect_s=30.0)), 40).mean()
    assert quick < spared < alone


def test_a_job_that_cannot_end_is_refused() -> None:
    hopeless = replace(PLAIN, parts=(Part(name="chip", mtbf_chip_s=HOUR, needs_node=False),))
    job = replace(JOB, reliability=hopeless, checkpoint=Checkpoint(interval_s=math.inf), chips=1000)
    with pytest.raises(DomainError, match="fails before it gets on"):
        play_run(job, 0)
    with pytest.raises(DomainError, match="fails before it gets on"):
        rl.simulate_training(**RUN | {"on": "16384x h100-sxm", "global_batch": 16384, "checkpoint": "none"})


def test_lazy_checkpoints_stall_for_what_the_compute_does_not_hide() -> None:
    size = {"state_bytes": 1e12, "chips": 100, "storage_bytes_per_s": 1e10, "mtbf_s": 10 * HOUR}
    sync = checkpoint_of("sync", host_bytes_per_s=2e10, window_s=0.3, **size)
    lazy = checkpoint_of("lazy", host_bytes_per_s=2e10, window_s=0.3, **size)
    hidden = checkpoint_of("async", host_bytes_per_s=2e10, window_s=1.0, **size)
    assert sync.stall_s == 100.0 and sync.flush_s == 0.0
    assert lazy.stall_s == pytest.approx(0.2) and lazy.flush_s == 100.0
    assert hidden.stall_s == 0.0
    assert hidden.interval_s >= hidden.flush_s
    with pytest.raises(DomainError, match="cross the host's link"):
        checkpoint_of("async", host_bytes_per_s=0.0, window_s=1.0, **size)
    with pytest.raises(UnknownNameError, match="sync"):
        checkpoint_of("snyc", host_bytes_per_s=1.0, window_s=1.0, **size)


@given(flops=st.floats(1e18, 1e26), name=st.sampled_from(["chinchilla", "epoch"]), other=st.floats(0.5, 2.0))
def test_no_split_of_a_budget_loses_less_than_the_optimum(flops: float, name: str, other: float) -> None:
    chosen = law(name)
    parameters, tokens = chosen.optimum(flops)
    assert 6.0 * parameters * tokens == pytest.approx(flops)
    assert chosen.loss(parameters, tokens) <= chosen.loss(parameters * other, tokens / other) + 1e-12


def test_chinchilla_trained_as_published() -> None:
    """70e9 parameters and 1.4e12 tokens (arXiv 2203.15556): the law is within what its authors plot."""
    assert float(law("chinchilla").loss(70e9, 1.4e12)) == pytest.approx(1.94, abs=0.02)
    with pytest.raises(DomainError, match="above 0"):
        law().loss(0.0, 1.0)
    with pytest.raises(UnknownNameError, match="chinchilla"):
        law("chinchila")


RUN: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "on": "512x h100-sxm",
    "seq": 8192,
    "global_batch": 512,
    "duration": "7 d",
    "runs": 20,
}


def test_a_simulated_run_says_when_it_ends_and_what_it_costs() -> None:
    run = rl.simulate_training(**RUN)
    told = run.to_dict()["results"]
    assert told["wall_s"] >= told["ideal_s"] == pytest.approx(7 * DAY)
    assert sum(run.spent.values()) == pytest.approx(1.0)
    rent = rl.chip("h100-sxm").rent_usd_per_s
    assert rent is not None and run.cost_usd == pytest.approx(run.wall_s.value * 512 * rent)
    chip = rl.chip("h100-sxm")
    assert chip.idle_w < run.energy_j / (512 * run.wall_s.value) < chip.tdp_w
    assert str(run).count("\n") > 10 and "goodput" in str(run)
    assert rl.simulate_training(**RUN).wall_s == run.wall_s
    more = rl.simulate_training(**RUN, spares=4)
    assert more.cost_usd / more.wall_s.value == pytest.approx(run.cost_usd / run.wall_s.value * (512 + 32) / 512)


def test_a_run_is_drawn_without_gaps(tmp_path: Path) -> None:
    run = rl.simulate_training(**RUN | {"runs": 1})
    told = run.write_perfetto(tmp_path / "run.json")
    trace = json.loads((tmp_path / "run.json").read_text("utf-8"))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert f"{len(slices):,} spans" in told
    assert sum(event["dur"] for event in slices) == pytest.approx(run.wall_s.value * 1e6, rel=1e-6)
    assert run.to_dict()["results"]["wall_low_s"] is None  # one run has no interval


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"tokens": "1T"}, DomainError, "tokens or a duration"),
        ({"duration": ""}, DomainError, "tokens or a duration"),
        ({"duration": "-1 d"}, DomainError, "has an end"),
        ({"duration": "long"}, UnitError, "duration"),
        ({"spares": -1}, DomainError, "spares is a whole number"),
        ({"runs": 0}, DomainError, "runs is a whole number"),
        ({"checkpoint": "often"}, UnknownNameError, "sync, async or none"),
        ({"law": "moore"}, UnknownNameError, "scaling law"),
        ({"mtbf": "-3 h"}, DomainError, "above 0"),
        ({"sparse": 1}, UnknownNameError, "unknown column 'sparse'"),
    ],
)
def test_what_cannot_be_simulated_is_said(change: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        rl.simulate_training(**RUN | change)


SHORT = replace(
    JOB,
    chips=80,
    work_s=20 * DAY,
    checkpoint=replace(EVERY, reshape_s=60.0),
    reliability=replace(PLAIN, parts=(Part(name="chip", mtbf_chip_s=5000 * HOUR, needs_node=True),), repair_s=2 * DAY),
)


def test_a_job_that_shrinks_loses_the_share_of_its_missing_nodes_and_not_all_of_its_time() -> None:
    waits, shrinks = SHORT, replace(SHORT, shrinks=True)
    waiting, shrunk = walls(waits, 20).mean(), walls(shrinks, 20).mean()
    assert SHORT.work_s < shrunk < waiting
    played = play_run(shrinks, 3)
    assert played.spent_s["reshape"] > 0 and sum(played.spent_s.values()) == pytest.approx(played.wall_s)
    # A failure takes a tenth of the speed away for two days.
    failures = sum(played.failures.values())
    assert played.wall_s - SHORT.work_s < failures * (0.1 * 2 * DAY * 1.3 + 2 * HOUR)


def test_with_spare_nodes_a_job_never_shrinks_and_the_last_node_is_waited_for() -> None:
    many = replace(SHORT, spares=50)
    assert play_run(replace(many, shrinks=True), 1).wall_s == play_run(many, 1).wall_s
    single = replace(SHORT, chips=8, work_s=5 * DAY)
    assert play_run(replace(single, shrinks=True), 1).wall_s == play_run(single, 1).wall_s


def test_another_layout_takes_two_more_passes_over_the_state() -> None:
    made = checkpoint_of(
        "sync", state_bytes=1e12, chips=8, storage_bytes_per_s=1e11, host_bytes_per_s=0.0, window_s=1.0, mtbf_s=DAY
    )
    assert (made.load_s, made.reshape_s) == (10.0, 20.0)


def test_a_run_is_accounted_whole() -> None:
    asked = {"model": "meta-llama/Llama-3.1-8B", "on": "64x h100-sxm", "seq": 8192, "global_batch": 64, "runs": 3}
    run = rl.simulate_training(**asked, tokens="10B", short="shrink", spares=1)
    found = rl.impact(run, site="sweden")
    assert found.job.chip_s == pytest.approx(72 * run.wall_s.value)
    assert found.account.energy_j["chips"] == pytest.approx(run.energy_j)
    assert sum(run.spent_j.values()) == pytest.approx(1.0)
    assert found.metrics["chip_j_per_token"].value == pytest.approx(run.energy_j / 10e9)
    with pytest.raises(UnknownNameError, match="short of a node"):
        rl.simulate_training(**asked, tokens="10B", short="panic")
