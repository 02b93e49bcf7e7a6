"""A deployment written as files of any target and read back is the same deployment, but for what a note names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ridgeline.api.planning.launch import complete_case, launch_case, launch_files, read_launch
from ridgeline.core.errors import PlanError
from ridgeline.plans import requantise
from ridgeline.serving.launch import launch_of
from ridgeline.serving.launch.deployment import Launch, Pool

TARGETS = ("vllm", "sglang", "trtllm", "kubernetes", "llm-d", "dynamo")
MODELS = ("Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3", "meta-llama/Llama-3.1-8B")
FORMATS = {"weights", "moe_weights", "activations", "kv"}
OF_THE_LOAD = {"finds_prefixes"}
"""The share of cached prefixes is the traffic's; a launch only says whether there is a cache."""

PRINTED_DIGITS = 1e-9

degrees = st.sampled_from([1, 1, 1, 2, 4, 8, 16])
limits = st.sampled_from([0, 0, 1, 16, 256, 2048])


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Cases whose plans may be illegal; those are passed over by the engine of the checks."""
    case: dict[str, Any] = {
        "model": draw(st.sampled_from(MODELS)),
        "chip": draw(st.sampled_from(["h100-sxm", "h200-sxm", "b200-sxm", "mi300x"])),
        "weights": draw(st.sampled_from(["", "", "bf16", "fp8", "fp8_block", "int4_wo", "nvfp4"])),
        "kv": draw(st.sampled_from(["", "", "fp8", "bf16"])),
        "memory_frac": draw(st.sampled_from([0.0, 0.5, 0.85, 0.925])),
        "max_batched_tokens": draw(limits),
        "draft_tokens": draw(st.sampled_from([0, 0, 1, 3])),
        "nano_batches": draw(st.sampled_from([1, 1, 2])),
        "prefix_hit_frac": draw(st.sampled_from([0.0, 0.5])),
    }
    split = draw(st.booleans())
    case["mode"] = "disagg" if split else "agg"
    for prefix in ("prefill_", "decode_") if split else ("",):
        case |= {f"{prefix}{name}": draw(degrees) for name in ("tp", "dp")}
        case[f"{prefix}pp"] = draw(st.sampled_from([1, 1, 2]))
        stage = case[f"{prefix}tp"] * case[f"{prefix}dp"]
        if not split:
            case["cp"] = draw(st.sampled_from([1, 1, 1, 2]))
            stage *= case["cp"]
        if "A3B" in case["model"] or "DeepSeek" in case["model"]:
            case[f"{prefix}ep"] = draw(st.sampled_from([0, 1, stage, max(stage // 2, 1)]))
        case[f"{prefix}batch" if split else "max_batch"] = draw(limits)
        case[f"{prefix}workers" if split else "replicas"] = draw(st.sampled_from([1, 2, 3, 9]))
    return case


def legal(case: Mapping[str, Any], target: str) -> tuple[dict[str, Any], Launch]:
    """The case for an engine of the target, complete; illegal ones are passed over."""
    engine = target if target in ("vllm", "sglang", "trtllm") else "vllm"
    row = {**case, "runtime": case.get("runtime", engine)}
    try:
        return row, launch_of(complete_case(row))
    except PlanError:
        assume(False)
        raise


def differences(launch: Launch, again: Launch, noted: set[str]) -> list[str]:
    """Fields that are not the same and that no note names."""
    odd = [name for name in ("model", "chip", "runtime") if getattr(launch, name) != getattr(again, name)]
    if len(launch.pools) != len(again.pools):
        return [*odd, "pools"]
    for mine, theirs in zip(launch.pools, again.pools, strict=True):
        for field in fields(Pool):
            one, other = getattr(mine, field.name), getattr(theirs, field.name)
            same = one == pytest.approx(other, rel=PRINTED_DIGITS) if isinstance(one, float) else one == other
            if field.name not in FORMATS | OF_THE_LOAD and not same:
                odd.append(f"{mine.role}.{COLUMNS.get(field.name, field.name)}: {one}, not {other}")
        if precision(launch, mine, noted) != precision(again, theirs, noted):
            odd.append(f"formats of {mine.role}")
    renamed = {"chips": "tp", "half_batches": "nano_batches"}
    return [one for one in odd if renamed.get(name_of(one), name_of(one)) not in noted]


COLUMNS = {"half_batches": "nano_batches"}


def name_of(difference: str) -> str:
    return difference.partition(":")[0].rpartition(".")[2]


def precision(launch: Launch, pool: Pool, noted: set[str]) -> object:
    named = {name: getattr(pool, name) for name in FORMATS - noted}
    if "weights" in noted:
        named.pop("activations", None)
    changed = requantise(launch.published, **{k: v for k, v in named.items() if v}).precision
    return (changed.kv if noted & {"weights", "moe_weights", "activations"} else changed) if "kv" not in noted else None


def check(case: dict[str, Any], target: str, folder: Path) -> None:
    row, launch = legal(case, target)
    try:
        files = launch_files(row, target)
    except PlanError:  # the engine's own ways of spreading experts do not fit this model
        assume(False)
        raise
    again = folder / "launch"
    again.mkdir()
    for name, text in files.items():
        (again / name).write_text(text, encoding="utf-8")
    try:
        reading = read_launch(again)
        noted = {note.column for note in files.notes} | {note.column for note in reading.notes if note.column == "cp"}
        back = launch_case(reading, given={} if "chip" in reading.case else {"chip": row["chip"]})
        assert differences(launch, launch_of(complete_case(back)), noted) == []
        assert "chip" in reading.case or "chip" in noted
    finally:
        for path in again.iterdir():
            path.unlink()
        again.rmdir()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_what_is_written_is_read_again(target: str, tmp_path: Path, case: dict[str, Any]) -> None:
    check(case, target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_what_is_written_is_read_again_for_many(target: str, tmp_path: Path, case: dict[str, Any]) -> None:
    check(case, target, tmp_path)


@pytest.mark.parametrize("target", ["kubernetes", "dynamo"])
@pytest.mark.parametrize("runtime", ["sglang", "trtllm"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_clusters_run_every_engine(target: str, runtime: str, tmp_path: Path, case: dict[str, Any]) -> None:
    check({**case, "runtime": runtime}, target, tmp_path)
