"""Residual and plain convolutional networks: ResNet and its kin, pre-activation ResNets, RegNet, VGG, DenseNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline.workloads.families.convolutional import CLASSES, Tensor, Tracer, divisible

WIDTHS = (64.0, 128.0, 256.0, 512.0)
"""Channels of the four stages before expansion (arXiv 1512.03385, table 1)."""


def resnet(
    net: Tracer,
    x: Tensor,
    *,
    layers: Sequence[int],
    block: str = "bottleneck",
    stem: str = "plain",
    stem_width: float = 32.0,
    average_down: bool = False,
    cardinality: float = 1.0,
    base_width: float = 64.0,
    squeeze: bool = False,
    squeeze_ratio: float = 0.0625,
    channel_attention: bool = False,
    pooled_stem: bool = True,
    classes: float = CLASSES,
) -> Tensor:
    """ResNet (1512.03385), ResNeXt (1611.05431), Wide ResNet (1605.07146), SE (1709.01507), the tricks of 1812.01187.

    Args:
        net: writes the ops.
        x: the image.
        layers: blocks per stage.
        block: basic or bottleneck.
        stem: plain (7x7), deep (three 3x3) or tiered (deep with growing widths).
        stem_width: channels of the first convolutions of a deep stem; the last has twice as many.
        average_down: shortcuts shrink by average pooling instead of a strided convolution.
        cardinality: groups of the 3x3 convolution; `base_width` their width at 64 channels.
        base_width: see cardinality.
        squeeze: squeeze and excitation in each block, to `squeeze_ratio` of its channels.
        squeeze_ratio: see squeeze.
        channel_attention: efficient channel attention (1910.03151), a few weights per block.
        pooled_stem: a maximum pool after the stem, not a strided convolution (ResNet-RS, 2103.07579).
        classes: outputs.
    """
    x = _stem(net, x, stem, stem_width)
    x = net.pool(x, 3, 2) if pooled_stem else net.conv(x, x.channels, 3, stride=2)
    for stage, (width, count) in enumerate(zip(WIDTHS, layers, strict=True)):
        for first, times in ((True, 1), (False, count - 1)):
            if not times:
                continue
            stride = 2 if first and stage else 1
            with net.repeat(times):
                x = _residual(
                    net,
                    x,
                    width,
                    stride,
                    basic=block == "basic",
                    average_down=average_down,
                    inner=np.floor(width * base_width / 64.0) * cardinality,
                    groups=cardinality,
                    squeeze=squeeze_ratio if squeeze else 0.0,
                    channel_attention=channel_attention,
                )
    return net.linear(net.mean(x), classes, part="head")


def _stem(net: Tracer, x: Tensor, stem: str, width: float) -> Tensor:
    if stem == "plain":
        return net.conv(x, 64.0, 7, stride=2)
    first = 0.75 * width if stem == "tiered" else width
    x = net.conv(x, first, 3, stride=2)
    x = net.conv(x, width, 3)
    return net.conv(x, 2.0 * width, 3)


def _residual(
    net: Tracer,
    x: Tensor,
    width: float,
    stride: int,
    *,
    basic: bool,
    average_down: bool,
    inner: float,
    groups: float,
    squeeze: float,
    channel_attention: bool,
) -> Tensor:
    out = width if basic else 4.0 * width
    if stride > 1 or np.any(np.asarray(x.channels) != out):
        short = net.pool(x, 2, 2) if average_down and stride > 1 else x
        net.conv(short, out, 1, stride=1 if average_down else stride, act=False)
    if basic:
        y = net.conv(x, width, 3, stride=stride)
        y = net.conv(y, out, 3, act=False)
    else:
        y = net.conv(x, inner, 1)
        y = net.conv(y, inner, 3, stride=stride, groups=groups)
        y = net.conv(y, out, 1, act=False)
    if squeeze:
        net.squeeze(y, divisible(out * squeeze, 8, keep=0.0))
    if channel_attention:
        net.mean(y)
        net.act(y, "scale")
    return net.act(net.add(y))


def resnet_v2(
    net: Tracer, x: Tensor, *, layers: Sequence[int], width: float = 1.0, stem: str = "plain", classes: float = CLASSES
) -> Tensor:
    """Pre-activation ResNet (1603.05027); `width` multiplies channels as in Big Transfer (1912.11370)."""
    if stem == "plain":
        x = net.conv(x, 64.0 * width, 7, stride=2, norm=False, act=False)
    else:
        x = _stem(net, x, stem, 32.0 * width)
    x = net.pool(x, 3, 2)
    for stage, (base, count) in enumerate(zip(WIDTHS, layers, strict=True)):
        out = 4.0 * base * width
        for first, times in ((True, 1), (False, count - 1)):
            if not times:
                continue
            stride = 2 if first and stage else 1
            with net.repeat(times):
                y = net.act(net.norm(x))
                if first:
                    short = net.pool(x, 2, 2) if stem != "plain" and stride > 1 else x
                    net.conv(short, out, 1, stride=1 if stem != "plain" else stride, norm=False, act=False)
                y = net.conv(y, out / 4.0, 1)
                y = net.conv(y, out / 4.0, 3, stride=stride)
                x = net.add(net.conv(y, out, 1, norm=False, act=False))
    x = net.mean(net.act(net.norm(x)))
    return net.linear(x, classes, part="head")


def regnet(
    net: Tracer,
    x: Tensor,
    *,
    depth: int,
    initial: float,
    slope: float,
    multiplier: float,
    group: float,
    squeeze: bool = False,
    stem: float = 32.0,
    classes: float = CLASSES,
) -> Tensor:
    """RegNet X and Y (arXiv 2003.13678): widths on a quantised line, blocks of one group width."""
    x = net.conv(x, stem, 3, stride=2)
    for width, times in _regnet_stages(depth, initial, slope, multiplier, group):
        for first, count in ((True, 1), (False, times - 1)):
            if not count:
                continue
            with net.repeat(count):
                stride = 2 if first else 1
                if first:
                    net.conv(x, width, 1, stride=2, act=False)
                y = net.conv(x, width, 1)
                y = net.conv(y, width, 3, stride=stride, groups=width / min(group, width))
                if squeeze:
                    net.squeeze(y, np.round(0.25 * np.asarray(x.channels, float)))
                x = net.act(net.add(net.conv(y, width, 1, act=False)))
    return net.linear(net.mean(x), classes, part="head")


def _regnet_stages(
    depth: int, initial: float, slope: float, multiplier: float, group: float
) -> list[tuple[float, int]]:
    """Width and depth of each stage (section 3.3 of the paper, and the rounding of its code)."""
    line = initial + slope * np.arange(depth)
    steps = np.round(np.log(line / initial) / np.log(multiplier))
    widths = np.round(initial * multiplier**steps / 8.0) * 8.0
    found, counts = np.unique(widths, return_counts=True)
    groups = np.minimum(group, found)
    fitted = np.round(found / groups) * groups
    return list(zip(fitted.tolist(), counts.tolist(), strict=True))


def vgg(net: Tracer, x: Tensor, *, layers: Sequence[int], norm: bool = False, classes: float = CLASSES) -> Tensor:
    """VGG (arXiv 1409.1556): `layers` 3x3 convolutions per stage, then three fully connected layers."""
    for count, width in zip(layers, (64.0, 128.0, 256.0, 512.0, 512.0), strict=True):
        for _ in range(count):
            x = net.conv(x, width, 3, bias=True, norm=norm)
        x = net.pool(x, 2, 2)
    # The first fully connected layer is a 7x7 convolution, so that larger images pool its outputs.
    x = net.conv(x, 4096.0, 7, bias=True, norm=False, valid=True)
    x = net.conv(x, 4096.0, 1, bias=True, norm=False)
    return net.linear(net.mean(x), classes, part="head")


def densenet(
    net: Tracer,
    x: Tensor,
    *,
    layers: Sequence[int],
    growth: float = 32.0,
    initial: float = 64.0,
    deep_stem: bool = False,
    classes: float = CLASSES,
) -> Tensor:
    """DenseNet (arXiv 1608.06993): each layer adds `growth` channels to all that came before it."""
    x = _stem(net, x, "deep", initial / 2.0) if deep_stem else net.conv(x, initial, 7, stride=2)
    x = net.pool(x, 3, 2)
    for stage, count in enumerate(layers):
        for _ in range(count):
            y = net.act(net.norm(x))
            y = net.conv(y, 4.0 * growth, 1)
            net.conv(y, growth, 3, norm=False, act=False)
            x = net.concat(x, growth)
        if stage < len(layers) - 1:
            y = net.act(net.norm(x))
            x = net.pool(net.conv(y, np.floor(np.asarray(x.channels) / 2.0), 1, norm=False, act=False), 2, 2)
    x = net.mean(net.act(net.norm(x)))
    return net.linear(x, classes, part="head")


def vovnet(
    net: Tracer,
    x: Tensor,
    *,
    blocks: Sequence[int],
    inner: Sequence[float] = (128.0, 160.0, 192.0, 224.0),
    outer: Sequence[float] = (256.0, 512.0, 768.0, 1024.0),
    layers: int = 5,
    stem: Sequence[float] = (64.0, 64.0, 128.0),
    depthwise: bool = False,
    squeeze: bool = True,
    classes: float = CLASSES,
) -> Tensor:
    """VoVNet V2 (arXiv 1911.06667): each block concatenates the outputs of `layers` convolutions once, at its end; the
    last of a stage squeezes.
    """
    for width, stride in zip(stem, (2, 1, 2), strict=True):
        separable = depthwise and x.channels != 3.0
        if separable:
            x = net.conv(x, x.channels, 3, stride=stride, groups=x.channels, norm=False, act=False)
        x = net.conv(x, width, 1 if separable else 3, stride=1 if separable else stride)
    for stage, (count, mid, out) in enumerate(zip(blocks, inner, outer, strict=True)):
        if stage:
            x = net.pool(x, 3, 2)
        kinds = ((1, False, count == 1), (count - 2, True, False), (min(1, count - 1), True, True))
        for times, skips, last in kinds:
            if times > 0:
                with net.repeat(times):
                    x = _one_shot(net, x, mid, out, layers, depthwise=depthwise, skips=skips, squeeze=squeeze and last)
    return net.linear(net.mean(x), classes, part="head")


def _one_shot(
    net: Tracer, x: Tensor, mid: float, out: float, layers: int, *, depthwise: bool, skips: bool, squeeze: bool
) -> Tensor:
    y = net.conv(x, mid, 1) if depthwise and x.channels != mid else x
    for _ in range(layers):
        if depthwise:
            y = net.conv(y, mid, 3, groups=mid, norm=False, act=False)
        y = net.conv(y, mid, 1 if depthwise else 3)
    y = net.conv(net.concat(x, layers * mid), out, 1)
    if squeeze:
        net.mean(y)
        net.conv(Tensor(out, 1.0, 1.0), out, bias=True, norm=False)
        net.act(y, "scale")
    return net.add(y) if skips else y
