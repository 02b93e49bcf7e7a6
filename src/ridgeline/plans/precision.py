"""Quantisation as a rewrite of formats: the same network with other weights, activations and cache."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.core.dtypes import DTYPES, DType, Scheme, dtype, scheme, scheme_of
from ridgeline.core.errors import UnknownNameError
from ridgeline.workloads.model import Model


def requantise(model: Model, *, weights: str = "", activations: str = "", kv: str = "", moe_weights: str = "") -> Model:
    """The model with the named formats; "" keeps what is published.

    `weights` may be a storage format (fp8, nvfp4: activations follow where engines multiply that format natively, else
    stay 16-bit) or a whole scheme of the case tables (int4_wo, fp8_block, w4a8_mxfp4). The head stays as published:
    runtimes keep it in 16 bits. `kv` auto follows the published cache format.
    """
    old = model.precision
    linear = _scheme(weights, activations, old.ffn)
    attention = _scheme(weights, activations, old.attention)
    experts = _scheme(moe_weights or weights, activations, old.experts)
    cache = old.kv if kv in ("", "auto") else dtype(kv, at="kv")
    score = _score(old.score, cache)
    changed = replace(old, attention=attention, ffn=linear, experts=experts, kv=cache, score=score)
    if (weights or activations) and old.shared_experts is not None:
        changed = replace(changed, shared_experts=_scheme(weights, activations, old.shared_experts))
    return replace(model, precision=changed)


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
