"""`torch.export` archives (.pt2) as graphs, read from the JSON program that they hold.

An archive is a zip file: the program is JSON (torch/_export/serde/schema.py, version 8), weights and sample inputs lie
beside it, some of them pickled. Only the JSON is opened; nothing is extracted and nothing is unpickled. Other PyTorch
files (.pt, .pth, TorchScript) are pickles and are refused.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.dtypes import SCHEMES, Scheme
from ridgeline.core.errors import DomainError, FileFormatError, did_you_mean
from ridgeline.core.files import MAX_BYTES, parse_json
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.importers.pieces import product, streamed
from ridgeline.workloads.ops import Attention, Convolution, Dim, Op

FIX = "export it with torch.export.save(torch.export.export(model, inputs), 'model.pt2'), or to ONNX"

LEGACY = "serialized_exported_program.json"
"""Where PyTorch up to 2.7 keeps the program; later archives keep it in `NAME/models/NAME.json`."""

FREE = frozenset(
    {
        *("_to_copy", "alias", "arange", "chunk", "clone", "contiguous", "detach", "dropout", "empty", "expand", "eye"),
        *("flatten", "full", "getitem", "lift_fresh_copy", "ones", "permute", "reshape", "select", "slice", "split"),
        *(
            "split_with_sizes",
            "squeeze",
            "sym_size",
            "t",
            "to",
            "transpose",
            "unbind",
            "unflatten",
            "unsqueeze",
            "view",
        ),
        *("_assert_tensor_metadata", "_unsafe_view", "zeros", "scalar_tensor", "expand_as", "view_as", "movedim"),
    }
)
"""Operators that move no data worth counting: views, shapes, constants."""

NORMS = frozenset({"batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "instance_norm"})
LAYER_NORMS = frozenset({"layer_norm", "native_layer_norm", "group_norm", "native_group_norm", "rms_norm"})
CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d", "convolution", "_convolution", "conv_transpose2d"})
PRODUCTS = frozenset({"linear", "addmm", "mm", "bmm", "matmul", "baddbmm"})
NAMESPACES = ("torch.ops.aten.", "_operator.", "torch.ops.higher_order.wrap_with")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """A network in an archive. `name` is its path; its shapes are those of the export, scaled by the batch."""

    name: str
    stamp: tuple[int, int]

    def graph(self, batch: Dim, resolution: Dim = 0.0, scheme: Scheme = SCHEMES["fp16"]) -> Graph:
        """The forward graph of `batch` images of the exported resolution (0 or exactly that).

        Raises: DomainError: another resolution. FileFormatError: operators or shapes that cannot be read.
        """
        program = _program(self.name, self.stamp)
        sides = np.unique(np.asarray(resolution, float))
        if not set(sides.tolist()) <= {0.0, float(program.image[-1])}:
            fix = f"this file is made for {program.image[-1]} pixels; export it again for another"
            raise DomainError("the file fixes another resolution", at=self.name, got=sides.tolist(), fix=fix)
        scaled = np.asarray(batch, float) / float(program.image[0])
        return Graph(Path(self.name).stem, tuple(_ops(program, scaled, scheme)))


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """What is read of an archive: nodes, shapes by name, names of weights, the first image input."""

    nodes: list[Mapping[str, Any]]
    shapes: Shapes
    weights: frozenset[str]
    image: tuple[int, ...]


def read_exported(path: str | os.PathLike[str]) -> ExportedNetwork:
    """The network in an exported archive, checked. Raises FileFormatError: no such archive, or one we cannot read."""
    name = os.fspath(path)
    file = Path(name)
    try:
        state = file.stat()
    except (OSError, ValueError) as error:
        beside = [entry.name for entry in file.parent.glob("*.pt2")] if file.parent.is_dir() else []
        raise FileFormatError("no such file", at=name, fix=did_you_mean(file.name, beside)) from error
    network = ExportedNetwork(name, (state.st_mtime_ns, state.st_size))
    _program(name, network.stamp)
    return network


@lru_cache(maxsize=8)
def _program(name: str, stamp: tuple[int, int]) -> _Program:
    """The parsed program. Kept per content: a changed file is read again."""
    document = parse_json(_json_of(name), name, infinite_ok=True)
    try:
        module = document.data["graph_module"]
        graph = module["graph"]
        shapes = {tensor: _shape(meta) for tensor, meta in graph["tensor_values"].items()}
        specs = [kind for spec in module["signature"]["input_specs"] for kind in spec.items()]
        held = ("parameter", "buffer", "tensor_constant")
        weights = frozenset(value["arg"]["name"] for kind, value in specs if kind in held)
        inputs = [value["arg"].get("as_tensor", {}).get("name") for kind, value in specs if kind == "user_input"]
        images = [shapes[tensor] for tensor in inputs if shapes.get(tensor)]
        program = _Program(list(graph["nodes"]), shapes, weights, images[0] if images else ())
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileFormatError("not the program of torch.export", at=name, fix=FIX) from error
    if not program.image or not program.nodes:
        raise FileFormatError("the program has no image input or no operators", at=name, fix=FIX)
    return program


def _json_of(name: str) -> bytes:
    """The bytes of the program inside the archive, if it is one, and not larger than any description may be."""
    try:
        with zipfile.ZipFile(name) as archive:
            programs = [
                entry
                for entry in archive.infolist()
                if entry.filename.endswith(LEGACY) or ("models/" in entry.filename and entry.filename.endswith(".json"))
            ]
            if len(programs) != 1:
                raise FileFormatError("no exported program in this archive", at=name, got=len(programs), fix=FIX)
            if programs[0].file_size > MAX_BYTES:
                what = f"the program is larger than {MAX_BYTES // 2**20} MiB"
                raise FileFormatError(what, at=name, got=f"{programs[0].file_size} bytes", fix="export it to ONNX")
            with archive.open(programs[0]) as file:
                return file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        what = "not an archive of torch.export; other PyTorch files are pickles, which are never loaded"
        raise FileFormatError(what, at=name, fix=FIX) from error


def _shape(meta: Mapping[str, Any]) -> tuple[int, ...]:
    """Sizes of a tensor; a symbolic size is the one of the export where that is written down, else 1."""
    return tuple(int(size["as_int"] if "as_int" in size else _hint(size["as_expr"])) for size in meta["sizes"])


def _hint(expression: Mapping[str, Any]) -> int:
    hint = expression.get("hint") or {}
    return int(hint.get("as_int", 1))


def _ops(program: _Program, batch: Dim, scheme: Scheme) -> list[Op]:
    weights = set(program.weights)
    ops: list[Op] = []
    held = 0.0
    for node in program.nodes:
        target = str(node.get("target", ""))
        if not target.startswith(NAMESPACES):
            fix = "export a network of standard operators"
            raise FileFormatError("an operator that is not PyTorch's own", at=target, fix=fix)
        kind = target.split(".")[-2] if target.startswith("torch.ops.aten.") else target.split(".")[-1]
        given, out = _inputs(node), _outputs(node, program.shapes)
        if kind in FREE or not out or all(value in weights for value in given.values()):
            if given and all(value in weights for value in given.values()):
                weights |= {output["as_tensor"]["name"] for output in node["outputs"] if "as_tensor" in output}
            continue
        op = _op(kind.rstrip("_"), node, given, out, program.shapes, weights, batch, scheme)
        ops.append(op)
        held += float(np.max(np.asarray(op.weight_elements())))
    stored = sum(float(prod(program.shapes.get(name, (0,)))) for name in program.weights)
    ops.append(streamed("embedding", 0.0 * np.asarray(batch), scheme, weights=max(stored - held, 0.0)))
    return ops


def _inputs(node: Mapping[str, Any]) -> dict[str, str]:
    """Tensor arguments by name."""
    found: dict[str, str] = {}
    for given in node.get("inputs", []):
        argument = given.get("arg", {})
        if "as_tensor" in argument:
            found[given["name"]] = argument["as_tensor"]["name"]
        for i, tensor in enumerate(argument.get("as_tensors", [])):
            found[f"{given['name']}.{i}"] = tensor["name"]
    return found


def _outputs(node: Mapping[str, Any], shapes: Shapes) -> tuple[int, ...]:
    """Shape of the first output."""
    for output in node.get("outputs", []):
        if "as_tensor" in output:
            return shapes.get(output["as_tensor"]["name"], ())
        if output.get("as_tensors"):
            return shapes.get(output["as_tensors"][0]["name"], ())
    return ()


def _op(
    kind: str,
    node: Mapping[str, Any],
    given: Mapping[str, str],
    out: tuple[int, ...],
    shapes: Shapes,
    weights: set[str],
    batch: Dim,
    scheme: Scheme,
) -> Op:
    try:
        if kind in CONVOLUTIONS:
            return _convolution(kind, node, given, out, shapes, batch, scheme)
        if kind in PRODUCTS:
            return _product(kind, given, out, shapes, weights, batch, scheme)
        if "scaled_dot_product" in kind:
            query, key = shapes[given["query"]], shapes[given["key"]]
            return Attention(
                name="attention",
                part="attention",
                phase="prefill",
                batch=batch * float(prod(query[:-3])),
                q_len=float(query[-2]),
                kv_len=float(key[-2]),
                heads=float(query[-3]),
                kv_heads=float(key[-3]),
                head_dim=float(query[-1]),
                v_head_dim=float(query[-1]),
                causal=False,
            )
    except (KeyError, IndexError, ValueError) as error:
        raise FileFormatError("an operator of unknown shape", at=kind, fix=FIX) from error
    read = sum(float(prod(shapes.get(name, ()))) for name in given.values() if name not in weights)
    style = "batch_norm" if kind in NORMS else "layer_norm" if kind in LAYER_NORMS else "activation"
    size = float(prod(out))
    return streamed(style, batch * size, scheme, reads=max(read, 1.0) / max(size, 1.0))


def _convolution(
    kind: str,
    node: Mapping[str, Any],
    given: Mapping[str, str],
    out: tuple[int, ...],
    shapes: Shapes,
    batch: Dim,
    scheme: Scheme,
) -> Op:
    image, kernel = shapes[given["input"]], shapes[given["weight"]]
    groups = next((i["arg"].get("as_int", 1) for i in node["inputs"] if i["name"] == "groups"), 1)
    transposed = kind == "conv_transpose2d"
    if image[1] != (kernel[0] if transposed else kernel[1] * groups) or min(len(image), len(kernel), len(out)) < 3:
        raise FileFormatError("a convolution whose channels do not fit its image", at=kind, fix=FIX)
    return Convolution(
        name="conv" if groups == 1 else "group_conv",
        part="conv",
        batch=batch * float(out[0]),
        in_channels=float(image[1]),
        out_channels=float(out[1]),
        in_positions=float(prod(image[2:])),
        out_positions=float(prod(image[2:] if transposed else out[2:])),
        kernel=float(prod(kernel[2:])),
        scheme=scheme,
        groups=float(groups),
        bias="bias" in given,
    )


def _product(
    kind: str,
    given: Mapping[str, str],
    out: tuple[int, ...],
    shapes: Shapes,
    weights: set[str],
    batch: Dim,
    scheme: Scheme,
) -> Op:
    first, second = {"linear": ("input", "weight"), "addmm": ("mat1", "mat2")}.get(kind, ("", ""))
    names = list(given.values())
    left, right = (given[first], given[second]) if first else (names[-2], names[-1])
    held = right in weights or left in weights
    bias = "bias" in given or kind == "addmm"
    return product(out, float(shapes[left][-1]), batch, scheme, weights=held, bias=bias)
