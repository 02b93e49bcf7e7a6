"""Number formats between a case and an engine's words: published, made while loading, or neither."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline.core.dtypes import DTYPE_NAMES, dtype
from ridgeline.plans import requantise
from ridgeline.serving.launch.deployment import Launch, Note, Pool
from ridgeline.serving.launch.flags import EngineFlags
from ridgeline.workloads.model import Model

WIDE_BITS = 16
"""Weights of at least so many bits are not quantised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """An engine's words for the formats of a pool; "" leaves each to the checkpoint."""

    quantization: str
    dtype: str
    cache: str
    notes: tuple[Note, ...]


def formats_of(launch: Launch, pool: Pool, engine: EngineFlags) -> Formats:
    """The words for weights and cache, and notes on what the engine cannot make of the published checkpoint."""
    model, notes = launch.published, []
    quantization = wide = ""
    if pool.weights and _changes(model, weights=pool.weights):
        is_wide = published_wide(model)
        if is_wide and pool.weights in engine.quantise:
            quantization = engine.quantise[pool.weights]
        elif is_wide and pool.weights in engine.wide:
            wide = engine.wide[pool.weights]
        else:
            text = f"{engine.title} {engine.version} does not make {pool.weights} of this checkpoint while loading"
            notes.append(Note(column="weights", text=f"{text}: serve one that is published in it"))
    if pool.moe_weights and pool.moe_weights != pool.weights and _changes(model, moe_weights=pool.moe_weights):
        text = f"no flag gives experts a format of their own ({pool.moe_weights}): serve a checkpoint that has it"
        notes.append(Note(column="moe_weights", text=text))
    if pool.activations and _changes(model, weights=pool.weights) != _changes(
        model, weights=pool.weights, activations=pool.activations
    ):
        text = f"no flag sets them ({pool.activations}): the engine enters matmuls as the weights ask"
        notes.append(Note(column="activations", text=text))
    cache = _cache(launch, pool, engine, notes)
    return Formats(quantization=quantization, dtype=wide, cache=cache, notes=tuple(notes))


def _cache(launch: Launch, pool: Pool, engine: EngineFlags, notes: list[Note]) -> str:
    if not pool.kv or pool.kv == "auto":
        return ""
    name = DTYPE_NAMES.resolve(pool.kv, at="kv")
    if name in engine.cache:
        return engine.cache[name]
    plain = published_wide(launch.published) and pool.weights in ("", *engine.wide)
    if not (plain and launch.published.precision.kv == dtype(name)):
        notes.append(Note(column="kv", text=f"{engine.title} {engine.version} has no word for a cache in {name}"))
    return ""


def published_wide(model: Model) -> bool:
    """Whether the published weights are not quantised."""
    precision = model.precision
    return min(precision.ffn.weight.bits, precision.attention.weight.bits, precision.experts.weight.bits) >= WIDE_BITS


def _changes(model: Model, **formats: str) -> object:
    """The precision that the formats give, or None if they change nothing."""
    changed = requantise(model, **formats).precision
    return None if changed == model.precision else changed


def read_formats(
    engine: EngineFlags, model: Model | None, quantization: str, wide: str, cache: str
) -> tuple[dict[str, str], list[Note]]:
    """Columns from an engine's words, given the published model if the catalogue has it."""
    columns: dict[str, str] = {}
    notes: list[Note] = []
    is_wide = model is None or published_wide(model)
    if quantization:
        made = engine.quantised.get(quantization)
        if made is None:
            text = f"{quantization!r} is no quantisation that is known here; weights are taken as published"
            notes.append(Note(column="weights", text=text))
        elif made and is_wide:
            columns["weights"] = made
    elif wide not in ("", "auto") and is_wide:
        names = {word: name for name, word in engine.wide.items()}
        columns["weights"] = names.get(wide, {"half": "fp16", "float": "fp32"}.get(wide, ""))
    if cache not in ("", "auto"):
        if cache in engine.cached:
            columns["kv"] = engine.cached[cache]
        else:
            text = f"{cache!r} is no format of a cache that is known here; it is taken as published"
            notes.append(Note(column="kv", text=text))
    return columns, notes
