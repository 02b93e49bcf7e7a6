"""Convolutions: bounds, tiles, depthwise kernels on the vector engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.dtypes import scheme
from ridgeline.costs.convolution import price_convolution
from ridgeline.costs.price import Setting
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Convolution

A100 = ChipColumns((catalogue.chip("a100-80gb-sxm"),))


def convolution(
    batch: object, channels: object = 256.0, groups: object = 1.0, side: float = 14.0, **more: object
) -> Convolution:
    sizes: dict[str, object] = {"in_channels": channels, "out_channels": channels, "kernel": 9.0, **more}
    return Convolution(
        name="c", part="p", batch=batch, in_positions=side**2, out_positions=side**2, groups=groups,
        scheme=scheme("fp16"), **sizes,
    )  # type: ignore[arg-type]  # fmt: skip


def peak() -> float:
    return catalogue.chip("a100-80gb-sxm").peak_flops_per_s("fp16")


@given(batch=st.integers(0, 4096), channels=st.sampled_from([3.0, 16.0, 64.0, 256.0, 2048.0]), more=st.integers(1, 512))
def test_a_convolution_never_gets_faster_when_images_are_added(batch: int, channels: float, more: int) -> None:
    price = price_convolution(convolution(np.array([batch, batch + more], float), channels), A100, Setting())
    # Splitting a deep sum works in whole parts, so a step down of one part in a wave may appear.
    assert np.diff(price.time_s) >= -0.5 * np.asarray(price.time_s)[0]
    assert np.all(price.time_s >= price.floor_s)


@given(batch=st.sampled_from([1.0, 8.0, 64.0, 512.0]), groups=st.sampled_from([1.0, 2.0, 32.0, 256.0]))
def test_no_convolution_beats_the_hardware(batch: float, groups: float) -> None:
    price = price_convolution(convolution(batch, groups=groups), A100, Setting())
    assert price.time_s >= price.floor_s > 0
    assert price_convolution(convolution(batch, groups=groups), A100, Setting(runtime="ideal")).time_s == price.floor_s


def test_no_images_cost_nothing() -> None:
    assert price_convolution(convolution(0.0), A100, Setting()).time_s == 0


def test_large_dense_convolutions_reach_about_half_of_peak() -> None:
    price = price_convolution(convolution(256.0, 512.0), A100, Setting())
    assert price.bound() == "compute"
    assert 0.4 < float(price.flops) / float(price.time_s) / peak() < 0.6


def test_depthwise_convolutions_are_bound_by_bytes() -> None:
    dense, depthwise = (
        price_convolution(convolution(64.0, 256.0, groups, 56.0), A100, Setting()) for groups in (1.0, 256.0)
    )
    assert depthwise.bound() == "memory"
    assert float(depthwise.flops) / float(depthwise.time_s) < 0.1 * float(dense.flops) / float(dense.time_s)


def test_a_first_layer_pads_its_three_channels() -> None:
    three, eight = (
        price_convolution(
            convolution(256.0, side=112.0, in_channels=n, out_channels=64.0, kernel=49.0), A100, Setting()
        )
        for n in (3.0, 8.0)
    )
    assert three.terms["compute"] == pytest.approx(np.asarray(eight.terms["compute"]))


def test_groups_broadcast_by_row() -> None:
    groups = np.array([1.0, 256.0])
    together = np.asarray(price_convolution(convolution(8.0, groups=groups), A100, Setting()).time_s)
    alone = [float(price_convolution(convolution(8.0, groups=g), A100, Setting()).time_s) for g in groups]
    assert together == pytest.approx(alone)
