"""torch on the CPU: each kernel is right, runs, and a broken one is seen. Skipped where torch is not installed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ridgeline.bench import Case, WrongResult, cases
from ridgeline.bench.backends import Buffers, checked
from ridgeline.core.errors import SpecError

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ridgeline[bench]'")

GROUPS = [
    ("gemm", "", "bf16"),
    ("gemm", "", "fp32"),
    ("attention_prefill", "attention", "bf16"),
    ("attention_decode", "attention", "bf16"),
    ("elementwise", "add", "bf16"),
    ("elementwise", "gelu", "bf16"),
    ("elementwise", "layer_norm", "bf16"),
    ("elementwise", "softmax", "bf16"),
    ("copy", "device", "int8"),
]
SMALLEST = cases(GROUPS, quick=True)[: len(GROUPS)]
BUFFERS = Buffers(weights=3, outputs=2)


def backend():  # type: ignore[no-untyped-def]
    from ridgeline.bench.torch_backend import TorchBackend

    return TorchBackend.open("cpu")


@pytest.mark.parametrize("case", SMALLEST, ids=lambda case: "-".join(case.group))
def test_kernels_agree_with_their_reference_and_take_time(case: Case) -> None:
    kernel = checked(backend().prepare(case, BUFFERS), case.dtype)
    assert kernel.laps(2).elapsed_s > 0


@pytest.mark.parametrize("heads", [(32, 8, 128), (8, 1, 128), (16, 16, 64)])
def test_grouped_heads_share_keys_as_the_reference_does(heads: tuple[int, int, int]) -> None:
    case = next(case for case in SMALLEST if case.table == "attention_prefill")
    sizes = {**case.sizes, "heads": heads[0], "kv_heads": heads[1], "head_dim": heads[2], "batch": 2}
    checked(backend().prepare(replace(case, sizes=sizes), BUFFERS), case.dtype)


def test_a_broken_product_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "mm", lambda a, b, out: out.fill_(1000.0))
    case = SMALLEST[0]
    with pytest.raises(WrongResult, match=r"torch\.mm"):
        checked(backend().prepare(case, BUFFERS), case.dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_chip_that_is_not_there_is_an_error() -> None:
    from ridgeline.bench.torch_backend import TorchBackend

    with pytest.raises(SpecError, match="sees no GPU"):
        TorchBackend.open("gpu")
