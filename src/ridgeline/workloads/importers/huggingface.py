"""Models from Hugging Face `config.json` files. Nothing in a file is ever executed: `auto_map` is ignored and noted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgeline.core.errors import FileFormatError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import Document, load_json
from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.quantization import precision_beside
from ridgeline.workloads.importers.readers import READERS, Reader
from ridgeline.workloads.model import Model

_ARCHITECTURES = {
    "DeepseekV4ForCausalLM": "deepseek_v4",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "DeepseekV32ForCausalLM": "deepseek_v32",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "GPT2LMHeadModel": "gpt2",
    "GPTNeoXForCausalLM": "gpt_neox",
    "BertForMaskedLM": "bert",
    "T5ForConditionalGeneration": "t5",
    "NemotronHForCausalLM": "nemotron_h",
    "DeciLMForCausalLM": "deci",
}
"""What an `architectures` entry says when `model_type` is absent or a private name."""


def from_config(source: str | os.PathLike[str] | Document | Mapping[str, Any], *, name: str = "") -> Model:
    """A model from a `config.json`, a directory that holds one, a loaded document or a mapping of its fields.

    Raises:
        FileFormatError: the file is absent or malformed.
        UnknownNameError: an architecture or quantisation method that we do not know; the fix names the nearest.
        SpecError: a field is missing or cannot be; it says which, and where.
    """
    if isinstance(source, (str, os.PathLike)):
        path = _config_file(Path(source))
        model = read_config(Config(load_json(path, infinite_ok=True)))
        beside = path.with_name("hf_quant_config.json")
        if beside.is_file():
            section = Config(load_json(beside, infinite_ok=True))
            model = replace(model, precision=precision_beside(model.precision, section))
        return replace(model, name=name or _name_of(path), card=model.card or str(path))
    return replace(read_config(Config.of(source)), name=name or "config")


def read_config(config: Config) -> Model:
    """A model from a configuration at hand, without a name."""
    model = reader(config)(config)
    if config.has("auto_map"):
        model = replace(model, notes=(*model.notes, "auto_map names code of the publisher; it is not executed"))
    return model


def reader(config: Config) -> Reader:
    """The reader of a configuration, by `model_type`, else by `architectures`."""
    kind = config.text("model_type", default="").casefold()
    if kind in READERS:
        return READERS[kind]
    named = [_ARCHITECTURES[a] for a in config.texts("architectures") if a in _ARCHITECTURES]
    if named:
        return READERS[named[0]]
    if not kind and not config.has("architectures"):
        raise SpecError("model_type is missing", at=config.at(), fix="is it a Hugging Face model configuration?")
    what = kind or config.texts("architectures")[0]
    raise UnknownNameError(
        f"unknown architecture {what!r}",
        at=config.at("model_type" if kind else "architectures"),
        fix=did_you_mean(what, READERS, listing="a new family is one file in workloads/importers/readers"),
    )


def _config_file(path: Path) -> Path:
    if path.is_dir():
        inside = path / "config.json"
        if not inside.is_file():
            raise FileFormatError("no config.json in this folder", at=str(path), fix="give the folder of a checkpoint")
        return inside
    return path


def _name_of(path: Path) -> str:
    """`OWNER--MODEL_config.json` and `MODEL/config.json` name their model."""
    if path.name == "config.json":
        return path.resolve().parent.name
    return path.stem.removesuffix("_config").replace("--", "/")
