"""Networks over images as graphs: a tracer that follows the shape of one tensor and writes down the ops it meets.

Sizes may be columns, the batch and the resolution above all. Convolutions pad to keep size / stride (rounded up) unless
they are said not to. A normalisation or activation is an op of its own, as eager frameworks run it; who prices the
graph may fuse it. `repeat` stores equal blocks once, with a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.core.dtypes import Scheme
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.ops import Attention, Convolution, Dim, Matmul, Op, Vector


@dataclass(frozen=True, slots=True)
class Tensor:
    """Channels and positions of one image's activations."""

    channels: Dim
    height: Dim
    width: Dim

    @property
    def positions(self) -> Dim:
        """Pixels."""
        return self.height * self.width

    @property
    def values(self) -> Dim:
        """Elements per image."""
        return self.channels * self.positions


class Tracer:
    """Writes the ops of a network as it is built; methods take a tensor and give the next one."""

    __slots__ = ("_items", "batch", "scheme")

    def __init__(self, batch: Dim, scheme: Scheme) -> None:
        """Start an empty graph for `batch` images computed in `scheme`."""
        self.batch, self.scheme = batch, scheme
        self._items: list[Op | Repeat] = []

    def graph(self, name: str) -> Graph:
        """What was written so far."""
        return Graph(name, tuple(self._items))

    def conv(
        self,
        x: Tensor,
        channels: Dim,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        groups: Dim = 1.0,
        norm: bool = True,
        act: bool = True,
        bias: bool = False,
        valid: bool = False,
    ) -> Tensor:
        """A convolution, its batch norm and its activation (each if asked for)."""
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        out = Tensor(channels, _size(x.height, high, stride, valid), _size(x.width, wide, stride, valid))
        self._add(
            Convolution(
                name="conv" if np.all(np.asarray(groups) == 1.0) else "group_conv",
                part="conv",
                batch=self.batch,
                in_channels=x.channels,
                out_channels=channels,
                in_positions=x.positions,
                out_positions=out.positions,
                kernel=float(high * wide),
                scheme=self.scheme,
                groups=groups,
                bias=bias,
            )
        )
        if norm:
            self.norm(out)
        return self.act(out) if act else out

    def norm(self, x: Tensor, kind: str = "batch_norm") -> Tensor:
        """A normalisation with gain and offset per channel."""
        self._vector(kind, x.values, weights=2.0 * x.channels)
        return x

    def act(self, x: Tensor, kind: str = "activation") -> Tensor:
        """An elementwise function."""
        self._vector(kind, x.values)
        return x

    def add(self, x: Tensor, *, weights: Dim = 0.0) -> Tensor:
        """The sum with another tensor of the same shape (`weights`: a learned scale before it)."""
        self._vector("add", x.values, reads=2.0, weights=weights)
        return x

    def pool(self, x: Tensor, kernel: int, stride: int, *, valid: bool = False) -> Tensor:
        """Maximum or average over windows."""
        out = Tensor(x.channels, _size(x.height, kernel, stride, valid), _size(x.width, kernel, stride, valid))
        self._vector("pool", x.values + out.values, reads=0.5, writes=0.5, flops=float(kernel * kernel))
        return out

    def concat(self, x: Tensor, channels: Dim) -> Tensor:
        """The tensor with `channels` more, copied together."""
        out = replace(x, channels=x.channels + channels)
        self._vector("concat", out.values)
        return out

    def squeeze(
        self, x: Tensor, inner: Dim, *, gate: bool = True, bias: bool = True, inner_norm: bool = False
    ) -> Tensor:
        """Squeeze and excitation (arXiv 1709.01507): pooled channels through two matmuls scale the tensor."""
        self._vector("pool", x.values, writes=0.0)
        pooled = Tensor(x.channels, 1.0, 1.0)
        self.conv(pooled, inner, bias=bias, norm=inner_norm)
        self.conv(replace(pooled, channels=inner), x.channels, bias=bias, norm=False, act=gate)
        self._vector("scale", x.values)
        return x

    def mean(self, x: Tensor) -> Tensor:
        """The average of each channel."""
        self._vector("pool", x.values, writes=0.0)
        return Tensor(x.channels, 1.0, 1.0)

    def linear(self, x: Tensor, channels: Dim, *, bias: bool = True, part: str = "linear") -> Tensor:
        """A matmul over channels at every position."""
        self._add(
            Matmul(
                name=part,
                part=part,
                m=self.batch * x.positions,
                n=channels,
                k=x.channels,
                scheme=self.scheme,
                bias=bias,
            )
        )
        return replace(x, channels=channels)

    def mix(self, x: Tensor, positions: Dim, *, bias: bool = True) -> Tensor:
        """A matmul over positions for every channel (token mixing)."""
        self._add(
            Matmul(
                name="mix",
                part="mix",
                m=self.batch * x.channels,
                n=positions,
                k=x.positions,
                scheme=self.scheme,
                bias=bias,
            )
        )
        return Tensor(x.channels, positions, 1.0)

    def product(self, x: Tensor, rows: Dim, columns: Dim, depth: Dim, count: Dim) -> Tensor:
        """`count` matmuls per image of two activations, [rows, depth] by [depth, columns]; the shape stays `x`."""
        self._add(
            Matmul(
                name="product",
                part="attention",
                m=rows,
                n=columns,
                k=depth,
                batch=self.batch * count,
                scheme=self.scheme,
                weights=False,
            )
        )
        return x

    def parameters(self, count: Dim) -> None:
        """Weights that no matmul holds: position tables, class tokens, biases of attention."""
        self._vector("embedding", 0.0 * np.asarray(count), weights=count)

    def attention(self, x: Tensor, heads: Dim, width: Dim, *, windows: Dim = 1.0, keys: Dim | None = None) -> Tensor:
        """Softmax attention of `heads` over the positions of each of `windows` equal windows."""
        queries = x.positions / windows
        self._add(
            Attention(
                name="attention" if keys is not None or np.all(np.asarray(windows) == 1.0) else "window_attention",
                part="attention",
                phase="prefill",
                batch=self.batch * windows,
                q_len=queries,
                kv_len=queries if keys is None else keys,
                heads=heads,
                kv_heads=heads,
                head_dim=width,
                v_head_dim=width,
                causal=False,
            )
        )
        return replace(x, channels=heads * width)

    @contextmanager
    def repeat(self, count: Dim, *, again: bool = False) -> Iterator[None]:
        """What is written inside runs `count` times in a row, with weights of their own unless it is the same again."""
        outer, self._items = self._items, []
        yield
        inner, self._items = self._items, outer
        self._items.append(Repeat(Graph("block", tuple(inner)), count, again))

    def _vector(
        self, kind: str, values: Dim, *, reads: float = 1.0, writes: float = 1.0, weights: Dim = 0.0, flops: float = 4.0
    ) -> None:
        elements = self.batch * values
        self._add(
            Vector(
                name=kind,
                part="vector",
                kind=kind,
                elements=elements,
                reads=reads,
                writes=writes,
                weights=weights,
                dtype=self.scheme.activation,
                flops_per_element=flops,
            )
        )

    def _add(self, op: Op) -> None:
        self._items.append(op)


def _size(size: Dim, kernel: int, stride: int, valid: bool) -> Dim:
    if valid:
        kept: Dim = np.floor((np.asarray(size, float) - kernel) / stride) + 1.0
        return kept
    rounded: Dim = np.ceil(np.asarray(size, float) / stride)
    return rounded


def divisible(channels: float, divisor: int = 8, *, keep: float = 0.9) -> float:
    """`channels` rounded to a multiple of `divisor`, never below `keep` of it (MobileNetV2, arXiv 1801.04381, code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return float(rounded + divisor if rounded < keep * channels else rounded)


Build = Callable[..., Tensor]
"""A network: (tracer, image, **numbers of its card) -> its last tensor."""

CLASSES = 1000.0
"""ImageNet-1k, which classifiers are compared on."""
