"""Bundled models: every spelling resolves, one card is read at a time, wrong names and cards are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ridgeline.core.errors import FileFormatError, RidgelineError, SpecError, UnknownNameError
from ridgeline.core.files import parse_yaml
from ridgeline.workloads import cards, catalogue


def test_at_least_sixty_models_are_bundled_each_with_its_source() -> None:
    assert len(catalogue.models()) >= 60
    assert all(catalogue.model(name).card for name in catalogue.models())


def test_the_index_is_fresh() -> None:
    stale = "run `python -m ridgeline.workloads.cards`"
    assert cards.INDEX.read_text(encoding="utf-8") == cards.render(cards.build()), stale


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B"),
        ("META LLAMA / llama_3.1_70b_instruct", "meta-llama/Llama-3.1-70B"),
        ("LLAMA3_70B", "meta-llama/Meta-Llama-3-70B"),
        ("Llama3 70B", "meta-llama/Meta-Llama-3-70B"),
        ("llama2-70b", "meta-llama/Llama-2-70b-hf"),
        ("gptj", "EleutherAI/gpt-j-6b"),
        ("LLaMA-7B", "huggyllama/llama-7b"),
        ("llama-13B", "huggyllama/llama-13b"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "nvidia/Llama-3.1-8B-Instruct-FP8"),
        ("GPT OSS 120B", "openai/gpt-oss-120b"),
        ("Qwen3_235B_a22B", "Qwen/Qwen3-235B-A22B"),
        ("MPT-30b", "llm-foundry/mpt-30b"),
        ("GPT3-175B", "openai/gpt-3-175b"),
    ],
)
def test_spellings_of_published_tables_resolve(spelling: str, name: str) -> None:
    assert catalogue.model(spelling).name == name


def test_a_variant_changes_the_formats_and_nothing_else() -> None:
    plain, fp8 = (catalogue.model(f"nvidia/Llama-3.1-8B-Instruct{suffix}") for suffix in ("", "-FP8"))
    assert plain.blocks == fp8.blocks
    assert (plain.precision.ffn.name, fp8.precision.ffn.name, fp8.precision.kv.name) == ("bf16", "fp8", "fp8")


# Language models of published tables whose sizes nobody states, or whose kind of layer is not modelled.
WITHOUT_CARD = {"RWKV/rwkv-raven-7b", "Deci/DeciLM-7B"}


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("table", "column"), [("silicon/serving_points.csv", "model_path"), ("published/inference_llm.csv", "model")]
)
def test_language_models_of_the_measured_tables_have_cards(shared_data: Path, table: str, column: str) -> None:
    with (shared_data / table).open(encoding="utf-8", newline="") as file:
        used = {row[column] for row in csv.DictReader(file)}
    assert {name for name in used if name not in catalogue.model_names()} <= WITHOUT_CARD


def test_finding_a_model_reads_its_card_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counting(path: Path) -> object:
        read.append(path)
        return original(path)

    original = cards.load_yaml
    monkeypatch.setattr(cards, "load_yaml", counting)
    catalogue._card.cache_clear()
    first = catalogue.model("Qwen3-8B")
    assert [path.stem for path in read] == ["qwen3-8b"]
    assert catalogue.model("qwen3 8b") is first
    assert len(read) == 1


@pytest.mark.parametrize(("wrong", "near"), [("llama-3.1-71B", "Llama-3.1-70B"), ("Qwen3-33B", "Qwen3-32B")])
def test_an_unknown_model_names_the_nearest_and_is_never_a_default(wrong: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        catalogue.model(wrong)
    assert near in caught.value.fix
    assert "catalogue models" in caught.value.fix


def test_a_path_is_a_model_too_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "vocab_size": 100,
    }  # fmt: skip
    path.write_text(json.dumps(config))
    first = catalogue.model(path)
    assert first.layers == 2
    assert catalogue.model(tmp_path) == first
    path.write_text(json.dumps(config | {"num_hidden_layers": 12}))
    assert catalogue.model(path).layers == 12
    with pytest.raises(FileFormatError):
        catalogue.model(str(tmp_path / "absent.json"))


CARD = """
name: a/b
aliases: [b]
source: nowhere
parameters: {total: 1.0B, source: nowhere}
config: {model_type: llama, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 128,
  vocab_size: 100}
variants:
  - name: a/b-fp8
    aliases: []
    source: nowhere
    config: {num_hidden_layers: 3}
    precision: {ffn: fp8, kv: fp8}
"""


def test_a_variant_may_change_fields_and_formats() -> None:
    plain, variant = (cards.read(parse_yaml(CARD, "b.yaml"), name).model for name in ("a/b", "a/b-fp8"))
    assert (plain.layers, variant.layers) == (2, 3)
    assert variant.precision.ffn.name == "fp8" != plain.precision.ffn.name


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("1.0B", "1e9", "total"),
        ("1.0B", "big", "total"),
        ("source: nowhere}", "sauce: nowhere}", "sauce"),
        ("aliases: [b]", "alias: [b]", "alias"),
        ("ffn: fp8", "ffn: fp7", "fp7"),
        ("ffn: fp8", "fnn: fp8", "fnn"),
        ("hidden_size: 64", "hidden_size: -64", "hidden_size"),
        ("num_hidden_layers: 3", "num_hidden_layers: none", "num_hidden_layers"),
        ("variants:", "variant:", "variant"),
    ],
)
def test_a_broken_card_is_named_with_its_line(before: str, after: str, names: str) -> None:
    assert before in CARD
    document = parse_yaml(CARD.replace(before, after), "b.yaml")
    with pytest.raises(RidgelineError) as caught:
        cards.read(document, "a/b")
        cards.read(document, "a/b-fp8")
    assert names in caught.value.line()
    assert caught.value.at.startswith("b.yaml:")


def test_a_name_that_a_card_lacks_is_said_so() -> None:
    with pytest.raises(SpecError, match="a/c"):
        cards.read(parse_yaml(CARD, "b.yaml"), "a/c")


def test_the_owner_may_be_left_out_where_nobody_else_has_that_name() -> None:
    assert catalogue.model_names().resolve("Llama-3.1-405B-Instruct") == catalogue.model_names().resolve(
        "meta-llama/Llama-3.1-405B-Instruct"
    )
    assert catalogue.model_names().resolve("qwen3-235b-a22b") == catalogue.model_names().resolve("Qwen/Qwen3-235B-A22B")
