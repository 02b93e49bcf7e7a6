"""What must hold between the facts of a chip, and between the catalogue and the tables that use its names."""

from __future__ import annotations

import csv
import re
from itertools import pairwise
from pathlib import Path

import pytest

from ridgeline.hardware import chip, chip_names, chips

SPEC_TOLERANCE = 0.05
"""Vendors round, and count what error correction takes differently."""

CLOCK_TOLERANCE = 0.015
"""Published peaks are rounded to three digits, clocks to 10 MHz."""

CAPPED = {"h20"}
"""Tensor cores that the export rules keep below units x clock."""

NARROWER = [("tf32", "bf16"), ("bf16", "fp8"), ("fp16", "fp8"), ("bf16", "int8"), ("fp8", "fp4")]

INT8_REMOVED = {"b300-sxm", "gb300"}
"""Blackwell Ultra gave up most of its int8 units for fp4."""


@pytest.mark.parametrize("name", chips())
def test_memory_further_away_is_never_faster(name: str) -> None:
    rates = [tier.bandwidth_bytes_per_s for tier in chip(name).tiers]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("name", chips())
def test_shared_memory_further_away_is_never_smaller(name: str) -> None:
    # Registers and shared memory belong to a unit each, and their sums follow no order.
    sizes = [tier.capacity_bytes for tier in chip(name).tiers if tier.name not in {"registers", "shared"}]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", chips())
def test_a_narrower_type_is_never_slower_on_the_matrix_engine(name: str) -> None:
    rates = chip(name).matrix_flops_per_s
    for wide, narrow in NARROWER:
        # fp16 of Gaudi 3 is the one documented case of a slow wide type beside a fast one of equal width.
        if wide in rates and narrow in rates and not (narrow == "int8" and name in INT8_REMOVED):
            assert rates[narrow] >= rates[wide], (wide, narrow)


@pytest.mark.parametrize("name", [n for n in chips() if chip(n).vendor == "NVIDIA" and chip(n).matrix_flops_per_s])
def test_the_matrix_peak_is_units_times_a_power_of_two_times_the_clock(name: str) -> None:
    loaded = chip(name)
    per_clock = loaded.matrix_flops_per_s["fp16"] / (loaded.compute_units * loaded.clock_hz)
    whole = min((512, 1024, 2048, 4096, 8192), key=lambda choice: abs(choice - per_clock))
    assert per_clock == pytest.approx(whole, rel=CLOCK_TOLERANCE) or name in CAPPED


@pytest.mark.parametrize("name", chips())
def test_the_matrix_engine_beats_the_vector_units_it_stands_beside(name: str) -> None:
    loaded = chip(name)
    for compute, rate in loaded.matrix_flops_per_s.items():
        if compute in loaded.vector_flops_per_s:
            assert rate >= loaded.vector_flops_per_s[compute] * 0.99, compute


@pytest.mark.parametrize("name", chips())
def test_idle_power_is_a_believable_share_of_the_limit(name: str) -> None:
    loaded = chip(name)
    assert 0.02 <= loaded.idle_w / loaded.tdp_w <= 0.5


@pytest.mark.shared_data
def test_the_catalogue_agrees_with_the_specifications_beside_the_measurements(shared_data: Path) -> None:
    columns = {
        "mem_bandwidth_bytes_per_s": lambda c: c.dram.bandwidth_bytes_per_s,
        "mem_capacity_bytes": lambda c: c.dram.capacity_bytes,
        "power_w": lambda c: c.tdp_w,
        **{
            f"peak_{theirs}_flops": lambda c, ours=ours: c.peak_flops_per_s(ours)
            for theirs, ours in (("bfloat16", "bf16"), ("int8", "int8"), ("fp8", "fp8"), ("fp4", "fp4"))
        },
    }
    rows = _rows(shared_data / "silicon" / "gpu_specs.csv")
    assert len(rows) == 14
    off = [
        (row["gpu"], column, row[column])
        for row in rows
        for column, ours in columns.items()
        if row[column] and ours(chip(row["gpu"])) != pytest.approx(float(row[column]), rel=SPEC_TOLERANCE)
    ]
    assert off == []


# Who ran it (often with a count); makers not yet in; boards that carry other GPUs.
NOT_IN_THE_CATALOGUE = re.compile(
    r"(LambdaCloud|1CC|SMC|Dell(Texas)?|RAIDZ1) .*"
    r"|TT Galaxy .*|\d+ x TT .*|Untether.*|syntiant.*|NUCLEO.*|Apple M2 Max 32GB CPU"
    r"|(Pi CM5|Raspberry Pi CM5|Pi 5|Intel 265K|HiFive|System76|Radxa|GMKtec|Framework|DC-ROMA) .*"
)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("silicon/gpu_specs.csv", "gpu"),
        ("silicon/serving_points.csv", "system"),
        ("published/inference_llm.csv", "gpu"),
        ("published/training.csv", "gpu"),
        ("published/energy.csv", "gpu"),
    ],
)
def test_the_chip_names_of_the_measured_tables_are_aliases(shared_data: Path, table: str, column: str) -> None:
    names = {row[column] for row in _rows(shared_data / table)}
    unknown = sorted(name for name in names if name not in chip_names() and not NOT_IN_THE_CATALOGUE.fullmatch(name))
    assert unknown == []


@pytest.mark.shared_data
@pytest.mark.parametrize("table", ["gemm", "moe", "attention_prefill", "attention_decode", "collectives"])
def test_the_chip_names_of_the_kernel_tables_are_aliases(shared_data: Path, table: str) -> None:
    import duckdb

    path = shared_data / "silicon" / f"{table}.parquet"
    names = [row[0] for row in duckdb.execute(f"select distinct gpu from '{path}'").fetchall()]
    assert names and all(name in chip_names() for name in names)


@pytest.mark.shared_data
def test_edge_devices_that_carry_a_catalogued_chip_lead_to_it(shared_data: Path) -> None:
    devices = {row["device"] for row in _rows(shared_data / "published" / "edge.csv")}
    known = {device: chip_names().resolve(device) for device in devices if device in chip_names()}
    assert known["Snapdragon X Elite CRD"] == "snapdragon-x-elite-npu"
    assert known["NVIDIA Jetson Orin Nano"] == "jetson-orin-nano"
    assert known["Raspberry Pi 5 Broadcom BCM2712, Cortex-A76 (ARMv8) (2.4GHz x 4)"] == "raspberry-pi-5"
    assert len(known) >= 20


def test_wider_parts_of_a_family_are_not_slower_than_narrower_ones() -> None:
    for family in (
        ("l4", "l40", "l40s"),
        ("mi210", "mi250x", "mi300x", "mi355x"),
        ("tpu-v3", "tpu-v4", "tpu-v5p", "tpu-v6e", "tpu-v7"),
        ("a30", "a100-80gb-sxm", "h100-sxm", "b200-sxm", "gb200"),
        ("gaudi1", "gaudi2", "gaudi3"),
    ):
        rates = [chip(name).peak_flops_per_s("bf16") for name in family]
        assert all(a <= b for a, b in pairwise(rates)), family


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
