"""Models from plain numbers have the sizes that papers print for them, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ridgeline.core.errors import DomainError
from ridgeline.workloads import parameters
from ridgeline.workloads.importers import from_shape

GPT3: dict[str, Any] = {"layers": 96, "hidden": 12288, "heads": 96, "vocab": 50257, "seq": 2048}
LLAMA: dict[str, Any] = {
    "layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8, "ffn_hidden": 28672, "vocab": 128256, "seq": 8192,
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "total"),
    [
        (GPT3, 174.6e9),
        (LLAMA, 70.55e9),
        (GPT3 | {"layers": 105, "hidden": 20480, "heads": 128, "vocab": 51200}, 529.6e9),
        (
            {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "vocab": 32000, "seq": 32768}
            | {"ffn_hidden": 14336, "experts": 8, "topk": 2},
            46.7e9,
        ),
    ],
)
def test_published_shapes_have_published_counts(shape: dict[str, Any], total: float) -> None:
    assert parameters(from_shape(**shape)).total == pytest.approx(total, rel=0.002)


def test_the_kind_is_read_from_the_width_unless_it_is_given() -> None:
    assert from_shape(**GPT3).family == "gpt"
    assert from_shape(**LLAMA).family == "llama"
    assert from_shape(**GPT3, gated=True).family == "llama"


def test_shapes_may_be_columns() -> None:
    layers = np.array([10.0, 96.0])
    at_once = parameters(from_shape(**(GPT3 | {"layers": layers}))).total
    assert at_once == pytest.approx([parameters(from_shape(**(GPT3 | {"layers": n}))).total for n in (10, 96)])


def test_experts_may_have_their_own_width_and_shared_ones() -> None:
    shape = LLAMA | {"experts": 16, "topk": 4, "expert_hidden": 1024, "shared_experts": 2}
    counts = parameters(from_shape(**shape))
    assert counts.experts == 80 * 16 * 3 * 8192 * 1024
    assert counts.total - counts.active == counts.experts * 12 / 16


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layers": 0}, "layers"),
        ({"hidden": -1}, "hidden"),
        ({"hidden": float("nan")}, "hidden"),
        ({"vocab": 1.5}, "vocab"),
        ({"heads": 7}, "heads"),
        ({"kv_heads": 5}, "kv_heads"),
        ({"experts": 4, "topk": 8}, "topk"),
        ({"seq": float("inf")}, "seq"),
    ],
)
def test_an_impossible_shape_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(DomainError) as caught:
        from_shape(**(LLAMA | change))
    assert named in caught.value.line()
