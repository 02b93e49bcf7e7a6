"""Streaming kernels: start, bytes by cache and memory, what fusing saves, transforms and look-ups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.dtypes import dtype
from ridgeline.costs.price import Setting
from ridgeline.costs.vector import price_embedding, price_fft, price_vector
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Embedding, Fft, Vector

CHIPS = ("h100-sxm", "a100-80gb-sxm", "l40s", "gb200", "mi300x")
KINDS = ("norm", "rope", "activation", "softmax", "elementwise")
FUSED, EAGER, IDEAL = Setting(), Setting(runtime="torch", captured=False), Setting(runtime="ideal")

chips = st.sampled_from(CHIPS)
kinds = st.sampled_from(KINDS)
element_counts = st.integers(min_value=0, max_value=2**36)


def on(*names: str, index: list[int] | None = None) -> ChipColumns:
    return ChipColumns(tuple(catalogue.chip(name) for name in names), None if index is None else np.array(index))


def vector(kind: str, elements: object, **more: object) -> Vector:
    return Vector(name=kind, part="p", kind=kind, elements=elements, **more)  # type: ignore[arg-type]


@given(kind=kinds, chip=chips, elements=element_counts, more=st.integers(1, 2**30))
def test_a_kernel_never_gets_faster_when_elements_are_added(kind: str, chip: str, elements: int, more: int) -> None:
    op = vector(kind, np.array([elements, elements + 1, elements + 1 + more], dtype=float))
    for setting in (FUSED, EAGER, IDEAL):
        assert np.all(np.diff(price_vector(op, on(chip), setting).time_s) >= 0)


@given(kind=kinds, chip=chips, elements=element_counts)
def test_no_kernel_beats_the_hardware(kind: str, chip: str, elements: int) -> None:
    for setting in (FUSED, EAGER, IDEAL):
        price = price_vector(vector(kind, float(elements)), on(chip), setting)
        assert price.time_s >= price.floor_s >= 0


@given(chip=chips, elements=st.integers(2**30, 2**36))
def test_tensors_beyond_the_cache_stream_at_no_more_than_memory_bandwidth(chip: str, elements: int) -> None:
    price = price_vector(vector("elementwise", float(elements)), on(chip), FUSED)
    moved = 4.0 * elements
    limit = catalogue.chip(chip).dram.bandwidth_bytes_per_s
    assert moved / limit < price.time_s < moved / limit / 0.6 + 1e-5


def test_nothing_costs_nothing() -> None:
    assert price_vector(vector("norm", 0.0), on("h100-sxm"), FUSED).time_s == 0
    assert (
        price_embedding(
            Embedding(name="e", part="p", tokens=0.0, width=8192.0, vocab=1e5), on("h100-sxm"), FUSED
        ).time_s
        == 0
    )
    assert price_fft(Fft(name="f", part="p", batch=0.0, length=1024.0), on("h100-sxm"), FUSED).time_s == 0


def test_the_small_kernels_of_a_decode_layer_take_what_serving_steps_show() -> None:
    """Two norms, rope, an activation, and the start of an attention kernel (2.8 us) make 11.6 us per layer on H100."""
    tokens, hidden, heads, inter = 16.0, 8192.0, 10240.0, 28672.0
    ops = [
        vector("norm", tokens * hidden, reads=2.0, writes=2.0),
        vector("norm", tokens * hidden, reads=2.0, writes=2.0),
        vector("rope", tokens * heads),
        vector("activation", tokens * inter / 8, reads=2.0),
    ]
    total = sum(float(price_vector(op, on("h100-sxm"), FUSED).time_s) for op in ops)
    assert total + 2.8e-6 == pytest.approx(11.6e-6, rel=0.1)


def test_what_fits_the_cache_is_faster_than_memory() -> None:
    small, large = 2.5e6, 2.5e9
    chip = on("l40s")
    rates = [
        4 * n / (float(price_vector(vector("elementwise", n), chip, FUSED).time_s) - 1.6e-6) for n in (small, large)
    ]
    assert rates[0] > 2 * catalogue.chip("l40s").dram.bandwidth_bytes_per_s > 2 * rates[1]


def test_a_chip_without_last_level_cache_streams_from_memory() -> None:
    whole = catalogue.chip("h100-sxm")
    bare = replace(whole, tiers=tuple(tier for tier in whole.tiers if tier.name != "l2"))
    op = vector("norm", 1e6)
    assert price_vector(op, ChipColumns((bare,)), FUSED).time_s > price_vector(op, ChipColumns((whole,)), FUSED).time_s


def test_eager_code_runs_more_kernels_and_launches_each_from_the_host() -> None:
    op = vector("norm", 1e4)
    fused, eager = (float(price_vector(op, on("h100-sxm"), setting).time_s) for setting in (FUSED, EAGER))
    assert eager > 4 * fused
    assert eager >= 4 * 5e-6


def test_rows_of_different_chips_are_priced_as_each_alone() -> None:
    op = vector("norm", np.array([1e5, 1e6, 1e7]))
    together = np.asarray(price_vector(op, on("h100-sxm", "a100-80gb-sxm", "l40s", index=[0, 1, 2]), FUSED).time_s)
    alone = [
        float(price_vector(vector("norm", n), on(name), FUSED).time_s)
        for n, name in ((1e5, "h100-sxm"), (1e6, "a100-80gb-sxm"), (1e7, "l40s"))
    ]
    assert together == pytest.approx(alone)


def test_an_embedding_moves_its_rows_and_not_its_table() -> None:
    small, large = (
        price_embedding(Embedding(name="e", part="p", tokens=4096.0, width=8192.0, vocab=v), on("h100-sxm"), FUSED)
        for v in (32000.0, 256000.0)
    )
    assert small.time_s == large.time_s
    assert small.time_s >= 4096 * 8192 * 2 / catalogue.chip("h100-sxm").dram.bandwidth_bytes_per_s


@given(chip=chips, batch=st.integers(1, 2**16), power=st.integers(0, 24))
def test_transforms_never_get_faster_when_longer(chip: str, batch: int, power: int) -> None:
    op = Fft(name="f", part="p", batch=float(batch), length=np.array([2.0**power, 2.0 ** (power + 1)]))
    price = price_fft(op, on(chip), FUSED)
    assert np.diff(price.time_s) >= 0
    assert np.all(price.time_s >= price.floor_s)


def test_a_transform_that_leaves_shared_memory_passes_twice_over_memory() -> None:
    points = 2.0**30
    times = [
        float(price_fft(Fft(name="f", part="p", batch=points / n, length=n), on("h100-sxm"), FUSED).time_s)
        for n in (2.0**13, 2.0**14, 2.0**27)
    ]
    assert times[1] / times[0] == pytest.approx(2, rel=0.05)
    assert times[2] / times[0] == pytest.approx(3, rel=0.05)


def test_wider_formats_move_more() -> None:
    times = [
        float(price_vector(vector("norm", 1e9, dtype=dtype(d)), on("h100-sxm"), FUSED).time_s) for d in ("bf16", "fp32")
    ]
    assert times[1] == pytest.approx(2 * times[0], rel=0.01)
