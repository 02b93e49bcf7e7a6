"""Models given as plain numbers, as the tables of training papers print them: GPT- and Llama-shaped stacks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ridgeline.workloads.model import Block, FeedForward, GroupedQuery, MixtureOfExperts, Model
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

COLUMNS = (
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "ffn_hidden",
    "vocab",
    "experts",
    "topk",
    "expert_hidden",
    "shared_experts",
)
"""Columns of a case table that describe a model; the first three are needed."""

GPT2_VOCAB = 51200.0
"""The GPT-2 vocabulary of 50257 padded to a multiple of 1024, as Megatron-LM pads it for 8 tensor-parallel ranks
(arXiv 1909.08053, section 5.1)."""


def kinds(numbers: Mapping[str, Column]) -> NDArray[np.int32]:
    """-1: too few numbers; 0: GPT-shaped (two matrices of 4 x hidden); 1: gated dense; 2: mixture of experts."""
    complete = np.isfinite(numbers["layers"]) & np.isfinite(numbers["hidden"]) & np.isfinite(numbers["heads"])
    mixture = numbers["experts"] > 1
    inner = numbers["ffn_hidden"]
    gated = np.isfinite(inner) & (inner != 4.0 * numbers["hidden"])
    kind = np.where(mixture, 2, np.where(gated, 1, 0))
    return np.where(complete, kind, -1).astype(np.int32)


def model_of(numbers: Mapping[str, Column], kind: int, seq: Dim) -> Model:
    """One model whose sizes are the columns, all rows of the same kind.

    GPT-shaped models tie the head to the embedding and learn positions up to `seq`; the others do neither.
    """
    hidden, heads = numbers["hidden"], numbers["heads"]
    inner = _or(numbers["ffn_hidden"], 4.0 * hidden)
    width = hidden / heads
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=_or(numbers["kv_heads"], heads),
        head_dim=width,
        v_head_dim=width,
        qkv_bias=kind == 0,
        out_bias=kind == 0,
        rope=kind != 0,
    )
    ffn: FeedForward | MixtureOfExperts = FeedForward(inter=inner, gated=kind == 1, bias=kind == 0)
    if kind == 2:
        expert = _or(numbers["expert_hidden"], inner)
        ffn = MixtureOfExperts(
            experts=numbers["experts"],
            topk=_or(numbers["topk"], 1.0),
            inter=expert,
            shared_inter=_or(numbers["shared_experts"], 0.0) * expert,
        )
    return Model(
        name="numbers",
        family="megatron",
        hidden=hidden,
        vocab=_or(numbers["vocab"], GPT2_VOCAB),
        blocks=(Block(name="layer", count=numbers["layers"], mixer=mixer, ffn=ffn, norm_bias=kind == 0),),
        context=seq,
        tied=kind == 0,
        positions=seq if kind == 0 else 0.0,
    )


def _or(value: Column, other: Dim) -> Column:
    return np.where(np.isfinite(value), value, other)
