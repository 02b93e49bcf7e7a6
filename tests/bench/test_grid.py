"""What is measured: shapes that make sense, in an order of which any beginning is a fair sample."""

from __future__ import annotations

import pytest

from ridgeline.bench import KINDS, cases, kinds_of
from ridgeline.core.errors import UnknownNameError

GROUPS = [
    ("gemm", "", "bf16"),
    ("attention_prefill", "attention", "bf16"),
    ("attention_decode", "attention", "bf16"),
    ("elementwise", "add", "bf16"),
    ("copy", "device", "int8"),
    ("collectives", "all_reduce", "fp16"),
]


@pytest.mark.parametrize("quick", [True, False])
def test_every_kind_has_cases_with_work_in_them(quick: bool) -> None:
    found = cases(GROUPS, quick=quick, device_count=8)
    assert {case.table for case in found} == {table for tables in KINDS.values() for table in tables}
    assert all(case.moved_bytes > 0 and case.flops >= 0 for case in found)


def test_quick_grid_is_smaller() -> None:
    assert 2 * len(cases(GROUPS, quick=True)) < len(cases(GROUPS, quick=False))


def test_every_group_starts_with_its_smallest_case_before_any_has_its_second() -> None:
    found = cases(GROUPS, quick=False, device_count=8)
    first = found[: len(GROUPS)]
    assert [case.group for case in first] == GROUPS
    for smallest in first:
        others = [case for case in found if case.group == smallest.group]
        assert smallest.flops + smallest.moved_bytes == min(case.flops + case.moved_bytes for case in others)


def test_no_case_is_measured_twice() -> None:
    found = cases(GROUPS, quick=False, device_count=8)
    assert len({(case.group, *case.sizes.items()) for case in found}) == len(found)


def test_long_loops_are_for_large_cases() -> None:
    for group in GROUPS:
        found = cases([group], quick=False, device_count=8)
        middle = sorted(case.flops + case.moved_bytes for case in found)[len(found) // 2]
        assert any(case.sustained for case in found)
        assert all(case.flops + case.moved_bytes >= middle for case in found if case.sustained)


def test_collectives_need_a_second_device() -> None:
    assert cases([("collectives", "all_reduce", "fp16")], quick=False, device_count=1) == ()
    counts = {case.sizes["num_gpus"] for case in cases(GROUPS[-1:], quick=False, device_count=6)}
    assert counts == {2, 4, 6}


def test_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gemm'"):
        kinds_of("gem,copy")
    assert kinds_of(" copy, GEMM,copy") == ("copy", "gemm")
    assert kinds_of("") == tuple(KINDS)
