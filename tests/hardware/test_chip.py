"""Chips as values: what they refuse, and which rate applies to a number format they lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ridgeline.core.errors import SpecError
from ridgeline.hardware import ChipColumns, MemoryTier, Port, Site, chip, chips, index
from ridgeline.hardware.build_index import main


@pytest.mark.parametrize(
    "change",
    [
        {"vector_flops_per_s": {}},
        {"vector_flops_per_s": {"fp32": 0.0}},
        {"matrix_flops_per_s": {"bf16": float("inf")}},
        {"matrix_flops_per_s": {"bf16": float("nan")}},
        {"compute_units": 0},
        {"clock_hz": 0.0},
        {"idle_w": 700.0},
        {"idle_w": -1.0},
        {"tiers": ()},
    ],
)
def test_a_chip_that_cannot_be_is_refused_with_its_name(change: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        replace(chip("h100"), **change)
    assert caught.value.at == "h100-sxm"


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("inf"), float("nan")])
def test_memory_and_ports_need_a_bandwidth(bandwidth: float) -> None:
    with pytest.raises(SpecError):
        MemoryTier(name="dram", technology="x", capacity_bytes=1.0, bandwidth_bytes_per_s=bandwidth)
    with pytest.raises(SpecError):
        Port(name="host", technology="x", bandwidth_bytes_per_s=bandwidth, latency_s=0.0)


def test_a_site_below_its_own_consumption_is_refused() -> None:
    with pytest.raises(SpecError):
        Site(name="x", title="x", aliases=(), region="x", pue=0.99, carbon_kg_per_j=0.0, electricity_usd_per_j=0.0)


@pytest.mark.parametrize(
    ("name", "compute", "same_as"),
    [
        ("a100", "fp8", "bf16"),  # no fp8 units: weights widen to bf16
        ("h100", "fp4", "fp8"),
        ("b200", "fp4", "fp4"),
        ("v100", "bf16", "fp16"),
        ("tpu-v5p", "fp16", "bf16"),
        ("a100", "tf32", "tf32"),
    ],
)
def test_a_format_that_a_chip_lacks_runs_at_the_rate_of_what_it_is_converted_to(
    name: str, compute: str, same_as: str
) -> None:
    assert chip(name).peak_flops_per_s(compute) == chip(name).matrix_flops_per_s[same_as]


@pytest.mark.parametrize(
    ("name", "compute"), [("h100", "fp32"), ("v100", "fp32"), ("v100", "tf32"), ("m2-ultra", "fp16")]
)
def test_fp32_is_not_quietly_computed_in_fewer_bits(name: str, compute: str) -> None:
    assert chip(name).peak_flops_per_s(compute) == chip(name).vector_flops_per_s["fp32"]


@pytest.mark.parametrize("name", chips())
def test_every_chip_has_a_rate_for_every_format(name: str) -> None:
    for compute in ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4"):
        assert chip(name).peak_flops_per_s(compute) > 0
    assert chip(name).peak_flops_per_s("fp8") >= chip(name).peak_flops_per_s("fp32")


def test_columns_give_a_scalar_for_one_chip_and_a_value_per_row_for_many() -> None:
    pair = (chip("h100"), chip("a100"))
    assert ChipColumns(pair[:1]).gather(lambda c: c.tdp_w) == 700.0
    rows = ChipColumns(pair, np.array([1, 0, 1], dtype=np.intp)).gather(lambda c: c.tdp_w)
    assert np.array_equal(rows, [400.0, 700.0, 400.0])


def test_an_absent_tier_or_port_is_none() -> None:
    assert chip("h100").tier("nvme") is None
    assert chip("rtx-4090").port("scale_up") is None
    assert chip("h100").tier("l2") is not None


def test_the_index_writes_itself_and_says_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "index.json"
    monkeypatch.setattr(index, "INDEX", target)
    assert main() == 0
    assert target.read_text(encoding="utf-8") == index.render()
    assert f"{len(chips())} chips" in capsys.readouterr().out
