"""Laws of a training step: bounds, monotony, conservation, and rows that do not know of each other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.training import Layout, Setup, TrainingStep, coefficients, links_of, profile, recipe, train_step, work_of
from ridgeline.training.communication import context_ranks, gather_s
from ridgeline.training.flows import Flow, fat_tree, rates_of
from ridgeline.training.islands import Island, island_step
from ridgeline.training.packing import cost_of
from ridgeline.training.setup import Host
from ridgeline.training.step import COMMUNICATION
from ridgeline.workloads.model import Block, FeedForward, GroupedQuery, MixtureOfExperts, Model

CHIPS = ("a100-80gb-sxm", "h100-sxm", "gb200", "mi300x", "tpu-v5p", "rtx-4090")
RELATIVE = 1e-9
"""Sums of the same float64 terms in another order."""


def llama(layers: float = 32.0, hidden: float = 4096.0) -> Model:
    """A dense decoder in the shape of Llama 3."""
    mixer = GroupedQuery(heads=hidden / 128, kv_heads=8.0, head_dim=128.0, v_head_dim=128.0)
    block = Block(name="layer", count=layers, mixer=mixer, ffn=FeedForward(inter=3.5 * hidden))
    return Model(name="dense", family="llama", hidden=hidden, vocab=128256.0, blocks=(block,), context=8192.0)


def mixture(experts: float = 64.0) -> Model:
    """A mixture of experts on the same trunk."""
    dense = llama()
    ffn = MixtureOfExperts(experts=experts, topk=8.0, inter=1024.0)
    return replace(dense, name="moe", blocks=(replace(dense.blocks[0], ffn=ffn),))


def setup_on(chip: str, framework: str = "megatron-bridge", precision: str = "bf16") -> Setup:
    """One chip kind in its usual node."""
    value = catalogue.chip(chip)
    return Setup(
        chips=ChipColumns((value,)),
        links=links_of([catalogue.default_node(value)]),
        profile=profile(framework),
        recipe=recipe(precision),
        coefficients=coefficients(),
        host=Host(host_bytes_per_s=50e9, nvme_bytes_per_s=5e9),
    )


counted = cache(work_of)
"""A graph is summed once for all layouts of its model and sequence length."""


def step(model: Model, layout: Layout, setup: Setup) -> TrainingStep:
    """One step of `layout`."""
    work = work_of if np.ndim(layout.seq) else counted
    return train_step(work(model, layout.seq), layout, setup)


BASE = Layout(chips=64.0, seq=4096.0, global_batch=256.0, micro_batch=1.0, tp=4.0, pp=2.0, dp=8.0)

degrees = st.sampled_from([1.0, 2.0, 4.0, 8.0])


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Legal layouts of the dense model."""
    tp, pp, cp, dp = (draw(degrees) for _ in range(4))
    micro = draw(st.sampled_from([1.0, 2.0, 4.0]))
    redone = draw(st.sampled_from([0.0, 1.0]))
    return Layout(
        chips=tp * pp * cp * dp,
        seq=draw(st.sampled_from([2048.0, 8192.0, 65536.0])),
        global_batch=micro * dp * draw(st.sampled_from([1.0, 4.0, 32.0])),
        micro_batch=micro,
        tp=tp,
        pp=pp,
        dp=dp,
        cp=cp,
        vp=draw(st.sampled_from([1.0, 2.0])),
        zero=draw(st.sampled_from([0.0, 1.0, 2.0, 3.0])),
        redone_matmul=redone,
        redone_attention=redone,
        redone_vector=redone,
        sequence_parallel=draw(st.sampled_from([0.0, 1.0])),
        flash=draw(st.sampled_from([0.0, 1.0])),
    )


frameworks = st.sampled_from(["megatron-bridge", "llm-foundry", "torchtitan", "megatron-deepspeed", "deepspeed"])


@given(layout=layouts(), chip=st.sampled_from(CHIPS), framework=frameworks)
def test_no_step_is_faster_than_its_operations_at_peak(layout: Layout, chip: str, framework: str) -> None:
    found = step(llama(), layout, setup_on(chip, framework))
    assert np.all(found.hfu() <= 1.0)
    assert np.all(found.mfu() <= found.hfu())


@given(layout=layouts(), chip=st.sampled_from(CHIPS), framework=frameworks)
def test_terms_are_never_negative_and_add_up_to_the_step(layout: Layout, chip: str, framework: str) -> None:
    found = step(llama(), layout, setup_on(chip, framework))
    assert all(np.all(term >= 0) for term in found.terms.values())
    assert np.allclose(sum(found.terms.values()), found.step_s, rtol=RELATIVE)
    assert np.all((found.bubble_frac >= 0) & (found.bubble_frac < 1))
    assert np.all((found.exposed_comm_frac >= 0) & (found.exposed_comm_frac < 1))


@given(layout=layouts(), framework=frameworks, more=st.sampled_from([2.0, 3.0]))
def test_a_larger_batch_never_takes_less_time_nor_fewer_tokens_per_s(
    layout: Layout, framework: str, more: float
) -> None:
    setup = setup_on("h100-sxm", framework)
    small = step(llama(), layout, setup)
    large = step(llama(), replace(layout, global_batch=layout.global_batch * more), setup)
    assert np.all(large.step_s >= small.step_s)
    assert np.all(large.tokens_per_s >= small.tokens_per_s * (1 - RELATIVE))


@given(layout=layouts(), framework=frameworks)
def test_recomputing_costs_time_and_saves_memory(layout: Layout, framework: str) -> None:
    setup = setup_on("h100-sxm", framework)
    keeps = replace(layout, redone_matmul=0.0, redone_attention=0.0, redone_vector=0.0)
    redoes = replace(layout, redone_matmul=1.0, redone_attention=1.0, redone_vector=1.0)
    fast, lean = step(llama(), keeps, setup), step(llama(), redoes, setup)
    assert np.all(lean.step_s > fast.step_s)
    assert np.all(lean.step_s <= fast.step_s * 1.5)
    assert np.all(lean.memory.activations_bytes <= fast.memory.activations_bytes)
    assert np.allclose(lean.model_flops, fast.model_flops)


@given(layout=layouts(), framework=frameworks, times=st.sampled_from([1.5, 4.0]))
def test_faster_links_or_memory_never_slow_a_step(layout: Layout, framework: str, times: float) -> None:
    setup = setup_on("h100-sxm", framework)
    faster = replace(
        setup, links=replace(setup.links, rates_bytes_per_s=tuple(r * times for r in setup.links.rates_bytes_per_s))
    )
    chip = setup.chips.chips[0]
    tiers = tuple(replace(t, bandwidth_bytes_per_s=t.bandwidth_bytes_per_s * times) for t in chip.tiers)
    memory = replace(setup, chips=ChipColumns((replace(chip, tiers=tiers),)))
    base = step(llama(), layout, setup).step_s
    assert np.all(step(llama(), layout, faster).step_s <= base * (1 + RELATIVE))
    assert np.all(step(llama(), layout, memory).step_s <= base * (1 + RELATIVE))


@given(layout=layouts(), stages=st.sampled_from([1.0, 2.0, 3.0]))
def test_each_zero_stage_holds_no_more_state_than_the_one_before(layout: Layout, stages: float) -> None:
    setup = setup_on("h100-sxm")
    flat = replace(layout, pp=1.0, chips=layout.chips / layout.pp)
    less, more = (step(llama(), replace(flat, zero=z), setup).memory for z in (stages, stages - 1.0))
    assert np.all(less.weights_bytes + less.optimizer_bytes <= more.weights_bytes + more.optimizer_bytes)


def test_full_sharding_holds_sixteen_bytes_per_parameter_over_all_ranks() -> None:
    layout = Layout(chips=64.0, seq=4096.0, global_batch=64.0, micro_batch=1.0, dp=64.0, zero=3.0)
    work = work_of(llama(), 4096.0)
    memory = train_step(work, layout, setup_on("h100-sxm", "llm-foundry")).memory
    assert memory.weights_bytes + memory.optimizer_bytes == pytest.approx(16.0 * work.weights / 64.0)


def test_columns_give_what_rows_give_one_by_one() -> None:
    tp, dp, batch = np.array([1.0, 2.0, 8.0]), np.array([32.0, 16.0, 4.0]), np.array([256.0, 512.0, 1024.0])
    layout = replace(BASE, tp=tp, dp=dp, global_batch=batch)
    together = step(llama(), layout, setup_on("h100-sxm"))
    for i in range(3):
        alone = step(llama(), replace(BASE, tp=tp[i], dp=dp[i], global_batch=batch[i]), setup_on("h100-sxm"))
        assert together.step_s[i] == pytest.approx(alone.step_s[0], rel=RELATIVE)
        assert together.memory.total_bytes[i] == pytest.approx(alone.memory.total_bytes[0], rel=RELATIVE)


def test_a_pipeline_waits_less_with_more_micro_batches_and_with_virtual_stages() -> None:
    setup = setup_on("h100-sxm")
    deep = replace(BASE, pp=8.0, tp=1.0)
    base = step(llama(), deep, setup).bubble_frac
    assert np.all(step(llama(), replace(deep, global_batch=2048.0), setup).bubble_frac < base)
    assert np.all(step(llama(), replace(deep, vp=4.0), setup).bubble_frac < base)


def test_one_chip_never_waits_for_links() -> None:
    alone = Layout(chips=1.0, seq=2048.0, global_batch=8.0, micro_batch=1.0)
    found = step(llama(layers=2.0), alone, setup_on("h100-sxm"))
    assert all(found.terms[name] == 0.0 for name in COMMUNICATION)
    assert found.terms["bubble"] == 0.0


def test_experts_spread_beyond_the_link_domain_wait_for_the_network() -> None:
    wide = Layout(chips=64.0, seq=4096.0, global_batch=64.0, micro_batch=1.0, dp=64.0, ep=64.0)
    island, rack = (step(mixture(), wide, setup_on(chip)) for chip in ("b200-sxm", "gb200"))
    assert island.terms["expert_parallel"] > 5.0 * rack.terms["expert_parallel"]
    near = step(mixture(), replace(wide, ep=8.0), setup_on("b200-sxm"))
    assert near.terms["expert_parallel"] < island.terms["expert_parallel"]


def test_training_adapters_skips_weight_gradients_and_optimizer_state() -> None:
    full, lora = (step(llama(), replace(BASE, lora=flag), setup_on("h100-sxm")) for flag in (0.0, 1.0))
    assert lora.terms["matmul"] < full.terms["matmul"]
    assert lora.memory.optimizer_bytes == 0.0
    assert lora.model_flops == pytest.approx(full.model_flops * 2 / 3, rel=0.2)


def test_frozen_weights_in_four_bits_take_a_quarter_and_are_unpacked() -> None:
    setup = setup_on("h100-sxm")
    lora = replace(BASE, lora=1.0, zero=0.0)
    plain, packed = step(llama(), lora, setup), step(llama(), replace(lora, base_bytes=0.516), setup)
    assert packed.memory.weights_bytes == pytest.approx(plain.memory.weights_bytes * 0.516 / 2.0)
    assert packed.terms["dequantize"] > 0.0 == plain.terms["dequantize"]


def test_offloading_frees_memory_and_costs_time() -> None:
    setup = setup_on("h100-sxm")
    kept, optimizer, params, drives = (step(llama(), replace(BASE, offload=float(i)), setup) for i in range(4))
    assert kept.step_s < optimizer.step_s <= params.step_s < drives.step_s
    slow = replace(setup, host=Host(host_bytes_per_s=1e8, nvme_bytes_per_s=5e9))
    assert step(llama(), replace(BASE, offload=2.0), slow).terms["offload"] > 0.0 == params.terms["offload"]
    assert optimizer.memory.optimizer_bytes == 0.0
    assert params.memory.weights_bytes == 0.0


def test_secondary_shards_and_narrow_values_send_a_quarter_between_nodes() -> None:
    """ZeRO++ (arXiv 2306.10209, table 1): 3 M between nodes becomes 0.75 M, with gradients and weights of 16 bits."""
    layout = Layout(chips=64.0, seq=4096.0, global_batch=64.0, micro_batch=1.0, dp=64.0, zero=3.0)
    setup = setup_on("h100-sxm", "torchtitan")
    plain = gather_s(work_of(llama(), 4096.0), layout, setup)
    inside = replace(setup, links=replace(setup.links, rates_bytes_per_s=(np.array([1e18]), np.array([50e9]))))
    narrow = replace(layout, secondary=1.0, weight_wire_bytes=1.0, gradient_wire_bytes=0.5)
    assert gather_s(work_of(llama(), 4096.0), narrow, inside) == pytest.approx(0.25 * plain, rel=1e-6)
    held, more = step(llama(), layout, setup).memory, step(llama(), narrow, setup).memory
    assert more.weights_bytes - held.weights_bytes == pytest.approx(2.0 * 8.03e9 / 8.0, rel=0.01)


def test_groups_of_shards_hold_more_and_gather_less() -> None:
    layout = Layout(chips=64.0, seq=4096.0, global_batch=64.0, micro_batch=1.0, dp=64.0, zero=3.0)
    setup = setup_on("h100-sxm", "torchtitan")
    flat, hybrid = step(llama(), layout, setup), step(llama(), replace(layout, shard=8.0), setup)
    assert hybrid.terms["fsdp"] < flat.terms["fsdp"]
    assert hybrid.terms["data_parallel"] > flat.terms["data_parallel"] == 0.0
    assert hybrid.memory.optimizer_bytes == pytest.approx(8.0 * flat.memory.optimizer_bytes)
    everything = step(llama(), replace(layout, shard=64.0), setup)
    assert everything.step_s == pytest.approx(flat.step_s, rel=RELATIVE)


@pytest.mark.parametrize("context", [0.0, 1.0, 2.0])
def test_context_parallelism_costs_nothing_alone_and_something_together(context: float) -> None:
    layout = Layout(
        chips=32.0, seq=65536.0, global_batch=8.0, micro_batch=1.0, tp=2.0, dp=1.0, cp=16.0, context=context
    )
    together = step(llama(), layout, setup_on("h100-sxm"))
    alone = step(llama(), replace(layout, cp=1.0, chips=2.0), setup_on("h100-sxm"))
    assert alone.terms["context_parallel"] == 0.0 < together.terms["context_parallel"]
    heads, turns = context_ranks(layout, setup_on("h100-sxm"))
    assert (float(heads[0]), float(turns[0])) == {0.0: (1.0, 16.0), 1.0: (16.0, 1.0), 2.0: (4.0, 4.0)}[context]


def test_schedules_trade_waiting_for_memory() -> None:
    setup = setup_on("h100-sxm")
    base = replace(BASE, pp=8.0, tp=1.0, dp=8.0, global_batch=512.0)
    plain, gpipe, zero, dual = (step(llama(), replace(base, schedule=float(i)), setup) for i in range(4))
    assert gpipe.step_s == plain.step_s
    assert gpipe.memory.activations_bytes > plain.memory.activations_bytes
    assert dual.bubble_frac < zero.bubble_frac < plain.bubble_frac
    assert dual.memory.weights_bytes == 2.0 * plain.memory.weights_bytes


def test_a_calibrated_stack_is_slower_in_every_term() -> None:
    plain = step(llama(), BASE, setup_on("h100-sxm"))
    slower = plain.at_speed(0.8)
    assert slower.step_s == pytest.approx(plain.step_s / 0.8)
    assert sum(slower.terms.values()) == pytest.approx(slower.step_s)
    assert slower.mfu() == pytest.approx(0.8 * plain.mfu())


def test_work_counts_six_operations_per_weight_and_token() -> None:
    work = work_of(llama(), 2048.0)
    dense = work.matmul_flops + work.head_flops
    assert dense == pytest.approx(2.0 * 2048.0 * (work.dense_weights + 128256.0 * 4096.0), rel=1e-3)
    assert work.weights == pytest.approx(8.03e9, rel=0.01)


def test_islands_of_equal_chips_are_one_pipeline_and_unlike_ones_gain_from_uneven_stages() -> None:
    layout = Layout(chips=64.0, seq=4096.0, global_batch=128.0, micro_batch=1.0, tp=4.0, dp=4.0)
    work = work_of(llama(), 4096.0)
    fast, slow = setup_on("h100-sxm"), setup_on("a100-80gb-sxm")
    alike = island_step(work, layout, [Island(stages=2, setup=fast, away_bytes_per_s=1e12)] * 2)
    whole = train_step(work, replace(layout, pp=4.0), fast)
    assert alike.layers == (8, 8, 8, 8)
    assert alike.step_s == pytest.approx(float(whole.step_s[0]), rel=0.05)
    mixed = [Island(stages=2, setup=one, away_bytes_per_s=25e9) for one in (fast, slow)]
    even, uneven = island_step(work, layout, mixed, even=True), island_step(work, layout, mixed)
    assert uneven.layers[0] > uneven.layers[-1] and sum(uneven.layers) == 32
    assert alike.step_s < uneven.step_s < even.step_s
    far = [replace(one, away_bytes_per_s=1e8, away_s=0.05) for one in mixed]
    assert island_step(work, layout, far).step_s > uneven.step_s
    with pytest.raises(DomainError, match="an island has stages"):
        Island(stages=0, setup=fast, away_bytes_per_s=1.0)


def test_colliding_flows_slow_what_crosses_the_network() -> None:
    """As C4 (arXiv 2406.04594): hashed paths collide, planned ones do not."""
    tree = fat_tree(8, 8, 8, 50e9)
    shift = [Flow(port, (port + 8) % 64) for port in range(64)]
    share = float(rates_of(tree, shift, spray=False, seed=1).mean() / rates_of(tree, shift, spray=True).mean())
    setup = setup_on("h100-sxm")
    slowed = replace(setup, links=setup.links.slowed(1, share))
    assert share < 1.0
    layout = replace(BASE, pp=1.0, dp=16.0, global_batch=64.0)
    planned, hashed = (step(llama(), layout, one) for one in (setup, slowed))
    assert hashed.terms["data_parallel"] == pytest.approx(planned.terms["data_parallel"] / share)
    assert hashed.terms["tensor_parallel"] == planned.terms["tensor_parallel"]
    with pytest.raises(DomainError, match="level 0 to 1"):
        setup.links.slowed(2, 0.5)


def test_the_cost_of_a_sequence_is_that_of_its_step() -> None:
    setup = setup_on("h100-sxm")
    cost = cost_of(llama(), setup, tokens=8192)
    layout = Layout(chips=1.0, seq=32768.0, global_batch=1.0, micro_batch=1.0)
    terms = step(llama(), layout, setup).terms
    whole = sum(float(terms[name][0]) for name in ("matmul", "attention", "vector"))
    assert float(cost.of(np.array([32768.0]), 1.0)[0]) == pytest.approx(whole, rel=0.02)


def test_a_ring_past_one_server_passes_its_keys_and_values_more_slowly() -> None:
    near, far = (cost_of(llama(), setup_on("h100-sxm"), tokens=8192, tp=2, reach=reach) for reach in (4, 64))
    assert far.turn > 5.0 * near.turn and far.square == near.square
