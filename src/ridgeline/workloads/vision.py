"""Networks over images by name: their cards, and the graph of one at any batch and resolution.

A card file in `models/vision/` names a builder of `families/vision_*.py`, and for each network the numbers that it
takes. A name may carry words after it that change nothing but its training, or a number of its card (`tags`), and its
resolution: `vit_base_patch16_reg4_gap_256` is `vit_base_patch16` with four registers, no class token and 256 pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.dtypes import SCHEMES, Scheme
from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import load_yaml
from ridgeline.core.names import Names, fold
from ridgeline.workloads.families import vision_diffusion, vision_mobile, vision_modern, vision_residual
from ridgeline.workloads.families.convolutional import Tensor, Tracer
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.ops import Dim

ROOT = Path(__file__).parent / "models" / "vision"

BUILDERS: Mapping[str, Callable[..., Tensor]] = {
    "resnet": vision_residual.resnet,
    "resnet_v2": vision_residual.resnet_v2,
    "regnet": vision_residual.regnet,
    "vgg": vision_residual.vgg,
    "densenet": vision_residual.densenet,
    "mobile": vision_mobile.mobile,
    "convnext": vision_modern.convnext,
    "vit": vision_modern.vit,
    "swin": vision_modern.swin,
    "mixer": vision_modern.mixer,
    "res_mlp": vision_modern.res_mlp,
    "vovnet": vision_residual.vovnet,
    "xcit": vision_modern.xcit,
    "diffusion": vision_diffusion.diffusion,
}
"""Builder by the name that card files use. A new kind of network is a function and a card file."""

LAYERS = 88.0
"""Convolutions and matmuls of the median bundled network."""

WORK_FRACS = (0.149, 0.231, 0.620)
"""Shares of the multiply-accumulates behind each quarter of the values that layers give, cheapest first, without the
cheapest of all: means over the bundled networks (a test counts them again)."""

TAPS, WIDTH = 3, 128.0
"""Taps along a side, and channels, of the depthwise layers that stand for that cheapest quarter."""

PASSES = (("activation", 0.75, 0.85), ("batch_norm", 0.5, 0.64), ("add", 0.2, 0.27), ("layer_norm", 0.1, 0.085))
"""Elementwise kinds, how many there are per layer, and the values that they pass over per value that layers give:
means over the bundled networks."""

SMALLEST, LARGEST = 8.0, 65536.0
"""Pixels along a side that a network may be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network and the numbers of its card. `resolution` is the side of the images it was made for, in pixels."""

    name: str
    builder: str
    numbers: Mapping[str, Any]
    resolution: float
    source: str

    @property
    def samples(self) -> bool:
        """Whether an image is made in steps, so that the graph runs one network again and again."""
        return self.builder == "diffusion"

    def learner(self) -> Network:
        """What is trained: of a network that makes images in steps, one evaluation, with latents and words computed
        ahead; any other as it is.
        """
        once = {**self.numbers, "steps": 1.0, "passes": 1.0, "alone": True}
        return replace(self, numbers=once) if self.samples else self

    def graph(self, batch: Dim, resolution: Dim = 0.0, scheme: Scheme = SCHEMES["fp16"]) -> Graph:
        """The forward graph of `batch` square RGB images; both may be columns. Resolution 0 is the network's own."""
        side = np.where(np.asarray(resolution) > 0, resolution, self.resolution)
        net = Tracer(batch, scheme)
        side = side[()] if np.ndim(side) == 0 else side
        BUILDERS[self.builder](net, Tensor(3.0, side, side), **self.numbers)
        return net.graph(self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """Networks of which only totals are known, one per row: multiply-accumulates and values given by convolutions and
    matmuls, per image; parameters.

    Such a network stands for the mean of those that are bundled: as many layers, in four groups that give equally many
    values but differ in the multiply-accumulates behind each, and as many passes of elementwise work over the values.
    """

    name: str
    macs: Dim
    activations: Dim
    params: Dim

    def graph(self, batch: Dim, resolution: Dim = 0.0, scheme: Scheme = SCHEMES["fp16"]) -> Graph:
        """The forward graph of `batch` images. The totals hold for one resolution, so `resolution` changes nothing."""
        net, repeats, values = Tracer(batch, scheme), LAYERS / 4.0, self.activations / LAYERS
        cheap = Tensor(WIDTH, values / WIDTH, 1.0)
        with net.repeat(repeats):
            net.conv(cheap, WIDTH, TAPS, groups=WIDTH, norm=False, act=False)
        left = np.maximum(self.macs - TAPS**2 * self.activations / 4.0, self.macs / 4.0)
        weights: Dim = 0.0
        for frac in WORK_FRACS:
            depth = frac * left / (self.activations / 4.0)
            with net.repeat(repeats):
                net.conv(Tensor(depth, values / depth, 1.0), depth, norm=False, act=False)
            weights = weights + repeats * depth * depth
        for kind, count, share in PASSES:
            with net.repeat(LAYERS * count):
                net.norm(replace(cheap, height=cheap.height * share / count), kind)
        net.parameters(np.maximum(self.params - weights, 0.0))
        return net.graph(self.name)


@dataclass(frozen=True, slots=True)
class _Cards:
    """All card files: networks by folded name, and the words that may follow a name or precede it."""

    networks: Mapping[str, Network]
    names: Names
    tags: Mapping[str, Mapping[str, Mapping[str, Any]]]
    prefixes: Mapping[str, tuple[str, ...]]


def networks() -> tuple[str, ...]:
    """Names of all bundled networks, sorted."""
    return tuple(sorted(network.name for network in _unique(_cards().networks)))


def network(name: str, *, at: str = "model") -> Network:
    """The network of that name. Raises UnknownNameError with the nearest names; there is no default network."""
    cards = _cards()
    plain = name.strip().split(".", 1)[0] if not name.strip().startswith(".") else name.strip()
    for stem in _without_prefixes(name.strip(), cards):
        if fold(stem) in cards.networks:  # versions with a point in the name itself
            return cards.networks[fold(stem)]
    for stem in _without_prefixes(plain, cards):
        found = _tagged(stem, cards)
        if found is not None:
            return found
    listing = "networks are listed in the documentation of `ridgeline predict vision`"
    raise UnknownNameError(f"unknown network {name!r}", at=at, fix=did_you_mean(plain, networks(), listing=listing))


def _without_prefixes(name: str, cards: _Cards) -> list[str]:
    """The name as it is, and without the words that publishers put before it."""
    prefixes = {prefix for listed in cards.prefixes.values() for prefix in listed}
    found = [name]
    for stem in found:
        found += [stem[len(prefix) :] for prefix in sorted(prefixes) if stem.lower().startswith(prefix.lower())]
    return found


def _tagged(name: str, cards: _Cards) -> Network | None:
    """The longest known name at the beginning, changed by the words that follow; None if some word is unknown."""
    words = name.lower().replace("-", "_").split("_")
    for count in range(len(words), 0, -1):
        key = fold("_".join(words[:count]))
        if key in cards.networks:
            return _changed(cards.networks[key], words[count:], cards)
    return None


def _changed(network: Network, words: list[str], cards: _Cards) -> Network | None:
    tags = cards.tags[network.builder]
    numbers, resolution = dict(network.numbers), network.resolution
    while words:
        length = next((n for n in range(len(words), 0, -1) if "_".join(words[:n]) in tags), 0)
        if length:
            change = tags["_".join(words[:length])]
            resolution = float(change.get("resolution", resolution))
            numbers |= {key: value for key, value in change.items() if key != "resolution"}
        elif words[0].isdigit() and SMALLEST <= int(words[0]) <= LARGEST:
            resolution = float(words[0])
            length = 1
        else:
            return None
        words = words[length:]
    return Network(
        name=network.name, builder=network.builder, numbers=numbers, resolution=resolution, source=network.source
    )


@cache
def _cards() -> _Cards:
    found: dict[str, Network] = {}
    aliases: dict[str, list[str]] = {}
    tags: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    prefixes: dict[str, tuple[str, ...]] = {}
    for path in sorted(ROOT.glob("*.yaml")):
        data = load_yaml(path).data
        tags[data["builder"]] = data.get("tags", {})
        prefixes[data["builder"]] = tuple(data.get("prefixes", ()))
        for name, entry in data["networks"].items():
            card = _network(name, entry, data, path.name)
            aliases[name] = list(entry.get("aliases", []))
            for spelling in (name, *aliases[name]):
                found[fold(spelling)] = card
    return _Cards(found, Names("network", aliases), tags, prefixes)


def _network(name: str, entry: Mapping[str, Any], data: Mapping[str, Any], file: str) -> Network:
    """A card as its file gives it. Raises SpecError when it does not fit the builder."""
    base = data.get("templates", {}).get(entry.get("template", ""), {})
    numbers = {**base, **{key: value for key, value in entry.items() if key not in ("template", "aliases")}}
    resolution = float(numbers.pop("resolution", data["resolution"]))
    known = inspect.signature(BUILDERS[data["builder"]]).parameters
    for key in numbers:
        if key not in known:
            raise SpecError(f"unknown field {key!r}", at=f"{file}: {name}", fix=did_you_mean(key, known))
    return Network(
        name=name, builder=data["builder"], numbers=numbers, resolution=resolution, source=str(data["source"])
    )


def _unique(networks: Mapping[str, Network]) -> list[Network]:
    return list({network.name: network for network in networks.values()}.values())
