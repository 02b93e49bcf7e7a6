"""Number formats of a published checkpoint, from its `quantization_config` or a `hf_quant_config.json` beside it.

Publishers name modules, we name parts (attention, ffn, experts, shared experts, head). A part is quantised unless the
modules that the file exempts cover it in at least half of the layers: a few exempt first or last layers do not make a
format.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

from ridgeline.core.dtypes import DTYPES, SCHEMES, Scheme
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.model import Precision

PARTS = ("attention", "ffn", "experts", "shared_experts", "head")

_ALGORITHMS = {
    "fp8": "fp8",
    "fp8perchannelpertoken": "fp8",
    "fp8pbwo": "fp8_block",
    "fp8blockscales": "fp8_block",
    "nvfp4": "nvfp4",
    "nvfp4awq": "nvfp4",
    "w4a16nvfp4": "nvfp4_wo",
    "w4a8nvfp4fp8": "w4a8_nvfp4",
    "w4a8mxfp4fp8": "w4a8_mxfp4",
    "mxfp4": "w4a16_mxfp4",
    "mxfp8": "mxfp8",
    "w4a8awq": "w4afp8",
    "w4a16awq": "int4_wo",
    "int4awq": "int4_wo",
    "w4a16gptq": "int4_wo",
    "w8a16": "int8_wo",
    "w8a16gptq": "int8_wo",
    "w8a8sqperchannel": "int8",
    "int8": "int8",
}
"""Algorithm names of NVIDIA Model Optimizer and TensorRT-LLM, folded -> our scheme."""

_METHODS = (
    "fp8", "fbgemm_fp8", "modelopt", "modelopt_fp4", "compressed-tensors", "awq", "gptq", "gptq_marlin", "mxfp4",
    "bitsandbytes"
)  # fmt: skip


def precision(config: Config) -> Precision:
    """Formats of the checkpoint. Raises UnknownNameError: a method unknown to us; SpecError: a malformed section."""
    base = _base(config)
    if not (holder := config.holder("quantization_config")).has("quantization_config"):
        return base
    return _quantised(base, holder.sub("quantization_config"), config)


def precision_beside(base: Precision, config: Config) -> Precision:
    """Formats from a `hf_quant_config.json`, which Model Optimizer writes beside `config.json`."""
    return _quantised(base, config.sub("quantization"), config)


def _base(config: Config) -> Precision:
    holder = config.holder("torch_dtype") if config.holder("torch_dtype").has("torch_dtype") else config.holder("dtype")
    name = holder.text("torch_dtype", "dtype", default="bfloat16").removeprefix("torch.")
    # Checkpoints kept in 32 bits are served in 16; runtimes that do otherwise are told so in the plan.
    scheme = SCHEMES["fp16" if name == "float16" else "bf16"]
    return Precision(attention=scheme, ffn=scheme, experts=scheme, head=scheme, kv=scheme.weight, score=scheme.weight)


def _quantised(base: Precision, section: Config, config: Config) -> Precision:
    default = _default_scheme(section, config)
    # Where single layers are named beside a format of the whole, what is listed as exempt is so from the former only.
    exempt = set() if default and section.has("quantized_layers") else _exempt(section, config)
    chosen: dict[str, Scheme] = {} if default is None else {part: default for part in PARTS if part not in exempt}
    # A head is left alone unless it is named: every publisher does so, not all of them list it.
    chosen.pop("head", None)
    chosen |= _named_layers(section)
    if section.has("moe_quant_algo"):
        chosen["experts"] = _algorithm(section.text("moe_quant_algo"), section, "moe_quant_algo")
    elif config.has("expert_dtype") and config.text("expert_dtype") == "fp4":
        chosen["experts"] = SCHEMES["w4a8_mxfp4"]
    if section.holder("quant_method").text("quant_method", default="") == "mxfp4":
        chosen = {"experts": SCHEMES["w4a16_mxfp4"]}
    ffn = chosen.get("ffn", base.ffn)
    shared = chosen.pop("shared_experts", base.ffn)
    result = replace(
        base,
        attention=chosen.get("attention", base.attention),
        ffn=ffn,
        experts=chosen.get("experts", base.experts),
        head=chosen.get("head", base.head),
        shared_experts=None if shared == ffn else shared,
    )
    return replace(result, kv=DTYPES["fp8"]) if _kv_is_fp8(section) else result


def _default_scheme(section: Config, config: Config) -> Scheme | None:
    """The scheme of whatever is not exempt, None when the file names its layers one by one."""
    method = section.text("quant_method", default="modelopt").casefold()
    if method not in _METHODS:
        raise UnknownNameError(
            f"unknown quantisation method {method!r}",
            at=section.at("quant_method"),
            fix=did_you_mean(method, _METHODS, listing=f"known are {', '.join(_METHODS)}"),
        )
    if section.has("weight_block_size"):
        return SCHEMES["fp8_block"]
    if method in ("awq", "gptq", "gptq_marlin"):
        return SCHEMES["int8_wo" if section.size("bits", "w_bit", default=4.0) == 8 else "int4_wo"]
    if method == "bitsandbytes":
        return SCHEMES["int4_wo" if section.flag("load_in_4bit") else "int8_wo"]
    if method == "fbgemm_fp8":
        return SCHEMES["fp8"]
    if section.has("quant_algo"):
        algorithm = section.text("quant_algo")
        return None if algorithm == "MIXED_PRECISION" else _algorithm(algorithm, section, "quant_algo")
    if section.has("config_groups"):
        groups = section.sub("config_groups")
        schemes = [_group_scheme(groups.sub(name)) for name in groups.data]
        return schemes[0] if schemes else None
    return SCHEMES["fp8"]


def _algorithm(name: str, section: Config, key: str) -> Scheme:
    folded = re.sub(r"[^a-z0-9]", "", name.casefold())
    if folded not in _ALGORITHMS:
        raise UnknownNameError(
            f"unknown quantisation algorithm {name!r}", at=section.at(key), fix=did_you_mean(folded, _ALGORITHMS)
        )
    return SCHEMES[_ALGORITHMS[folded]]


def _group_scheme(group: Config) -> Scheme:
    """The scheme of a `config_groups` entry: bits, kind and group size of weights and of activations."""
    weights = group.sub("weights")
    bits, kind = weights.size("num_bits"), weights.text("type", default="int")
    acts = group.sub("input_activations").size("num_bits") if group.has("input_activations") else 16.0
    act_kind = group.sub("input_activations").text("type", default="int") if group.has("input_activations") else "float"
    scale = weights.amount("group_size", default=0.0)
    blocked = weights.text("strategy", default="") == "block"
    if kind == "float" and bits == 8:
        return SCHEMES["fp8_wo" if acts == 16 else "fp8_block" if blocked else "fp8"]
    if kind == "float" and bits == 4:
        family = "mxfp4" if scale == 32 else "nvfp4"
        wide = {"mxfp4": "w4a16_mxfp4", "nvfp4": "nvfp4_wo"}[family]
        return SCHEMES[wide if acts == 16 else f"w4a8_{family}" if acts == 8 else family]
    if kind == "int" and bits == 8:
        return SCHEMES["int8" if acts == 8 else "int8_wo"]
    if kind == "int" and bits == 4:
        return SCHEMES["int4_wo" if acts == 16 else "w4afp8" if act_kind == "float" else "w4a8"]
    raise weights.error(f"{bits:.0f}-bit {kind} weights are not modelled", "num_bits", fix="4 and 8 bits are")


def _named_layers(section: Config) -> dict[str, Scheme]:
    """Schemes of parts whose modules are named one by one; the commonest scheme of a part is taken."""
    votes: dict[str, Counter[Scheme]] = {}
    if section.has("quantized_layers"):
        layers = section.sub("quantized_layers")
        for module in layers.data:
            part = part_of(module)
            if part is not None:
                algorithm = layers.sub(module).text("quant_algo")
                votes.setdefault(part, Counter())[_algorithm(algorithm, layers.sub(module), "quant_algo")] += 1
    elif section.has("config_groups"):
        groups = section.sub("config_groups")
        for name in groups.data:
            targets = groups.sub(name).texts("targets")
            for part in filter(None, map(part_of, targets)):
                votes.setdefault(part, Counter())[_group_scheme(groups.sub(name))] += 1
    return {part: counter.most_common(1)[0][0] for part, counter in votes.items()}


def _exempt(section: Config, config: Config) -> set[str]:
    """Parts that the file's exempt modules cover in half of the layers that have them, or without naming a layer."""
    modules: list[str] = []
    for key in ("ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers", "modules_to_not_quantize"):
        modules += section.texts(key)
    layers: dict[str, set[str]] = {part: set() for part in PARTS}
    everywhere: set[str] = set()
    for module in modules:
        index = re.search(r"(?:layers|h|blocks)\.(\d+)", module)
        whole = index is not None and not module[index.end() :].strip(".*")
        for part in PARTS if whole else (part_of(module),):
            if part is not None and index is None:
                everywhere.add(part)
            elif part is not None and index is not None:
                layers[part].add(index[1])
    count = config.amount("num_hidden_layers", "n_layer", default=2.0)
    # Layers before the first with experts are the only ones that have an ordinary feed-forward.
    having = {"ffn": max(config.amount("first_k_dense_replace", default=count), 1.0)}
    return everywhere | {part for part, found in layers.items() if 2.0 * len(found) >= having.get(part, count)}


def part_of(module: str) -> str | None:
    """The part of a model that a module name (or a pattern of names) belongs to; None for routers, norms, towers,
    drafts.
    """
    name = module.casefold().removeprefix("re:").replace("\\.", ".")
    if any(
        word in name
        for word in ("mtp", "visual", "vision", "embed", "norm", "conv1d", "eh_proj", "projector", "indexer")
    ):
        return None
    if "lm_head" in name or name.strip("*.^$") == "head":
        return "head"
    if "shared_expert" in name:
        return None if "shared_expert_gate" in name else "shared_experts"
    if "router" in name or re.search(r"(^|\.)gate(\.|\W*$)", name):
        return None
    if "experts" in name:
        return "experts"
    if "attn" in name or "attention" in name or re.search(r"mixer\.(in|out|q|k|v|o)_proj", name):
        return "attention"
    if re.search(r"(q|k|v|o|qkv|in|out)_proj\W*$", name):
        return "attention"
    if any(word in name for word in ("mlp", "ffn", "feed_forward", "up_proj", "down_proj", "gate_proj")):
        return "ffn"
    return None


def _kv_is_fp8(section: Config) -> bool:
    for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
        value: Any = section.data.get(key)
        if isinstance(value, dict) and value.get("num_bits") == 8:
            return True
        if isinstance(value, str) and "fp8" in value.casefold():
            return True
    return False
