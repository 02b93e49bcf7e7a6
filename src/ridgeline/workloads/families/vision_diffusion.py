"""Diffusion transformers that make images and videos: a text encoder, a denoiser run again at every step, a decoder.

The denoiser works on patches of a latent image that a decoder turns into pixels (arXiv 2112.10752, 2212.09748). With
classifier-free guidance each step evaluates it with and without the text (2207.12598), as a batch of twice the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ridgeline.core.errors import SpecError, did_you_mean
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
    blocks: Mapping[str, float],
    steps: float,
    passes: float,
    text: Mapping[str, float],
    decoder: Mapping[str, Sequence[float] | float],
    ffn: float = 0.0,
    modulation: Sequence[float] = (6.0, 0.0),
    rotary: bool = False,
    latent: Sequence[float] = (16.0, 8.0, 2.0),
    aspect: float = 1.0,
    clip: Sequence[float] = (1.0, 1.0, 1.0),
    alone: bool = False,
) -> Tensor:
    """Images or videos sampled by a diffusion transformer, from one text each.

    Args:
        net: writes the ops.
        x: the picture: its height counts, its width is `aspect` times that.
        width: of the denoiser; `heads` of its attention, `ffn` its inner width (0: four times the width).
        heads: see width.
        blocks: how many of each kind (methods of `_Block`), and `skips` that concatenate earlier outputs.
        steps: evaluations of the denoiser for a picture, each in `passes` (2 with classifier-free guidance).
        passes: see steps.
        text: of the encoder: `tokens`, `width`, `depth`, `ffn` (gated).
        decoder: channels of its levels from the latent to the pixels (`levels`), `blocks` of each, `taps`, and for a
            video the levels after which frames double.
        ffn: see width.
        modulation: widths that scale and shift a block by the step, and the values that each block computes them from
            (0: its width).
        rotary: whether positions are turned into queries and keys in every block.
        latent: its channels, the pixels along a side of one of its values, and the values along a side of a token.
        aspect: see x.
        clip: of a video: frames, frames to a latent frame after the first, latent frames to a token.
        alone: the denoiser by itself, on latents and encoded words that are given.
    """
    (channels, squeeze, patch), (frames, frame_squeeze, frame_patch) = latent, clip
    high, wide = x.height / squeeze, x.height * aspect / squeeze
    latents = 1.0 + (frames - 1.0) / frame_squeeze
    picture = Tensor(width, high * wide / patch**2, latents / frame_patch)
    words = Tensor(width, text["tokens"], 1.0)
    block = _Block(net, heads, ffn or 4.0 * width, modulation[0], modulation[1], rotary)
    if not alone:
        _encode(net, text)
    batch = net.batch
    with net.repeat(steps, again=True):
        net.batch = batch * passes
        values = channels * patch**2 * frame_patch
        net.linear(Tensor(values, picture.height, picture.width), width, part="patches")
        net.linear(Tensor(text["width"], text["tokens"], 1.0), width, part="words")
        for kind, count in blocks.items():
            with net.repeat(count):
                block.write(kind, picture, words, Tensor(values, high / patch, wide / patch))
        net.linear(picture, values, part="pixels")
        net.batch = batch
    return picture if alone else _decode(net, Tensor(channels, high, wide), latents, decoder)


@dataclass(frozen=True, slots=True)
class _Block:
    """Writes the blocks of a denoiser, whose numbers are as `diffusion` has them."""

    net: Tracer
    heads: float
    ffn: float
    modulation: float
    modulation_from: float
    rotary: bool

    def write(self, kind: str, picture: Tensor, words: Tensor, grid: Tensor) -> None:
        """A block of that kind. Raises SpecError for a kind that there is not."""
        kinds: dict[str, Callable[[], None]] = {
            "joint": lambda: self.joint(picture, words),
            "within": lambda: self.within(picture),
            "beside": lambda: self.single(picture, words, beside=True),
            "single": lambda: self.single(picture, words, beside=False),
            "crossed": lambda: self.crossed(picture, words),
            "linear": lambda: self.linear(picture, words, grid),
            "skips": lambda: self.skip(picture),
        }
        if kind not in kinds:
            raise SpecError(f"unknown block {kind!r}", at="blocks", fix=did_you_mean(kind, kinds))
        kinds[kind]()

    def joint(self, picture: Tensor, words: Tensor) -> None:
        """Text and picture with weights of their own, attending together (arXiv 2403.03206)."""
        for stream in (picture, words):
            self._modulate(stream, self.modulation)
            self.net.linear(stream, 3.0 * stream.channels)
        self._attend(picture, words.positions)
        for stream in (picture, words):
            self._gate(self.net.linear(stream, stream.channels))
            self._feed(stream)

    def within(self, picture: Tensor) -> None:
        """A second attention, within the picture."""
        self._modulate(picture, self.modulation / 2.0)
        self.net.linear(picture, 3.0 * picture.channels)
        self._attend(picture)
        self._gate(self.net.linear(picture, picture.channels))

    def single(self, picture: Tensor, words: Tensor, *, beside: bool) -> None:
        """One stream of both; what feeds forward is beside the attention (FLUX), or after it (CogVideoX)."""
        net, width = self.net, picture.channels
        both = Tensor(width, picture.positions + words.positions, 1.0)
        self._modulate(both, self.modulation / 2.0 if beside else self.modulation)
        net.linear(both, 3.0 * width)
        self._attend(both)
        if beside:
            net.act(net.linear(both, self.ffn))
            self._gate(net.linear(Tensor(width + self.ffn, both.positions, 1.0), width))
        else:
            self._gate(net.linear(both, width))
            self._feed(both)

    def crossed(self, picture: Tensor, words: Tensor) -> None:
        """Attention within the picture, then to the text (PixArt, Wan)."""
        self._modulate(picture, 0.0)
        self.net.linear(picture, 3.0 * picture.channels)
        self._attend(picture)
        self._gate(self.net.linear(picture, picture.channels))
        self._to_words(picture, words)
        self._feed(picture)

    def skip(self, picture: Tensor) -> None:
        """The output of an earlier block beside that of the last."""
        width = picture.channels
        self.net.linear(self.net.concat(picture, width), width, part="skip")

    def linear(self, picture: Tensor, words: Tensor, grid: Tensor) -> None:
        """As crossed, without softmax in the picture, and with a depthwise convolution in what feeds forward (SANA)."""
        net, width, inner = self.net, picture.channels, self.ffn
        self._modulate(picture, 0.0)
        net.linear(picture, 3.0 * width)
        net.product(picture, width / self.heads, width / self.heads, picture.positions, self.heads)
        net.product(picture, picture.positions, width / self.heads, width / self.heads, self.heads)
        self._gate(net.linear(picture, width))
        self._to_words(picture, words)
        self._modulate(picture, 0.0)
        net.act(net.linear(picture, 2.0 * inner))
        both = replace(grid, channels=2.0 * inner)
        net.conv(both, both.channels, 3, groups=both.channels, norm=False, act=False, bias=True)
        gated = Tensor(inner, picture.positions, 1.0)
        net.act(gated, "scale")
        self._gate(net.linear(gated, width))

    def _modulate(self, x: Tensor, widths: float) -> None:
        """A norm, scaled and shifted; what scales it may be computed in the block from a vector of the step."""
        if widths:
            inputs = Tensor(self.modulation_from or x.channels, 1.0, 1.0)
            self.net.linear(inputs, widths * x.channels, part="modulation")
        self.net.norm(x, "layer_norm")
        self.net.act(x, "scale")
        self.net.act(x, "scale")

    def _attend(self, x: Tensor, more: Dim = 0.0) -> None:
        """Norms of queries and keys, their positions, then attention among all tokens."""
        whole = Tensor(x.channels, x.positions + more, 1.0)
        both = Tensor(2.0 * x.channels, whole.positions, 1.0)
        self.net.norm(both, "layer_norm")
        if self.rotary:
            self.net.act(both, "rope")
        self.net.attention(whole, self.heads, x.channels / self.heads)

    def _to_words(self, picture: Tensor, words: Tensor) -> None:
        net, width = self.net, picture.channels
        net.linear(picture, width)
        net.linear(words, 2.0 * width)
        net.attention(picture, self.heads, width / self.heads, keys=words.positions)
        net.add(net.linear(picture, width))

    def _feed(self, x: Tensor) -> None:
        self._modulate(x, 0.0)
        self.net.act(self.net.linear(x, self.ffn))
        self._gate(self.net.linear(Tensor(self.ffn, x.positions, 1.0), x.channels))

    def _gate(self, x: Tensor) -> None:
        """What a block adds to its input, scaled by the step."""
        self.net.act(x, "scale")
        self.net.add(x)


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
