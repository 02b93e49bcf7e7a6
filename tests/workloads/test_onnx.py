"""ONNX files: the same work as the network they were made from, and every hostile file one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.core.errors import DomainError, FileFormatError
from ridgeline.workloads.importers.onnx import read_onnx
from ridgeline.workloads.ops import Attention, Convolution, Matmul

onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")

CLASSES = 10


def tensor(name: str, *dims: int) -> Any:
    """Weights of that shape."""
    return onnx.numpy_helper.from_array(np.zeros(dims, dtype=np.float32), name)


def value(name: str, *dims: int | str) -> Any:
    """A float input or output."""
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(dims))


def saved(path: Path, nodes: list[Any], weights: list[Any], shape: tuple[int | str, ...], *outputs: str) -> str:
    """A model file of these nodes over one image input."""
    made = [value(name, *([None] * 2)) for name in outputs]
    graph = onnx.helper.make_graph(nodes, "net", [value("image", *shape)], made, initializer=weights)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.example", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return str(path)


def small(path: Path, shape: tuple[int | str, ...] = ("batch", 3, "height", "width")) -> str:
    """A 3x3 convolution with stride 2, a depthwise one, a norm, pooling and a classifier."""
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["a", "g", "o", "m", "v"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Conv", ["c", "w2"], ["d"], group=16, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Add", ["c", "d"], ["e"]),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Flatten", ["f"], ["h"]),
        node("Gemm", ["h", "w3", "b3"], ["out"], transB=1),
    ]
    weights = [
        tensor("w1", 16, 3, 3, 3),
        tensor("b1", 16),
        *(tensor(name, 16) for name in "gomv"),
        tensor("w2", 16, 1, 3, 3),
        tensor("w3", CLASSES, 16),
        tensor("b3", CLASSES),
    ]
    return saved(path, nodes, weights, shape, "out")


def macs(graph: Any) -> Any:
    """Multiply-accumulates."""
    kinds = (Convolution, Matmul, Attention)
    return graph.total(lambda op: op.flops() / 2.0 if isinstance(op, kinds) else 0.0)


def expected(side: int) -> int:
    """Multiply-accumulates of `small`, by hand."""
    out = (side // 2) ** 2
    return out * 16 * 27 + out * 16 * 9 + 16 * CLASSES


@pytest.mark.parametrize("side", [32, 64, 224])
def test_work_and_weights_are_those_of_the_layers(tmp_path: Path, side: int) -> None:
    graph = read_onnx(small(tmp_path / "small.onnx")).graph(1.0, float(side))
    assert macs(graph) == expected(side)
    assert graph.parameters() == 16 * 27 + 16 + 4 * 16 + 16 * 9 + 16 * CLASSES + CLASSES


def test_the_batch_may_be_a_column_and_scales_work_but_not_weights(tmp_path: Path) -> None:
    network = read_onnx(small(tmp_path / "small.onnx"))
    graph = network.graph(np.array([1.0, 8.0, 128.0]), 32.0)
    assert macs(graph).tolist() == [expected(32) * count for count in (1, 8, 128)]
    assert graph.parameters() == network.graph(1.0, 32.0).parameters()


def test_a_file_with_a_fixed_batch_and_resolution_is_scaled_from_it(tmp_path: Path) -> None:
    network = read_onnx(small(tmp_path / "fixed.onnx", (4, 3, 32, 32)))
    assert macs(network.graph(1.0)) == expected(32)
    assert macs(network.graph(6.0, 32.0)) == 6 * expected(32)
    with pytest.raises(DomainError, match="made for 32 pixels"):
        network.graph(1.0, 64.0)


def test_an_open_resolution_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="give a resolution"):
        read_onnx(small(tmp_path / "small.onnx")).graph(1.0)


def test_attention_products_count_as_products_not_as_weights(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    nodes = [
        node("MatMul", ["image", "wq"], ["q"]),
        node("MatMul", ["image", "wk"], ["k"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "q"], ["out"]),
    ]
    path = saved(tmp_path / "a.onnx", nodes, [tensor("wq", 64, 64), tensor("wk", 64, 64)], (1, 50, 64), "out")
    graph = read_onnx(path).graph(2.0)
    assert macs(graph) == 2 * (2 * 50 * 64 * 64 + 2 * 50 * 50 * 64)
    assert graph.parameters() == 2 * 64 * 64


def hostile(path: Path) -> dict[str, bytes]:
    """Files that are no ONNX models."""
    good = Path(small(path / "good.onnx")).read_bytes()
    return {
        "empty": b"",
        "text": b"this is not a model\n" * 20,
        "truncated": good[: len(good) // 2],
        "zeros": bytes(4096),
        "json": b'{"model": "resnet50"}',
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94",
        "prefix": b"\xff\xfe" + good,
    }


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "zeros", "json", "pickle", "prefix"])
def test_what_is_no_model_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(hostile(tmp_path)[kind])
    with pytest.raises(FileFormatError) as caught:
        read_onnx(path).graph(1.0, 32.0)
    assert str(path) in caught.value.at


def test_a_missing_file_names_what_lies_beside_it(tmp_path: Path) -> None:
    small(tmp_path / "small.onnx")
    with pytest.raises(FileFormatError, match=r"did you mean 'small\.onnx'"):
        read_onnx(tmp_path / "smal.onnx")
    with pytest.raises(FileFormatError, match="regular file"):
        read_onnx(tmp_path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(FileFormatError, match="larger than 1 GiB"):
        read_onnx(path)


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "C:\\weights.bin", "a/../../weights.bin", "link.bin"]
)
def test_external_weights_stay_in_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(b"")
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    model = onnx.load(small(folder / "net.onnx"))
    outside = model.graph.initializer[0]
    outside.ClearField("raw_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.append(onnx.StringStringEntryProto(key="location", value=location))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="outside the model's folder"):
        read_onnx(folder / "net.onnx")


def test_external_weights_beside_the_model_are_never_opened(tmp_path: Path) -> None:
    model = onnx.load(small(tmp_path / "net.onnx"))
    beside = model.graph.initializer[0]
    beside.ClearField("raw_data")
    beside.data_location = onnx.TensorProto.EXTERNAL
    beside.external_data.append(onnx.StringStringEntryProto(key="location", value="absent.bin"))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert macs(read_onnx(tmp_path / "net.onnx").graph(1.0, 32.0)) == expected(32)


def test_operators_of_private_domains_are_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Exec", ["image"], ["out"], domain="com.example")
    with pytest.raises(FileFormatError, match="unknown domain"):
        read_onnx(saved(tmp_path / "p.onnx", [node], [], (1, 3, 8, 8), "out"))


def test_shapes_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Conv", ["image", "w"], ["out"], kernel_shape=[3, 3])
    with pytest.raises(FileFormatError):
        read_onnx(saved(tmp_path / "s.onnx", [node], [tensor("w", 8, 5, 3, 3)], (1, 3, 8, 8), "out")).graph(1.0)
