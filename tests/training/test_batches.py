"""Steps over documents: full rows as before, shorter ones by hand, the ways to batch them against each other."""

from __future__ import annotations

from typing import Any

import pytest

import ridgeline as rl
from ridgeline.api.predictions.predict import Prediction

CASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "on": "32x h100-sxm",
    "seq": 32768,
    "global_batch": 32,
    "cp": 4,
    "zero": 3,
    "recompute": "full",
}
SKEWED = "lognormal(mean=4k, sigma=1.3)"


def step(lengths: str = "", batches: str = "", **more: Any) -> Prediction:
    """A step over documents."""
    return rl.predict("training", lengths=lengths, batches=batches, **CASE | more)


@pytest.mark.parametrize("way", ["packed", "padded"])
def test_documents_that_fill_their_rows_change_nothing(way: str) -> None:
    full, same = step(), step("32768", way)
    for name in ("step_s", "tokens_per_s", "mfu", "memory_bytes_per_chip"):
        assert same.values[name] == pytest.approx(full.values[name])


def test_equal_documents_packed_by_fours_have_a_quarter_of_the_attention() -> None:
    full, packed, eighths = step(), step("8192"), step("4096")
    # What is saved is the attention's: three quarters of it, and seven eighths.
    saved, more = full.step_s - packed.step_s, full.step_s - eighths.step_s
    assert more / saved == pytest.approx((7 / 8) / (3 / 4))
    assert packed.tokens_per_s == pytest.approx(full.tokens_per_s * full.step_s / packed.step_s)


def test_packing_beats_padding_and_ranks_for_each_beat_both_where_documents_are_unequal() -> None:
    padded, packed, adaptive = (step(SKEWED, way) for way in ("padded", "packed", "adaptive"))
    assert 3 * padded.tokens_per_s < packed.tokens_per_s < adaptive.tokens_per_s
    assert padded.mfu < packed.mfu < adaptive.mfu
    assert packed.step_s < padded.step_s == step().step_s


def test_more_unequal_documents_make_ranks_wait_longer() -> None:
    # One row per rank, so that nothing evens out within a step.
    even, uneven = (step(f"lognormal(mean=8k, sigma={sigma})", global_batch=8) for sigma in (0.2, 1.2))
    assert even.mfu > uneven.mfu


def test_rows_of_a_table_are_batched_each_by_its_own_mix() -> None:
    table = {name: [value] * 3 for name, value in CASE.items() if name != "on"}
    table |= {"chip": ["h100-sxm"] * 3, "chips": [32] * 3, "lengths": ["", SKEWED, "normal(3)"]}
    found = rl.predict_table("training", table)
    assert found["step_s"][0] == step().step_s and found["step_s"][1] == step(SKEWED).step_s
    assert found["error"][2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lengths": "gauss(3)"}, "unknown law"),
        ({"batches": "packed"}, "batches need lengths"),
        ({"lengths": SKEWED, "batches": "sorted"}, "unknown way to batch"),
        ({"lengths": SKEWED, "batches": "adaptive", "on": "24x h100-sxm", "global_batch": 12}, "power of two"),
    ],
)
def test_what_cannot_be_batched_is_said(change: dict[str, Any], told: str) -> None:
    with pytest.raises(rl.RidgelineError, match=told):
        rl.predict("training", **CASE | change)
