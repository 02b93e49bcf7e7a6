"""Real configurations import with the right counts and formats; every wrong field is one error that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import FileFormatError, RidgelineError, SpecError, UnknownNameError
from ridgeline.core.files import parse_json
from ridgeline.workloads import Model, forward, parameters
from ridgeline.workloads.cards import count, rounding
from ridgeline.workloads.catalogue import model, model_names, published
from ridgeline.workloads.importers import from_config
from ridgeline.workloads.importers.quantization import part_of
from ridgeline.workloads.importers.readers import READERS
from ridgeline.workloads.model import Batch, GroupedQuery, Latent, MixtureOfExperts
from ridgeline.workloads.verify import verify

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


def _configs(shared_data: Path) -> list[Path]:
    found = sorted((shared_data / "hf_configs").glob("*_config.json"))
    if not found:
        pytest.skip("no configurations under hf_configs")
    return found


@pytest.mark.shared_data
def test_every_published_configuration_imports_with_its_card_s_count(shared_data: Path) -> None:
    for path in _configs(shared_data):
        imported = from_config(path)
        verify(forward(imported, Batch(prefill_seqs=1.0, prefill_tokens=8.0), drafts=True))
        assert imported.name in model_names(), "the bundled cards cover these files"
        stated = published(imported.name).total
        assert parameters(imported).total == pytest.approx(count(stated), rel=max(0.01, rounding(stated))), path.name


@pytest.mark.shared_data
def test_formats_in_published_configurations_are_those_of_the_cards(shared_data: Path) -> None:
    stating = [path for path in _configs(shared_data) if "quantization_config" in path.read_text(encoding="utf-8")]
    assert len(stating) > 20
    for path in stating:
        imported = from_config(path)
        bundled = model(imported.name)
        held = [part for part in ("attention", "head", "kv") if not hasattr(bundled, part)]
        if any(not isinstance(block.ffn, MixtureOfExperts) for block in bundled.blocks):
            held.append("ffn")
        if any(isinstance(block.ffn, MixtureOfExperts) for block in bundled.blocks):
            held.append("experts")
        for part in held:
            ours, theirs = getattr(bundled.precision, part), getattr(imported.precision, part)
            assert ours == theirs, f"{path.name} {part}: card {ours.name}, file {theirs.name}"


def test_a_path_a_folder_a_mapping_and_a_document_are_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    by_folder, by_path = from_config(folder), from_config(folder / "config.json")
    by_mapping, by_document = from_config(LLAMA), from_config(parse_json(json.dumps(LLAMA)))
    assert by_folder.name == by_path.name == "my-llama"
    assert by_folder.blocks == by_path.blocks == by_mapping.blocks == by_document.blocks
    assert parameters(by_mapping).total == 8_030_261_248


def test_code_named_in_a_file_is_not_run_and_is_noted(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    (tmp_path / "modeling.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config = LLAMA | {"auto_map": {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    imported = from_config(tmp_path)
    assert not canary.exists()
    assert any("auto_map" in note for note in imported.notes)
    assert not from_config(LLAMA).notes


def test_a_neighbouring_hf_quant_config_gives_the_formats(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    quant = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quant))
    precision = from_config(tmp_path).precision
    assert (precision.attention.name, precision.ffn.name, precision.head.name) == ("fp8", "fp8", "bf16")
    assert precision.kv.name == "fp8"


BITS = {"num_bits": 8, "type": "float"}
QUANTISED = {
    "fp8 blocks": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", "fp8_block"),
    "fp8 tensors": ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", "fp8"),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4_wo", "int4_wo"),
    "gptq 8 bit": ({"quant_method": "gptq", "bits": 8}, "int8_wo", "int8_wo"),
    "mxfp4 experts only": ({"quant_method": "mxfp4"}, "bf16", "w4a16_mxfp4"),
    "compressed fp8": (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": BITS, "input_activations": BITS}}},
        "fp8",
        "fp8",
    ),
    "compressed w4a16": (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}},
        "int4_wo",
        "int4_wo",
    ),
    "nvfp4 but attention": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "*self_attn*"]},
        "bf16",
        "nvfp4",
    ),
    "nvfp4 but the first layers": (
        {"quant_algo": "NVFP4", "exclude_modules": [f"model.layers.{i}.self_attn*" for i in range(3)]},
        "nvfp4",
        "nvfp4",
    ),
    "nvfp4 but attention layer by layer": (
        {"quant_algo": "NVFP4", "exclude_modules": [f"model.layers.{i}.self_attn*" for i in range(30)]},
        "bf16",
        "nvfp4",
    ),
}


@pytest.mark.parametrize(("section", "attention", "experts"), QUANTISED.values(), ids=QUANTISED.keys())
def test_quantisation_sections_say_which_parts_have_which_format(section: Any, attention: str, experts: str) -> None:
    precision = from_config(MIXTRAL | {"quantization_config": section}).precision
    assert (precision.attention.name, precision.experts.name) == (attention, experts)
    assert precision.head.name == "bf16"


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("model.layers.3.self_attn.q_proj", "attention"),
        ("model.layers.*.linear_attn*", "attention"),
        ("backbone.layers.0.mixer.in_proj", "attention"),
        ("model.layers.3.mlp.experts.7.down_proj", "experts"),
        ("re:.*mlp.shared_experts.*", "shared_experts"),
        ("model.layers.3.mlp.gate_proj", "ffn"),
        ("model.layers.3.mlp.gate", None),
        ("model.layers.3.mlp.gate.e_score_correction_bias", None),
        ("model.layers.3.block_sparse_moe.gate", None),
        ("lm_head", "head"),
        ("head", "head"),
        ("model.embed_tokens", None),
        ("model.visual*", None),
        ("mtp.layers.0*", None),
        ("model.layers.0.self_attn.kv_a_layernorm", None),
    ],
)
def test_module_names_belong_to_parts(module: str, part: str | None) -> None:
    assert part_of(module) == part


def _read(config: Any) -> Model:
    return from_config(parse_json(json.dumps(config), "config.json"))


REQUIRED = [
    key for key in LLAMA if key not in ("tie_word_embeddings", "max_position_embeddings", "num_key_value_heads")
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_field_is_named_with_its_file(key: str) -> None:
    with pytest.raises(RidgelineError) as caught:
        _read({name: value for name, value in LLAMA.items() if name != key})
    assert key in caught.value.what
    assert caught.value.at.startswith("config.json:")


def test_a_misspelt_field_is_named_with_the_right_one() -> None:
    misspelt = {("hiden_size" if key == "hidden_size" else key): value for key, value in LLAMA.items()}
    with pytest.raises(SpecError) as caught:
        _read(misspelt)
    assert "hidden_size" in caught.value.what
    assert "hiden_size" in caught.value.fix


def test_the_place_of_a_bad_value_is_its_line() -> None:
    text = json.dumps(LLAMA | {"num_attention_heads": -4}, indent=1)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "num_attention_heads" in row)
    with pytest.raises(SpecError) as caught:
        from_config(parse_json(text, "config.json"))
    assert caught.value.at.startswith(f"config.json:{line}:")
    assert "num_attention_heads" in caught.value.at


EDGE: list[Any] = [0, -1, 1.5, 1e308, 10**400, "", "4096", True, [], {}, [1]]


@pytest.mark.parametrize("value", EDGE, ids=lambda v: repr(v)[:20])
@pytest.mark.parametrize("key", [*REQUIRED[1:], "num_key_value_heads", "max_position_embeddings", "head_dim"])
def test_an_impossible_size_is_one_named_error(key: str, value: Any) -> None:
    with pytest.raises(RidgelineError) as caught:
        from_config(LLAMA | {key: value})
    assert key in caught.value.line()


def test_heads_that_do_not_divide_need_a_head_width() -> None:
    odd = LLAMA | {"hidden_size": 4000, "num_attention_heads": 7, "num_key_value_heads": 7}
    with pytest.raises(SpecError, match="head_dim"):
        from_config(odd)
    assert parameters(from_config(odd | {"head_dim": 128})).total > 0
    with pytest.raises(SpecError, match="num_key_value_heads"):
        from_config(LLAMA | {"num_key_value_heads": 5})


def test_more_experts_per_token_than_experts_are_refused() -> None:
    with pytest.raises(SpecError, match="num_experts_per_tok"):
        from_config(MIXTRAL | {"num_experts_per_tok": 9})


@pytest.mark.parametrize(
    ("kind", "near"),
    [("llama5", "llama"), ("qwen3moe", "qwen3_moe"), ("deepseek_v33", "deepseek_v3"), ("gemma9", "gemma")],
)
def test_an_unknown_architecture_names_the_nearest_family(kind: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        from_config(LLAMA | {"model_type": kind})
    assert kind in caught.value.what
    assert near in caught.value.fix


def test_an_unknown_type_of_a_known_class_is_read_as_that_class() -> None:
    renamed = LLAMA | {"model_type": "my_llama", "architectures": ["LlamaForCausalLM"]}
    assert parameters(from_config(renamed)).total == 8_030_261_248


def test_an_unknown_quantisation_is_refused_and_never_ignored() -> None:
    with pytest.raises(UnknownNameError, match="fp7"):
        from_config(LLAMA | {"quantization_config": {"quant_method": "fp7"}})
    with pytest.raises(UnknownNameError, match="NVFP5"):
        from_config(LLAMA | {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP5"}})
    with pytest.raises(SpecError, match="3-bit"):
        groups = {"g": {"weights": {"num_bits": 3, "type": "int"}}}
        from_config(LLAMA | {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}})


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"model_type": "llama", "hidden_size": NaN}', '{"a": 1, "a": 2}', "[]", "null", '"llama"', "\ufeff{}"],
)
def test_a_broken_file_is_one_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RidgelineError) as caught:
        from_config(path)
    assert "config.json" in caught.value.at


def test_an_empty_folder_and_an_absent_file_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"config\.json"):
        from_config(tmp_path)
    with pytest.raises(FileFormatError, match="no such"):
        from_config(tmp_path / "nothing.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    kind=st.sampled_from(sorted(READERS)),
    base=st.sampled_from([LLAMA, MIXTRAL]),
    changes=st.dictionaries(
        st.sampled_from([*LLAMA, "head_dim", "layer_types", "text_config", "quantization_config"]), json_values
    ),
)
def test_any_configuration_gives_a_model_or_a_named_error(
    kind: str, base: dict[str, Any], changes: dict[str, Any]
) -> None:
    try:
        imported = from_config(base | changes | {"model_type": kind})
    except RidgelineError:
        return
    assert parameters(imported).total > 0


def test_layers_may_differ_by_type_window_and_experts() -> None:
    mixed = MIXTRAL | {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 4,
        "num_experts": 8,
        "moe_intermediate_size": 512,
        "mlp_only_layers": [0],
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "sliding_window": 128,
    }
    blocks = {block.name: block for block in from_config(mixed).blocks}
    assert {name: block.count for name, block in blocks.items()} == {
        "attention_dense": 1.0,
        "window_moe": 2.0,
        "attention_moe": 1.0,
    }
    window = blocks["window_moe"].mixer
    assert isinstance(window, GroupedQuery) and window.window == 128.0
    with pytest.raises(SpecError, match="layer_types has 2 entries for 4 layers"):
        from_config(mixed | {"layer_types": ["full_attention"] * 2})


def test_queries_of_a_small_latent_model_are_not_compressed() -> None:
    lite = model("deepseek-ai/DeepSeek-V2-Lite").blocks[0].mixer
    assert isinstance(lite, Latent)
    assert lite.q_rank == 0.0


def test_a_tower_that_cannot_be_read_is_left_out_and_noted() -> None:
    wrapped = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"model_type": "odd", "hidden_size": 10}}
    imported = from_config(wrapped)
    assert imported.towers == ()
    assert any("vision_config" in note for note in imported.notes)


DEEPSEEK = LLAMA | {
    "model_type": "deepseek_v32", "q_lora_rank": 64, "kv_lora_rank": 64, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 32,
}  # fmt: skip
GEMMA4 = LLAMA | {
    "model_type": "gemma4_text", "head_dim": 64, "global_head_dim": 128, "attention_k_eq_v": True,
    "num_global_key_value_heads": 4, "sliding_window": 64, "sliding_window_pattern": 6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (MIXTRAL, "num_nextn_predict_layers", 10**8),
        (DEEPSEEK, "index_head_dim", 0),
        (DEEPSEEK, "index_topk", 0),
        (GEMMA4, "num_global_key_value_heads", 3),
    ],
)
def test_what_mutated_configurations_once_broke_is_a_named_error(config: dict[str, Any], key: str, value: int) -> None:
    verify(forward(from_config(config), Batch(decode_seqs=1.0, decode_context=9.0), drafts=True))
    with pytest.raises(SpecError) as caught:
        from_config(config | {key: value})
    assert key in caught.value.line()
