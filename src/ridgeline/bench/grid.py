"""What is measured: the shapes of each kind, in an order of which any beginning is a fair sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest

import numpy as np

from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.errors import UnknownNameError, did_you_mean

KINDS: Mapping[str, tuple[str, ...]] = {
    "gemm": ("gemm",),
    "attention": ("attention_prefill", "attention_decode"),
    "elementwise": ("elementwise",),
    "copy": ("copy",),
    "collectives": ("collectives",),
}
"""Kinds that a user asks for, and the tables that each fills."""

Sizes = Mapping[str, int]
WIDTHS: Sequence[tuple[int, int]] = (
    (4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (1024, 8192), (8192, 8192), (2560, 2048), (512, 7168),
    (1536, 1536), (10240, 8192), (8192, 3584), (2048, 2048),
)  # fmt: skip
"""n and k of linear layers of models from 1 to 70 billion parameters, whole and divided by tensor parallelism."""
HEADS: Sequence[tuple[int, int, int]] = ((32, 8, 128), (8, 1, 128), (16, 16, 64), (64, 8, 128), (32, 32, 128))
"""Query heads, key and value heads, width of a head."""
ELEMENTWISE: Mapping[str, tuple[int, int]] = {"add": (2, 1), "gelu": (1, 1), "layer_norm": (1, 1), "softmax": (1, 1)}
"""Operations, and how often each reads and writes every element."""
COPIES: Mapping[str, int] = {"device": 2, "host_to_device": 1, "device_to_host": 1}
"""Copies, and how often each byte crosses the device's memory bus."""
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter")
SUSTAINED_CASES = 3
"""Cases among the largest of a group that also run long enough for the power limit to hold the clock down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel at one shape.

    Attributes:
        table: the table that it belongs to.
        op: which operation, where a table holds several.
        dtype: a scheme of core.dtypes.
        sizes: column -> value, in the order of the table's columns.
        flops: per call, a multiply-accumulate is 2.
        moved_bytes: per call, each operand once.
        sustained: whether it is also run for a second or more.
    """

    table: str
    op: str
    dtype: str
    sizes: Sizes
    flops: float
    moved_bytes: float
    sustained: bool = False

    @property
    def group(self) -> tuple[str, str, str]:
        """Cases of one group run at comparable rates."""
        return self.table, self.op, self.dtype


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds in a list such as `gemm,copy`; empty text means all. Raises UnknownNameError."""
    names = tuple(dict.fromkeys(part.strip().casefold() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in KINDS:
            fix = did_you_mean(name, KINDS, listing=f"kinds: {', '.join(KINDS)}")
            raise UnknownNameError(f"unknown kind {name!r}", at="--kinds", fix=fix)
    return names or tuple(KINDS)


def cases(offered: Iterable[tuple[str, str, str]], *, quick: bool, device_count: int = 1) -> tuple[Case, ...]:
    """Cases of the groups (table, op, dtype) that a backend offers.

    Groups take turns; within a group the smallest case comes first, which tells how fast the machine is, then the
    others in a shuffled order that is the same every time.
    """
    shuffled = np.random.default_rng(0)
    groups = []
    for table, op, dtype in offered:
        found = sorted(_BUILDERS[table](op, dtype, quick, device_count), key=lambda case: case.flops + case.moved_bytes)
        last = len(found) - 1
        large = {id(case) for case in found[last : max(last // 2, last - 2 * SUSTAINED_CASES) : -2]}
        found = [_sustained(case) if id(case) in large else case for case in found]
        order = [0, *(1 + shuffled.permutation(len(found) - 1)).tolist()] if found else []
        groups.append([found[place] for place in order])
    return tuple(case for turn in zip_longest(*groups) for case in turn if case is not None)


def _sustained(case: Case) -> Case:
    return Case(
        table=case.table, op=case.op, dtype=case.dtype, sizes=case.sizes, flops=case.flops,
        moved_bytes=case.moved_bytes, sustained=True,
    )  # fmt: skip


def _gemm(op: str, dtype: str, quick: bool, _: int) -> list[Case]:
    scheme = SCHEMES[dtype]
    rows = [1, 4, 16, 64, 128, 256, 512, 1024, 4096] if quick else [*(2**i for i in range(14)), 48, 192, 384, 768, 3072]
    small = [(512, 512), (1024, 1024)]
    found = []
    for m, (n, k) in product(rows, [*small, *(WIDTHS[:8] if quick else WIDTHS)]):
        moved = m * k * scheme.activation.element_bytes + n * k * scheme.weight.element_bytes
        moved += m * n * max(2.0, scheme.activation.element_bytes)
        found.append(_case("gemm", op, dtype, {"m": m, "n": n, "k": k}, 2.0 * m * n * k, moved))
    return found


def _prefill(op: str, dtype: str, quick: bool, _: int) -> list[Case]:
    each = SCHEMES[dtype].activation.element_bytes
    batches, lengths = ([1, 4], [128, 512, 2048, 8192]) if quick else ([1, 2, 4, 8, 16], [2**i for i in range(6, 15)])
    found = []
    for batch, isl, (heads, kv_heads, width) in product(batches, lengths, HEADS[:3] if quick else HEADS):
        sizes = {"batch": batch, "isl": isl, "prefix": 0, "heads": heads, "kv_heads": kv_heads, "head_dim": width}
        moved = 2.0 * batch * isl * width * (heads + kv_heads) * each
        flops = 2.0 * batch * heads * width * isl * (isl + 1)
        found.append(_case("attention_prefill", op, dtype, {**sizes, "window": 0}, flops, moved))
    return found


def _decode(op: str, dtype: str, quick: bool, _: int) -> list[Case]:
    each = SCHEMES[dtype].activation.element_bytes
    batches, lengths = (
        ([1, 8, 64], [128, 1024, 8192]) if quick else ([2**i for i in range(9)], [2**i for i in range(6, 17)])
    )
    found = []
    for batch, kv_len, (heads, kv_heads, width) in product(batches, lengths, HEADS[:3] if quick else HEADS):
        sizes = {"batch": batch, "kv_len": kv_len, "heads": heads, "kv_heads": kv_heads, "head_dim": width, "window": 0}
        moved = 2.0 * batch * width * (heads + kv_heads * kv_len) * each
        flops = 4.0 * batch * heads * width * kv_len
        found.append(_case("attention_decode", op, dtype, sizes, flops, moved))
    return found


def _elementwise(op: str, dtype: str, quick: bool, _: int) -> list[Case]:
    each = SCHEMES[dtype].activation.element_bytes
    rows, widths = ([1, 64, 1024, 16384], [4096]) if quick else ([4**i for i in range(9)], [1024, 4096, 8192])
    passes = sum(ELEMENTWISE[op])
    return [
        _case("elementwise", op, dtype, {"rows": r, "width": w}, 0.0, passes * float(r) * w * each)
        for r, w in product(rows, widths)
    ]


def _copy(op: str, dtype: str, quick: bool, _: int) -> list[Case]:
    sizes = [2**i for i in range(10, 31, 4 if quick else 1)]
    return [_case("copy", op, dtype, {"copied_bytes": size}, 0.0, float(COPIES[op]) * size) for size in sizes]


def _collectives(op: str, dtype: str, quick: bool, device_count: int) -> list[Case]:
    sizes = [2**i for i in range(10, 31, 4 if quick else 1)]
    counts = sorted({*(2**i for i in range(1, 8) if 2**i <= device_count), device_count} - {1})
    return [
        _case("collectives", op, dtype, {"num_gpus": count, "message_bytes": size}, 0.0, float(size))
        for count, size in product(counts, sizes)
    ]


def _case(table: str, op: str, dtype: str, sizes: Sizes, flops: float, moved_bytes: float) -> Case:
    return Case(table=table, op=op, dtype=dtype, sizes=sizes, flops=flops, moved_bytes=moved_bytes)


_BUILDERS = {
    "gemm": _gemm,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "elementwise": _elementwise,
    "copy": _copy,
    "collectives": _collectives,
}
