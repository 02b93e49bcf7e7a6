"""Answers of a simulated run: conserved, causal, symmetric, honest about small samples, and right in known cases."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.serving.played_cases import played_of, random_played, with_unserved
from tests.serving.test_engine import TIMES, Scenario
from tests.serving.test_step_table import stepper_of

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.rules import Requests, Rules
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.bound import bound_of
from ridgeline.serving.record.latency import LEVELS, Promise, latency_of
from ridgeline.serving.record.played import DONE, Played
from ridgeline.serving.record.power_table import PowerTable, sample_power
from ridgeline.serving.record.run_statistics import RunStatistics
from ridgeline.serving.record.series import WINDOW_COLUMNS, windows_of

EXACT = 1e-9
SEEDS = range(30)
RENT = 2.5 / 3600


@pytest.fixture(scope="module")
def power() -> PowerTable:
    return sample_power(stepper_of("meta-llama/Llama-3.1-8B", 1), low=1, high=400, tokens=420)


def loaded(rate_per_s: float, *, count: int = 400, **rules: float) -> Played:
    """Poisson arrivals on one lane of the engine."""
    draw = stream(1, "loaded")
    arrivals = np.cumsum(draw.exponential(1 / rate_per_s, count)).tolist()
    requests = Requests(
        prompts=draw.integers(20, 200, count).tolist(), outputs=draw.integers(5, 60, count).tolist(), arrivals=arrivals
    )
    chosen = {"slots": 32, "token_budget": 400.0, "block_tokens": 16, **rules}
    return played_of(Scenario(Rules(**chosen), requests))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_windows_and_answers_of_the_whole_run_hold_the_same_tokens_requests_and_joules(
    seed: int, power: PowerTable
) -> None:
    played = random_played(seed)
    found = answers(played, powers={"serving": power}, warm_up=0.0).whole
    series = windows_of(played, width_s=0.31, powers={"serving": power})
    assert set(series) == set(WINDOW_COLUMNS)
    lasting, width = played.end_s, series["width_s"]
    assert width.sum() == pytest.approx(lasting, rel=EXACT)
    assert (series["request_per_s"] @ width) == pytest.approx(played.arrival_s.size, rel=EXACT)
    assert found.overall.request_per_s * lasting == pytest.approx(played.arrival_s.size, rel=EXACT)
    assert found.overall.output_tokens_per_s * lasting == pytest.approx(played.output_tokens.sum(), rel=EXACT)
    computed = (played.prompt_tokens - played.found_tokens).sum()
    if not played.preemptions.any():
        assert (series["output_tokens_per_s"] @ width) == pytest.approx(played.output_tokens.sum(), rel=EXACT)
        assert (series["prompt_tokens_per_s"] @ width) == pytest.approx(computed, rel=EXACT)
    assert series["energy_j"].sum() == pytest.approx(found.energy_j, rel=EXACT)
    assert found.power_w * lasting == pytest.approx(found.energy_j, rel=EXACT)
    inside = (played.last_s - played.arrival_s).sum() / lasting
    assert found.in_flight == pytest.approx(inside, rel=EXACT)
    assert (series["in_flight"] @ width) / lasting == pytest.approx(inside, rel=EXACT)
    assert found.queue == pytest.approx((played.admitted_s - played.arrival_s).sum() / lasting, rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_are_busy_between_none_and_all_of_their_time(seed: int) -> None:
    """Law L6: busy and idle make up the time that lanes are up."""
    played = random_played(seed)
    series, up = windows_of(played, width_s=0.2), len(played.lanes) * played.end_s
    assert ((series["busy_frac"] >= 0) & (series["busy_frac"] <= 1 + EXACT)).all()
    busy = sum(lane.busy_s for lane in played.lanes)
    assert series["busy_s"].sum() == pytest.approx(busy, rel=EXACT)
    frac = answers(played, warm_up=0.0).whole.busy_frac["serving"]
    assert frac * up == pytest.approx(busy, rel=EXACT)
    assert ((series["kv_use_frac"] >= 0) & (series["kv_use_frac"] <= 1 + EXACT)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_request_arrives_is_scheduled_emits_and_ends_in_that_order(seed: int) -> None:
    """Law L5, of what a run leaves behind and of its answers."""
    played = random_played(seed)
    order = (played.arrival_s, played.admitted_s, played.first_s, played.last_s)
    assert all((before <= after).all() for before, after in itertools.pairwise(order))
    told = answers(played, warm_up=0.0).whole.overall
    assert told.queue_s is not None and told.ttft_s is not None and told.e2e_s is not None
    for level in LEVELS:
        assert 0 <= told.queue_s.at(level).value <= told.ttft_s.at(level).value <= told.e2e_s.at(level).value


@pytest.mark.parametrize("seed", range(12))
def test_renaming_requests_changes_no_answer(seed: int) -> None:
    """Law L11: requests in another order, and classes with them."""
    played = random_played(seed)
    count = played.arrival_s.size
    order = stream(seed, "order").permutation(count)
    names = [f for f in Played.__dataclass_fields__ if f not in ("lanes", "end_s")]
    renamed = replace(played, **{name: getattr(played, name)[order] for name in names})
    code = stream(seed, "classes").integers(0, 2, count)
    classes = (Promise(name="chat", ttft_s=0.2), Promise(name="batch", e2e_s=3.0))
    found = answers(played, classes=classes, class_code=code, warm_up=0.0).whole
    other = answers(renamed, classes=classes, class_code=code[order], warm_up=0.0).whole
    for one, two in zip((found.overall, *found.classes), (other.overall, *other.classes), strict=True):
        assert (one.requests, one.slo_met_frac, one.preemptions) == (two.requests, two.slo_met_frac, two.preemptions)
        assert one.goodput_request_per_s == two.goodput_request_per_s
        assert one.output_tokens_per_s == pytest.approx(two.output_tokens_per_s, rel=EXACT)
        for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s"):
            values = [getattr(each, name) for each in (one, two)]
            if values[0] is None:
                assert values[1] is None
                continue
            assert [p.value for p in values[0].percentiles] == [p.value for p in values[1].percentiles], name


def test_classes_add_up_to_all() -> None:
    played = random_played(4)
    code = np.arange(played.arrival_s.size) % 3
    classes = tuple(Promise(name=name, ttft_s=0.3) for name in "abc")
    found = answers(with_unserved(played), classes=classes, class_code=np.concatenate([[0, 1], code]), warm_up=0.0)
    whole = found.whole
    for name in ("requests", "done", "rejected", "unfinished", "failed", "preemptions"):
        assert sum(getattr(each, name) for each in whole.classes) == getattr(whole.overall, name)
    for name in ("request_per_s", "output_tokens_per_s", "total_tokens_per_s", "goodput_request_per_s"):
        parts = sum(getattr(each, name) for each in whole.classes)
        assert parts == pytest.approx(getattr(whole.overall, name), rel=EXACT)
    assert (whole.overall.rejected, whole.overall.unfinished) == (1, 1)
    assert whole.overall.requests == played.arrival_s.size + 2


def test_gaps_of_classes_are_those_of_their_own_tokens() -> None:
    played = loaded(3.0)
    code = (played.output_tokens > 30).astype(int)
    found = answers(played, classes=(Promise(name="short"), Promise(name="long")), class_code=code, warm_up=0.0).whole
    for which, told in enumerate(found.classes):
        assert told.itl_s is not None
        mine = code == which
        gaps = (played.output_tokens[mine] - 1).sum()
        assert told.itl_s.mean.count == gaps
        assert told.itl_s.mean.value == pytest.approx((played.last_s - played.first_s)[mine].sum() / gaps, rel=EXACT)


def test_goodput_counts_only_requests_that_keep_every_promise_of_their_class() -> None:
    played = loaded(4.0)
    ttft, e2e = played.first_s - played.arrival_s, played.last_s - played.arrival_s
    tpot = (played.last_s - played.first_s) / (played.output_tokens - 1)
    limits = Promise(name="x", ttft_s=float(np.median(ttft)), tpot_s=float(np.median(tpot)), e2e_s=1.0)
    good = (ttft <= limits.ttft_s) & (tpot <= limits.tpot_s) & (e2e <= limits.e2e_s)
    told = answers(played, classes=(limits,), warm_up=0.0).whole.overall
    assert 0 < good.sum() < good.size
    assert told.slo_met_frac == pytest.approx(good.mean())
    assert told.goodput_request_per_s == pytest.approx(good.sum() / played.end_s)
    free = answers(played, warm_up=0.0).whole.overall
    assert free.slo_met_frac == 1.0
    assert free.goodput_request_per_s == free.request_per_s


def test_percentiles_of_a_known_distribution_lie_in_their_intervals_and_small_samples_are_marked() -> None:
    """Law L13."""
    covered = []
    for seed in range(40):
        values = stream(seed, "exponential").exponential(2.0, 30_000)
        found = latency_of(values, 0.95)
        assert found is not None
        for told in found.percentiles:
            covered.append(told.low <= -2.0 * math.log(1 - told.level) <= told.high)
            assert told.indicative == (values.size < told.needed)
            assert told.low <= told.value <= told.high
        assert [told.indicative for told in found.percentiles] == [False, False, True, True]
        covered.append(found.mean.low <= 2.0 <= found.mean.high)
    assert 0.9 <= np.mean(covered) <= 1.0
    assert latency_of(np.empty(0), 0.95) is None


def test_the_steady_state_leaves_out_the_start_and_says_how_much() -> None:
    played = loaded(3.0)
    late = replace(played, first_s=played.first_s + np.where(np.arange(400) < 60, 30.0, 0.0))
    late = replace(late, last_s=np.maximum(late.last_s, late.first_s), end_s=played.end_s + 60)
    found = answers(late)
    assert 40 <= found.warm_up.requests <= 120
    assert found.steady.overall.ttft_s is not None and found.whole.overall.ttft_s is not None
    assert found.steady.overall.ttft_s.mean.value < found.whole.overall.ttft_s.mean.value / 2
    assert found.steady.start_s == found.warm_up.until_s
    assert found.steady.overall.requests + found.warm_up.requests == found.whole.overall.requests
    tenth = answers(late, warm_up=0.1)
    assert tenth.warm_up.requests == 40
    assert "10%" in tenth.warm_up.how


@pytest.mark.parametrize(
    ("rate", "rules", "kind"),
    [
        (0.3, {}, "arrivals"),
        (40.0, {"slots": 4}, "slots"),
        (40.0, {"cache_tokens": 600.0}, "kv"),
        (60.0, {"token_budget": 40.0}, "compute"),
    ],
)
def test_the_bound_names_what_was_made_scarce(rate: float, rules: dict[str, float], kind: str) -> None:
    told = answers(loaded(rate, **rules)).bound
    assert told.kind == kind
    assert "%" in told.words


def test_a_closed_loop_that_nobody_waits_in_is_bound_by_its_iterations_or_by_the_host() -> None:
    requests = Requests(prompts=[20] * 60, outputs=[200] * 60, clients=4)
    played = played_of(Scenario(Rules(slots=8, token_budget=400.0), requests))
    end = float(played.last_s.max())
    assert bound_of(played, 0.0, end).kind == "latency"
    slow = bound_of(played, 0.0, end, host_step_s=TIMES.decode_s_of(4, 0.0))
    assert slow.kind == "host"


def test_energy_and_cost_follow_from_power_time_and_rent(power: PowerTable) -> None:
    played = loaded(3.0)
    found = answers(played, powers={"serving": power}, rent_usd_per_chip_s=RENT).whole
    tokens = played.output_tokens.sum()
    assert found.energy_j_per_output_token == pytest.approx(found.energy_j / tokens, rel=EXACT)
    assert found.energy_j_per_request == pytest.approx(found.energy_j / 400, rel=EXACT)
    assert found.overall.energy_j_per_request <= found.energy_j_per_request
    assert found.chips == 2.0
    assert found.cost_usd_per_1m_output_tokens == pytest.approx(RENT * 2 * played.end_s / tokens * 1e6, rel=EXACT)
    assert power.chip.idle_w < found.power_w_per_chip < found.power_peak_w_per_chip <= power.chip.tdp_w
    blind = answers(played).whole
    assert math.isnan(blind.power_w) and math.isnan(blind.cost_usd_per_1m_output_tokens)


def test_answers_are_plain_json(power: PowerTable) -> None:
    found = answers(
        with_unserved(random_played(2)), powers={"serving": power}, classes=(Promise(name="x", ttft_s=1.0),)
    )
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    counts = {"adapter_loads", "model_switches", "model_loads", "model_hit_frac"}
    assert set(told) == {"steady", "whole", "warm_up", "bound", "why", "objectives", "notes"} | counts
    assert told["objectives"] == [{"name": "x", "ttft_s": 1.0, "tpot_s": None, "e2e_s": None}]
    assert told["whole"]["overall"]["ttft_s"]["p99"]["indicative"] is True
    assert told["whole"]["cost_usd_per_1m_output_tokens"] is None
    assert any("boards" in note for note in told["notes"])
    assert any("still there" in note for note in told["notes"])


def test_a_run_in_which_nothing_completes_is_answered() -> None:
    played = random_played(1)
    lost = replace(played, end=np.full_like(played.end, 3), last_s=np.full_like(played.last_s, np.nan))
    found = answers(lost)
    assert found.whole.overall.failed == played.arrival_s.size
    assert found.whole.overall.done == np.count_nonzero(lost.end == DONE) == 0
    assert found.whole.overall.ttft_s is None
    assert found.whole.overall.slo_met_frac == 0.0
    json.dumps(found.to_dict(), allow_nan=False)


def test_classes_that_do_not_match_the_requests_are_refused() -> None:
    with pytest.raises(DomainError, match="class"):
        answers(random_played(1), class_code=np.zeros(1, int))
    played = random_played(1)
    with pytest.raises(DomainError, match="class"):
        answers(played, class_code=np.full(played.arrival_s.size, 2))
    with pytest.raises(DomainError, match="width"):
        windows_of(played, width_s=1e-9)


def test_a_run_that_does_not_tell_where_warm_up_ends_leaves_out_a_tenth_and_says_so() -> None:
    played = loaded(3.0)
    flat = np.concatenate([stream(0, "flat").uniform(0.1, 0.2, 380), np.full(20, 0.15)])
    odd = replace(played, first_s=played.arrival_s + flat, last_s=played.arrival_s + flat + 1.0, end_s=played.end_s + 2)
    found = answers(odd)
    assert found.warm_up.requests == 40
    assert not found.warm_up.settled
    assert any("too short" in note for note in found.notes)


@pytest.mark.parametrize("seed", range(6))
def test_runs_that_are_summed_up_and_not_kept_answer_the_same(seed: int, power: PowerTable) -> None:
    played, powers = random_played(seed), {"serving": power}
    statistics = RunStatistics(window_s=0.01)
    for lane in played.lanes:
        for runs in np.array_split(lane.runs, 3):
            size = {"blocks": lane.blocks, "block_tokens": lane.block_tokens}
            statistics.add(runs, power_w=lane.chips * power.power_w(runs), **size)  # type: ignore[arg-type]
    bare = replace(played, lanes=tuple(replace(lane, runs=lane.runs[:0]) for lane in played.lanes))
    kept = answers(played, powers=powers, warm_up=0.2)
    summed = answers(bare, powers=powers, warm_up=0.2, streamed={"serving": statistics})
    for name in ("batch", "kv_use_frac", "energy_j", "power_w", "output_tokens_per_s_per_chip"):
        assert getattr(summed.whole, name) == pytest.approx(getattr(kept.whole, name), rel=EXACT), name
        assert getattr(summed.steady, name) == pytest.approx(getattr(kept.steady, name), rel=0.05), name
    assert summed.whole.busy_frac == pytest.approx(kept.whole.busy_frac, rel=EXACT)
    assert summed.whole.kv_use_peak_frac == pytest.approx(kept.whole.kv_use_peak_frac)
    one, two = summed.whole.overall, kept.whole.overall
    assert (one.ttft_s, one.tpot_s, one.e2e_s) == (two.ttft_s, two.tpot_s, two.e2e_s)
    assert one.itl_s is not None
    assert any("not kept" in note for note in summed.notes)
    assert math.isnan(summed.whole.power_peak_w_per_chip)
    json.dumps(summed.to_dict(), allow_nan=False)
    with pytest.raises(DomainError, match="kept"):
        answers(bare, powers=powers)
    with pytest.raises(DomainError, match="kept"):
        answers(played, powers=powers, streamed={"serving": statistics})
