"""Diffusion transformers that make images and videos: a text encoder, a denoiser run again at every step, a decoder.

The denoiser works on patches of a latent image that a decoder turns into pixels (arXiv 2112.10752, 2212.09748). With
classifier-free guidance each step evaluates it with and without the text (2207.12598), as a batch of twice the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ridgeline.workloads.families.convolutional import Tensor, Tracer
from ridgeline.workloads.ops import Dim

RESIDUAL_CONVS = 2
"""Convolutions of a residual block of a decoder."""


def diffusion(
    net: Tracer,
    x: Tensor,
    *,
    width: float,
    heads: float,
    steps: float,
    passes: float,
    text: Mapping[str, float],
    decoder: Mapping[str, Sequence[float] | float],
    joint: float = 0.0,
    single: float = 0.0,
    crossed: float = 0.0,
    linear: float = 0.0,
    twice: float = 0.0,
    skips: float = 0.0,
    ffn: float = 0.0,
    modulation: float = 6.0,
    modulation_from: float = 0.0,
    rotary: bool = False,
    squeeze: float = 8.0,
    patch: float = 2.0,
    channels: float = 16.0,
    aspect: float = 1.0,
    frames: float = 1.0,
    frame_squeeze: float = 4.0,
    frame_patch: float = 1.0,
) -> Tensor:
    """Images (or videos of `frames`) sampled by a diffusion transformer from one text each.

    Args:
        net: writes the ops.
        x: the picture: its height counts, its width is `aspect` times that.
        width: of the denoiser; `heads` of its attention, `ffn` its inner width (0: four times the width).
        heads: see width.
        steps: evaluations of the denoiser for a picture, each in `passes` (2 with classifier-free guidance).
        passes: see steps.
        text: of the encoder: `tokens`, `width`, `depth`, `ffn` (gated).
        decoder: channels of its levels from the latent to the pixels (`levels`), `blocks` of each, and `taps`.
        joint: blocks in which text and picture have weights of their own and attend together (arXiv 2403.03206), the
            first `twice` of which attend a second time within the picture.
        single: blocks of one stream of both, its feed-forward part beside the attention (FLUX, HunyuanVideo), or, where
            there are no joint ones, after it (CogVideoX).
        crossed: blocks that attend to the picture, then to the text (PixArt, Wan); `linear` ones without softmax and
            with a convolution in the feed-forward part (SANA, arXiv 2410.10629); `skips` concatenate earlier outputs.
        linear: see crossed.
        twice: see joint.
        skips: see crossed.
        ffn: see width.
        modulation: widths that scale and shift a block by the step, computed in each block from `modulation_from`
            values (0: from the width).
        modulation_from: see modulation.
        rotary: whether positions are turned into queries and keys in every block.
        squeeze: pixels along a side of a latent value, `patch` of which along a side make a token of `channels`.
        patch: see squeeze.
        channels: see squeeze.
        aspect: see x.
        frames: of a video, `frame_squeeze` to a latent frame after the first, `frame_patch` of those to a token.
        frame_squeeze: see frames.
        frame_patch: see frames.
    """
    high, wide = x.height / squeeze, x.height * aspect / squeeze
    latents = 1.0 + (frames - 1.0) / frame_squeeze
    picture = Tensor(width, high * wide / patch**2, latents / frame_patch)
    words = Tensor(width, text["tokens"], 1.0)
    ffn = ffn or 4.0 * width
    _encode(net, text)
    sampler, batch = net, net.batch
    with sampler.repeat(steps, again=True):
        net.batch = batch * passes
        inner = Tensor(channels * patch**2 * frame_patch, picture.height, picture.width)
        net.linear(inner, width, part="patches")
        net.linear(Tensor(text["width"], text["tokens"], 1.0), width, part="words")
        with net.repeat(joint):
            for stream in (picture, words):
                _modulate(net, stream, modulation, modulation_from)
                net.linear(stream, 3.0 * width)
            _attend(net, picture, heads, words.positions, rotary=rotary)
            for stream in (picture, words):
                _gate(net, net.linear(stream, width))
                _feed(net, stream, ffn)
        with net.repeat(twice):
            _modulate(net, picture, modulation / 2.0, modulation_from)
            net.linear(picture, 3.0 * width)
            _attend(net, picture, heads, rotary=rotary)
            _gate(net, net.linear(picture, width))
        both = Tensor(width, picture.positions + words.positions, 1.0)
        with net.repeat(single):
            _modulate(net, both, modulation if not joint else modulation / 2.0, modulation_from)
            net.linear(both, 3.0 * width)
            _attend(net, picture, heads, words.positions, rotary=rotary)
            if not joint:
                _gate(net, net.linear(both, width))
                _feed(net, both, ffn)
            else:
                net.act(net.linear(both, ffn))
                _gate(net, net.linear(Tensor(width + ffn, both.positions, 1.0), width))
        with net.repeat(crossed + linear):
            _modulate(net, picture, 0.0, 0.0)
            net.linear(picture, 3.0 * width)
            if linear:
                net.product(picture, width / heads, width / heads, picture.positions, heads)
                net.product(picture, picture.positions, width / heads, width / heads, heads)
            else:
                _attend(net, picture, heads, rotary=rotary)
            _gate(net, net.linear(picture, width))
            net.linear(picture, width)
            net.linear(words, 2.0 * width)
            net.attention(picture, heads, width / heads, keys=words.positions)
            net.add(net.linear(picture, width))
            if linear:
                _mix(net, picture, high, wide, ffn)
            else:
                _feed(net, picture, ffn)
        with net.repeat(skips):
            net.linear(net.concat(picture, width), width, part="skip")
        net.linear(picture, inner.channels, part="pixels")
        net.batch = batch
    return _decode(net, Tensor(channels, high, wide), latents, decoder)


def _encode(net: Tracer, text: Mapping[str, float]) -> None:
    """The encoder of the text: a transformer with a gated feed-forward part, run once."""
    words, heads = Tensor(text["width"], text["tokens"], 1.0), text["width"] / 64.0
    with net.repeat(text["depth"]):
        net.norm(words, "layer_norm")
        net.linear(words, 3.0 * words.channels)
        net.attention(words, heads, 64.0)
        net.add(net.linear(words, words.channels))
        net.norm(words, "layer_norm")
        net.act(net.linear(words, text["ffn"]))
        net.linear(words, text["ffn"])
        net.add(net.linear(Tensor(text["ffn"], words.positions, 1.0), words.channels))


def _modulate(net: Tracer, x: Tensor, widths: float, inputs: float) -> None:
    """A norm, scaled and shifted; what scales it may be computed in the block from a vector of the step."""
    if widths:
        net.linear(Tensor(inputs or x.channels, 1.0, 1.0), widths * x.channels, part="modulation")
    net.norm(x, "layer_norm")
    net.act(x, "scale")
    net.act(x, "scale")


def _attend(net: Tracer, x: Tensor, heads: float, more: Dim = 0.0, *, rotary: bool = False) -> None:
    """Norms of queries and keys, their positions, then attention among all tokens."""
    whole = Tensor(x.channels, x.positions + more, 1.0)
    both = Tensor(2.0 * x.channels, whole.positions, 1.0)
    net.norm(both, "layer_norm")
    if rotary:
        net.act(both, "rope")
    net.attention(whole, heads, x.channels / heads)


def _feed(net: Tracer, x: Tensor, inner: float) -> None:
    _modulate(net, x, 0.0, 0.0)
    net.act(net.linear(x, inner))
    _gate(net, net.linear(Tensor(inner, x.positions, 1.0), x.channels))


def _gate(net: Tracer, x: Tensor) -> None:
    """What a block adds to its input, scaled by the step."""
    net.act(x, "scale")
    net.add(x)


def _mix(net: Tracer, x: Tensor, high: Dim, wide: Dim, inner: float) -> None:
    """A gated feed-forward part with a depthwise convolution between its matmuls."""
    net.norm(x, "layer_norm")
    net.act(net.linear(x, 2.0 * inner))
    net.conv(Tensor(2.0 * inner, high, wide), 2.0 * inner, 3, groups=2.0 * inner, norm=False, act=False, bias=True)
    net.act(Tensor(inner, x.positions, 1.0), "scale")
    net.add(net.linear(Tensor(inner, x.positions, 1.0), x.channels))


def _decode(net: Tracer, x: Tensor, frames: Dim, decoder: Mapping[str, Sequence[float] | float]) -> Tensor:
    """Residual blocks at each level; between levels the sides double, and frames of a video until all are there."""
    levels, taps = decoder["levels"], decoder["taps"]
    assert isinstance(levels, Sequence) and isinstance(taps, int | float)
    kernel = (int(taps) // 3, 3)
    doublings = int(decoder.get("frame_doublings", 0))  # type: ignore[arg-type]
    x = Tensor(x.channels, x.height * frames, x.width)
    for i, channels in enumerate(levels):
        x = net.conv(x, channels, kernel, norm=False, act=False, bias=True)
        with net.repeat(decoder["blocks"]):  # type: ignore[arg-type]
            for _ in range(RESIDUAL_CONVS):
                net.conv(x, channels, kernel, bias=True)
            net.add(x)
        if i + 1 < len(levels):
            x = Tensor(channels, x.height * 2.0 * (2.0 if i < doublings else 1.0), x.width * 2.0)
    return net.conv(x, 3.0, kernel, norm=False, act=False, bias=True)
