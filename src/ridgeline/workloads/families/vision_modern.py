"""Networks of the transformer age: ViT and its kin, Swin, MLP-Mixer, ConvNeXt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline.workloads.families.convolutional import CLASSES, Tensor, Tracer
from ridgeline.workloads.ops import Dim


def convnext(
    net: Tracer,
    x: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[float],
    overlapping_stem: bool = False,
    response_norm: bool = False,
    classes: float = CLASSES,
) -> Tensor:
    """ConvNeXt (arXiv 2201.03545) and, with global response normalisation, V2 (2301.00808)."""
    if overlapping_stem:
        x = net.conv(x, widths[0] / 2.0, 3, stride=2, norm=False, act=False, bias=True)
        x = net.conv(x, widths[0], 3, stride=2, norm=False, act=False, bias=True)
    else:
        x = net.conv(x, widths[0], 4, stride=4, norm=False, act=False, bias=True, valid=True)
    net.norm(x, "layer_norm")
    for stage, (count, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            net.norm(x, "layer_norm")
            x = net.conv(x, width, 2, stride=2, norm=False, act=False, bias=True, valid=True)
        with net.repeat(count):
            y = net.conv(x, width, 7, groups=width, norm=False, act=False, bias=True)
            net.norm(y, "layer_norm")
            y = net.act(net.linear(y, 4.0 * width))
            if response_norm:
                net.norm(y, "response_norm")
            y = net.linear(y, width)
            net.add(y, weights=0.0 if response_norm else width)
    x = net.mean(x)
    net.norm(x, "layer_norm")
    return net.linear(x, classes, part="head")


def vit(
    net: Tracer,
    x: Tensor,
    *,
    patch: int,
    width: float,
    depth: int,
    heads: float,
    mlp: float = 4.0,
    gated: bool = False,
    class_tokens: float = 1.0,
    registers: float = 0.0,
    position_table: bool = True,
    pooled_by_attention: bool = False,
    gap_norm: bool = True,
    scales: bool = False,
    extra_linears: float = 0.0,
    classes: float = CLASSES,
) -> Tensor:
    """Vision transformer (arXiv 2010.11929) and what changes its sizes: DeiT, BEiT, EVA, DINO, CLIP, SigLIP towers.

    Args:
        net: writes the ops.
        x: the image.
        patch: pixels along a side of a patch; `width`, `depth`, `heads` of the encoder.
        width: see patch.
        depth: see patch.
        heads: see patch.
        mlp: inner width over width; `gated` inserts a gate of that width.
        gated: see mlp.
        class_tokens: learned tokens for classification; `registers` further ones.
        registers: see class_tokens.
        position_table: learned positions, one per token.
        pooled_by_attention: one learned query attends to all tokens, then an MLP (SigLIP).
        gap_norm: a norm before the head.
        scales: a learned scale on each branch (LayerScale).
        extra_linears: further square matmuls on the class token.
        classes: outputs; 0 for a tower without head.
    """
    x = net.conv(x, width, patch, stride=patch, norm=False, act=False, bias=True, valid=True)
    patches = x.positions
    tokens = patches + class_tokens + registers
    net.parameters((class_tokens + registers) * width + (patches + class_tokens) * width * position_table)
    x = Tensor(width, tokens, 1.0)
    with net.repeat(depth):
        _encoder_layer(net, x, width, heads, mlp * width, gated=gated, scales=scales)
    if pooled_by_attention:
        _attention_pool(net, x, width, heads, mlp * width)
    last = Tensor(width, 1.0, 1.0)
    if gap_norm:
        net.norm(x, "layer_norm")
    if extra_linears:
        net.linear(last, extra_linears * width)
    return net.linear(last, classes, part="head") if classes else last


def _encoder_layer(
    net: Tracer, x: Tensor, width: Dim, heads: Dim, inner: Dim, *, gated: bool = False, scales: bool = False
) -> None:
    net.norm(x, "layer_norm")
    net.linear(x, 3.0 * width)
    net.attention(x, heads, width / heads)
    net.linear(x, width)
    net.add(x, weights=width if scales else 0.0)
    net.norm(x, "layer_norm")
    y = net.linear(x, inner * (2.0 if gated else 1.0))
    net.act(y)
    net.linear(Tensor(inner, x.height, x.width), width)
    net.add(x, weights=width if scales else 0.0)


def _attention_pool(net: Tracer, x: Tensor, width: Dim, heads: Dim, inner: Dim) -> None:
    one = Tensor(width, 1.0, 1.0)
    net.parameters(width)
    net.linear(one, width)
    net.linear(x, 2.0 * width)
    net.attention(one, heads, width / heads, keys=x.positions)
    net.linear(one, width)
    net.norm(one, "layer_norm")
    net.act(net.linear(one, inner))
    net.linear(Tensor(inner, 1.0, 1.0), width)


def swin(
    net: Tracer,
    x: Tensor,
    *,
    width: float,
    depths: Sequence[int],
    heads: Sequence[float],
    window: float,
    v2: bool = False,
    classes: float = CLASSES,
) -> Tensor:
    """Swin transformer (arXiv 2103.14030) and V2 (2111.09883): attention in windows, tokens merged between stages."""
    x = net.conv(x, width, 4, stride=4, norm=False, act=False, bias=True, valid=True)
    net.norm(x, "layer_norm")
    for stage, (count, number) in enumerate(zip(depths, heads, strict=True)):
        channels = width * 2.0**stage
        if stage:
            x = Tensor(4.0 * x.channels, np.ceil(x.height / 2.0), np.ceil(x.width / 2.0))
            net.act(x, "concat")
            net.norm(Tensor(channels, x.height, x.width) if v2 else x, "layer_norm")
            x = net.linear(x, channels, bias=False)
        side = np.minimum(window, x.height)
        # Windows that reach over the edge are padded to whole ones.
        windows = np.ceil(x.height / side) * np.ceil(x.width / side)
        padded = Tensor(channels, windows * side * side, 1.0)
        with net.repeat(count):
            _window_layer(net, x, padded, channels, number, windows, float(np.max(side)), v2=v2)
    net.norm(x, "layer_norm")
    return net.linear(net.mean(x), classes, part="head")


def _window_layer(
    net: Tracer, x: Tensor, padded: Tensor, width: Dim, heads: Dim, windows: Dim, side: float, *, v2: bool
) -> None:
    net.norm(x, "layer_norm")
    net.act(x, "shift")
    net.linear(padded, 3.0 * width)
    net.attention(padded, heads, width / heads, windows=windows)
    net.parameters(512.0 * (2.0 + heads) + 512.0 + heads if v2 else (2.0 * side - 1.0) ** 2 * heads)
    net.linear(padded, width)
    net.act(x, "shift")
    net.add(x)
    net.norm(x, "layer_norm")
    y = net.act(net.linear(x, 4.0 * width))
    net.linear(y, width)
    net.add(x)


def mixer(
    net: Tracer, x: Tensor, *, patch: int, width: float, depth: int, tokens_inner: float, classes: float = CLASSES
) -> Tensor:
    """MLP-Mixer (arXiv 2105.01601): two-layer perceptrons over tokens, then over channels."""
    x = net.conv(x, width, patch, stride=patch, norm=False, act=False, bias=True, valid=True)
    tokens = x.positions
    x = Tensor(width, tokens, 1.0)
    with net.repeat(depth):
        net.norm(x, "layer_norm")
        y = net.act(net.mix(x, tokens_inner))
        net.mix(y, tokens)
        net.add(x)
        net.norm(x, "layer_norm")
        y = net.act(net.linear(x, 4.0 * width))
        net.linear(y, width)
        net.add(x)
    net.norm(x, "layer_norm")
    return net.linear(net.mean(x), classes, part="head")


def res_mlp(net: Tracer, x: Tensor, *, patch: int, width: float, depth: int, classes: float = CLASSES) -> Tensor:
    """ResMLP (arXiv 2105.03404): one linear layer over tokens, two over channels, affine maps for norms."""
    x = net.conv(x, width, patch, stride=patch, norm=False, act=False, bias=True, valid=True)
    x = Tensor(width, x.positions, 1.0)
    with net.repeat(depth):
        net.norm(x, "affine")
        net.mix(x, x.positions)
        net.add(x, weights=width)
        net.norm(x, "affine")
        y = net.act(net.linear(x, 4.0 * width))
        net.linear(y, width)
        net.add(x, weights=width)
    net.norm(x, "affine")
    return net.linear(net.mean(x), classes, part="head")


def xcit(
    net: Tracer, x: Tensor, *, patch: int, width: float, depth: int, heads: float, classes: float = CLASSES
) -> Tensor:
    """XCiT (arXiv 2106.09681): attention between channels, depthwise convolutions between patches, class attention."""
    for shrink in (8.0, 4.0, 2.0, 1.0) if patch == 16 else (4.0, 2.0, 1.0):
        x = net.conv(x, width / shrink, 3, stride=2, act=shrink > 1.0)
    grid = x
    net.parameters(64.0 * width + 2.0 * width)
    with net.repeat(depth):
        net.norm(x, "layer_norm")
        net.linear(x, 3.0 * width)
        each = width / heads
        net.product(x, each, each, x.positions, heads)
        net.product(x, each, x.positions, each, heads)
        net.linear(x, width)
        net.add(x, weights=width + heads)
        net.norm(x, "layer_norm")
        net.conv(grid, width, 3, groups=width, norm=False, bias=True)
        net.conv(net.norm(grid), width, 3, groups=width, norm=False, act=False, bias=True)
        net.add(x, weights=width)
        net.norm(x, "layer_norm")
        net.linear(net.act(net.linear(x, 4.0 * width)), width)
        net.add(x, weights=width)
    one = Tensor(width, 1.0, 1.0)
    with net.repeat(2.0):
        net.norm(x, "layer_norm")
        net.linear(x, 2.0 * width)
        net.linear(one, width)
        net.attention(one, heads, width / heads, keys=x.positions + 1.0)
        net.linear(one, width)
        net.add(x, weights=width)
        net.norm(x, "layer_norm")
        net.linear(net.act(net.linear(one, 4.0 * width)), width)
        net.add(x, weights=width)
    net.parameters(width)
    net.norm(one, "layer_norm")
    return net.linear(one, classes, part="head")
