"""What models weigh: published counts of every bundled card, and caches against a count token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.workloads import Block, Model, cache_bytes, kv_bytes_per_token, parameters
from ridgeline.workloads.cards import count, rounding
from ridgeline.workloads.catalogue import model, models, published
from ridgeline.workloads.model import FeedForward, GroupedQuery, Latent

# The goal of the project; a published figure such as 1.6T cannot be met more closely than its last digit.
TOTAL = 0.01
ACTIVE = 0.03
# A figure that shows less than this says too little to be a test.
COARSEST = 0.06


@pytest.mark.parametrize("name", models())
def test_parameters_match_what_the_publisher_states(name: str) -> None:
    counts, stated = parameters(model(name)), published(name)
    assert rounding(stated.total) <= COARSEST, "give more digits"
    assert counts.total == pytest.approx(count(stated.total), rel=max(TOTAL, rounding(stated.total)))
    if stated.active:
        active = counts.active - len(stated.active_excludes) * counts.embedding
        assert active == pytest.approx(count(stated.active), rel=max(ACTIVE, rounding(stated.active)))
    assert stated.source


# Exact counts of published checkpoints (hub weights).
EXACT = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Ministral-8B-Instruct-2410": 8_019_808_256,
    "EleutherAI/gpt-j-6b": 6_050_882_784,
    "openai-community/gpt2": 124_439_808,
    "google-bert/bert-base-uncased": 109_482_240,
    "mistralai/Mamba-Codestral-7B-v0.1": 7_285_403_648,
    "state-spaces/mamba-130m-hf": 129_135_360,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "bigscience/bloom": 176_247_271_424,
}


@pytest.mark.parametrize(("name", "exact"), EXACT.items())
def test_some_counts_are_exact_to_the_last_parameter(name: str, exact: int) -> None:
    assert parameters(model(name)).total == exact


def test_embedding_is_counted_once_where_the_head_shares_it() -> None:
    tied, untied = model("Qwen/Qwen3-1.7B"), model("Qwen/Qwen3-8B")
    assert tied.tied and not untied.tied
    assert parameters(tied).embedding == 151936 * 2048


sizes = st.integers(1, 300)


def _model(*blocks: Block) -> Model:
    return Model(name="m", family="x", hidden=64.0, vocab=100.0, context=1024.0, blocks=blocks)


@given(
    length=sizes,
    window=st.integers(0, 300),
    kv_heads=st.sampled_from([1, 2, 4, 8]),
    tp=st.sampled_from([1, 2, 4, 8, 16]),
)
def test_a_cache_holds_what_a_count_token_by_token_finds(length: int, window: int, kv_heads: int, tp: int) -> None:
    mixer = GroupedQuery(heads=8.0, kv_heads=float(kv_heads), head_dim=16.0, v_head_dim=12.0, window=float(window))
    block = Block(name="b", count=3.0, mixer=mixer, ffn=FeedForward(inter=8.0))
    kept = [token for token in range(length) if not window or token >= length - window]
    on_rank = max(kv_heads / tp, 1)
    expected = sum(3 * on_rank * (16 + 12) * 2 for _ in kept)
    assert cache_bytes(_model(block), float(length), float(tp)) == pytest.approx(expected)


def test_latents_are_replicated_over_ranks_and_states_are_divided() -> None:
    v3 = model("deepseek-ai/DeepSeek-V3")
    assert cache_bytes(v3, 1000.0, 8.0) == cache_bytes(v3, 1000.0, 1.0) == 61 * 1000 * (512 + 64) * 2
    mamba = model("state-spaces/mamba2-2.7b")
    assert cache_bytes(mamba, 1000.0, 8.0) == pytest.approx(cache_bytes(mamba, 1.0) / 8)


def test_cache_growth_is_that_of_the_layers_that_see_everything() -> None:
    llama = model("meta-llama/Llama-3.1-70B")
    assert kv_bytes_per_token(llama) == 80 * 2 * 8 * 128 * 2
    assert kv_bytes_per_token(llama, 16.0) == 80 * 2 * 128 * 2
    oss = model("openai/gpt-oss-120b")
    assert kv_bytes_per_token(oss) == 18 * 2 * 8 * 64 * 2
    assert kv_bytes_per_token(model("state-spaces/mamba-2.8b-hf")) == 0.0


def test_caches_of_many_contexts_come_at_once() -> None:
    gemma = model("google/gemma-3-27b-it")
    contexts = np.array([1.0, 1024.0, 100_000.0])
    at_once = cache_bytes(gemma, contexts)
    assert at_once == pytest.approx([cache_bytes(gemma, float(n)) for n in contexts])
    assert np.all(np.diff(at_once) > 0)


def test_deepseek_v4_holds_a_tenth_of_the_cache_of_v3_2_at_a_million_tokens() -> None:
    # The report claims 10 % (Pro) and 7 % (Flash) of V3.2's cache at 1M tokens, with fp8 latents in the former; our
    # Pro is within a factor of two of that in equal formats.
    million = 2.0**20
    v32 = cache_bytes(model("deepseek-ai/DeepSeek-V3.2"), million)
    assert 0.05 < cache_bytes(model("deepseek-ai/DeepSeek-V4-Pro"), million) / v32 < 0.2
    assert 0.03 < cache_bytes(model("deepseek-ai/DeepSeek-V4-Flash"), million) / v32 < 0.14


def test_an_encoder_holds_no_cache() -> None:
    assert cache_bytes(model("google-bert/bert-base-uncased"), 512.0) == 0.0


def test_a_latent_with_an_indexer_also_holds_its_keys() -> None:
    plain = Latent(heads=4.0, q_rank=0.0, kv_rank=64.0, nope_dim=16.0, rope_dim=8.0, v_head_dim=16.0)
    indexed = Latent(
        heads=4.0, q_rank=32.0, kv_rank=64.0, nope_dim=16.0, rope_dim=8.0, v_head_dim=16.0,
        index_heads=2.0, index_dim=32.0, selected=16.0,
    )  # fmt: skip
    without, with_ = (_model(Block(name="b", count=1.0, mixer=m, ffn=None)) for m in (plain, indexed))
    assert cache_bytes(with_, 10.0) - cache_bytes(without, 10.0) == 10 * 32
