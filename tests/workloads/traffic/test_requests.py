"""The value of requests: what it refuses, and what its changes keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ridgeline.core.errors import RidgelineError, SpecError
from ridgeline.core.seeding import stream
from ridgeline.workloads.traffic import RequestClass, Traffic, mix


@st.composite
def traffics(draw: st.DrawFn, rows: int = 30) -> Traffic:
    n = draw(st.integers(1, rows))
    gaps = [gap / 8 for gap in draw(st.lists(st.integers(0, 800), min_size=n, max_size=n))]
    # A request that waits has the arrival of its parent's chain, so parents come first and arrivals follow them.
    after, arrival, clock = [-1], [gaps[0]], gaps[0]
    for i in range(1, n):
        parent = draw(st.integers(-1, i - 1)) if draw(st.booleans()) else -1
        clock += gaps[i]
        after.append(parent)
        arrival.append(clock)
    tokens = st.lists(st.integers(1, 10_000), min_size=n, max_size=n)
    prompt = np.array(draw(tokens))
    counts = [draw(st.integers(0, int(-(-length // 16)))) for length in prompt.clip(max=200)]
    ids = draw(st.lists(st.integers(0, 50), min_size=sum(counts), max_size=sum(counts)))
    return Traffic.of(
        arrival,
        prompt,
        draw(tokens),
        after=np.array(after),
        think_s=draw(st.floats(0, 50)),
        session=np.arange(n) // 3 if draw(st.booleans()) else -1,
        blocks=(np.concatenate([[0], np.cumsum(counts)]), np.array(ids, dtype=np.int64), 16 if ids else 0),
        name="drawn",
    )


def blocks_of(traffic: Traffic) -> list[list[int]]:
    return [traffic.hash_ids[a:b].tolist() for a, b in zip(traffic.hash_start, traffic.hash_start[1:], strict=False)]


@given(traffic=traffics(), data=st.data())
def test_select_keeps_exactly_what_does_not_hang_on_something_dropped(traffic: Traffic, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(traffic), max_size=len(traffic))))
    kept = mask.copy()
    for i, parent in enumerate(traffic.after):
        kept[i] &= parent < 0 or kept[parent]
    chosen = traffic.select(mask)
    rows = np.flatnonzero(kept)
    assert_array_equal(chosen.prompt_tokens, traffic.prompt_tokens[rows])
    assert_array_equal(np.where(chosen.after >= 0, rows[chosen.after], -1), traffic.after[rows])
    assert blocks_of(chosen) == [blocks_of(traffic)[row] for row in rows]


@given(traffic=traffics(), count=st.integers(0, 40))
def test_head_is_a_selection(traffic: Traffic, count: int) -> None:
    head = traffic.head(count)
    chosen = traffic.select(np.arange(len(traffic)) < count)
    assert len(head) == min(count, len(traffic))
    for column in ("arrival_s", "prompt_tokens", "after", "think_s", "session", "hash_start", "hash_ids"):
        assert_array_equal(getattr(head, column), getattr(chosen, column))


@given(one=traffics(), other=traffics(), third=traffics(5))
def test_mix_keeps_every_token_chain_and_prefix_and_sorts(one: Traffic, other: Traffic, third: Traffic) -> None:
    parts = [one, other, third]
    mixed = mix(*parts)
    assert len(mixed) == sum(map(len, parts))
    assert mixed.prompt_tokens.sum() == sum(part.prompt_tokens.sum() for part in parts)
    assert mixed.output_tokens.sum() == sum(part.output_tokens.sum() for part in parts)
    assert (np.diff(mixed.arrival_s) >= 0).all()
    assert [one.name for one in mixed.classes] == ["default", "default 2", "default 3"]
    for code, part in enumerate(parts):
        own = np.flatnonzero(mixed.class_code == code)
        assert_array_equal(mixed.prompt_tokens[own], part.prompt_tokens)
        assert_array_equal(mixed.arrival_s[own], part.arrival_s)
        assert_array_equal(
            np.where(mixed.after[own] >= 0, mixed.after[own], -1), np.where(part.after >= 0, own[part.after], -1)
        )
        mine = [mixed.hash_ids[a:b] for a, b in zip(mixed.hash_start[own], mixed.hash_start[own + 1], strict=True)]
        # Equal ids stay equal and different ones different; none is an id of another part.
        renamed = dict(zip(np.concatenate([*mine, []]).tolist(), part.hash_ids.tolist(), strict=True))
        assert [[renamed[i] for i in ids.tolist()] for ids in mine] == blocks_of(part)
    distinct = sum(len(np.unique(part.hash_ids)) for part in parts)
    assert len(np.unique(mixed.hash_ids)) == distinct
    sessions = [set(mixed.session[(mixed.class_code == code) & (mixed.session >= 0)].tolist()) for code in range(3)]
    assert sum(map(len, sessions)) == len(set().union(*sessions))


@given(traffic=traffics(), factor=st.floats(1e-3, 1e3))
def test_scaling_multiplies_times_only(traffic: Traffic, factor: float) -> None:
    scaled = traffic.scaled(factor)
    assert_array_equal(scaled.arrival_s, traffic.arrival_s * factor)
    assert_array_equal(scaled.think_s, traffic.think_s * factor)
    assert_array_equal(scaled.prompt_tokens, traffic.prompt_tokens)
    assert_array_equal(scaled.after, traffic.after)


@given(traffic=traffics(), rate=st.floats(1e-3, 1e3))
def test_at_rate_has_that_rate(traffic: Traffic, rate: float) -> None:
    if 0 < traffic.rate_per_s < math.inf:
        assert traffic.at_rate(rate).rate_per_s == pytest.approx(rate, rel=1e-9)
    else:
        with pytest.raises(RidgelineError, match="rate"):
            traffic.at_rate(rate)


@given(traffic=traffics(), frac=st.floats(0.01, 1), seed=st.integers(0, 5))
def test_a_sample_keeps_sessions_whole(traffic: Traffic, frac: float, seed: int) -> None:
    sample = traffic.sampled(frac, stream(seed, "sample"))
    assert len(sample) <= len(traffic)
    again = traffic.sampled(frac, stream(seed, "sample"))
    assert_array_equal(sample.prompt_tokens, again.prompt_tokens)
    if (traffic.after < 0).all():
        for number in np.unique(sample.session[sample.session >= 0]):
            assert (sample.session == number).sum() == (traffic.session == number).sum()
    assert len(traffic.sampled(1.0, stream(seed, "sample"))) == len(traffic)


def test_a_cut_counts_from_its_start() -> None:
    traffic = Traffic.of([0.0, 1.0, 2.0, 3.0], 5, 6)
    cut = traffic.cut(1.0, 3.0)
    assert cut.arrival_s.tolist() == [0.0, 1.0]
    assert len(traffic.cut(10, 20)) == 0


def test_lengths_can_be_resized_and_classes_replaced() -> None:
    traffic = Traffic.of([0.0, 1.0], [3, 1000], [1, 10])
    assert traffic.resized(0.1, 2.0).prompt_tokens.tolist() == [1, 100]
    assert traffic.resized(0.1, 2.0).output_tokens.tolist() == [2, 20]
    assert traffic.with_class(RequestClass(name="chat", ttft_s=1.0)).classes[0].ttft_s == 1.0


def test_a_summary_says_what_is_there() -> None:
    start, ids = np.array([0, 2, 4, 4]), np.array([7, 8, 7, 9])
    traffic = Traffic.of([0.0, 1.0, 3.0], [32, 32, 64], [5, 5, 5], blocks=(start, ids, 16))
    summary = traffic.summary()
    assert (summary.requests, summary.span_s, summary.prefix_reuse_frac) == (3, 3.0, 0.25)
    assert summary.rate_per_s == pytest.approx(2 / 3)
    assert summary.burstiness == pytest.approx(np.std([1, 2]) / 1.5)
    assert summary.prompt.p50 == 32
    empty = traffic.head(0).summary()
    assert math.isnan(empty.prompt.mean)
    assert math.isnan(empty.rate_per_s)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"prompt_tokens": [1, 0, 1]}, "prompt_tokens is not from 1"),
        ({"output_tokens": [1, 2**31, 1]}, "output_tokens is not from 1"),
        ({"prompt_tokens": [1.0, 2.0, 3.0]}, "holds no int64"),
        ({"prompt_tokens": [1, 2]}, "not a column of 3"),
        ({"arrival_s": [0.0, 2.0, 1.0]}, "at or after the request before it"),
        ({"arrival_s": [-1.0, 2.0, 3.0]}, "arrival_s is not from 0"),
        ({"arrival_s": [0.0, math.nan, 3.0]}, "arrival_s is not from 0"),
        ({"arrival_s": [0.0, 1.0, math.inf]}, "arrival_s is not from 0"),
        ({"after": np.array([-1, 1, -1])}, "earlier request"),
        ({"after": np.array([-1, 2, -1])}, "earlier request"),
        ({"after": 0}, "first request waits"),
        ({"after": np.array([-1, -2, -1])}, "after is not from"),
        ({"class_code": np.array([0, 1, 0])}, "below 1"),
        ({"classes": ()}, "needs a class"),
        ({"classes": (RequestClass(name="a"), RequestClass(name="a"))}, "one name"),
        ({"think_s": -1.0}, "think_s is not from 0"),
        ({"adapter": -2}, "adapter is not from -1"),
        ({"clients": 4}, "closed loop"),
        ({"clients": -1}, "closed loop"),
        ({"blocks": (np.array([0, 1, 1, 1]), np.array([1]), 0)}, "hash_tokens > 0"),
        ({"blocks": (np.array([0, 1, 1, 1]), np.array([1, 2]), 16)}, "hash_start runs"),
        ({"blocks": (np.array([0, 2, 1, 2]), np.array([1, 2]), 16)}, "start before it"),
        ({"blocks": (np.array([0, 2, 2, 2]), np.array([1, 2]), 16)}, "one id per prompt block"),
        ({"blocks": (np.array([0, 1, 1, 1]), np.array([-1]), 16)}, "hash_ids is not from 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, object], what: str) -> None:
    fields = {"arrival_s": [0.0, 1.0, 2.0], "prompt_tokens": [5, 6, 7], "output_tokens": [1, 1, 1], **wrong}
    with pytest.raises(SpecError, match=what):
        Traffic.of(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"ttft_s": 0.0}, {"tpot_s": -1.0}, {"e2e_s": math.nan}, {"weight": 0.0}, {"name": ""}, {"priority": 2**40}],
)
def test_a_class_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        RequestClass(**{"name": "a", **wrong})  # type: ignore[arg-type]


def test_columns_of_one_value_take_no_room_and_none_can_be_written() -> None:
    traffic = Traffic.of(np.arange(1000.0), 5, 6)
    assert traffic.after.strides == traffic.session.strides == (0,)
    with pytest.raises(ValueError, match="read-only"):
        traffic.arrival_s[0] = 1.0


def test_a_loop_and_arrivals_do_not_mix() -> None:
    loop = Traffic.of(np.zeros(3), 5, 6, clients=2)
    with pytest.raises(RidgelineError, match="cannot be mixed"):
        mix(loop, Traffic.of([0.0], 5, 6))
    assert math.isnan(loop.rate_per_s)


def test_blocks_of_two_sizes_become_the_larger() -> None:
    fine = Traffic.of([0.0], [64], [1], blocks=(np.array([0, 4]), np.array([1, 2, 3, 4]), 16))
    coarse = Traffic.of([1.0], [64], [1], blocks=(np.array([0, 2]), np.array([1, 2]), 32))
    assert mix(fine, coarse).hash_tokens == 32
    assert np.diff(mix(fine, coarse).hash_start).tolist() == [2, 2]
    odd = Traffic.of([1.0], [64], [1], blocks=(np.array([0, 1]), np.array([1]), 24))
    with pytest.raises(RidgelineError, match="two sizes"):
        mix(fine, odd)
