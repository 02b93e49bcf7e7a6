"""ONNX files as graphs: convolutions, matmuls, attention products and what streams between them.

Only the description is read: weights stay where they are, and a file of external weights is never opened, but it must
lie in the model's own folder. Shapes come from ONNX's own inference for one image. Nothing in a file is executed, and
operators of private domains are refused. Needs the `onnx` extra.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ridgeline.core.dtypes import SCHEMES, Scheme
from ridgeline.core.errors import DomainError, FileFormatError, MissingExtraError, did_you_mean
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.importers.pieces import product, streamed
from ridgeline.workloads.ops import Attention, Convolution, Dim, Op

LARGEST_BYTES = 2**30
"""Bytes of a file; larger models keep their weights in external files, which are not read."""

MOST_NODES = 200_000

FREE = frozenset(
    {
        "Cast",
        "Constant",
        "ConstantOfShape",
        "Dropout",
        "Expand",
        "Flatten",
        "Identity",
        "If",
        "Loop",
        "Range",
        "Reshape",
        "Shape",
        "Size",
        "Squeeze",
        "Unsqueeze",
    }
)
"""Operators that move no data worth counting: views, shapes, constants, control flow over shapes."""

NORMS = frozenset({"BatchNormalization", "InstanceNormalization", "LpNormalization"})
LAYER_NORMS = frozenset(
    {"LayerNormalization", "GroupNormalization", "SimplifiedLayerNormalization", "RMSNormalization"}
)
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
FLOATS = frozenset({1, 10, 11, 16, 17, 18, 19, 20})
"""TensorProto data types that are floating-point numbers."""


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """A network in a file. `name` is its path; shapes are inferred anew for each resolution that is asked for."""

    name: str
    stamp: tuple[int, int]

    def graph(self, batch: Dim, resolution: Dim = 0.0, scheme: Scheme = SCHEMES["fp16"]) -> Graph:
        """The forward graph of `batch` images (a column, if wanted) of one resolution (0: as the file says).

        Raises: DomainError: several resolutions at once, or one that the file does not allow. FileFormatError: shapes
        that do not fit together.
        """
        sides = np.unique(np.asarray(resolution, float))
        if sides.size != 1:
            raise DomainError("one resolution at a time", at=self.name, got=sides.tolist(), fix="group cases by it")
        shapes, model, images = _inferred(self.name, self.stamp, float(sides[0]))
        ops = tuple(_ops(model, shapes, np.asarray(batch, float) / images, scheme))
        return Graph(Path(self.name).stem, ops)


def read_onnx(path: str | os.PathLike[str]) -> OnnxNetwork:
    """The network in an ONNX file, checked.

    Raises:
        MissingExtraError: the `onnx` package is not installed.
        FileFormatError: no such file, too large, not ONNX, operators of unknown domains, weights outside its folder.
    """
    name = os.fspath(path)
    state = _stat(name)
    network = OnnxNetwork(name, (state.st_mtime_ns, state.st_size))
    _loaded(name, network.stamp)
    return network


def _stat(name: str) -> os.stat_result:
    file = Path(name)
    try:
        state = file.stat()
    except (OSError, ValueError) as error:
        beside = [entry.name for entry in file.parent.glob("*.onnx")] if file.parent.is_dir() else []
        raise FileFormatError("no such file", at=name, fix=did_you_mean(file.name, beside)) from error
    if not file.is_file():
        raise FileFormatError("not a regular file", at=name, fix="give the name of an .onnx file")
    if state.st_size > LARGEST_BYTES:
        fix = "save its weights as external data (onnx.save(..., save_as_external_data=True))"
        raise FileFormatError("the file is larger than 1 GiB", at=name, got=f"{state.st_size} bytes", fix=fix)
    return state


@lru_cache(maxsize=8)
def _loaded(name: str, stamp: tuple[int, int]) -> Any:
    """The parsed file. Kept per content: a changed file is read again."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("reading .onnx needs onnx", at=name, fix="pip install ridgeline[onnx]") from error
    try:
        model = onnx.load(name, load_external_data=False)
    except (DecodeError, OSError, ValueError, RuntimeError) as error:
        raise FileFormatError("not an ONNX model", at=name, fix="export it again, or check the download") from error
    if not model.graph.node or not model.graph.input:
        raise FileFormatError("the model has no inputs or no operators", at=name, fix="is it an ONNX model?")
    if len(model.graph.node) > MOST_NODES:
        raise FileFormatError("the model has too many operators", at=name, got=len(model.graph.node))
    strange = sorted({node.domain for node in model.graph.node} - DOMAINS)
    if strange:
        fix = "export it with standard operators only"
        raise FileFormatError("operators of an unknown domain", at=name, got=strange, fix=fix)
    _check_external(model, Path(name))
    return model


def _check_external(model: Any, file: Path) -> None:
    """Weights in other files may only lie beside the model: no way up, no absolute path, no link out."""
    folder = file.parent.resolve()
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            parts = (*PurePosixPath(entry.value).parts, *PureWindowsPath(entry.value).parts)
            outside = (
                ".." in parts or PurePosixPath(entry.value).is_absolute() or bool(PureWindowsPath(entry.value).anchor)
            )
            if outside or "\0" in entry.value or not (folder / entry.value).resolve().is_relative_to(folder):
                fix = "keep external data in the model's folder"
                raise FileFormatError(
                    "external data outside the model's folder", at=str(file), got=entry.value, fix=fix
                )


@lru_cache(maxsize=32)
def _inferred(name: str, stamp: tuple[int, int], side: float) -> tuple[Mapping[str, tuple[int, ...]], Any, float]:
    """Shapes of all tensors for images of that side, the model, and how many images its shapes hold."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(_loaded(name, stamp))
    held = {tensor.name for tensor in model.graph.initializer}
    images = 1.0
    for value in model.graph.input:
        if value.name in held:
            continue
        dims = value.type.tensor_type.shape.dim
        images = max(images, _fix_input(dims, side, name))
    # What the exporter wrote down holds for its own batch and resolution only.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        whole = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        what = "shapes do not fit together at this resolution"
        raise FileFormatError(what, at=name, got=side or None, fix="give the resolution of the export") from error
    shapes = {tensor.name: tuple(tensor.dims) for tensor in whole.graph.initializer}
    for value in (*whole.graph.input, *whole.graph.value_info, *whole.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.HasField("tensor_type") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(int(dim.dim_value) for dim in dims)
    return shapes, whole, images


def _fix_input(dims: Any, side: float, name: str) -> float:
    """Give an image input one image and its side; other free dimensions become 1. Returns the images it holds."""
    spatial = range(2, len(dims)) if len(dims) >= 3 else range(0)
    images = 1.0
    for place, dim in enumerate(dims):
        fixed = dim.HasField("dim_value") and dim.dim_value > 0
        if place == 0 and fixed:
            images = float(dim.dim_value)
        if place in spatial and side:
            if fixed and dim.dim_value != side:
                fix = f"this file is made for {dim.dim_value} pixels"
                raise DomainError("the file fixes another resolution", at=name, got=side, fix=fix)
            dim.dim_value = int(side)
        elif not fixed:
            if place in spatial:
                raise DomainError("the file leaves the resolution open", at=name, fix="give a resolution")
            dim.dim_value = 1
    return images


def _ops(model: Any, shapes: Mapping[str, tuple[int, ...]], batch: Dim, scheme: Scheme) -> list[Op]:
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type in FLOATS}
    for node in model.graph.node:
        # Weights that pass through a cast, a transpose or a dequantisation are still weights.
        if node.op_type in ("Constant", "Cast", "Transpose", "DequantizeLinear", "Identity") and all(
            name in weights or not name for name in node.input[:1]
        ):
            weights |= set(node.output)
    ops: list[Op] = []
    held = 0.0
    for node in model.graph.node:
        if node.op_type in FREE or (node.output and node.output[0] in weights):
            continue
        op = _op(node, shapes, weights, batch, scheme)
        if op is not None:
            ops.append(op)
            held += float(np.max(np.asarray(op.weight_elements())))
    stored = sum(float(prod(t.dims)) for t in model.graph.initializer if t.data_type in FLOATS)
    rest = max(stored - held, 0.0)
    ops.append(streamed("embedding", 0.0 * np.asarray(batch), scheme, weights=rest))
    return ops


def _op(node: Any, shapes: Mapping[str, tuple[int, ...]], weights: set[str], batch: Dim, scheme: Scheme) -> Op | None:
    out = shapes.get(node.output[0], ()) if node.output else ()
    first = shapes.get(node.input[0], ()) if node.input else ()
    if node.op_type in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"):
        return _convolution(node, shapes, out, batch, scheme)
    if node.op_type in ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"):
        return _matmul(node, shapes, weights, out, batch, scheme)
    if node.op_type in ("Attention", "MultiHeadAttention"):
        return _attention(node, shapes, batch)
    if not out:
        return None
    reads = max(float(prod(first)), 1.0) / max(float(prod(out)), 1.0)
    if node.op_type in ("Add", "Mul", "Sub", "Div") and len(node.input) > 1:
        reads += min(1.0, float(prod(shapes.get(node.input[1], (1,)))) / max(float(prod(out)), 1.0))
    kind = "batch_norm" if node.op_type in NORMS else "layer_norm" if node.op_type in LAYER_NORMS else "activation"
    return streamed(kind, batch * float(prod(out)), scheme, reads=reads)


def _convolution(
    node: Any, shapes: Mapping[str, tuple[int, ...]], out: tuple[int, ...], batch: Dim, scheme: Scheme
) -> Op | None:
    kernel = shapes.get(node.input[3] if node.op_type == "QLinearConv" else node.input[1], ())
    image = shapes.get(node.input[0], ())
    if len(kernel) < 3 or len(out) < 3 or len(image) < 3:
        raise FileFormatError(
            "a convolution of unknown shape", at=node.name or node.op_type, fix="fix its input shapes"
        )
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if image[1] != (kernel[0] if node.op_type == "ConvTranspose" else kernel[1] * groups):
        what = f"a convolution of {kernel[1] * groups} channels over an image of {image[1]}"
        raise FileFormatError(what, at=node.name or node.op_type, fix="export the model again")
    bias = len(node.input) > (8 if node.op_type == "QLinearConv" else 2)
    return Convolution(
        name="conv" if groups == 1 else "group_conv",
        part="conv",
        batch=batch * float(out[0]),
        in_channels=float(image[1]),
        out_channels=float(out[1]),
        in_positions=float(prod(image[2:])),
        out_positions=float(prod(image[2:] if node.op_type == "ConvTranspose" else out[2:])),
        kernel=float(prod(kernel[2:])),
        scheme=scheme,
        groups=float(groups),
        bias=bias,
    )


def _matmul(
    node: Any,
    shapes: Mapping[str, tuple[int, ...]],
    weights: set[str],
    out: tuple[int, ...],
    batch: Dim,
    scheme: Scheme,
) -> Op | None:
    second = node.input[3] if node.op_type == "QLinearMatMul" else node.input[1]
    left, right = shapes.get(node.input[0], ()), shapes.get(second, ())
    if not out or len(left) < 1 or len(right) < 1:
        raise FileFormatError("a matmul of unknown shape", at=node.name or node.op_type, fix="fix its input shapes")
    flipped = any(a.name == "transA" and a.i for a in node.attribute)
    depth = float(left[0] if flipped and len(left) > 1 else left[-1])
    held = second in weights or node.input[0] in weights
    bias = node.op_type == "Gemm" and len(node.input) > 2
    return product(out, depth, batch, scheme, weights=held, bias=bias)


def _attention(node: Any, shapes: Mapping[str, tuple[int, ...]], batch: Dim) -> Op:
    """Attention in one operator: [batch, heads, length, width] or [batch, length, heads x width]."""
    query, key = shapes.get(node.input[0], ()), shapes.get(node.input[1], ())
    heads = next((a.i for a in node.attribute if a.name in ("q_num_heads", "num_heads")), 0)
    if len(query) == 4:
        images, heads, length, width = query
        keys = key[2] if len(key) == 4 else length
    elif len(query) == 3 and heads:
        images, length, wide = query
        width, keys = wide // heads, key[1] if len(key) == 3 else length
    else:
        raise FileFormatError("attention of unknown shape", at=node.name or node.op_type, fix="fix its input shapes")
    return Attention(
        name="attention",
        part="attention",
        phase="prefill",
        batch=batch * float(images),
        q_len=float(length),
        kv_len=float(keys),
        heads=float(heads),
        kv_heads=float(heads),
        head_dim=float(width),
        v_head_dim=float(width),
        causal=False,
    )
