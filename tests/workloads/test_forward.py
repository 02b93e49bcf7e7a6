"""Forward steps: operations by closed form, phases that add up, stored repetition, stacked models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ridgeline.core.errors import SpecError
from ridgeline.workloads import Batch, Block, Graph, Model, Repeat, cards, forward, forward_tower, parameters, stack
from ridgeline.workloads.catalogue import model, models
from ridgeline.workloads.model import FeedForward, GroupedQuery, Latent, MixtureOfExperts, Precision
from ridgeline.workloads.ops import Attention, Experts, Matmul, Op, Scan
from ridgeline.workloads.verify import verify

# Sums in another order; nothing else may differ.
SAME = 1e-12

PREFILL = Batch(prefill_seqs=3.0, prefill_tokens=700.0, prefill_prefix=200.0)
DECODE = Batch(decode_seqs=5.0, decode_context=900.0)
MERGED = Batch(decode_seqs=5.0, decode_context=900.0, prefill_seqs=3.0, prefill_tokens=700.0, prefill_prefix=200.0)


def _gqa(heads: float = 32.0, kv_heads: float = 8.0, **more: Any) -> GroupedQuery:
    return GroupedQuery(heads=heads, kv_heads=kv_heads, head_dim=128.0, v_head_dim=128.0, **more)


def _dense(layers: float = 4.0, **more: Any) -> Model:
    block = Block(name="layer", count=layers, mixer=_gqa(), ffn=FeedForward(inter=14336.0))
    return Model(name="dense", family="llama", hidden=4096.0, vocab=128256.0, context=8192.0, blocks=(block,), **more)


def _latent_model() -> Model:
    mixer = Latent(heads=16.0, q_rank=1536.0, kv_rank=512.0, nope_dim=128.0, rope_dim=64.0, v_head_dim=128.0)
    moe = MixtureOfExperts(experts=64.0, topk=6.0, inter=1408.0, shared_inter=2816.0)
    block = Block(name="layer", count=3.0, mixer=mixer, ffn=moe)
    return Model(name="latent", family="x", hidden=2048.0, vocab=1000.0, context=4096.0, blocks=(block,))


def _ops(graph: Graph) -> dict[str, Op]:
    return {op.name: op for op, _ in graph.walk()}


def _matmul_flops(graph: Graph) -> Any:
    return graph.total(lambda op: op.flops() if isinstance(op, (Matmul, Experts)) else 0.0)


def _attention_flops(graph: Graph) -> Any:
    return graph.total(lambda op: op.flops() if isinstance(op, Attention) else 0.0)


def test_matmuls_of_a_dense_step_cost_two_flops_per_weight_and_token() -> None:
    dense = _dense()
    counts = parameters(dense)
    norms = (2 * 4 + 1) * 4096.0
    in_blocks = counts.total - 2 * counts.embedding - norms
    expected = 2.0 * in_blocks * PREFILL.tokens + 2.0 * counts.embedding * PREFILL.logits_rows
    assert _matmul_flops(forward(dense, PREFILL)) == pytest.approx(expected, rel=SAME)


def test_attention_of_a_dense_step_costs_four_flops_per_head_value_and_visible_pair() -> None:
    pairs = sum(200.0 + i for i in range(1, 701))
    expected = 4.0 * 3.0 * pairs * (32 * 128) * 4
    assert _attention_flops(forward(_dense(), PREFILL)) == pytest.approx(expected, rel=SAME)
    expected = 4.0 * 5.0 * 900.0 * (32 * 128) * 4
    assert _attention_flops(forward(_dense(), DECODE)) == pytest.approx(expected, rel=SAME)


def test_a_mixture_computes_only_what_its_tokens_are_routed_to() -> None:
    moe = MixtureOfExperts(experts=128.0, topk=8.0, inter=768.0)
    dense = _dense(tied=True)
    mixture = replace(dense, blocks=(replace(dense.blocks[0], ffn=moe),))
    counts = parameters(mixture)
    norms = (2 * 4 + 1) * 4096.0
    expected = 2.0 * (counts.active - counts.embedding - norms) * DECODE.tokens
    expected += 2.0 * counts.embedding * DECODE.logits_rows
    assert _matmul_flops(forward(mixture, DECODE)) == pytest.approx(expected, rel=SAME)


@pytest.mark.parametrize(
    "name", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-Next-80B-A3B-Instruct"]
)
def test_a_merged_step_does_the_work_of_its_phases(name: str) -> None:
    published = model(name)
    merged, apart = forward(published, MERGED), (forward(published, PREFILL), forward(published, DECODE))
    assert merged.flops() == pytest.approx(sum(graph.flops() for graph in apart), rel=SAME)
    for graph in apart:
        assert graph.weight_bytes() == pytest.approx(merged.weight_bytes(), rel=SAME)
    kv = sum(graph.moved_bytes("kv") for graph in apart)
    assert merged.moved_bytes("kv") == pytest.approx(kv, rel=SAME)


def test_a_phase_without_sequences_is_not_in_the_graph() -> None:
    assert not any("decode" in name for name in _ops(forward(_dense(), PREFILL)))
    assert not any("prefill" in name for name in _ops(forward(_dense(), DECODE)))
    rows = replace(MERGED, decode_seqs=np.array([0.0, 5.0]))
    assert {"attention_prefill", "attention_decode"} <= set(_ops(forward(_dense(), rows)))


def test_a_hundred_layers_are_stored_as_one() -> None:
    few, many = (list(forward(_dense(layers), MERGED).walk()) for layers in (1.0, 100.0))
    assert len(few) == len(many)
    one, hundred = parameters(_dense(1.0)), parameters(_dense(100.0))
    outside = 2 * one.embedding + 4096
    assert hundred.total - outside == pytest.approx(100 * (one.total - outside), rel=SAME)


def test_stacked_models_give_each_row_what_its_model_gives() -> None:
    names = ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-405B"]
    several = [model(name) for name in names]
    index = np.array([2, 0, 1, 0])
    stacked = forward(stack(several, index), MERGED)
    for row, which in enumerate(index):
        alone = forward(several[which], MERGED)
        for op, times in alone.walk():
            twin, twice = next((o, t) for o, t in stacked.walk() if (o.name, o.part) == (op.name, op.part))
            flops = np.broadcast_to(twin.flops() * twice, 4)[row]
            assert flops == pytest.approx(op.flops() * times, rel=SAME)
        assert np.broadcast_to(stacked.weight_bytes(), 4)[row] == pytest.approx(alone.weight_bytes(), rel=SAME)


def test_a_latent_model_and_one_with_an_indexer_do_not_stack() -> None:
    plain, indexed = model("deepseek-ai/DeepSeek-V3"), model("deepseek-ai/DeepSeek-V3.2")
    assert plain.signature() != indexed.signature()
    with pytest.raises(SpecError):
        stack([plain, indexed], np.array([0, 1]))


def test_family_names_do_not_keep_equal_structures_from_stacking() -> None:
    assert model("meta-llama/Llama-3.1-8B").signature() == model("mistralai/Mistral-Nemo-Base-2407").signature()


def test_latent_decode_is_absorbed_and_latent_prefill_is_expanded() -> None:
    prefill, decode = _ops(forward(_latent_model(), PREFILL)), _ops(forward(_latent_model(), DECODE))
    assert "kv_up" in prefill and "q_absorb" not in prefill
    assert "kv_up" not in decode and {"q_absorb", "v_absorb"} <= set(decode)
    assert prefill["kv_up"].m == 3.0 * 900.0, "the cached prefix is expanded again"
    scores = decode["attention_decode"]
    assert scores.flops() == 2.0 * 5.0 * 16.0 * 900.0 * (2 * 512 + 64)
    assert prefill["kv_up"].weight_elements() == sum(decode[n].weight_elements() for n in ("q_absorb", "v_absorb"))


def test_an_indexer_caps_what_attention_reads_but_not_what_it_scores() -> None:
    sparse = _ops(forward(model("deepseek-ai/DeepSeek-V3.2"), Batch(decode_seqs=1.0, decode_context=100_000.0)))
    attention, index = sparse["attention_decode"], sparse["index_decode"]
    assert attention.cached_tokens_read() == 2048.0
    assert index.cached_tokens_read() == 100_000.0
    assert index.shard == "none"


def test_windowed_layers_stop_growing_and_full_layers_do_not() -> None:
    gemma = model("google/gemma-3-27b-it")
    near, far = (forward(gemma, Batch(decode_seqs=1.0, decode_context=n)) for n in (4096.0, 8192.0))

    def kv(graph: Graph, block: str) -> Any:
        inner = next(i.graph for i in graph.items if isinstance(i, Repeat) and i.graph.name == block)
        return inner.moved_bytes("kv")

    assert kv(near, "window_dense") == kv(far, "window_dense")
    assert kv(far, "attention_dense") > 1.9 * kv(near, "attention_dense")


def test_state_space_layers_do_not_see_the_context() -> None:
    mamba = model("state-spaces/mamba-2.8b-hf")
    near, far = (forward(mamba, Batch(decode_seqs=4.0, decode_context=n)) for n in (100.0, 100_000.0))
    assert near.flops() == far.flops()
    assert near.moved_bytes("state") > 0
    assert any(isinstance(op, Scan) and op.kind == "mamba1" for op, _ in near.walk())


def test_formats_follow_the_part_that_an_op_belongs_to() -> None:
    oss = _ops(forward(model("openai/gpt-oss-120b"), DECODE))
    assert oss["experts"].scheme.name == "w4a16_mxfp4"  # type: ignore[attr-defined]
    assert oss["qkv"].scheme.name == "bf16" == oss["router"].scheme.name  # type: ignore[attr-defined]
    assert oss["qkv"].kv_width == 2 * 8 * 64


def test_keys_of_grouped_heads_are_marked_for_replication() -> None:
    qkv = _ops(forward(_dense(), DECODE))["qkv"]
    assert qkv.n == (32 + 2 * 8) * 128
    assert qkv.kv_width == 2 * 8 * 128
    assert qkv.shard == "column"


def test_draft_blocks_run_only_when_asked() -> None:
    v3 = model("deepseek-ai/DeepSeek-V3")
    quiet, drafting = forward(v3, DECODE), forward(v3, DECODE, drafts=True)
    assert len(list(drafting.walk())) > len(list(quiet.walk()))
    # DeepSeek-V3 report: the draft module brings 14B with copies of embedding and head, 11.5B of its own.
    assert parameters(v3).drafts == pytest.approx(11.5e9, rel=0.02)


def test_an_encoder_decoder_encodes_its_source_once_and_crosses_to_it() -> None:
    t5 = model("google/flan-t5-xl")
    first = forward(t5, Batch(prefill_seqs=2.0, prefill_tokens=1.0, source_tokens=512.0))
    later = forward(t5, Batch(decode_seqs=2.0, decode_context=10.0, source_tokens=512.0))
    encoder = [i for i in first.items if isinstance(i, Repeat) and i.graph.name.startswith("encoder")]
    assert encoder and encoder[0].graph.flops() > 0
    skipped = [i for i in later.items if isinstance(i, Repeat) and i.graph.name.startswith("encoder")]
    assert skipped[0].graph.flops() == 0
    assert _ops(later)["cross_attention_decode"].kv_len == 512.0
    assert _ops(later)["cross_kv"].flops() == 0.0, "keys of the source are computed once"


def test_a_tower_encodes_each_image_apart() -> None:
    tower = model("Qwen/Qwen3-VL-32B-Instruct").towers[0]
    one, four = forward_tower(tower, 1.0), forward_tower(tower, 4.0)
    assert four.flops() == pytest.approx(4.0 * one.flops(), rel=SAME)
    assert four.parameters() == one.parameters()


def test_shared_blocks_are_held_once_and_run_many_times() -> None:
    zamba = model("Zyphra/Zamba2-7B")
    again = next(block for block in zamba.blocks if block.tied)
    graph = forward(zamba, DECODE)
    tied = next(i.graph for i in graph.items if isinstance(i, Repeat) and i.graph.name == again.name)
    assert tied.parameters() == 0.0
    assert tied.flops() > 0.0
    assert tied.moved_bytes("weights") > 0.0


@pytest.mark.parametrize("name", models())
def test_every_bundled_model_gives_legal_graphs(name: str) -> None:
    bundled = model(name)
    for batch in (PREFILL, DECODE):
        verify(forward(bundled, batch, drafts=True))
    for tower in bundled.towers:
        verify(forward_tower(tower, 2.0))
    assert isinstance(bundled.precision, Precision)
    assert cards.entries()[name]["family"] == bundled.family
