"""What a network learns and what that keeps in memory: all layers, the last ones, biases, parts of some weights.

Only layers from the first trained one on have a backward pass, and only layers whose weights learn keep their inputs
for it (sparse update, arXiv 2206.15472, section 2.3). The same graph that prices a network says what each op keeps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.ops import Attention, Convolution, Dim, Matmul, Op, Vector

Column = NDArray[np.float64]

NORMS = ("batch_norm", "layer_norm", "response_norm")

BIAS_BYTES = GRADIENT_BYTES = 4.0
"""Biases of integer graphs, and gradients of all: the backward kernels of integer graphs are in fp32 too
(mit-han-lab/tinyengine, TinyEngine/src/kernels/fp_backward_op)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Which layers learn; the head (the last matmul) always does.

    Attributes:
        layers: weights and biases of so many layers before the head, counted from it (infinity: all).
        biases: biases of so many.
        weights: besides, (number, share of its input channels) of layers counted from 0 at the input.
    """

    layers: float = np.inf
    biases: float = 0.0
    weights: tuple[tuple[int, float], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it is all or the last layers, weights and biases alike."""
        return not self.biases and not self.weights

    def shares(self, layers: int) -> tuple[Column, Column]:
        """Share of the weights, and of the biases, that learn, of each of so many layers before the head.

        Raises DomainError: a layer that is not there, or whose bias does not learn with its weights.
        """
        number = np.arange(layers)
        weights = (number >= layers - self.layers).astype(np.float64)
        biases = np.maximum(weights, number >= layers - self.biases)
        for place, share in self.weights:
            if place >= layers:
                fix = f"number layers 0 to {layers - 1}"
                raise DomainError("no such layer", at="trained", got=place, fix=fix)
            weights[place] = share
            biases[place] = 1.0
        return weights, biases


WORDS = re.compile(r"^(?:last (\d+)|biases (\d+))$")
ONE = re.compile(r"^(\d+)(?::(0?\.\d+|1(?:\.0+)?|0))?$")


def update_of(text: str) -> Update:
    """The update that words say: "all" (or nothing), "head", "last 4", "biases 16", "biases 16, 36 39 41:0.25".

    Raises DomainError: other words.
    """
    told = " ".join(text.lower().split())
    if told in ("", "all", "full"):
        return Update()
    if told == "head":
        return Update(layers=0.0)
    layers, biases, weights = 0.0, 0.0, list[tuple[int, float]]()
    for part in filter(None, (part.strip() for part in told.split(","))):
        found = WORDS.match(part)
        if found:
            layers, biases = float(found[1] or layers), float(found[2] or biases)
            continue
        for word in part.split():
            one = ONE.match(word)
            if not one:
                fix = 'say all, head, "last 4", "biases 16", or "biases 16, 36 39 41:0.25" (layers, shares of inputs)'
                raise DomainError("not an update", at="trained", got=text, fix=fix)
            weights.append((int(one[1]), float(one[2] or 1.0)))
    return Update(layers=layers, biases=biases, weights=tuple(weights))


def described(update: Update) -> str:
    """The words of an update: `update_of` reads them back."""
    if update.layers == 0 and update.plain:
        return "head"
    words = [] if np.isfinite(update.layers) else ["all"]
    words += [f"last {update.layers:g}"] if 0 < update.layers < np.inf else []
    words += [f"biases {update.biases:g}"] if update.biases else []
    words += [" ".join(f"{place}:{share:g}" for place, share in update.weights)] if update.weights else []
    return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What training keeps and computes, one value per row.

    Attributes:
        learning, learning_bytes: parameters that learn, and as they are stored; `frozen_bytes` the others.
        saved_bytes: values that the backward pass needs, all together.
        peak_bytes: most bytes of activations and their gradients at any time, `saved_bytes` included as they come and
            go; in integer graphs with the gradients of one layer's weights, which are applied at once.
        backward: operations of the backward pass over those of the forward pass, `full_backward` if everything learns
            (2, but for the first layer, whose input needs no gradient).
        redone: operations computed again over those of the forward pass.
    """

    learning: Column
    learning_bytes: Column
    frozen_bytes: Column
    saved_bytes: Column
    peak_bytes: Column
    backward: Column
    full_backward: Column
    redone: Column


def kept_by(graph: Graph, updates: Sequence[Update], index: NDArray[np.intp], *, again: NDArray[np.bool_]) -> Kept:
    """What each row keeps that trains a network by one of `updates`.

    Args:
        graph:   of the forward pass; sizes may be columns of the rows.
        updates: distinct ones.
        index:   which of them each row has.
        again:   rows that keep the inputs of some ops only, and compute the rest of each stretch between two of them
            again: about the square root of all (Chen et al., arXiv 1604.06174).
    Raises DomainError: an update names layers that are not there.
    """
    ops = list(_unrolled(graph))
    weighted = [place for place, op in enumerate(ops) if _holds_weights(op)]
    if not weighted:
        raise DomainError("nothing of this network can learn", at="model", got=graph.name)
    rows = index.shape

    def stacked(values: Iterable[Dim]) -> Column:
        return np.stack([np.broadcast_to(np.asarray(value, float), rows) for value in values])

    weights, biases = _learning(ops, weighted, updates, index)
    # From the first op that learns on, ops pass gradients back; what stands right behind a layer belongs to it.
    reached = np.cumsum(np.maximum(weights, biases) > 0, axis=0) > 0
    passed = reached & (np.cumsum(reached, axis=0) > 1)
    integer = any(op.scheme.compute.startswith("int") for op in ops if isinstance(op, (Convolution, Matmul)))
    owner = np.maximum.accumulate([place if _holds_weights(op) else 0 for place, op in enumerate(ops)])
    one = np.ones(rows)
    everything = stacked(_parameters(op, one, one, integer)[1] for op in ops)
    parts = [_parameters(op, weights[i], biases[owner[i]], integer) for i, op in enumerate(ops)]
    learning, learning_bytes = np.stack(parts, axis=1)
    before = [None, *ops[:-1]]
    saved = stacked(_saved(op, weights[i], reached[i], before[i], integer) for i, op in enumerate(ops))
    # Frameworks keep gradients of weights until the optimizer runs, with its state; small devices apply them at once.
    gradients = learning * (GRADIENT_BYTES if integer else 0.0)
    inputs, outputs = (stacked(side) for side in _sides(ops, integer))
    stretch = np.where(again, max(math.ceil(math.sqrt(len(ops))), 1), len(ops))
    # Element by element there is little to compute; its time goes with the rest.
    flops = stacked(0.0 if isinstance(op, Vector) else op.flops() for op in ops)
    total = np.maximum(flops.sum(axis=0), 1.0)
    # Products of two activations have two gradients to form, as layers that learn.
    pairs = stacked(float(_is_product(op)) for op in ops) * reached
    return Kept(
        learning=learning.sum(axis=0),
        learning_bytes=learning_bytes.sum(axis=0),
        frozen_bytes=np.maximum((everything - learning_bytes).sum(axis=0), 0.0),
        saved_bytes=saved.sum(axis=0),
        peak_bytes=_peak(saved, inputs, outputs, gradients, reached, passed, stretch, integer=integer),
        backward=(flops * (weights + pairs + passed)).sum(axis=0) / total,
        full_backward=1.0 + flops[weighted[0] + 1 :].sum(axis=0) / total,
        redone=np.where(again, (flops * reached).sum(axis=0) / total, 0.0),
    )


def _learning(
    ops: Sequence[Op], weighted: Sequence[int], updates: Sequence[Update], index: NDArray[np.intp]
) -> tuple[Column, Column]:
    """Share of the weights, and of the biases, that learn, [ops, rows]."""
    learning = np.zeros((2, len(ops), index.size))
    shares = [update.shares(len(weighted) - 1) for update in updates]
    for side, part in zip(learning, zip(*shares, strict=True), strict=True):
        side[weighted[:-1]] = np.stack(part, axis=1)[:, index]
    learning[:, weighted[-1]] = 1.0
    return learning[0], learning[1]


def layers_of(graph: Graph) -> int:
    """Layers with weights before the head."""
    return sum(_holds_weights(op) for op in _unrolled(graph)) - 1


def _unrolled(graph: Graph) -> Iterator[Op]:
    for item in graph.items:
        if isinstance(item, Repeat):
            block = list(_unrolled(item.graph))
            for _ in range(round(float(np.max(np.asarray(item.count))))):
                yield from block
        else:
            yield item


def _holds_weights(op: Op) -> bool:
    return (isinstance(op, Convolution) and op.weights) or (isinstance(op, Matmul) and op.holds_weights)


def _is_product(op: Op) -> bool:
    return isinstance(op, Attention) or (isinstance(op, Matmul) and not op.holds_weights)


def _parameters(op: Op, weights: Column, biases: Column, integer: bool) -> Column:
    """(Parameters that learn, their bytes) of an op whose weights and biases learn by these shares. Integer graphs fold
    norms into the biases of the layers before them.
    """
    if isinstance(op, Vector):
        folded = integer and op.kind in NORMS
        count = np.zeros_like(biases) if folded else np.asarray(op.weight_elements()) * (biases > 0)
        one = op.weight_bytes() / np.maximum(op.weight_elements(), 1.0)
        return np.stack([count, count * one])
    if not isinstance(op, (Convolution, Matmul)) or not _holds_weights(op):
        return np.zeros((2, *weights.shape))
    outputs = op.out_channels if isinstance(op, Convolution) else op.n
    has_bias = integer or op.bias
    inner = op.weight_elements() - outputs * float(op.bias)
    trained, offsets = inner * _channel_share(op, weights), outputs * (biases > 0) * float(has_bias)
    one = op.scheme.weight.element_bytes
    return np.stack([trained + offsets, trained * one + offsets * (BIAS_BYTES if integer else one)])


def _channel_share(op: Convolution | Matmul, share: Column) -> Column:
    """Whole input channels that a share is."""
    channels = np.asarray(op.in_channels if isinstance(op, Convolution) else op.k, float)
    return np.asarray(np.floor(channels * share) / channels)


def _sides(ops: Sequence[Op], integer: bool) -> tuple[list[Dim], list[Dim]]:
    """Bytes of what goes into and comes out of each op. Nothing comes out of what works in place: element by element,
    and channel by channel in integer graphs (TinyEngine's depthwise kernels, arXiv 2007.10319, section 3.2).
    """
    inputs, outputs = list[Dim](), list[Dim]()
    for op in ops:
        sides = [operand for operand in op.operands() if operand.role != "weights"]
        inputs.append(sum((operand.read_bytes for operand in sides), start=np.float64(0.0)))
        written = sum((operand.write_bytes for operand in sides), start=np.float64(0.0))
        outputs.append(0.0 if _in_place(op, integer) else written)
    return inputs, outputs


def _in_place(op: Op, integer: bool) -> bool:
    if isinstance(op, Convolution):
        groups = np.asarray(op.groups)
        return integer and bool(np.all((groups > 1) & (groups >= op.in_channels)))
    return isinstance(op, Vector) and (integer or op.kind in ("activation", "add", "scale", *NORMS))


def _saved(op: Op, weights: Column, reached: NDArray[np.bool_], before: Op | None, integer: bool) -> Column:
    """Bytes that an op keeps for the backward pass.

    Layers that learn keep their inputs; integer graphs keep a bit per output of every layer that gradients pass,
    whether it was clipped; others keep inputs of norms and what activations give, which may be the next layer's input.
    """
    if isinstance(op, (Convolution, Matmul)):
        matmul = isinstance(op, Matmul)
        values = op.batch * (op.m * op.k if matmul else op.in_channels * op.in_positions)  # type: ignore[union-attr]
        given = op.batch * (op.m * op.n if matmul else op.out_channels * op.out_positions)  # type: ignore[union-attr]
        if not _holds_weights(op):
            pairs = values + op.batch * op.n * op.k  # type: ignore[union-attr]
            return np.asarray(pairs * op.scheme.activation.element_bytes * reached)
        twice = not integer and isinstance(before, Vector) and before.kind == "activation"
        share = 0.0 if twice else _channel_share(op, weights)
        bits = given / 8.0 if integer and op.part != "head" else 0.0
        return np.asarray(values * op.scheme.activation.element_bytes * share + bits * reached)
    if isinstance(op, Attention):
        read = sum((np.asarray(o.read_bytes, float) for o in op.operands()), start=np.zeros(()))
        return np.asarray(read * reached)
    if isinstance(op, Vector) and not integer and op.kind in ("activation", "scale", *NORMS):
        return np.asarray(op.elements * op.dtype.element_bytes * reached)
    return np.zeros(reached.shape)


def _peak(
    saved: Column,
    inputs: Column,
    outputs: Column,
    gradients: Column,
    reached: NDArray[np.bool_],
    passed: NDArray[np.bool_],
    stretch: NDArray[np.intp],
    *,
    integer: bool,
) -> Column:
    """Most bytes at once: what is kept so far and the op at work, forward or backward.

    Of several stretches only the inputs of their first ops stay; the stretch at work has all that it keeps.
    """
    wide = GRADIENT_BYTES if integer else 1.0
    peak = np.zeros(reached.shape[1:])
    for length in np.unique(stretch).tolist():
        parts = [saved[start : start + length].cumsum(axis=0) for start in range(0, len(saved), length)]
        inside = np.concatenate(parts)
        first = (np.arange(len(saved)) % length == 0) & (len(parts) > 1)
        marks = (inputs * first[:, None] * reached).cumsum(axis=0)
        forward = marks + inputs + outputs + (inside - saved if len(parts) == 1 else 0.0)
        backward = (marks + inside + wide * (outputs + inputs * passed) + gradients) * reached
        best = np.maximum(forward.max(axis=0), backward.max(axis=0))
        peak = np.where(stretch == length, best, peak)
    return peak
