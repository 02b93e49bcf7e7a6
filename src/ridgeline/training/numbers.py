"""Models given as plain numbers in a case table: which rows have enough of them, and of which kind they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems
from ridgeline.workloads.importers.shapes import from_shape
from ridgeline.workloads.model import Model
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
"""Columns of a case table that describe a model; the first three are needed. 0 means that the case does not say."""

DENSE, GATED, MIXTURE = range(3)

GPT2_VOCAB = 51200.0
"""The GPT-2 vocabulary of 50257 padded to a multiple of 1024, as Megatron-LM pads it for 8 tensor-parallel ranks
(arXiv 1909.08053, section 5.1): what runs without a stated vocabulary used."""


def kinds(numbers: Mapping[str, Column]) -> NDArray[np.int32]:
    """DENSE (GPT-shaped), GATED (Llama-shaped) or MIXTURE for rows that describe a model, -1 for the others."""
    hidden, heads = numbers["hidden"], numbers["heads"]
    complete = (numbers["layers"] > 0) & (hidden > 0) & (heads > 0)
    gated = (_inner(numbers) != 4.0 * hidden) | (_keys(numbers) < heads)
    kind = np.where(numbers["experts"] > 0, MIXTURE, np.where(gated, GATED, DENSE))
    return np.where(complete, kind, -1).astype(np.int32)


def check(numbers: Mapping[str, Column], where: NDArray[np.bool_], problems: Problems) -> None:
    """Flag the rows of `where` whose numbers make no model."""
    heads = np.maximum(numbers["heads"], 1.0)
    problems.flag(where & (numbers["hidden"] % heads > 0), "heads must divide hidden")
    problems.flag(where & (heads % np.maximum(_keys(numbers), 1.0) > 0), "kv_heads must divide heads")
    problems.flag(where & (numbers["topk"] > numbers["experts"]), "topk must be at most experts")


def _keys(numbers: Mapping[str, Column]) -> Column:
    return np.where(numbers["kv_heads"] > 0, numbers["kv_heads"], numbers["heads"])


def _inner(numbers: Mapping[str, Column]) -> Column:
    return np.where(numbers["ffn_hidden"] > 0, numbers["ffn_hidden"], 4.0 * numbers["hidden"])


def model_of(numbers: Mapping[str, Column], kind: int, seq: Dim) -> Model:
    """One model whose sizes are the columns, all rows of the same kind."""
    mixture = kind == MIXTURE
    return from_shape(
        layers=numbers["layers"],
        hidden=numbers["hidden"],
        heads=numbers["heads"],
        kv_heads=numbers["kv_heads"],
        ffn_hidden=numbers["ffn_hidden"],
        vocab=np.where(numbers["vocab"] > 0, numbers["vocab"], GPT2_VOCAB),
        seq=seq,
        experts=numbers["experts"] if mixture else 0.0,
        topk=np.maximum(numbers["topk"], 1.0) if mixture else 0.0,
        expert_hidden=numbers["expert_hidden"] if mixture else 0.0,
        shared_experts=numbers["shared_experts"] if mixture else 0.0,
        gated=kind != DENSE,
    )
