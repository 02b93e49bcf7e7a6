"""Networks of inverted residuals: MobileNet, MnasNet, EfficientNet and what is written in their notation of stages.

A stage is a list of words such as `ir_r2_k3_s2_e6_c24_se0.25`: two inverted residuals of kernel 3, stride 2 in the
first, expansion 6, 24 channels, squeeze ratio 0.25. Kinds: `cn` convolution, `ds` depthwise and pointwise, `dsa` the
same with an activation after both, `ir` inverted residual, `er` its fused form (expansion by the full kernel), `uir`
the universal form of MobileNetV4 with an optional depthwise of kernel `a` before it. The notation is that of MnasNet's
and EfficientNet's published code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ridgeline.core.errors import SpecError
from ridgeline.workloads.families.convolutional import CLASSES, Tensor, Tracer, divisible

KINDS = ("cn", "ds", "dsa", "ir", "er", "uir")

_WORD = re.compile(r"([a-z]+)([0-9.]*)")
_NUMBERS = frozenset({"r", "k", "s", "e", "c", "se", "a", "fc"})
_FLAGS = frozenset({"noskip", "skip", "nre"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """One word of a stage."""

    kind: str
    channels: float
    repeats: int = 1
    kernel: int = 3
    stride: int = 1
    expansion: float = 1.0
    squeeze: float = 0.0
    before: int = 0
    skip: bool = True
    forced: float = 0.0


def parse(text: str) -> Blocks:
    """The blocks that a word describes. Raises SpecError for what the notation does not have."""
    kind, *words = text.split("_")
    found: dict[str, float] = {}
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None or (match[1] not in _NUMBERS if match[2] else match[1] not in _FLAGS):
            raise SpecError("unknown word in a stage", at=text, got=word, fix="r2_k3_s2_e6_c24_se0.25")
        found[match[1]] = float(match[2] or 1)
    if kind not in KINDS or "c" not in found:
        raise SpecError("a stage needs a kind and channels", at=text, got=kind, fix=f"one of {', '.join(KINDS)}")
    return Blocks(
        kind=kind,
        channels=found["c"],
        repeats=int(found.get("r", 1)),
        kernel=int(found.get("k", 3)),
        stride=int(found.get("s", 1)),
        expansion=found.get("e", 1.0),
        squeeze=found.get("se", 0.0),
        before=int(found.get("a", 0)),
        skip="noskip" not in found,
        forced=found.get("fc", 0.0),
    )


def mobile(
    net: Tracer,
    x: Tensor,
    *,
    stages: Sequence[str],
    stem: float = 32.0,
    head: float = 0.0,
    late_head: float = 0.0,
    width: float = 1.0,
    depth: float = 1.0,
    fixed_ends: bool = False,
    fixed_stem: bool = False,
    fixed_head: bool = False,
    squeeze_from_inner: bool = False,
    keep: float = 0.9,
    classes: float = CLASSES,
) -> Tensor:
    """A network of stages.

    Args:
        net: writes the ops.
        x: the image.
        stages: each a space-separated list of words in the notation of this module.
        stem: channels of the first convolution; 0 for none.
        head: channels of the last convolution before pooling; `late_head` of one after it. 0 for none.
        late_head: see head.
        width: multiplies channels, to multiples of 8; `depth` repeats, rounded up.
        depth: see width.
        fixed_ends: the first and the last stage keep their repeats (EfficientNet-Lite).
        fixed_stem: the stem keeps its channels whatever `width`; `fixed_head` the head.
        fixed_head: see fixed_stem.
        squeeze_from_inner: the squeeze ratio counts from the expanded channels (MobileNetV3).
        keep: share of its scaled width below which rounding may not take a layer.
        classes: outputs.
    """

    def scaled(channels: float) -> float:
        return divisible(channels * width, keep=keep) if width != 1.0 else channels

    if stem:
        x = net.conv(x, stem if fixed_stem else scaled(stem), 3, stride=2)
    for i, stage in enumerate(stages):
        words = [parse(word) for word in stage.split()]
        ends = fixed_ends and i in (0, len(stages) - 1)
        counts = _deepened([word.repeats for word in words], 1.0 if ends else depth)
        for word, count in zip(words, counts, strict=True):
            sized = replace(word, channels=scaled(word.channels), forced=scaled(word.forced) if word.forced else 0.0)
            x = _blocks(net, x, sized, count, squeeze_from_inner)
    if head:
        x = net.conv(x, head if fixed_head else max(scaled(head), head if width < 1 else 0.0), 1)
    x = net.mean(x)
    if late_head:
        x = net.conv(x, late_head if fixed_head else scaled(late_head), 1, norm=False, bias=True)
    return net.linear(x, classes, part="head")


def _deepened(repeats: Sequence[int], depth: float) -> list[int]:
    """Repeats of one stage, multiplied together and shared out from the last word on."""
    total, rest = sum(repeats), math.ceil(sum(repeats) * depth)
    counts = []
    for repeat in reversed(repeats):
        share = max(1, round(repeat / total * rest))
        counts.append(share)
        total, rest = total - repeat, rest - share
    return counts[::-1]


def _blocks(net: Tracer, x: Tensor, word: Blocks, count: int, from_inner: bool) -> Tensor:
    for first, times in ((True, 1), (False, count - 1)):
        if not times:
            continue
        with net.repeat(times):
            x = _block(net, x, word, word.stride if first else 1, from_inner)
    return x


def _block(net: Tracer, x: Tensor, word: Blocks, stride: int, from_inner: bool) -> Tensor:
    out = word.channels
    skips = word.skip and stride == 1 and bool(x.channels == out) and word.kind not in ("dsa",)
    if word.kind == "cn":
        y = net.conv(x, out, word.kernel, stride=stride)
        return net.add(y) if skips and word.kernel > 1 else y
    entering = float(x.channels)
    inner = divisible((word.forced or entering) * word.expansion)
    y = x
    if word.kind in ("ds", "dsa"):
        inner = entering
        y = net.conv(y, inner, word.kernel, stride=stride, groups=inner)
    elif word.kind == "er":
        y = net.conv(y, inner, word.kernel, stride=stride)
    elif word.kind == "uir":
        if word.before:
            y = net.conv(y, entering, word.before, stride=1 if word.kernel else stride, groups=entering, act=False)
        y = net.conv(y, inner, 1)
        if word.kernel:
            y = net.conv(y, inner, word.kernel, stride=stride, groups=inner)
    else:
        if word.expansion != 1.0:
            y = net.conv(y, inner, 1)
        y = net.conv(y, inner, word.kernel, stride=stride, groups=inner)
    if word.squeeze:
        base = inner if from_inner or word.kind == "ds" else entering
        net.squeeze(y, divisible(base * word.squeeze) if from_inner else max(1.0, round(base * word.squeeze)))
    y = net.conv(y, out, 1, act=word.kind == "dsa")
    return net.add(y) if skips else y
