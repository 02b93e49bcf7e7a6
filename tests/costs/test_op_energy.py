"""Power counted by operations: its figures, the chips it is for, its bounds, and leakage by temperature."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgeline as rl
from ridgeline.api.tables.columns import SERVING
from ridgeline.core.dtypes import scheme
from ridgeline.core.errors import DomainError, UnknownNameError
from ridgeline.costs.op_energy import (
    BITS,
    byte_j,
    counted_w,
    document,
    is_counted,
    leakage_w,
    mac_j,
    node_nm,
    number,
    op_joules,
)
from ridgeline.costs.power import kernel_power
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.costs.serving_power import ServingLoad, gap_power_w, serving_power_w
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.power import steady_power_w
from ridgeline.workloads.ops import Matmul

ACCELERATORS = ("gaudi2", "gaudi3", "tpu-v4", "ascend-910b", "sn40l", "blackhole-p150", "wormhole-n150")
CASE = {"model": "meta-llama/Llama-3.1-8B", "isl": 500, "osl": 200, "concurrency": 16}
shares = st.floats(0.0, 1.0)


def on(*names: str, index: list[int] | None = None) -> ChipColumns:
    return ChipColumns(tuple(map(catalogue.chip, names)), None if index is None else np.array(index, dtype=np.intp))


def loaded(name: str, memory: float, flops: float) -> ServingLoad:
    chip = catalogue.chip(name)
    return ServingLoad(
        weight_bytes_per_s=memory * chip.dram.bandwidth_bytes_per_s / 2,
        kv_bytes_per_s=memory * chip.dram.bandwidth_bytes_per_s / 2,
        flops_per_s=flops * chip.peak_flops_per_s("bf16"),
    )


def test_operations_cost_more_in_wider_formats_and_older_nodes() -> None:
    """Measured: 0.79 pJ per FLOP of sustained bf16 matrices on H200, everything on the board counted."""
    ordered = sorted(BITS, key=lambda name: BITS[name])
    values = [mac_j(name, 7) for name in ordered]
    assert all(b >= a * 0.8 for a, b in pairwise(values))
    assert mac_j("bf16", 45) > mac_j("bf16", 7) > mac_j("bf16", 3)
    assert mac_j("bf16", 5, bound="low") / 2 < 0.79e-12 < mac_j("bf16", 5, bound="high") / 2
    assert byte_j("HBM3") == pytest.approx(31.36e-12)
    assert byte_j("LPDDR5X") < byte_j("DDR5")
    with pytest.raises(UnknownNameError):
        byte_j("tape")
    with pytest.raises(UnknownNameError):
        mac_j("fp12", 5)
    with pytest.raises(DomainError):
        mac_j("fp8", 0)


def test_every_figure_has_a_source_and_a_kind() -> None:
    sources = document().need("sources", kind=dict)
    for source in sources.values():
        assert source["document"]
        assert source["date"]
        assert source["kind"] in ("datasheet", "measured", "estimated", "assumed")
    for section in ("mac", "memory", "facts"):
        for row in document().need(section, kind=dict).values():
            assert row["source"] in sources
            assert row.get("low", 0) <= row.get("value", 0) <= row.get("high", np.inf)


@pytest.mark.parametrize(
    ("process", "size"),
    [("TSMC N7", 7), ("TSMC 4N", 5), ("SMIC N+2", 7), ("16 nm", 16), ("TSMC N3P compute dies on N6 I/O dies", 3)],
)
def test_processes_have_a_size(process: str, size: float) -> None:
    assert node_nm(process) == size
    assert node_nm("unknown") is None


def test_boards_that_were_measured_and_processors_keep_their_law() -> None:
    for name in ("h100-sxm", "b200-sxm", "a100-80gb-sxm", "mi300x", "m1-max", "epyc-9654", "snapdragon-8-elite-npu"):
        assert not is_counted(catalogue.chip(name))
    assert all(is_counted(catalogue.chip(name)) for name in ACCELERATORS)
    assert not is_counted(catalogue.chip("tpu-v5e"))  # whose process is not published


def test_joules_at_full_rates_are_about_the_tdp() -> None:
    """Full rates of units and memory at once: no figure of the law comes from these boards, and none is a vendor's."""
    found = []
    for name in ACCELERATORS:
        chip = catalogue.chip(name)
        watts = counted_w(chip.peak_flops_per_s("bf16"), chip.dram.bandwidth_bytes_per_s, on(name))
        found.append(float(watts) / chip.tdp_w)
    assert 0.7 < np.median(found) < 1.7
    assert min(found) > 0.4
    assert max(found) < 3.0


@given(name=st.sampled_from(ACCELERATORS), memory=shares, flops=shares, more=shares)
def test_counted_power_rises_between_idle_and_tdp(name: str, memory: float, flops: float, more: float) -> None:
    chip = catalogue.chip(name)
    low = float(serving_power_w(loaded(name, memory, flops), on(name)))
    high = float(serving_power_w(loaded(name, max(memory, more), max(flops, more)), on(name)))
    assert chip.idle_w <= low <= high <= chip.tdp_w
    assert float(serving_power_w(loaded(name, 0.0, 0.0), on(name))) == pytest.approx(chip.idle_w)
    assert float(gap_power_w(on(name))) == chip.idle_w


def test_rows_of_boards_and_of_accelerators_do_not_disturb_each_other() -> None:
    load = ServingLoad(weight_bytes_per_s=1e12, kv_bytes_per_s=1e11, flops_per_s=1e13)
    both = np.asarray(serving_power_w(load, on("h100-sxm", "gaudi2", index=[0, 1])))
    alone = [float(serving_power_w(load, on(name))) for name in ("h100-sxm", "gaudi2")]
    np.testing.assert_allclose(both, alone, rtol=1e-12)


def test_kernels_and_training_steps_are_counted_alike() -> None:
    chip = catalogue.chip("gaudi2")
    flop_j, _ = op_joules(chip) or (0.0, 0.0)
    op = Matmul(name="m", part="p", m=4096.0, n=4096.0, k=4096.0, scheme=scheme("bf16"))
    setting = Setting(sustained=False)
    priced = price(op, on("gaudi2"), setting)
    drawn = kernel_power(priced, op, on("gaudi2"), setting)
    floor = chip.idle_w + flop_j * float(np.asarray(priced.flops)) / float(np.asarray(priced.time_s))
    assert float(np.asarray(drawn.power_w)) >= min(floor, 0.985 * chip.tdp_w) * (1 - 1e-9)
    steady = float(steady_power_w(0.0, 0.5, on("gaudi2"), narrow=False))
    assert steady == pytest.approx(chip.idle_w + 0.5 * flop_j * chip.peak_flops_per_s("bf16"))


@given(low=st.floats(0, 105), high=st.floats(0, 105))
def test_leakage_rises_with_temperature_and_doubles_where_it_should(low: float, high: float) -> None:
    cold, warm = sorted((low, high))
    assert leakage_w(100.0, cold) <= leakage_w(100.0, warm)
    reference, step = number("reference_c"), number("leakage_doubling_c")
    assert leakage_w(100.0, reference) == 0.0
    assert leakage_w(100.0, reference + step) == pytest.approx(100.0 * number("leakage_share"))
    assert leakage_w(100.0, 0.0) > -100.0
    with pytest.raises(DomainError, match="no chip runs"):
        leakage_w(100.0, 300.0)


@pytest.mark.parametrize("chip", ["h100-sxm", "gaudi2"])
def test_warmer_chips_draw_more_in_predictions_and_runs(chip: str) -> None:
    case = {**CASE, "on": chip}
    usual, same = rl.predict(**case), rl.predict(**case, chip_temperature_c=60)
    warm = rl.predict(**case, chip_temperature_c=75)
    assert repr(usual.values) == repr(same.values)
    more_w = leakage_w(catalogue.chip(chip).idle_w, 75.0)
    assert warm.power_w_per_chip - usual.power_w_per_chip == pytest.approx(more_w, rel=0.05)
    assert warm.tpot_s == usual.tpot_s
    runs = [rl.simulate(**case, requests=40, chip_temperature_c=celsius) for celsius in (60, 75)]
    drawn = [run.answers.whole.power_w for run in runs]
    assert drawn[1] - drawn[0] == pytest.approx(more_w, rel=0.05)


def test_the_column_stands_at_the_reference() -> None:
    (column,) = (column for column in SERVING if column.name == "chip_temperature_c")
    assert column.default == number("reference_c")
