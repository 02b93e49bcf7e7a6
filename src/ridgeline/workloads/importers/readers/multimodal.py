"""Models that wrap a language model and towers: `text_config` beside `vision_config`, at any depth."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.core.errors import RidgelineError, UnknownNameError, did_you_mean
from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.readers import classic, deepseek, dense, encoders, gemma, hybrid, mixtures
from ridgeline.workloads.importers.readers.common import Reader
from ridgeline.workloads.model import Model

_TEXT: dict[str, Reader] = {
    **dense.READERS,
    **mixtures.READERS,
    **deepseek.READERS,
    **gemma.READERS,
    **classic.READERS,
    **hybrid.READERS,
}

# Wrappers whose text part names no model type of its own, or one that only they use.
_WRAPPERS = {
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_omni_moe": "qwen3_moe",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "llama4": "llama4_text",
    "mllama": "mllama_text_model",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "mistral3": "mistral",
    "llava": "llama",
    "llava_next": "llama",
    "pixtral": "mistral",
    "kimi_vl": "deepseek_v3",
    "kimi_k25": "deepseek_v3",
    "internvl_chat": "qwen2",
    "internvl": "qwen2",
    "phi3_v": "phi3",
    "glm4v_moe": "glm4_moe",
    "nemotron_nano_vl_v2": "nemotron_h",
}

_TEXT_TYPES = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_omni_moe_text": "qwen3_moe",
    "glm4v_moe_text": "glm4_moe",
}


def read(config: Config) -> Model:
    """The language model, with its towers. A tower that cannot be read is left out, and the model's notes say so."""
    if config.has("thinker_config"):
        inner = read(config.sub("thinker_config"))
        return replace(inner, notes=(*inner.notes, "the speech generator (talker) is not modelled"))
    keys = ("text_config", "llm_config", "language_config")
    text = next((config.sub(key) for key in keys if config.has(key)), config)
    model = _reader(text, config)(text)
    towers: list[Model] = []
    notes = list(model.notes)
    extra = 0.0
    for key in ("vision_config", "audio_config"):
        if not config.has(key) or not config.sub(key).data:
            continue
        try:
            tower = encoders.vision_transformer(config.sub(key))
        except RidgelineError as error:
            notes.append(f"{key} is not modelled: {error.what}")
            continue
        towers.append(replace(tower, name=key.removesuffix("_config")))
        extra += _merger(config.sub(key), tower, model)
    total = model.extra_parameters + extra
    return replace(model, towers=tuple(towers), notes=tuple(notes), extra_parameters=total)


def _reader(text: Config, outer: Config) -> Reader:
    """The reader of the text part, by its own type or else by the wrapper's."""
    own = text.text("model_type", default="")
    wrapper = outer.text("model_type", default="")
    for name in (_TEXT_TYPES.get(own, own), _WRAPPERS.get(wrapper, "")):
        if name in _TEXT:
            return _TEXT[name]
    raise UnknownNameError(
        f"unknown text model {own!r}", at=text.at("model_type"), fix=did_you_mean(own, [*_TEXT, *_TEXT_TYPES])
    )


def _merger(vision: Config, tower: Model, model: Model) -> float:
    """Parameters of the projector between a tower and the language model: two matrices over merged patches."""
    merge = vision.size("spatial_merge_size", default=1.0)
    wide = float(tower.hidden) * merge * merge
    out = vision.size("out_hidden_size", default=float(model.hidden))
    count = 1.0 + len(vision.amounts("deepstack_visual_indexes"))
    return count * (wide * wide + wide * out)


READERS: dict[str, Reader] = dict.fromkeys(_WRAPPERS, read)
