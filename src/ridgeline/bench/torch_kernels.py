"""The calls that torch is measured by, each with its buffers and its reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from ridgeline.bench.backends import Buffers, Unsupported
from ridgeline.bench.grid import Case
from ridgeline.bench.numpy_backend import BLOCK, probes

SHORT_FLOPS = 1e10
SHORT_BYTES = 1e8
"""Calls below both last microseconds on any GPU, so that a graph holds many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A call on the `turn`-th set of buffers, and the error of the first call's result.

    `turns` sets of buffers are taken in turn; `short` calls last microseconds; `devices` GPUs take part.
    """

    name: str
    call: Callable[[int], None]
    error: Callable[[], float]
    turns: int
    short: bool
    on_gpu: bool
    devices: int = 1
    capturable: bool = True


def fused_attention(torch: Any) -> Any:
    """A context in which attention runs fused or not at all: no model would run it in parts."""
    attention = getattr(torch.nn, "attention", None)
    if attention is None:
        return nullcontext()
    kinds = attention.SDPBackend
    return attention.sdpa_kernel([kinds.FLASH_ATTENTION, kinds.CUDNN_ATTENTION, kinds.EFFICIENT_ATTENTION])


def _type(torch: Any, dtype: str) -> Any:
    return {
        "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "tf32": torch.float32, "int8": torch.int8,
    }[dtype]  # fmt: skip


def _filled(torch: Any, where: str, shape: tuple[int, ...], kind: Any) -> Any:
    """Normal values (bytes for int8), cheap to make at any size."""
    count = math.prod(shape)
    made = torch.randn(min(count, BLOCK), device=where)
    block = (made * 40).to(kind) if kind == torch.int8 else made.to(kind)
    return block.repeat(-(-count // block.numel()))[:count].reshape(shape)


def _made(
    case: Case, where: str, name: str, call: Callable[[int], None], error: Callable[[], float], turns: int
) -> Made:
    short = case.flops < SHORT_FLOPS and case.moved_bytes < SHORT_BYTES
    return Made(name=name, call=call, error=error, turns=turns, short=short, on_gpu=where == "cuda")


def _error(got: Any, reference: Any) -> float:
    """Largest difference as a share of the reference's largest value; NaN stays NaN."""
    scale = float(reference.abs().max()) or 1.0
    return float((got.double() - reference).abs().max()) / scale


def _gemm(torch: Any, where: str, case: Case, buffers: Buffers) -> Made:
    if case.dtype == "fp8":
        return _gemm_fp8(torch, where, case, buffers)
    m, n, k = (case.sizes[name] for name in ("m", "n", "k"))
    kind = _type(torch, case.dtype)
    torch.backends.cuda.matmul.allow_tf32 = case.dtype == "tf32"
    a = _filled(torch, where, (m, k), kind)
    weights = [_filled(torch, where, (n, k), kind) for _ in range(buffers.weights)]
    outputs = [torch.empty((m, n), dtype=kind, device=where) for _ in range(buffers.outputs)]

    def call(turn: int) -> None:
        torch.mm(a, weights[turn % buffers.weights].t(), out=outputs[turn % buffers.outputs])

    error = partial(_product_error, torch, a, weights[0], outputs[0])
    return _made(case, where, "torch.mm", call, error, math.lcm(buffers.weights, buffers.outputs))


def _gemm_fp8(torch: Any, where: str, case: Case, buffers: Buffers) -> Made:
    """The activations arrive in bf16 and are converted, as in a model; the weights are fp8 already."""
    m, n, k = (case.sizes[name] for name in ("m", "n", "k"))
    a = _filled(torch, where, (m, k), torch.bfloat16)
    weights = [_filled(torch, where, (n, k), torch.bfloat16).to(torch.float8_e4m3fn) for _ in range(buffers.weights)]
    one = torch.ones((), device=where)
    results: dict[int, Any] = {}

    def call(turn: int) -> None:
        quantised, weight = a.to(torch.float8_e4m3fn), weights[turn % buffers.weights]
        results[turn % buffers.outputs] = torch._scaled_mm(
            quantised, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )

    def error() -> float:
        return _product_error(torch, a.to(torch.float8_e4m3fn), weights[0], results[0])

    turns = math.lcm(buffers.weights, buffers.outputs)
    return _made(case, where, "torch._scaled_mm", call, error, turns)


def _product_error(torch: Any, a: Any, weight: Any, got: Any) -> float:
    rows = torch.as_tensor(probes(a.shape[0]), device=a.device)
    columns = torch.as_tensor(probes(weight.shape[0]), device=a.device)
    # Not every format can be gathered, hence row by row.
    left = torch.stack([a[row].double() for row in rows.tolist()])
    right = torch.stack([weight[column].double() for column in columns.tolist()])
    return _error(got[rows][:, columns], left @ right.t())


def _attention(torch: Any, where: str, case: Case, buffers: Buffers) -> Made:
    batch, heads, kv_heads, width = (case.sizes[name] for name in ("batch", "heads", "kv_heads", "head_dim"))
    prefill = case.table == "attention_prefill"
    length = case.sizes["isl" if prefill else "kv_len"]
    kind = _type(torch, case.dtype)
    query = _filled(torch, where, (batch, heads, length if prefill else 1, width), kind)
    shape = (batch, kv_heads, length, width)
    keys = [_filled(torch, where, shape, kind) for _ in range(buffers.weights)]
    values = [_filled(torch, where, shape, kind).flip(-1) for _ in range(buffers.weights)]
    grouped = {"enable_gqa": True} if heads != kv_heads else {}
    results: dict[int, Any] = {}

    def call(turn: int) -> None:
        place = turn % buffers.weights
        results[turn % buffers.outputs] = torch.nn.functional.scaled_dot_product_attention(
            query, keys[place], values[place], is_causal=prefill, **grouped
        )

    def error() -> float:
        head, last = heads - 1, batch - 1
        kv_head = head * kv_heads // heads
        worst = 0.0
        for row in probes(query.shape[2]).tolist():
            seen = row + 1 if prefill else length
            key, value = (part[last, kv_head, :seen].double() for part in (keys[0], values[0]))
            weight = torch.softmax(key @ query[last, head, row].double() / math.sqrt(width), 0)
            worst = max(worst, _error(results[0][last, head, row], weight @ value), key=_nan_last)
        return worst

    turns = math.lcm(buffers.weights, buffers.outputs)
    return _made(case, where, "torch.scaled_dot_product_attention", call, error, turns)


def _nan_last(error: float) -> float:
    return math.inf if math.isnan(error) else error


def _elementwise(torch: Any, where: str, case: Case, buffers: Buffers) -> Made:
    functional = torch.nn.functional
    shape, kind = (case.sizes["rows"], case.sizes["width"]), _type(torch, case.dtype)
    compute = {
        "add": torch.add,
        "gelu": lambda left, _: functional.gelu(left),
        "layer_norm": lambda left, _: functional.layer_norm(left, shape[1:]),
        "softmax": lambda left, _: torch.softmax(left, -1),
    }[case.op]
    left = [_filled(torch, where, shape, kind) for _ in range(buffers.weights)]
    right = [_filled(torch, where, shape, kind) if case.op == "add" else left[i] for i in range(buffers.weights)]
    results: dict[int, Any] = {}

    def call(turn: int) -> None:
        place = turn % buffers.weights
        results[turn % buffers.outputs] = compute(left[place], right[place])

    def error() -> float:
        rows = torch.as_tensor(probes(shape[0]), device=left[0].device)
        return _error(results[0][rows], compute(left[0][rows].double().cpu(), right[0][rows].double().cpu()).to(where))

    return _made(case, where, f"torch.{case.op}", call, error, math.lcm(buffers.weights, buffers.outputs))


def _copy(torch: Any, where: str, case: Case, buffers: Buffers) -> Made:
    source, target = {"device": (where, where), "host_to_device": ("cpu", where), "device_to_host": (where, "cpu")}[
        case.op
    ]
    size = (case.sizes["copied_bytes"],)

    def pinned(tensor: Any, place: str) -> Any:
        return tensor.pin_memory() if where == "cuda" and place == "cpu" else tensor

    sources = [pinned(_filled(torch, source, size, torch.int8), source) for _ in range(buffers.weights)]
    targets = [pinned(torch.empty(size, dtype=torch.int8, device=target), target) for _ in range(buffers.outputs)]

    def call(turn: int) -> None:
        targets[turn % buffers.outputs].copy_(sources[turn % buffers.weights], non_blocking=True)

    def error() -> float:
        if where == "cuda":
            torch.cuda.synchronize()
        return float(not torch.equal(sources[0].cpu(), targets[0].cpu()))

    return _made(case, where, "torch.copy_", call, error, math.lcm(buffers.weights, buffers.outputs))


def _collective(torch: Any, where: str, case: Case, _: Buffers) -> Made:
    """NCCL in one process; `message_bytes` as nccl-tests count: what a gather ends with, a scatter starts with."""
    nccl, count = torch.cuda.nccl, case.sizes["num_gpus"]
    whole = max(count, case.sizes["message_bytes"] // 2 // count * count)
    part = whole // count
    devices = [f"{where}:{place}" for place in range(count)]
    taken, given = {"all_reduce": (whole, whole), "all_gather": (part, whole), "reduce_scatter": (whole, part)}[case.op]
    inputs = [torch.full((taken,), place + 1.0, dtype=torch.float16, device=d) for place, d in enumerate(devices)]
    outputs = [torch.empty(given, dtype=torch.float16, device=d) for d in devices]
    if not nccl.is_available(inputs):
        raise Unsupported("this torch was built without NCCL")
    run = {"all_reduce": nccl.all_reduce, "all_gather": nccl.all_gather, "reduce_scatter": nccl.reduce_scatter}[case.op]

    def call(turn: int) -> None:
        run(inputs, outputs)

    def error() -> float:
        total = count * (count + 1) / 2.0
        steps = torch.arange(1, count + 1, dtype=torch.float64).repeat_interleave(part)
        wanted = steps if case.op == "all_gather" else torch.full((given,), total, dtype=torch.float64)
        return max((_error(output.cpu(), wanted) for output in outputs), key=_nan_last)

    return Made(
        name="NCCL", call=call, error=error, turns=1, short=False, on_gpu=True, devices=count, capturable=False
    )  # fmt: skip


BUILDERS: dict[str, Callable[[Any, str, Case, Buffers], Made]] = {
    "gemm": _gemm,
    "attention_prefill": _attention,
    "attention_decode": _attention,
    "elementwise": _elementwise,
    "copy": _copy,
    "collectives": _collective,
}
