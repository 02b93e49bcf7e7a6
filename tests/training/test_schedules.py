"""Pipelines laid out in time against their closed forms, and graphs of tasks that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgeline as rl
from ridgeline.api.training.training_trace import write_pipeline
from ridgeline.core.errors import DomainError, UnknownNameError
from ridgeline.training.graph import Task, play
from ridgeline.training.schedules import (
    BACKWARD,
    FORWARD,
    SCHEDULES,
    Times,
    bubble_of,
    in_flight_of,
    pipeline,
)

EXACT = 1e-9
"""Sums of the same durations."""

seconds = st.sampled_from([0.5, 1.0, 1.5, 2.0])


def uniform(stages: int, forward: float, backward: float, weights: float, transfer: float = 0.0) -> Times:
    """Equal stages."""
    parts = {"forward_s": forward, "backward_s": backward, "weights_s": weights}
    return Times(**{name: [value] * stages for name, value in parts.items()}, transfer_s=transfer)  # type: ignore[arg-type]


@given(
    name=st.sampled_from(["gpipe", "1f1b", "zero-bubble"]),
    ranks=st.integers(1, 6),
    rounds=st.integers(2, 4),
    forward=seconds,
    weights=seconds,
    more=st.sampled_from([0.0, 0.5]),
)
def test_uniform_pipelines_wait_as_their_closed_form_says(
    name: str, ranks: int, rounds: int, forward: float, weights: float, more: float
) -> None:
    micro_batches, backward = rounds * ranks, weights + more
    played = pipeline(name, ranks, micro_batches, uniform(ranks, forward, backward, weights))
    bubble = float(bubble_of(SCHEDULES.index(name), forward, backward, weights, ranks, 1.0))
    work = micro_batches * (forward + backward + weights)
    if name != "zero-bubble" or forward >= weights:
        assert played.makespan_s == pytest.approx(work + bubble, rel=EXACT)
    assert played.makespan_s >= work + bubble - EXACT


@given(ranks=st.integers(2, 5), chunks=st.integers(2, 4), rounds=st.integers(1, 4), forward=seconds, backward=seconds)
def test_interleaving_divides_the_wait_by_the_virtual_stages(
    ranks: int, chunks: int, rounds: int, forward: float, backward: float
) -> None:
    micro_batches = rounds * ranks
    times = uniform(ranks * chunks, forward / chunks, backward / chunks, 0.0)
    played = pipeline("1f1b", ranks, micro_batches, times)
    bubble = float(bubble_of(0, forward, backward, 0.0, ranks, float(chunks)))
    assert played.makespan_s == pytest.approx(micro_batches * (forward + backward) + bubble, rel=EXACT)


def test_1f1b_waits_p_minus_one_of_m_micro_batches() -> None:
    played = pipeline("1f1b", 4, 16, uniform(4, 1.0, 2.0, 0.0))
    assert played.idle_frac("rank 2") == pytest.approx(3.0 / (16.0 + 3.0))


@pytest.mark.parametrize(("ranks", "micro_batches"), [(4, 12), (8, 20)])
def test_dualpipe_found_by_list_scheduling_waits_as_published(ranks: int, micro_batches: int) -> None:
    played = pipeline("dualpipe", ranks, micro_batches, uniform(2 * ranks, 1.0, 1.0, 1.0))
    bubble = float(bubble_of(SCHEDULES.index("dualpipe"), 1.0, 1.0, 1.0, ranks, 1.0))
    assert played.makespan_s == pytest.approx(3.0 * micro_batches + bubble)
    plain = pipeline("1f1b", ranks, micro_batches, uniform(ranks, 1.0, 1.0, 1.0))
    assert played.makespan_s < plain.makespan_s


@given(stages=st.lists(seconds, min_size=2, max_size=5), micro_batches=st.integers(5, 12))
def test_an_uneven_pipeline_is_paced_by_its_slowest_stage(stages: list[float], micro_batches: int) -> None:
    times = Times(forward_s=stages, backward_s=[2.0 * t for t in stages], weights_s=[0.0] * len(stages))
    played = pipeline("1f1b", len(stages), micro_batches, times)
    passes = [3.0 * t for t in stages]
    before = [sum(passes[:stage]) for stage in range(len(passes))]
    least = max(micro_batches * own + earlier for own, earlier in zip(passes, before, strict=True))
    assert played.makespan_s >= least - EXACT
    assert played.makespan_s <= sum(passes) + (micro_batches - 1 + len(stages)) * max(passes)


@given(name=st.sampled_from(["gpipe", "1f1b", "zero-bubble"]), ranks=st.integers(2, 4), hop=st.sampled_from([0.1, 0.5]))
def test_transfers_only_delay_and_every_forward_comes_before_its_backward(name: str, ranks: int, hop: float) -> None:
    still = pipeline(name, ranks, 8, uniform(ranks, 1.0, 1.0, 1.0))
    moved = pipeline(name, ranks, 8, uniform(ranks, 1.0, 1.0, 1.0, transfer=hop))
    assert moved.makespan_s >= still.makespan_s + 2 * (ranks - 1) * hop - EXACT
    ends = {(task.resource, task.name): end for task, end in zip(moved.tasks, moved.end_s, strict=True)}
    starts = {(task.resource, task.name): start for task, start in zip(moved.tasks, moved.start_s, strict=True)}
    for rank in range(ranks):
        for micro in range(8):
            assert ends[f"rank {rank}", f"{FORWARD} {micro}"] <= starts[f"rank {rank}", f"{BACKWARD} {micro}"]


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "zero-bubble"])
def test_activations_in_flight_are_those_of_the_closed_form(name: str) -> None:
    played = pipeline(name, 4, 8, uniform(4, 1.0, 1.0, 1.0))
    last = "weights" if name == "zero-bubble" else BACKWARD
    events = []
    for task, start, end in zip(played.tasks, played.start_s, played.end_s, strict=True):
        if task.resource == "rank 0" and task.kind == FORWARD:
            events.append((start, 1))
        elif task.resource == "rank 0" and task.kind == last:
            events.append((end, -1))
    most = int(np.max(np.cumsum([change for _, change in sorted(events)])))
    assert most == in_flight_of(SCHEDULES.index(name), 4.0, 1.0, 8.0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("2f2b", 4, 8, 4), "1f1b"),
        (("1f1b", 4, 6, 8), "4 micro-batches"),
        (("gpipe", 4, 8, 6), "multiple of 4 stages"),
        (("zero-bubble", 4, 8, 8), "4 stages"),
        (("dualpipe", 4, 7, 8), "even numbers"),
        (("1f1b", 0, 8, 4), "multiple of 1 stages"),
    ],
)
def test_pipelines_that_cannot_be_say_what_could(arguments: tuple[str, int, int, int], told: str) -> None:
    name, ranks, micro_batches, stages = arguments
    with pytest.raises((DomainError, UnknownNameError), match=told):
        pipeline(name, ranks, micro_batches, uniform(stages, 1.0, 1.0, 0.0))


def test_tasks_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(DomainError, match="wait for each other"):
        play([Task("a", "gpu", 1.0, (1,)), Task("b", "cpu", 1.0, (0,))])
    with pytest.raises(DomainError, match="waits for no task"):
        play([Task("a", "gpu", 1.0, (3,))])
    with pytest.raises(DomainError, match="finite time"):
        play([Task("a", "gpu", float("nan"))])


@given(times=st.lists(seconds, min_size=1, max_size=8))
def test_a_chain_takes_the_sum_and_apart_tasks_the_longest(times: list[float]) -> None:
    chain = play([Task(str(i), f"r{i % 2}", t, (i - 1,) if i else ()) for i, t in enumerate(times)])
    apart = play([Task(str(i), f"r{i}", t) for i, t in enumerate(times)])
    assert chain.makespan_s == pytest.approx(sum(times))
    assert apart.makespan_s == max(times)
    assert sum(chain.busy_s(name) for name in chain.resources) == pytest.approx(sum(times))


def test_a_pipeline_is_drawn_as_a_track_per_rank(tmp_path: Path) -> None:
    case = {"model": "meta-llama/Llama-3.1-8B", "on": "32x h100-sxm", "seq": 4096, "global_batch": 64}
    prediction = rl.predict("training", **case, pp=4, tp=2, micro_batch=1)
    told = write_pipeline(prediction, tmp_path / "pipeline.json")
    trace = json.loads((tmp_path / "pipeline.json").read_text("utf-8"))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert {f"rank {rank}" for rank in range(4)} <= names
    assert f"{len(slices):,} tasks" in told
    # Everything of a step but what happens once: the same to the share of transfers that compute hides.
    drawn = trace["otherData"]["makespan_s"]
    once = sum(
        float(prediction.values[name]) * float(prediction.values["step_s"])
        for name in ("bubble_frac", "exposed_comm_frac")
    )
    assert float(prediction.values["step_s"]) - once < drawn < float(prediction.values["step_s"]) * 1.05


@pytest.mark.parametrize(
    ("change", "told"), [({"pp": 1}, "no pipeline"), ({"pp": 8, "global_batch": 1 << 16}, "too long to draw")]
)
def test_pipelines_that_cannot_be_drawn_say_why(change: dict[str, int], told: str, tmp_path: Path) -> None:
    case = {"model": "meta-llama/Llama-3.1-8B", "on": "16x h100-sxm", "seq": 4096, "global_batch": 64, "micro_batch": 1}
    prediction = rl.predict("training", **case | change)
    with pytest.raises(DomainError, match=told):
        write_pipeline(prediction, tmp_path / "pipeline.json")
