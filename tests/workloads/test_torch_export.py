"""Exported PyTorch programs: read as JSON, never loaded, and every hostile file one clear error."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.core.errors import DomainError, FileFormatError
from ridgeline.workloads.importers.torch_export import read_exported
from ridgeline.workloads.ops import Attention, Convolution, Matmul

CLASSES = 10


def meta(*sizes: int | str) -> dict[str, Any]:
    """A float tensor's description; a text is a symbolic size whose value at export was 2."""
    written = [
        {"as_int": size} if isinstance(size, int) else {"as_expr": {"expr_str": size, "hint": {"as_int": 2}}}
        for size in sizes
    ]
    return {"dtype": 7, "sizes": written}


def node(target: str, out: str, *, ints: dict[str, int] | None = None, **tensors: str) -> dict[str, Any]:
    """A node of the graph."""
    inputs = [{"name": name, "arg": {"as_tensor": {"name": tensor}}} for name, tensor in tensors.items()]
    inputs += [{"name": name, "arg": {"as_int": value}} for name, value in (ints or {}).items()]
    return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": out}}], "metadata": {}}


def program(
    nodes: list[dict[str, Any]], values: dict[str, Any], weights: list[str], image: str = "x"
) -> dict[str, Any]:
    """An exported program, as torch/_export/serde/schema.py lays it out."""
    specs = [{"parameter": {"arg": {"name": name}, "parameter_name": name}} for name in weights]
    specs.append({"user_input": {"arg": {"as_tensor": {"name": image}}}})
    return {
        "graph_module": {
            "graph": {"inputs": [], "outputs": [], "nodes": nodes, "tensor_values": values},
            "signature": {"input_specs": specs, "output_specs": []},
        },
        "schema_version": {"major": 8, "minor": 17},
    }


def small(batch: int | str = 1) -> dict[str, Any]:
    """A convolution with stride 2, a norm, a depthwise convolution, a sum, pooling and a classifier on 32 pixels."""
    aten = "torch.ops.aten."
    nodes = [
        node(f"{aten}conv2d.default", "a", input="x", weight="w1", bias="b1", ints={"groups": 1}),
        node(f"{aten}batch_norm.default", "b", input="a", weight="g", bias="o"),
        node(f"{aten}relu_.default", "c", self="b"),
        node(f"{aten}conv2d.default", "d", input="c", weight="w2", ints={"groups": 16}),
        node(f"{aten}add.Tensor", "e", self="c", other="d"),
        node(f"{aten}mean.dim", "f", self="e"),
        node(f"{aten}view.default", "h", self="f"),
        node(f"{aten}linear.default", "out", input="h", weight="w3", bias="b3"),
    ]
    inside = {name: meta(batch, 16, 16, 16) for name in "abcde"}
    values = inside | {
        "x": meta(batch, 3, 32, 32),
        "f": meta(batch, 16, 1, 1),
        "h": meta(batch, 16),
        "out": meta(batch, CLASSES),
        "w1": meta(16, 3, 3, 3),
        "b1": meta(16),
        "g": meta(16),
        "o": meta(16),
        "w2": meta(16, 1, 3, 3),
        "w3": meta(CLASSES, 16),
        "b3": meta(CLASSES),
    }
    return program(nodes, values, ["w1", "b1", "g", "o", "w2", "w3", "b3"])


MACS = 256 * 16 * 27 + 256 * 16 * 9 + 16 * CLASSES


def saved(path: Path, content: object, entry: str = "small/models/small.json") -> str:
    """An archive that holds the program, beside a pickle that would leave a mark if it were loaded."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, content if isinstance(content, bytes | str) else json.dumps(content))
        mark = str(path.parent / "mark").encode()
        archive.writestr("small/data/sample_inputs/small.pt", b"cos\nsystem\n(S'touch " + mark + b"'\ntR.")
    return str(path)


def macs(graph: Any) -> Any:
    """Multiply-accumulates."""
    kinds = (Convolution, Matmul, Attention)
    return graph.total(lambda op: op.flops() / 2.0 if isinstance(op, kinds) else 0.0)


@pytest.mark.parametrize("entry", ["small/models/small.json", "serialized_exported_program.json"])
@pytest.mark.parametrize("batch", [1, 4, "s0"])
def test_work_and_weights_are_those_of_the_layers(tmp_path: Path, entry: str, batch: int | str) -> None:
    network = read_exported(saved(tmp_path / "small.pt2", small(batch), entry))
    assert macs(network.graph(1.0)) == MACS
    assert macs(network.graph(np.array([1.0, 6.0]), 32.0)).tolist() == [MACS, 6 * MACS]
    assert network.graph(1.0).parameters() == 16 * 27 + 16 + 32 + 16 * 9 + 16 * CLASSES + CLASSES
    assert not (tmp_path / "mark").exists()


def test_another_resolution_than_that_of_the_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="made for 32 pixels"):
        read_exported(saved(tmp_path / "small.pt2", small())).graph(1.0, 64.0)


def test_attention_is_counted_once_and_its_projections_hold_weights(tmp_path: Path) -> None:
    aten = "torch.ops.aten."
    nodes = [
        node(f"{aten}linear.default", "q", input="x", weight="w"),
        node(f"{aten}view.default", "h", self="q"),
        node(f"{aten}scaled_dot_product_attention.default", "s", query="h", key="h", value="h"),
        node(f"{aten}matmul.default", "m", self="h", other="h"),
    ]
    heads = meta(1, 4, 16, 16)
    values = {"x": meta(1, 16, 64), "w": meta(64, 64), "q": meta(1, 16, 64), "h": heads, "s": heads, "m": heads}
    graph = read_exported(saved(tmp_path / "a.pt2", program(nodes, values, ["w"]))).graph(2.0)
    assert macs(graph) == 2 * (16 * 64 * 64 + 4 * 16 * 16 * 32 + 4 * 16 * 16 * 16)
    assert graph.parameters() == 64 * 64


def hostile() -> dict[str, object]:
    """Contents of an archive that are no programs."""
    broken = small()
    broken["graph_module"]["graph"]["nodes"][0]["target"] = "my_library.ops.run.default"
    unfit = small()
    unfit["graph_module"]["graph"]["tensor_values"]["w1"] = meta(16, 5, 3, 3)
    absent = small()
    del absent["graph_module"]["graph"]["tensor_values"]["w1"]
    return {
        "empty": "",
        "not json": "{",
        "a list": [1, 2],
        "no graph": {"graph_module": {}},
        "null": "null",
        "deep": "[" * 5000 + "]" * 5000,
        "own operators": broken,
        "channels that do not fit": unfit,
        "a weight without shape": absent,
        "huge": b'{"a": "' + b" " * (17 * 2**20) + b'"}',
    }


@pytest.mark.parametrize("kind", hostile())
def test_what_is_no_program_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path / "bad.pt2", hostile()[kind])
    with pytest.raises(FileFormatError) as caught:
        read_exported(path).graph(1.0)
    assert caught.value.fix


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95cposix\nsystem\n.", b"PK\x03\x04" + bytes(100), b"text"])
def test_pickles_and_other_files_are_refused_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="never loaded") as caught:
        read_exported(path)
    assert "torch.export.save" in caught.value.fix


def test_an_archive_without_a_program_and_a_missing_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no exported program"):
        read_exported(saved(tmp_path / "other.pt2", "{}", "notes.txt"))
    with pytest.raises(FileFormatError, match=r"did you mean 'other\.pt2'"):
        read_exported(tmp_path / "othr.pt2")
    with pytest.raises(FileFormatError):
        read_exported(tmp_path)
