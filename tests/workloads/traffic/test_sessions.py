"""Sessions: each turn holds what came before it, and prefix blocks say so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ridgeline.core.errors import RidgelineError
from ridgeline.workloads.traffic import Sessions, Traffic, make_traffic, parse_law, prefixes


def chats(**changes: object) -> Traffic:
    fields = {
        "turns": parse_law("geometric(4)"),
        "think": parse_law("exponential(30s)", "s"),
        "system": 200,
        "block": 16,
        **changes,
    }
    return make_traffic(
        arrivals="poisson(1/s)",
        prompt="lognormal(mean=150, sigma=1)",
        output="uniform(10, 300)",
        requests=2000,
        seed=5,
        sessions=Sessions(**fields),  # type: ignore[arg-type]
    )


def blocks_of(traffic: Traffic, row: int) -> list[int]:
    return traffic.hash_ids[traffic.hash_start[row] : traffic.hash_start[row + 1]].tolist()


def test_a_turn_holds_the_turn_before_it_and_its_answer() -> None:
    traffic = chats()
    later = np.flatnonzero(traffic.after >= 0)
    before = traffic.after[later]
    assert len(later) > 1000
    assert (traffic.prompt_tokens[later] > traffic.prompt_tokens[before] + traffic.output_tokens[before]).all()
    assert_array_equal(traffic.session[later], traffic.session[before])
    assert_array_equal(traffic.arrival_s[later], traffic.arrival_s[before])
    assert (traffic.think_s[traffic.after < 0] == 0).all()
    assert traffic.think_s[later].mean() == pytest.approx(30, rel=0.2)
    assert (traffic.prompt_tokens > 200).all()


def test_prefixes_grow_within_a_session_and_share_the_system_prompt_between_them() -> None:
    traffic = chats()
    shared = list(range(200 // 16))
    for row in range(0, 2000, 37):
        own = blocks_of(traffic, row)
        assert len(own) == traffic.prompt_tokens[row] // 16
        assert own[: len(shared)] == shared
        if (parent := traffic.after[row]) >= 0:
            assert own[: len(blocks_of(traffic, int(parent)))] == blocks_of(traffic, int(parent))
    starts = np.flatnonzero(traffic.after < 0)[:50].tolist()
    private = [set(blocks_of(traffic, row)[len(shared) :]) for row in starts]
    assert sum(map(len, private)) == len(set().union(*private))
    assert 0.5 < traffic.summary().prefix_reuse_frac < 1


def test_a_session_ends_where_the_context_does() -> None:
    traffic = chats(context=3000, turns=parse_law("50"))
    assert (traffic.prompt_tokens + traffic.output_tokens <= 3000).all()
    assert traffic.prompt_tokens.max() > 2000
    with pytest.raises(RidgelineError, match="no turn fits"):
        chats(context=205)


def test_side_calls_share_the_history_and_nothing_waits_for_them() -> None:
    traffic = chats(turns=parse_law("6"), parallel=parse_law("2"))
    children = np.bincount(traffic.after[traffic.after >= 0], minlength=len(traffic))
    # Each answer but the last of an agent releases the next step and two calls beside it.
    assert set(children[:-60].tolist()) == {0, 3}
    assert (traffic.after < np.arange(len(traffic))).all()
    parent = int(np.flatnonzero(children == 3)[0])
    steps = np.flatnonzero(traffic.after == parent).tolist()
    history = int(traffic.prompt_tokens[parent] + traffic.output_tokens[parent]) // 16
    first = [blocks_of(traffic, row)[:history] for row in steps]
    assert first[0] == first[1] == first[2]
    rest = [set(blocks_of(traffic, row)[history + 1 :]) for row in steps]
    assert sum(map(len, rest)) == len(set().union(*rest))


def test_one_law_more_does_not_move_the_draws_of_the_others() -> None:
    plain, longer = chats(), chats(think=parse_law("uniform(1s, 2s)", "s"))
    assert_array_equal(plain.prompt_tokens, longer.prompt_tokens)
    assert_array_equal(plain.output_tokens, longer.output_tokens)


def test_sessions_that_cannot_be_are_refused() -> None:
    for wrong in ({"system": -1}, {"context": 100}, {"block": -1}):
        with pytest.raises(RidgelineError, match="session"):
            chats(**wrong)
    with pytest.raises(RidgelineError, match="closed loop"):
        make_traffic(
            arrivals="closed(4)", prompt=5, output=5, requests=9,
            sessions=Sessions(turns=parse_law("2"), think=parse_law("1s", "s")),
        )  # fmt: skip


@given(
    lengths=st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 200)), min_size=1, max_size=20),
    block=st.integers(1, 64),
    shared=st.integers(0, 100),
)
def test_equal_ids_are_equal_beginnings(lengths: list[tuple[int, int]], block: int, shared: int) -> None:
    stream = np.array([text for text, _ in lengths])
    prompt = np.array([length for _, length in lengths])
    start, ids = prefixes.growing(stream, prompt, block, shared)
    assert_array_equal(np.diff(start), prompt // block)
    seen: dict[int, tuple[int, int]] = {}
    for row, (text, _) in enumerate(lengths):
        for place, one in enumerate(ids[start[row] : start[row + 1]].tolist()):
            common = place < shared // block
            meant = (-1 if common else text if text >= 0 else 100 + row, place)
            assert seen.setdefault(one, meant) == meant
    assert len(seen) == len(set(seen.values()))


def test_a_context_that_was_cut_starts_a_text_anew() -> None:
    stream = prefixes.epochs(np.array([0, 0, 1, 0, 0, -1]), np.array([10, 20, 5, 8, 30, 3]))
    assert stream[0] == stream[1] != stream[3] == stream[4]
    assert stream[5] == -1
    assert len(set(stream.tolist())) == 4
