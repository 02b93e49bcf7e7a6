"""A run ends within its time, keeps what it measured, and times no wrong result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ridgeline.bench import Case, Device, Effort, Kernel, Lap, Outcome, Plan, Unsupported, cases, offered, run, write
from ridgeline.bench.backends import Buffers
from ridgeline.bench.session import HOT, NO_MEMORY, NO_TIME, buffers_for
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware import Chip, chip

CHIP = chip("h100-sxm")
EFFORT = Effort(warm_s=0.001, lap_s=0.001, repeats=3, sustain_s=0.5)
TODO = cases([("gemm", "", "bf16"), ("copy", "device", "int8")], quick=True)


class Simulated:
    """A backend whose kernels take the time that their work needs, on a clock of its own."""

    name, version = "simulated", "1"
    device = Device(name="simulated", kind="gpu", count=1, free_bytes=1e12)

    def __init__(self, flops_per_s: float = 1e13, bytes_per_s: float = 1e12) -> None:
        self.now_s, self.flops_per_s, self.bytes_per_s = 0.0, flops_per_s, bytes_per_s
        self.error: Callable[[Case], float] = lambda case: 0.0

    def clock(self) -> float:
        return self.now_s

    def offers(self, table: str) -> tuple[tuple[str, str], ...]:
        return {"gemm": (("", "bf16"), ("", "nvfp4")), "copy": (("device", "int8"),)}.get(table, ())

    def meter(self) -> None:
        return None

    def prepare(self, case: Case, buffers: Buffers) -> Kernel:
        call_s = 1e-6 + case.flops / self.flops_per_s + case.moved_bytes / self.bytes_per_s
        self.now_s += call_s

        def laps(count: int) -> Lap:
            self.now_s += count * call_s
            return Lap(elapsed_s=count * call_s, submit_s=0.0)

        return Kernel(name="simulated", error=self.error(case), calls_per_lap=1, captured=True, laps=laps)


def measure(backend: Simulated, budget_s: float, todo: tuple[Case, ...] = TODO) -> Outcome:
    return run(backend, CHIP, todo, Plan(budget_s=budget_s, effort=EFFORT), clock=backend.clock)


def test_with_enough_time_every_case_is_measured() -> None:
    outcome = measure(Simulated(), 1e4)
    assert len(outcome.rows) == len(TODO)
    assert outcome.left_out == {}
    assert not outcome.interrupted


@pytest.mark.parametrize("slowness", [1.0, 1e3, 1e6])
def test_a_run_ends_within_its_time_on_machines_of_any_speed(slowness: float) -> None:
    outcome = measure(Simulated(1e13 / slowness, 1e12 / slowness), 10.0)
    assert outcome.rows
    assert outcome.elapsed_s < 1.5 * 10.0
    assert len(outcome.rows) + outcome.left_out.get(NO_TIME, 0) == len(TODO)


def test_no_kind_waits_for_another() -> None:
    outcome = measure(Simulated(1e10, 1e9), 5.0)
    assert {row.case.table for row in outcome.rows} == {"gemm", "copy"}


def test_long_loops_take_a_part_of_the_time_only() -> None:
    outcome = measure(Simulated(), 4.0, tuple(replace(case, sustained=True) for case in TODO))
    long = [row for row in outcome.rows if row.timing.sustained_s > 0]
    assert 1 <= len(long) * EFFORT.sustain_s <= 1.0


def test_a_wrong_result_is_not_timed() -> None:
    backend = Simulated()
    backend.error = lambda case: 0.5 if case.table == "gemm" else 0.0
    outcome = measure(backend, 1e4)
    assert {row.case.table for row in outcome.rows} == {"copy"}
    assert any(reason.startswith("wrong result") for reason in outcome.left_out)


def test_a_result_that_is_not_a_number_is_wrong() -> None:
    backend = Simulated()
    backend.error = lambda case: float("nan")
    assert measure(backend, 1e4).rows == ()


def test_what_is_not_supported_is_counted_with_its_reason() -> None:
    class Partial(Simulated):
        def prepare(self, case: Case, buffers: Buffers) -> Kernel:
            if case.table == "gemm":
                raise Unsupported("no such engine")
            return super().prepare(case, buffers)

    outcome = measure(Partial(), 1e4)
    gemms = sum(case.table == "gemm" for case in TODO)
    assert outcome.left_out == {"not supported: gemm bf16: no such engine": gemms}


def test_what_does_not_fit_the_memory_is_left_out() -> None:
    class Small(Simulated):
        device = Device(name="small", kind="gpu", count=1, free_bytes=1e7)

    outcome = measure(Small(), 1e4)
    assert outcome.left_out[NO_MEMORY] > 0
    assert all(row.case.moved_bytes < 1e7 for row in outcome.rows)


def test_an_interruption_keeps_the_rows_that_were_whole() -> None:
    class Interrupted(Simulated):
        calls = 0

        def prepare(self, case: Case, buffers: Buffers) -> Kernel:
            self.calls += 1
            if self.calls == 5:
                raise KeyboardInterrupt
            return super().prepare(case, buffers)

    outcome = measure(Interrupted(), 1e4)
    assert outcome.interrupted
    assert len(outcome.rows) == 4


def test_the_device_is_woken_before_the_first_row() -> None:
    backend = Simulated()
    spent = []
    run(backend, CHIP, TODO[:3], Plan(budget_s=1e3, effort=EFFORT), clock=backend.clock,
        progress=lambda share, case: spent.append(backend.now_s))  # fmt: skip
    assert spent[1] - spent[0] > 1.0
    assert spent[2] - spent[1] < 0.5


def test_hot_gemms_rotate_the_buffers_that_calibration_expects() -> None:
    gemm = next(case for case in TODO if case.table == "gemm")
    assert buffers_for(gemm, CHIP, "hot") == HOT


@pytest.mark.parametrize("case", TODO[:6], ids=lambda case: f"{case.table}-{case.moved_bytes:g}")
def test_cold_buffers_exceed_the_cache_or_are_as_many_as_are_allowed(case: Case) -> None:
    cache = CHIP.tier("l2")
    assert cache is not None
    buffers = buffers_for(case, CHIP, "cold")
    assert buffers.weights == 256 or buffers.weights * case.moved_bytes > 2 * cache.capacity_bytes


def test_formats_without_an_engine_are_not_measured() -> None:
    assert offered(Simulated(), CHIP, ("gemm", "copy"), all_needed=True) == (
        ("gemm", "", "bf16"),
        ("copy", "device", "int8"),
    )


def test_a_kind_that_is_asked_for_and_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(SpecError, match="it measures gemm, copy"):
        offered(Simulated(), CHIP, ("attention",), all_needed=True)
    assert offered(Simulated(), CHIP, ("attention", "copy"), all_needed=False)


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_run_needs_a_positive_time(budget_s: float) -> None:
    with pytest.raises(DomainError):
        Plan(budget_s=budget_s, effort=EFFORT)


def test_weights_are_hot_or_cold() -> None:
    with pytest.raises(SpecError):
        Plan(budget_s=1.0, effort=EFFORT, weights="tepid")


def test_cold_weights_need_a_known_cache() -> None:
    bare: Chip = replace(CHIP, tiers=tuple(tier for tier in CHIP.tiers if tier.name != "l2"))
    with pytest.raises(SpecError, match="last-level cache"):
        buffers_for(TODO[0], bare, "cold")


def test_a_chip_is_calibrated_on_the_rows_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="calibration needs scipy: pip install 'ridgeline[fit]'")
    from ridgeline.costs.calibrate import calibrate_chip

    backend = Simulated(flops_per_s=5e14, bytes_per_s=2e12)
    outcome = measure(backend, 1e4, cases([("gemm", "", "bf16")], quick=True))
    (path,) = write(outcome.rows, backend, CHIP, {"gemm": tmp_path / "mine.parquet"})
    scores = calibrate_chip(path, CHIP.name).document.errors["simulated 1 bf16"]
    assert scores["physics"]["median_pct"] < scores["datasheet"]["median_pct"]
