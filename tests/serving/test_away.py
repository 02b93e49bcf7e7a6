"""Decode attention on chips of its own: what a step, a memory, a bill and a simulation of it must be."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.serving.reference import Reference
from tests.serving.test_step_table import stepper_of

import ridgeline as rl
from ridgeline.api.simulations.simulate import simulate
from ridgeline.core.errors import RidgelineError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.machine import machine_of
from ridgeline.plans import AWAY, LINK, Plan
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import sample
from ridgeline.serving.stepper import Stepper
from ridgeline.steps import Away, Step
from ridgeline.workloads.families.size import cache_bytes
from ridgeline.workloads.model import Batch
from ridgeline.workloads.ops import Attention

NAMES = [("meta-llama/Llama-3.1-70B", 4, 2), ("deepseek-ai/DeepSeek-V3", 8, 4), ("Qwen/Qwen3-30B-A3B", 2, 4)]
SEQS = np.array([1.0, 2.0, 7.0, 64.0, 256.0])
DECODE = Batch(decode_seqs=SEQS, decode_context=3000.0)
MIXED = replace(DECODE, prefill_seqs=1.0, prefill_tokens=512.0, prefill_prefix=1024.0)
INSTANT = {"bytes_per_s": np.inf, "latency_s": 0.0}
LOAD = {"model": "meta-llama/Llama-3.1-70B", "on": "2x h100-sxm", "tp": 2, "weights": "fp8", "isl": 1000, "osl": 200}
APART = {"attention_chip": "h20", "attention_chips": 2}


def apart(name: str, tp: float, chips: float, of: str = "h20", turns: float = 1.0, **link: float) -> Stepper:
    """A stepper whose cache is on so many chips."""
    stepper = stepper_of(name, tp)
    asked = {"bytes_per_s": 100e9 * tp, "latency_s": 5e-6, **link}
    away = Away(machines=MachineColumns((machine_of(chip(of), 8),)), **asked)
    return replace(stepper, plan=Plan(tp=tp, attention=chips), away=away, turns=turns)


def is_decode(op: object) -> bool:
    return isinstance(op, Attention) and op.phase == "decode"


def whole_times(step: Step) -> np.ndarray:
    return np.asarray(step.time_s)


@pytest.mark.parametrize(("name", "tp", "chips"), NAMES)
@pytest.mark.parametrize("batch", [DECODE, MIXED])
def test_an_instant_attention_leaves_the_step_without_its_attention(
    name: str, tp: float, chips: float, batch: Batch
) -> None:
    one, plain = apart(name, tp, chips, **INSTANT).step(batch), stepper_of(name, tp).step(batch)
    rest = one.only(lambda op: op.part != AWAY)
    np.testing.assert_allclose(rest.time_s, plain.only(lambda op: not is_decode(op)).time_s, rtol=1e-12)
    assert np.all(one.only(lambda op: op.part == LINK).time_s == 0.0)


@pytest.mark.parametrize(("name", "tp", "chips"), NAMES)
def test_flops_and_cache_reads_are_those_of_one_pool(name: str, tp: float, chips: float) -> None:
    """Of all chips together, at numbers of sequences that the chips divide evenly."""
    seqs = np.array([8.0, 64.0, 256.0])
    batch = replace(DECODE, decode_seqs=seqs)
    there = apart(name, tp, chips).step(batch).only(lambda op: op.part == AWAY)
    plain = stepper_of(name, 1.0).step(batch).only(is_decode)
    np.testing.assert_allclose(there.flops * chips, plain.flops, rtol=1e-9)
    np.testing.assert_allclose(there.role_bytes("kv") * chips, plain.role_bytes("kv"), rtol=1e-9)


def test_the_same_chips_and_an_instant_link_change_nothing_but_the_memory() -> None:
    stepper = stepper_of("meta-llama/Llama-3.1-70B", 4)
    same = apart("meta-llama/Llama-3.1-70B", 4, 4, of="h100-sxm", **INSTANT)
    for batch in (DECODE, MIXED):
        np.testing.assert_allclose(same.time_s(batch), stepper.time_s(batch), rtol=1e-12)
    free = {"attention_link_bytes_per_s": 1e15, "attention_latency_s": 0.0}
    one = rl.predict(**LOAD, concurrency=16)
    two = rl.predict(**LOAD, concurrency=16, attention_chip="h100-sxm", attention_chips=2, **free)
    assert two.tpot_s == pytest.approx(one.tpot_s, rel=1e-4)
    assert two.ttft_s == pytest.approx(one.ttft_s, rel=1e-4)
    assert two.chips == 2 * one.chips
    assert two.cost_usd_per_1m_output_tokens == pytest.approx(2 * one.cost_usd_per_1m_output_tokens, rel=1e-4)
    assert two.max_batch_that_fits > 1.5 * one.max_batch_that_fits


@pytest.mark.parametrize(("name", "tp", "chips"), NAMES)
@pytest.mark.parametrize("turns", [1.0, 2.0])
def test_more_attention_chips_and_faster_links_are_never_slower(
    name: str, tp: float, chips: float, turns: float
) -> None:
    del chips
    times = [whole_times(apart(name, tp, n, turns=turns).step(DECODE)) for n in (1, 2, 4, 8, 16, 32)]
    for fewer, more in pairwise(times):
        assert np.all(more <= fewer * (1 + 1e-9))
    slow, fast = (apart(name, tp, 4, bytes_per_s=rate, turns=turns).step(MIXED).time_s for rate in (10e9, 400e9))
    assert np.all(fast <= slow)


@pytest.mark.parametrize(("name", "tp", "chips"), NAMES)
@pytest.mark.parametrize("turns", [2.0, 3.0])
def test_a_rotation_keeps_to_its_resources_and_is_no_slower(name: str, tp: float, chips: float, turns: float) -> None:
    serial, rotated = (apart(name, tp, chips, turns=count).step(MIXED) for count in (1.0, turns))
    assert np.all(rotated.time_s <= serial.time_s)
    # Experts that both halves visit are read twice: with few tokens each, nothing is won.
    assert np.any(rotated.time_s < 0.95 * serial.time_s) == (name == NAMES[0][0])
    for part in (AWAY, LINK, ""):
        busy = sum(c.time_s for c in rotated.turn if (c.op.part if c.op.part in (AWAY, LINK) else "") == part)
        share = 0.5 if part == LINK else 1.0  # two directions
        assert np.all(rotated.time_s >= np.minimum(share * turns * busy, serial.time_s) * (1 - 1e-12))
    one = sum(cost.time_s for cost in rotated.turn)
    assert np.all(rotated.time_s >= np.minimum(one, serial.time_s) * (1 - 1e-12))


def test_balanced_halves_that_fill_each_other_take_half_the_time() -> None:
    """Closed form: with an instant link a rotation of two takes what the longer side needs for both halves."""
    name, tp = "meta-llama/Llama-3.1-70B", 4
    step = apart(name, tp, 2, turns=2.0, **INSTANT).step(replace(DECODE, decode_seqs=256.0))
    here = sum(cost.time_s for cost in step.turn if cost.op.part != AWAY)
    there = sum(cost.time_s for cost in step.turn if cost.op.part == AWAY)
    assert float(step.time_s) == pytest.approx(max(2 * here, 2 * there, here + there), rel=1e-9)


@pytest.mark.parametrize("chips", [1, 2, 8, 16])
def test_the_cache_of_all_attention_chips_is_the_cache_of_the_sequences(chips: int) -> None:
    found = rl.predict(**LOAD, concurrency=8, attention_chip="h200-sxm", attention_chips=chips)
    resident = found.batch + found.request_per_s * found.steady_ttft_s
    model = rl.predict(**LOAD, concurrency=8)
    assert found.weights_bytes_per_chip == model.weights_bytes_per_chip
    assert found.memory_bytes_per_chip < model.memory_bytes_per_chip
    from ridgeline.workloads.catalogue import model as bundled

    whole = cache_bytes(bundled("meta-llama/Llama-3.1-70B"), LOAD["isl"] + 0.5 * LOAD["osl"])
    assert found.kv_bytes_per_chip * chips == pytest.approx(whole * min(resident, 8.0), rel=1e-9)


def test_one_sequence_lies_on_the_chips_of_one_group() -> None:
    """Beyond as many chips as key/value heads more of them hold more sequences, not longer ones."""
    asked = {**LOAD, "isl": 300_000, "concurrency": 1, "attention_chip": "l4"}
    for chips in (8, 16, 32):
        with pytest.raises(RidgelineError, match="cache per attention chip"):
            rl.predict(**{**asked, "isl": 700_000}, attention_chips=chips)
    fitting = [rl.predict(**asked, attention_chips=chips).max_batch_that_fits for chips in (8, 16, 32)]
    assert fitting == pytest.approx([fitting[0], 2 * fitting[0], 4 * fitting[0]], abs=3)
    run = simulate(
        **{**LOAD, "attention_chip": "l4", "attention_chips": 16},
        trace=rl.make_traffic(arrivals="constant(1/s)", prompt="uniform(100, 600000)", output=5, requests=40),
    )
    served = run.played.end == 0
    assert 0 < served.sum() < 40
    limit = run.played.lanes[0].blocks * run.played.lanes[0].block_tokens / 2
    sizes = run.played.prompt_tokens + run.played.output_tokens
    assert sizes[served].max() <= limit < sizes[~served].min()


def test_power_and_rent_count_both_kinds_of_chips() -> None:
    found = rl.predict(**LOAD, concurrency=64, attention_chip="l40s", attention_chips=4)
    rents = [chip(name).rent_usd_per_s for name in ("h100-sxm", "l40s")]
    paid = (2 * rents[0] + 4 * rents[1]) / found.output_tokens_per_s * 1e6
    assert found.cost_usd_per_1m_output_tokens == pytest.approx(paid)
    assert found.chips == 6
    idle, most = ((2 * getattr(chip("h100-sxm"), w) + 4 * getattr(chip("l40s"), w)) / 6 for w in ("idle_w", "tdp_w"))
    assert idle < found.power_w_per_chip < most


def test_tables_answer_as_single_cases_beside_rows_without() -> None:
    rows = [
        {},
        APART,
        {**APART, "attention_chips": 4, "attention_batches": 2},
        {"attention_chip": "l40s", "attention_chips": 8},
    ]
    asked = {name: value for name, value in LOAD.items() if name != "on"} | {"chip": "h100-sxm", "concurrency": 48}
    columns = {name: [value] * len(rows) for name, value in asked.items()}
    for name, empty in (("attention_chip", ""), ("attention_chips", 0), ("attention_batches", 1)):
        columns[name] = [row.get(name, empty) for row in rows]
    table = rl.predict_table("serving", columns)
    for i, row in enumerate(rows):
        one = rl.predict(**asked, **row)
        for name in ("ttft_s", "tpot_s", "power_w_per_chip", "max_batch_that_fits"):
            assert table[name][i] == pytest.approx(one.values[name], rel=1e-9), (row, name)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({**APART, "attention_chips": 3}, "neither divides the 8 key/value heads"),
        ({"attention_chip": "h20"}, "attention_chips must be given"),
        ({"attention_chips": 2}, "need an attention_chip"),
        ({"attention_chip": "h2o", "attention_chips": 1}, "did you mean"),
        ({**APART, "nano_batches": 2}, "does not go with nano_batches"),
        ({**APART, "mode": "disagg"}, "mode=agg"),
        ({**APART, "cp": 2, "on": "4x h100-sxm"}, "does not go with cp"),
        ({**APART, "attention_chips": 2, "pp": 4, "tp": 1, "on": "4x h100-sxm"}, "multiple of dp x pp"),
        ({"attention_chip": "l4", "attention_chips": 1, "isl": 100_000}, "cache per attention chip"),
        ({**APART, "model": "meta-llama/Llama-3.1-405B"}, "weights and reserve need"),
        ({**APART, "model": "nvidia/Nemotron-H-56B-Base-8K", "weights": ""}, "states"),
    ],
)
def test_asks_that_cannot_be_are_named(more: dict[str, object], words: str) -> None:
    with pytest.raises(RidgelineError, match=words):
        rl.predict(**{**LOAD, "concurrency": 8, **more})


@pytest.mark.parametrize("turns", [1.0, 2.0])
def test_an_engine_with_its_attention_away_equals_the_reference(turns: float) -> None:
    stepper = apart("meta-llama/Llama-3.1-70B", 4, 2, turns=turns)
    times = sample(stepper, rows=1, low=64.0, high=2000.0, slots=16.0, budget=512.0)[0]
    rules = Rules(slots=16, token_budget=512.0, cache_tokens=6000.0, block_tokens=16)
    draw = np.random.default_rng(3)
    requests = Requests(
        prompts=draw.integers(1, 900, 60).tolist(),
        outputs=draw.integers(1, 120, 60).tolist(),
        arrivals=np.cumsum(draw.exponential(0.05, 60)).tolist(),
    )
    engine = Engine(times, rules, requests, Log(60))
    serve(engine, requests)
    expected = Reference(times, rules, requests).run()
    np.testing.assert_allclose(engine.log.last, [s.last for s in expected], rtol=1e-9)
    np.testing.assert_allclose(engine.log.first, [s.first for s in expected], rtol=1e-9)


@pytest.mark.parametrize("batches", [1, 2])
def test_simulation_and_closed_form_agree(batches: int) -> None:
    asked = {**LOAD, "request_rate_per_s": 2.0, **APART, "attention_batches": batches}
    steady, run = rl.predict(**asked), simulate(**asked, requests=600)
    whole = run.answers.steady
    assert whole.overall.tpot_s.mean.value == pytest.approx(steady.tpot_s, rel=0.05)
    assert whole.overall.output_tokens_per_s == pytest.approx(steady.output_tokens_per_s, rel=0.06)
    assert run.answers.whole.chips == pytest.approx(4.0)
    # The closed form knows no pause between iterations: powers differ as much as without attention chips.
    beside = {**LOAD, "request_rate_per_s": 2.0}
    plain = simulate(**beside, requests=600)
    usual = plain.answers.steady.power_w_per_chip / rl.predict(**beside).power_w_per_chip
    assert whole.power_w_per_chip / steady.power_w_per_chip == pytest.approx(usual, rel=0.05)
    assert run.played.lanes[0].blocks > 1.5 * plain.played.lanes[0].blocks


@pytest.mark.parametrize(
    "more", [{"adapters": "uniform(1, 4)"}, {"phase_split_frac": 0.5}, {"rebalance": "free-cache"}]
)
def test_what_does_not_go_with_it_in_a_simulation_is_named(more: dict[str, object]) -> None:
    with pytest.raises(RidgelineError, match="mixed pool"):
        simulate(**LOAD, **APART, concurrency=4, requests=10, **more)
