"""A table of training set-ups: every row keeps its place, and says what would be right where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.errors import UnknownNameError
from ridgeline.core.tables import Labels, from_mapping
from ridgeline.hardware import catalogue as hardware
from ridgeline.hardware import index
from ridgeline.training import RESULTS, Catalogue, predict_training
from ridgeline.workloads.model import Block, FeedForward, GroupedQuery, MixtureOfExperts, Model

NAMED = {
    "dense": Model(
        name="dense",
        family="llama",
        hidden=4096.0,
        vocab=128256.0,
        context=8192.0,
        blocks=(
            Block(
                name="layer",
                count=32.0,
                mixer=GroupedQuery(heads=32.0, kv_heads=8.0, head_dim=128.0, v_head_dim=128.0),
                ffn=FeedForward(inter=14336.0),
            ),
        ),
    ),
    "experts": Model(
        name="experts",
        family="mixture",
        hidden=2048.0,
        vocab=151936.0,
        context=8192.0,
        blocks=(
            Block(
                name="layer",
                count=48.0,
                mixer=GroupedQuery(heads=32.0, kv_heads=4.0, head_dim=128.0, v_head_dim=128.0),
                ffn=MixtureOfExperts(experts=128.0, topk=8.0, inter=768.0),
            ),
        ),
    ),
}


def named(name: str) -> Model:
    """A tiny catalogue of models."""
    if name not in NAMED:
        raise UnknownNameError(f"unknown model {name!r}", at="model", fix="did you mean 'dense'?")
    return NAMED[name]


CATALOGUE = Catalogue(model=named, chip=hardware.chip, node=hardware.home)

GOOD: dict[str, Any] = {
    "model": "dense",
    "chip": "h100-sxm",
    "chips": 64,
    "seq": 4096,
    "global_batch": 256,
    "micro_batch": 1,
    "tp": 4,
    "pp": 2,
    "precision": "bf16",
    "framework": "megatron-bridge",
}


def predicted(*rows: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Results and problems of rows that depart from GOOD as said."""
    full = [GOOD | row for row in rows]
    names = dict.fromkeys(name for row in full for name in row)
    columns = {name: [row.get(name) for row in full] for name in names}
    cases, problems = intake("training", from_mapping(columns, columns=wanted("training")))
    found = predict_training(cases, problems, CATALOGUE)
    return {name: v.texts() if isinstance(v, Labels) else v for name, v in found.items()}, problems.column()


def test_every_result_column_is_there_and_consistent() -> None:
    found, problems = predicted({})
    assert problems == [""]
    assert tuple(found) == RESULTS
    assert found["tokens_per_s"][0] == pytest.approx(256 * 4096 / found["step_s"][0])
    assert found["tokens_per_s_per_chip"][0] == pytest.approx(found["tokens_per_s"][0] / 64)
    assert found["mfu"][0] == pytest.approx(found["model_flops_per_s_per_chip"][0] / 989.4e12, rel=0.01)
    chip = hardware.chip("h100-sxm")
    assert chip.idle_w < found["power_w_per_chip"][0] <= chip.tdp_w
    energy = found["power_w_per_chip"][0] * 64 / found["tokens_per_s"][0]
    assert found["energy_j_per_token"][0] == pytest.approx(energy)
    assert found["fits"][0] == 1.0
    assert found["bound"][0] == "matmul"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "dens"}, "did you mean 'dense'"),
        ({"model": ""}, "model is missing"),
        ({"chip": "h10"}, "unknown chip 'h10'"),
        ({"chip": ""}, "chip must be given"),
        ({"framework": "megatro"}, "did you mean 'megatron'"),
        ({"precision": "fp7"}, "unknown training precision"),
        ({"recompute": "norm, akt"}, "did you mean 'act'"),
        ({"offload": "nvm"}, "did you mean 'nvme'"),
        ({"zero": "4"}, "unknown ZeRO stage"),
        ({"flash": "maybe"}, "unknown switch"),
        ({"tp": 3, "chips": 96}, "tp = 3 does not divide 32 attention heads; nearest tp is 2"),
        ({"dp": 4}, "with dp = 8 it takes 64"),
        ({"tp": 8, "pp": 3}, "tp x pp x cp = 24 does not divide 64 chips; take 72 chips"),
        ({"ep": 8}, "no routed experts"),
        ({"model": "experts", "ep": 7}, "ep = 7 does not divide 128 experts; nearest ep is 4"),
        ({"model": "experts", "ep": 64}, "ep = 64 does not divide 32 ranks of tp x cp x dp; nearest ep is 32"),
        ({"pp": 2, "vp": 64}, "use at most vp = 17"),
        ({"cp": 8, "seq": 4100, "tp": 1}, "cp = 8 does not divide 4100 tokens; nearest cp is 5"),
        ({"global_batch": 100, "micro_batch": 3}, "nearest is 96"),
        ({"model": "", "layers": 4, "hidden": 100, "heads": 7}, "heads must divide hidden"),
        ({"model": "", "layers": 4, "hidden": 128, "heads": 8, "kv_heads": 3}, "kv_heads must divide heads"),
        (
            {"model": "", "layers": 4, "hidden": 128, "heads": 8, "experts": 4, "topk": 5},
            "topk must be at most experts",
        ),
        ({"schedule": "2f2b"}, "unknown pipeline schedule"),
        ({"schedule": "gpipe", "vp": 2}, "only the schedule 1f1b is interleaved"),
        ({"schedule": "dualpipe", "pp": 3, "tp": 1, "chips": 48, "dp": None}, "nearest is 2"),
        ({"context": "rings"}, "did you mean 'ring'"),
        ({"context": "ulysses", "cp": 16, "tp": 4, "chips": 128, "pp": 1}, "does not divide 8 heads"),
        ({"zero_options": "hpz, qwx"}, "did you mean 'qwz'"),
        ({"shard": 3}, "shard = 3 does not divide 8 ranks of dp x cp; nearest shard is 2"),
        ({"chip": "rtx-4090", "offload": "params", "tp": 1}, "the rate of the chip's link to its host"),
        ({"stack_share": -1}, "stack_share"),
        ({"seq": None}, "seq must be given"),
        ({"seq": -1}, "seq must lie in"),
        ({"micro_batch": 1.5}, "micro_batch must be a whole number"),
        ({"chips": "many"}, "chips is not a number (got 'many')"),
    ],
)
def test_a_row_that_cannot_be_says_what_would_be_right_and_spares_the_others(change: dict[str, Any], told: str) -> None:
    found, problems = predicted({}, change, {})
    assert told in problems[1]
    assert problems[0] == problems[2] == ""
    assert np.isnan(found["step_s"][1])
    assert found["step_s"][0] == found["step_s"][2] > 0
    assert found["bound"][1] == found["regime"][1] == ""


def test_what_is_left_out_is_derived() -> None:
    found, problems = predicted({"dp": 8}, {"dp": None}, {"global_batch": None, "micro_batch": None})
    assert problems == ["", "", ""]
    assert found["step_s"][0] == found["step_s"][1]
    assert found["tokens_per_s"][2] * found["step_s"][2] == pytest.approx(1 * 8 * 2 * 4096)


def test_names_are_matched_without_regard_to_spelling() -> None:
    found, problems = predicted({}, {"chip": "H100_SXM", "framework": "Megatron Bridge", "precision": "BFloat16"})
    assert problems == ["", ""]
    assert found["step_s"][0] == found["step_s"][1]


def test_plain_numbers_stand_in_for_a_model_that_no_catalogue_holds() -> None:
    gpt3 = {"model": "", "layers": 96, "hidden": 12288, "heads": 96, "seq": 2048, "tp": 8, "pp": 8}
    found, problems = predicted(gpt3, gpt3 | {"model": "GPT-3 as in the paper"})
    assert problems == ["", ""]
    per_token = found["model_flops_per_s_per_chip"] / found["tokens_per_s_per_chip"]
    # 6 N of the published 174.6e9 parameters, and the attention of 2048 tokens (arXiv 2005.14165, table D.1).
    assert per_token == pytest.approx(np.full(2, 6 * 174.6e9), rel=0.03)


def test_gated_and_mixture_models_in_plain_numbers_have_three_matrices() -> None:
    llama = {"model": "", "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn_hidden": 14336}
    experts = llama | {"experts": 8, "topk": 2, "expert_hidden": 14336}
    found, problems = predicted({}, llama | {"vocab": 128256}, experts)
    assert problems == ["", "", ""]
    assert found["step_s"][1] == pytest.approx(found["step_s"][0], rel=0.01)
    assert found["memory_bytes_per_chip"][2] > 3 * found["memory_bytes_per_chip"][1]


def test_unfused_attention_is_slower_and_takes_more_memory() -> None:
    found, _ = predicted({}, {"flash": "false"})
    assert found["step_s"][1] > found["step_s"][0]
    assert found["memory_bytes_per_chip"][1] > found["memory_bytes_per_chip"][0]


def test_recomputation_that_is_not_stated_is_what_memory_asks_for() -> None:
    base = {"tp": 1, "pp": 1, "chips": 64, "zero": "3", "seq": 8192, "micro_batch": 1, "global_batch": 256}
    rows = [base | {"micro_batch": size, "recompute": None} for size in (1, 4)]
    found, problems = predicted(*rows, *(row | {"recompute": kind} for row in rows for kind in ("none", "full")))
    assert problems == [""] * 6
    small, large, small_none, small_full, large_none, large_full = found["step_s"].tolist()
    assert small == small_none and found["fits"][2] == 1.0
    assert found["fits"][4] == 0.0 and found["fits"][1] == 1.0
    assert large_none < large <= large_full and small < small_full
    assert found["memory_bytes_per_chip"][1] <= 0.96 * hardware.chip("h100-sxm").dram.capacity_bytes


def test_a_local_batch_is_the_whole_batch_of_frameworks_that_cut_it_themselves() -> None:
    case = {"framework": "torchtitan", "pp": 4, "tp": 1, "micro_batch": 8, "global_batch": None, "chips": 32}
    found, _ = predicted(case, case | {"global_batch": 64})
    assert found["step_s"][0] == found["step_s"][1]
    assert found["bubble_frac"][0] > 0.2


def test_qlora_is_lora_with_less_memory() -> None:
    base = {"tp": 1, "pp": 1, "chips": 8, "global_batch": 64, "recompute": "full"}
    found, problems = predicted(*(base | {"lora": kind} for kind in ("false", "true", "qlora")))
    assert problems == ["", "", ""]
    full, lora, qlora = found["memory_bytes_per_chip"].tolist()
    assert qlora < lora < full
    assert found["step_s"][1] < found["step_s"][2]
    assert "true, false or qlora" in predicted(base | {"lora": "loar?"})[1][0]


def test_words_about_the_run_behind_a_name_are_passed_over() -> None:
    found, problems = predicted(
        {}, {"model": "dense 2-node"}, {"model": "dense LoRA 4 nodes"}, {"model": "dens 2-node"}
    )
    assert problems[:3] == ["", "", ""]
    assert found["step_s"][0] == found["step_s"][1] == found["step_s"][2]
    assert "unknown model 'dens" in problems[3]


def test_automodel_spreads_experts_over_all_ranks_unless_told() -> None:
    base = {"model": "experts", "framework": "automodel", "tp": 1, "pp": 1, "global_batch": 64}
    found, _ = predicted(base, base | {"ep": 64}, base | {"ep": 1})
    assert found["step_s"][0] == found["step_s"][1] != found["step_s"][2]


def test_a_table_may_mix_everything() -> None:
    rows = [
        {"chip": chip, "framework": framework, "precision": precision, "model": model, "tp": tp}
        for chip in ("h100-sxm", "gb200", "a100-80gb-sxm", "tpu-v5p")
        for framework in ("megatron-bridge", "torchtitan", "llm-foundry")
        for precision in ("bf16", "fp8")
        for model in ("dense", "experts")
        for tp in (1, 4)
    ]
    found, problems = predicted(*rows)
    assert problems == [""] * len(rows)
    one_by_one = [predicted(row)[0]["step_s"][0] for row in rows[::7]]
    assert found["step_s"][::7] == pytest.approx(one_by_one)


def test_an_empty_table_is_no_error() -> None:
    cases, problems = intake("training", from_mapping({"model": [], "chip": []}, columns=wanted("training")))
    found = predict_training(cases, problems, CATALOGUE)
    assert all(len(value) == 0 for value in found.values())


def test_offload_to_cxl_memory_is_bound_by_the_slower_of_its_link_and_the_host() -> None:
    case = {"model": "meta-llama/Llama-3.1-8B", "on": "1x dgx-h100-cxl", "seq": 4096, "global_batch": 64, "zero": 3}
    step = {o: rl.predict("training", micro_batch=1, offload=o, **case).step_s for o in ("params", "cxl", "nvme")}
    # 36 GB/s per chip feed Adam faster than the host runs it, so CXL memory is as good as the host's own here.
    assert step["params"] == step["cxl"] < step["nvme"]
    with pytest.raises(rl.RidgelineError, match="CXL memory, which is not known"):
        rl.predict("training", offload="cxl", **case | {"on": "8x h100-sxm"})


def test_a_node_of_ones_own_changes_the_links(tmp_path: Path) -> None:
    text = (Path(index.ROOT) / "nodes" / "dgx-h100.yaml").read_text()
    slow = tmp_path / "slow.yaml"
    slow.write_text(
        text.replace("bandwidth: {value: 50 GB/s, source: dgxh100", "bandwidth: {value: 5 GB/s, source: dgxh100")
    )
    case = {"model": "meta-llama/Llama-3.1-8B", "chip": "h100-sxm", "chips": 64, "seq": 4096, "global_batch": 64}
    usual, named, own = (
        rl.predict("training", node=node, zero=3, micro_batch=1, **case) for node in ("", "dgx-h100", str(slow))
    )
    assert usual.step_s == named.step_s < own.step_s
    with pytest.raises(rl.RidgelineError, match="holds"):
        rl.predict("training", node="dgx-a100", **case)
