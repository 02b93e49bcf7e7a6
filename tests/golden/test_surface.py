"""Predictions do not move unnoticed anywhere on the support surface (quality A3): every chip, model and runtime.

After a change that means to move them `make regold` writes the new ones; the diff shows what moved, and how far.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.core.files import write_atomic
from ridgeline.hardware.catalogue import chips
from ridgeline.serving.runtime import runtime_names
from ridgeline.workloads.catalogue import models

ALLOWED = 1e-3  # of a value; other processors round the last digits otherwise
STRIDE = 5  # of the surface, in the quick test
SMALL, EXPERTS = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B"
SHOWN = {
    "serving": ("ttft_s", "tpot_s", "power_w_per_chip", "memory_bytes_per_chip"),
    "training": ("step_s", "memory_bytes_per_chip"),
}
LOADS: Mapping[str, Mapping[str, int]] = {
    "serving": {"isl": 2000, "osl": 200, "concurrency": 16},
    "training": {"seq": 4096, "global_batch": 32},
}


def surface(task: str) -> list[dict[str, str]]:
    """Cases of the surface: an axis at a time from a deployment that is legal nearly everywhere."""
    if task == "training":
        found = [{"model": model, "chip": "h100-sxm", "chips": "32", "zero": "3"} for model in models()]
        return found + [{"model": SMALL, "chip": chip, "chips": "16", "zero": "3"} for chip in chips()]
    found = [{"model": model, "chip": "h200-sxm", "tp": "8"} for model in models()]
    found += [{"model": SMALL, "chip": chip, "tp": "1"} for chip in chips()]
    found += [{"model": EXPERTS, "chip": chip, "tp": "4"} for chip in chips()]
    runtimes = runtime_names().canonical
    return found + [{"model": EXPERTS, "chip": "h100-sxm", "tp": "2", "runtime": name} for name in runtimes]


def predicted(task: str, cases: list[dict[str, str]]) -> list[dict[str, str]]:
    """The cases with what is shown of them and their errors, as a file keeps them."""
    names = dict.fromkeys(name for case in cases for name in case)
    columns = {name: [case.get(name, "") for case in cases] for name in names}
    loads = {name: [value] * len(cases) for name, value in LOADS[task].items()}
    told = rl.predict_table(task, {**columns, **loads})
    rows = []
    for i, case in enumerate(cases):
        shown = {name: f"{float(told[name][i]):.6g}" for name in SHOWN[task]}
        rows.append({**dict.fromkeys(names, ""), **case, **shown, "error": told["error"][i] or ""})
    return rows


def check(task: str, stride: int) -> None:
    file, cases = Path(__file__).with_name(f"surface_{task}.csv"), surface(task)
    if os.environ.get("RIDGELINE_REGOLD"):
        write(file, predicted(task, cases))
    with file.open(encoding="utf-8", newline="") as rows:
        before = list(csv.DictReader(rows))
    told = [{name: row[name] for name in row if name not in (*SHOWN[task], "error")} for row in before]
    assert told == [{**dict.fromkeys(told[0], ""), **case} for case in cases], "the surface is another: make regold"
    pairs = zip(before[::stride], predicted(task, cases[::stride]), strict=True)
    moved = [f"{old} -> {new}" for old, new in pairs if differ(task, old, new)]
    assert not moved, "\n".join([f"{len(moved)} of {len(cases[::stride])} predictions moved", *moved[:5]])


def differ(task: str, old: dict[str, str], new: dict[str, str]) -> bool:
    a, b = ([float(row[name]) for name in SHOWN[task]] for row in (old, new))
    return old["error"] != new["error"] or not np.allclose(a, b, rtol=ALLOWED, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("task", SHOWN)
def test_predictions_do_not_move_unnoticed(task: str) -> None:
    check(task, STRIDE)


@pytest.mark.slow
@pytest.mark.parametrize("task", SHOWN)
def test_no_prediction_moves_unnoticed(task: str) -> None:
    check(task, 1)


def write(file: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(file, text.getvalue())
