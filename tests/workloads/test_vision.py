"""Networks over images: sizes as published, names as people write them, columns as rows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.errors import SpecError, UnknownNameError
from ridgeline.workloads.families.convolutional import Tensor, Tracer, divisible
from ridgeline.workloads.families.vision_mobile import parse
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.ops import Attention, Convolution, Matmul, Op, Vector
from ridgeline.workloads.vision import LAYERS, PASSES, WORK_FRACS, Network, network, networks

CLOSE = 0.02
"""Rounding of published counts, and parameters of heads that a checkpoint changed."""

COVERED, AGREEING = 0.4, 0.95
"""Shares of the benchmark's rows that are bundled, and of bundled networks whose counts agree."""


def macs(graph: Graph, *, attention: bool = True) -> float:
    """Multiply-accumulates of convolutions, matmuls and, if wanted, attention."""
    kinds = (Convolution, Matmul, Attention) if attention else (Convolution, Matmul)
    return float(np.max(graph.total(lambda op: op.flops() / 2.0 if isinstance(op, kinds) else 0.0)))


def normalised(graph: Graph) -> float:
    """Values that pass a normalisation: some counters add operations for them."""
    return float(
        np.max(graph.total(lambda op: op.elements if isinstance(op, Vector) and op.kind.endswith("norm") else 0.0))
    )


# Parameters and multiply-accumulates at 224 pixels as the papers give them.
PUBLISHED = {
    "resnet50": (25.6e6, 4.1e9),  # torchvision; He et al. count 3.8e9 with stride in the first 1x1
    "resnet18": (11.7e6, 1.8e9),
    "resnet152": (60.2e6, 11.5e9),
    "resnext50_32x4d": (25.0e6, 4.2e9),
    "wide_resnet50_2": (68.9e6, 11.4e9),
    "vgg16": (138.4e6, 15.5e9),
    "densenet121": (8.0e6, 2.9e9),
    "mobilenetv2_100": (3.5e6, 0.30e9),  # arXiv 1801.04381, table 4
    "mobilenetv3_large_100": (5.4e6, 0.219e9),  # arXiv 1905.02244, table 3
    "efficientnet_b0": (5.3e6, 0.39e9),  # arXiv 1905.11946, table 2
    "convnext_tiny": (28.6e6, 4.5e9),  # arXiv 2201.03545, table 1
    "regnety_040": (20.6e6, 4.0e9),  # arXiv 2003.13678, table 4
    "vit_base_patch16": (86.6e6, 17.6e9),  # arXiv 2010.11929; DeiT-B 17.6
    "swin_tiny_patch4_window7": (28.3e6, 4.5e9),  # arXiv 2103.14030, table 1
    "mixer_b16": (59.9e6, 12.6e9),  # arXiv 2105.01601, table 1
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_papers(name: str) -> None:
    params, count = PUBLISHED[name]
    graph = network(name).graph(1.0, 224.0)
    assert graph.parameters() == pytest.approx(params, rel=CLOSE)
    assert macs(graph) == pytest.approx(count, rel=0.03)


@pytest.mark.parametrize("name", networks())
def test_every_bundled_network_draws_a_graph_at_its_own_resolution(name: str) -> None:
    one = network(name)
    graph = one.graph(2.0)
    assert one.source
    assert 1e5 < graph.parameters() < (5e10 if one.samples else 1e10)
    assert 1e7 < macs(graph) < (1e18 if one.samples else 1e14)
    assert all(np.all(np.asarray(op.flops()) >= 0) for op, _ in graph.walk())


@pytest.mark.parametrize("name", ["resnet50", "vit_base_patch16", "swin_tiny_patch4_window7", "efficientnet_b0"])
def test_batch_and_resolution_may_be_columns(name: str) -> None:
    batch, side = np.array([1.0, 8.0, 64.0]), np.array([224.0, 256.0, 384.0])
    together = network(name).graph(batch, side).flops()
    alone = [network(name).graph(b, s).flops() for b, s in zip(batch, side, strict=True)]
    assert np.allclose(together, alone)


def test_work_is_proportional_to_the_batch_and_weights_are_not() -> None:
    one, many = (network("resnet50").graph(batch, 224.0) for batch in (1.0, 32.0))
    assert many.flops() == pytest.approx(32.0 * one.flops())
    assert many.weight_bytes() == one.weight_bytes()


@pytest.mark.parametrize(
    ("spelled", "meant", "resolution"),
    [
        ("ResNet-50", "resnet50", 224),
        ("timm/resnet50.a1_in1k", "resnet50", 224),
        ("timm/gluon_resnet50_v1b", "resnet50", 224),
        ("tv_resnet152", "resnet152", 224),
        ("vit_base_patch16_384", "vit_base_patch16", 384),
        ("vit_base_patch16_siglip_gap_512", "vit_base_patch16", 512),
        ("tf_efficientnet_b7_ns", "efficientnet_b7", 600),
        ("swinv2_tiny_window8_256", "swinv2_tiny_window8", 256),
        ("deit3_large_patch16_384_in21ft1k", "deit3_large_patch16", 384),
    ],
)
def test_names_are_read_as_publishers_write_them(spelled: str, meant: str, resolution: int) -> None:
    found = network(spelled)
    assert (found.name, found.resolution) == (meant, resolution)


def test_words_after_a_name_change_what_they_say() -> None:
    plain, registers, pooled = (
        network(f"vit_base_patch16{word}").graph(1.0, 224.0) for word in ("", "_reg8_gap", "_siglip")
    )
    # Eight registers in place of one class token, each with a learned value but no position; one position less.
    assert registers.parameters() - plain.parameters() == (8 - 1) * 768 - 768
    assert pooled.parameters() > plain.parameters() + 5e6


@pytest.mark.parametrize("name", ["resnet51", "vit_base_patch16_reg5", "", ".."])
def test_an_unknown_network_is_an_error_that_names_the_nearest(name: str) -> None:
    with pytest.raises(UnknownNameError):
        network(name)
    with pytest.raises(UnknownNameError, match="resnet50"):
        network("resnet51")


@pytest.mark.parametrize("word", ["zz_r1_c16", "ir_r1_k3", "ir_x1_c16", "ir_r1_c"])
def test_a_stage_that_the_notation_does_not_have_is_refused(word: str) -> None:
    with pytest.raises(SpecError):
        parse(word)


def test_channels_are_rounded_to_eight_and_never_lose_a_tenth() -> None:
    for channels in np.arange(8.0, 400.0, 3.7):
        assert divisible(channels) % 8 == 0
        assert divisible(channels) >= 0.9 * channels


def test_a_depthwise_convolution_holds_one_filter_per_channel() -> None:
    net = Tracer(4.0, SCHEMES["fp16"])
    out = net.conv(Tensor(64.0, 56.0, 56.0), 64.0, 3, stride=2, groups=64.0, norm=False, act=False)
    ops: list[Op] = [op for op, _ in net.graph("one").walk()]
    assert (out.height, out.width) == (28.0, 28.0)
    assert ops[0].weight_elements() == 64 * 9
    assert ops[0].flops() == 2 * 4 * 28 * 28 * 64 * 9


@pytest.mark.shared_data
def test_counts_agree_with_a_thousand_benchmarked_networks(shared_data: Path) -> None:
    with (shared_data / "published" / "vision.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["framework"] == "timm benchmark.py"]
    bundled = {name: _bundled(name) for name in {row["model"] for row in rows}}
    known = {}
    for row in rows:
        one = bundled[row["model"]]
        if row["gmacs"] and one is not None:
            counts = (float(row["gmacs"]) * 1e9, float(row["params_m"]) * 1e6)
            known[row["model"], float(row["resolution"])] = (one, *counts)
    covered = sum(bundled[row["model"]] is not None for row in rows)
    agree = [_agrees(*entry, side) for (_, side), entry in known.items()]
    assert covered / len(rows) >= COVERED
    assert np.mean(agree) >= AGREEING


def _bundled(name: str) -> Network | None:
    try:
        return network(name)
    except UnknownNameError:
        return None


def _agrees(one: Network, count: float, params: float, side: float) -> bool:
    """Within 2 %, whatever of norms and fused attention the source's counter left out (its table is rounded, too)."""
    graph = one.graph(1.0, side)
    counts = [
        macs(graph, attention=attention) + extra * normalised(graph)
        for attention in (True, False)
        for extra in (0, 1, 2)
    ]
    near = min(abs(value - count) for value in counts) <= CLOSE * count + 5e6
    return near and abs(graph.parameters() / params - 1.0) <= CLOSE


def test_described_networks_are_the_mean_of_the_bundled_ones() -> None:
    """Layers, how unequal their work is, and passes of elementwise work per value, over every third network."""
    layers, work, passes = [], [], []
    for name in [name for name in networks() if not network(name).samples][::3]:
        cells = []
        kinds = dict.fromkeys((kind for kind, _, _ in PASSES), 0.0)
        for op, times in network(name).graph(1.0).walk():
            values = float(times * sum(float(o.write_bytes) for o in op.operands())) / 2.0
            if not isinstance(op, Vector):
                macs = float(times * op.flops()) / 2.0
                cells.append((macs / values, values, macs, float(times)))
            elif op.kind in kinds:
                kinds[op.kind] += values
        _, values_, macs_, times_ = np.array(sorted(cells)).T
        quarters = np.interp([0.25, 0.5, 0.75, 1.0], np.cumsum(values_) / values_.sum(), np.cumsum(macs_) / macs_.sum())
        layers.append(times_.sum())
        work.append(np.diff(quarters) / (1.0 - quarters[0]))
        passes.append([kinds[kind] / values_.sum() for kind, _, _ in PASSES])
    assert np.median(layers) == pytest.approx(LAYERS, rel=0.1)
    np.testing.assert_allclose(np.mean(work, axis=0), WORK_FRACS, atol=0.03)
    np.testing.assert_allclose(np.mean(passes, axis=0), [share for _, _, share in PASSES], atol=0.15)


DENOISERS = {
    "stabilityai/stable-diffusion-3.5-medium": 2.5e9,
    "stabilityai/stable-diffusion-3.5-large": 8.1e9,
    "black-forest-labs/FLUX.1-dev": 12e9,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": 0.6e9,
    "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": 1.5e9,
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": 1.6e9,
    "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers": 4.8e9,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 1.42e9,
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": 14.3e9,
    "zai-org/CogVideoX-2b": 1.69e9,
    "zai-org/CogVideoX1.5-5B": 5.57e9,
    "tencent/HunyuanVideo": 12.8e9,
}
"""Parameters of denoisers as their model cards give them."""


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_has_its_published_parameters_once_and_works_at_every_step(name: str) -> None:
    graph = network(name).graph(1.0)
    (sampler,) = (item for item in graph.items if isinstance(item, Repeat) and item.again)
    assert float(sampler.graph.parameters()) == pytest.approx(DENOISERS[name], rel=0.12)
    assert float(graph.parameters()) < float(sampler.graph.parameters()) + 8e9
    assert float(graph.flops()) > float(sampler.count) * float(sampler.graph.flops())
