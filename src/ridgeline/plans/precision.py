"""Quantisation as a rewrite of formats: the same network with other weights, activations and cache."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.core.dtypes import DTYPE_NAMES, DTYPES, GGUF, DType, Scheme, dtype, scheme, scheme_of
from ridgeline.core.errors import UnknownNameError
from ridgeline.core.names import fold
from ridgeline.workloads.model import Model

COARSE = ("fp8", "int8", "int4")
"""Formats that people name without saying how weights are scaled."""


def requantise(model: Model, *, weights: str = "", activations: str = "", kv: str = "", moe_weights: str = "") -> Model:
    """The model with the named formats; "" keeps what is published.

    `weights` may be a storage format (fp8, nvfp4: activations follow where engines multiply that format natively, else
    stay 16-bit; where the model is published so, with whatever scales, it stays as it is) or a whole scheme of the case
    tables (int4_wo, fp8_block, w4a8_mxfp4). The head stays as published: runtimes keep it in 16 bits, but for GGUF
    files. `auto` is as published.
    """
    weights, activations, moe_weights = ("" if name == "auto" else name for name in (weights, activations, moe_weights))
    old = model.precision
    if weights and not activations and _published(weights, old.experts, old.ffn):
        weights = ""
    linear = _scheme(weights, activations, old.ffn)
    attention = _scheme(weights, activations, old.attention)
    as_is = moe_weights and not activations and _published(moe_weights, old.experts)
    experts = old.experts if as_is else _scheme(moe_weights or weights, activations, old.experts)
    cache = old.kv if kv in ("", "auto") else dtype(kv, at="kv")
    score = _score(old.score, cache)
    head = linear if linear.weight.name in GGUF else old.head
    changed = replace(old, head=head, attention=attention, ffn=linear, experts=experts, kv=cache, score=score)
    if (weights or activations) and old.shared_experts is not None:
        changed = replace(changed, shared_experts=_scheme(weights, activations, old.shared_experts))
    return replace(model, precision=changed)


def _published(weights: str, *schemes: Scheme) -> bool:
    """Whether a storage format is that of published weights: by its name, or by one that leaves its scales open."""
    if weights not in DTYPE_NAMES:
        return False
    asked = DTYPE_NAMES.resolve(weights)
    coarse = asked == fold(weights) and asked in COARSE
    return any(
        one.weight.bits < DTYPES["bf16"].bits
        and (one.weight.name == asked or (coarse and one.weight.compute == DTYPES[asked].compute))
        for one in schemes
    )


def _scheme(weights: str, activations: str, published: Scheme) -> Scheme:
    if not weights and not activations:
        return published
    if weights and not activations:
        try:
            return scheme(weights, at="weights")
        except UnknownNameError:
            stored = dtype(weights, at="weights")
            wide = stored.bits >= DTYPES["bf16"].bits
            return scheme_of(stored, stored if wide else DTYPES["bf16"])
    stored = dtype(weights, at="weights") if weights else published.weight
    return scheme_of(stored, _entering(dtype(activations, at="activations"), stored))


def _entering(activation: DType, stored: DType) -> DType:
    """fp8 activations that meet block-scaled weights keep their own fp8; otherwise what was asked for."""
    return DTYPES["fp8"] if activation.compute == "fp8" and stored.name in ("fp8", "fp8_block") else activation


def _score(published: DType, cache: DType) -> DType:
    """Scores are computed in 16 bits unless the model says otherwise; an 8-bit cache alone does not change that."""
    return published if published.bits >= cache.bits else DTYPES["bf16"]
