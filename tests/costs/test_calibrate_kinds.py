"""Calibration of attention, latent attention, experts and collectives on a chip that was never measured."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline.core.errors import DomainError, SpecError, UnknownNameError
from ridgeline.core.files import load_yaml
from ridgeline.costs.calibrate import calibrate_chip
from ridgeline.costs.coefficients import OWN_CALIBRATIONS, merged
from ridgeline.costs.fits import attention, collective, own
from ridgeline.costs.measurements import read
from ridgeline.costs.residual import save
from ridgeline.costs.room import facts_of
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.chip import ChipColumns

CHIP = "b200-sxm"
Columns = dict[str, Any]
HEADS = ((32, 8, 128), (64, 8, 128), (8, 1, 128), (16, 16, 128))

TRUTH: dict[str, tuple[str, dict[str, float]]] = {
    "attention_prefill": (
        "fmha",
        {"share_128": 0.45, "launch_cycles": 46000.0, "cta_cycles": 6000.0, "exp_cycles": 0.12},
    ),
    "attention_decode": ("fa3", {"memory_share": 0.6, "launch_cycles": 31000.0, "stream_bytes_per_clock": 12.0}),
    "mla_module": (
        "module-trtllm-absorbed",
        {"linear_memory_share": 0.5, "launch_cycles": 165000.0, "linear_share": 0.35},
    ),
    "mla": ("trtllm-absorbed", {"memory_share": 0.6, "launch_cycles": 31000.0, "compute_share": 0.3}),
    "moe": ("cutlass-16", {"memory_share": 0.55, "launch_cycles": 73000.0, "share": 0.4, "local_passes": 4.0}),
    "collectives": ("nccl", {"simple_efficiency": 0.5, "ll_start_cycles": 25000.0, "p2p_simple_efficiency": 0.45}),
}
"""Numbers of a made-up B200, far from what its lineage starts with."""
RUNTIME = {"attention_decode": "vllm", "collectives": "nccl"}
FILES = {"moe": "experts", "collectives": "collective", "mla_module": "mla"}

CASES: dict[str, tuple[str, ...]] = {
    "attention_prefill": ("--kind", "attention_prefill", "--batch", "4", "--isl", "4096", "--heads", "32",
                          "--kv-heads", "8", "--head-dim", "128", "--runtime", "trtllm"),
    "attention_decode": ("--kind", "attention_decode", "--batch", "64", "--kv-len", "8192", "--heads", "32",
                         "--kv-heads", "8", "--head-dim", "128", "--runtime", "vllm"),
    "mla": ("--kind", "attention_decode", "--op", "mla", "--batch", "64", "--kv-len", "8192", "--heads", "16",
            "--runtime", "trtllm"),
    "mla_module": ("--kind", "attention_decode", "--op", "mla_module", "--batch", "64", "--kv-len", "8192",
                   "--heads", "16", "--runtime", "trtllm", "--gemm-dtype", "bf16"),
    "moe": ("--kind", "moe", "--tokens", "256", "--hidden", "4096", "--inter", "1536", "--topk", "8",
            "--experts", "128", "--runtime", "trtllm"),
    "collectives": ("--kind", "collectives", "--op", "all_gather", "--num-chips", "8", "--message-bytes", "67108864",
                    "--runtime", "nccl"),
}  # fmt: skip


def sizes_of(kind: str, count: int) -> Columns:
    """Shapes spread over what is served."""
    rng = np.random.default_rng(17)

    def powers(low: float, high: float) -> np.ndarray:
        return np.floor(2.0 ** rng.uniform(low, high, count))

    if kind == "moe":
        models = np.array([(4096, 1536, 8, 128), (2048, 768, 8, 128), (4096, 14336, 2, 8)])[rng.integers(0, 3, count)]
        named = dict(zip(("hidden", "inter", "topk", "experts"), models.T, strict=True))
        return {"tokens": powers(0, 15), **named, "tp": 1, "ep": 1, "distribution": "balanced"}
    if kind == "collectives":
        ops = np.array(["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])[rng.integers(0, 4, count)]
        ranks = 2 ** rng.integers(1, 4, count)
        return {"op": ops, "num_gpus": ranks, "message_bytes": powers(9, 29), "kernel": "NCCL"}
    heads = np.array(HEADS)[rng.integers(0, len(HEADS), count)].T
    if kind in ("mla", "mla_module"):
        heads = np.array([2 ** rng.integers(3, 8, count), np.ones(count), np.zeros(count)])
    named = dict(zip(("heads", "kv_heads", "head_dim"), heads, strict=True))
    length = {"isl": powers(5, 14)} if kind == "attention_prefill" else {"kv_len": powers(5, 16)}
    return {"op": kind if kind in ("mla", "mla_module") else "attention", "batch": powers(0, 7), **length, **named}


def write(path: Path, columns: Columns) -> Path:
    """A CSV file of the columns."""
    count = max(np.size(value) for value in columns.values())
    rows = zip(*(np.broadcast_to(np.asarray(value), count).tolist() for value in columns.values()), strict=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *rows])
    return path


def measured(path: Path, kind: str, count: int = 500, scale: float = 1e3, seed: int = 5) -> Path:
    """Times that a chip with the numbers of TRUTH would show, with 1 % of noise."""
    number = "float16" if kind == "collectives" else "bfloat16"
    columns: Columns = {"gpu": CHIP, "backend": RUNTIME.get(kind, "trtllm"), "version": "1", "dtype": number}
    if kind.startswith("attention") or kind.startswith("mla"):
        columns["kv_dtype"] = number
    if kind == "mla_module":
        columns["gemm_dtype"] = number
    columns |= {**sizes_of(kind, count), "latency_ms": 1e6}
    table = read(write(path, columns))
    kernel, changed = TRUTH[kind]
    truth = {**own.unmeasured(FILES.get(kind, kind), kernel, chip(CHIP)), **changed}
    time_s = np.empty(count)
    if kind == "collectives":
        for (op,), rows in table.groups("op"):
            (cell,) = collective.cells(table.rows(rows))
            assert cell.op.kind == op
            time_s[rows] = cell.priced_s(truth, None)
    else:
        piece = own.pieces_of(table, chip(CHIP))[0]
        time_s[:] = piece.sample(table, kernel).predict(truth)
    noise = np.exp(np.random.default_rng(seed).normal(0.0, 0.01, count))
    return write(path, {**columns, "latency_ms": time_s * noise * scale})


def run(case: tuple[str, ...], calibrations: str, name: str = CHIP) -> subprocess.CompletedProcess[str]:
    code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
    arguments = ("predict", "ops", *case, "--chip", name, "--json")
    environment = {**os.environ, OWN_CALIBRATIONS: calibrations}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)


def predict(case: tuple[str, ...], calibrations: str, name: str = CHIP) -> dict[str, Any]:
    done = run(case, calibrations, name)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)["results"]
    return results


@pytest.mark.parametrize("kind", TRUTH)
def test_known_numbers_are_found_again_and_price_the_chip(tmp_path: Path, kind: str) -> None:
    found = calibrate_chip(measured(tmp_path / "chip.csv", kind), CHIP)
    for scores in found.errors.values():
        assert scores["calibrated"]["median_pct"] < 3.0 < scores["datasheet"]["median_pct"]
    files = found.write(tmp_path / "own.yaml")
    assert load_yaml(files[0]).data["kind"] == FILES.get(kind, kind)
    before, after = (predict(CASES[kind], env) for env in ("", str(files[0])))
    assert (before["regime"], after["regime"]) == ("datasheet", "calibrated")
    assert after["time_s"] != before["time_s"]


def test_residual_tables_of_ones_own_are_used(tmp_path: Path) -> None:
    found = calibrate_chip(measured(tmp_path / "chip.csv", "mla", count=900), CHIP)
    yaml, npz = found.write(tmp_path / "own.yaml")
    as_fitted = predict(CASES["mla"], str(yaml))["time_s"]
    save(npz, {key: replace(table, log_factor=table.log_factor + 0.25) for key, table in found.tables.items()})
    assert predict(CASES["mla"], str(yaml))["time_s"] == pytest.approx(as_fitted * np.exp(0.25), rel=0.01)


def test_residual_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    yaml, npz = calibrate_chip(measured(tmp_path / "chip.csv", "mla"), CHIP).write(tmp_path / "own.yaml")
    npz.write_bytes(b"not a table")
    done = run(CASES["mla"], str(yaml))
    assert done.returncode == 2
    assert "own.npz" in done.stderr
    assert "Traceback" not in done.stderr


def test_bundled_residual_tables_correct_bundled_numbers_only(tmp_path: Path) -> None:
    numbers = merged("attention_decode", "fa3", "h100-sxm", "hopper")
    lines = [f"      {name}: {value!r}" for name, value in numbers.items()]
    yaml = tmp_path / "own.yaml"
    yaml.write_text("\n".join(["kind: attention_decode", "kernels:", "  fa3:", "    chips:", "     h100-sxm:", *lines]))
    case = (*CASES["attention_decode"], "--weights-cache", "hot")
    facts = facts_of(ChipColumns((chip("h100-sxm"),)), "bf16")
    shape = {"batch": 64.0, "kv_len": 8192.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "window": 0.0}
    op = attention.attention_rows(shape, "decode", "bf16", "bf16")
    physics = float(attention.predictor(op, facts, "decode")(numbers))
    assert predict(case, str(yaml), "h100-sxm")["time_s"] == pytest.approx(physics, rel=1e-6)
    assert predict(case, "", "h100-sxm")["time_s"] != pytest.approx(physics, rel=1e-6)


def test_two_kinds_in_one_table_give_a_file_each(tmp_path: Path) -> None:
    lines = [measured(tmp_path / f"{kind}.csv", kind, count=200) for kind in ("attention_decode", "mla")]
    first, second = (path.read_text().splitlines() for path in lines)
    assert first[0] == second[0]
    both = tmp_path / "both.csv"
    both.write_text("\n".join([*first, *second[1:], ""]))
    files = calibrate_chip(both, CHIP).write(tmp_path / "own.yaml")
    assert [file.name for file in files] == ["own-attention_decode.yaml", "own-mla.yaml"]
    named = os.pathsep.join(map(str, files))
    assert all(predict(CASES[kind], named)["regime"] == "calibrated" for kind in ("attention_decode", "mla"))


@pytest.mark.parametrize("kind", TRUTH)
def test_the_same_measurements_give_the_same_file(tmp_path: Path, kind: str) -> None:
    source = measured(tmp_path / "chip.csv", kind, count=120)
    written = [calibrate_chip(source, CHIP).write(tmp_path / name)[0].read_bytes() for name in ("a.yaml", "b.yaml")]
    assert written[0] == written[1]


@pytest.mark.parametrize("kind", TRUTH)
def test_too_few_rows_say_how_many_are_needed(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SpecError, match=r"too few measurements.*at least \d\d rows"):
        calibrate_chip(measured(tmp_path / "chip.csv", kind, count=16), CHIP)


@pytest.mark.parametrize("kind", TRUTH)
def test_times_faster_than_the_hardware_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DomainError, match="faster than the chip's peak"):
        calibrate_chip(measured(tmp_path / "chip.csv", kind, scale=1e-2), CHIP)


@pytest.mark.parametrize("kind", TRUTH)
def test_one_impossible_row_is_set_aside_by_its_place_in_the_file(tmp_path: Path, kind: str) -> None:
    source = measured(tmp_path / "chip.csv", kind, count=160)
    lines = source.read_text().splitlines()
    longest = max(range(1, 161), key=lambda place: float(lines[place].rsplit(",", 1)[1]))
    head, _, time_ms = lines[longest].rpartition(",")
    lines[longest] = f"{head},{float(time_ms) * 1e-3}"
    source.write_text("\n".join(lines))
    found = calibrate_chip(source, CHIP)
    assert [row.row for row in found.set_aside] == [longest]
    (file, *_) = found.write(tmp_path / "own.yaml")
    provenance = load_yaml(file).data["provenance"]
    assert provenance["data"][0]["rows"] == 159
    (entry,) = provenance["set_aside"]
    assert entry["row"] == longest
    assert entry["time_s"] < entry["bound_s"]
    assert predict(CASES[kind], str(file))["regime"] == "calibrated"


def test_the_command_says_which_rows_it_set_aside(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.csv", "moe", count=120)
    lines = source.read_text().splitlines()
    longest = max(range(1, 121), key=lambda place: float(lines[place].rsplit(",", 1)[1]))
    head, _, time_ms = lines[longest].rpartition(",")
    lines[longest] = f"{head},{float(time_ms) * 1e-3}"
    source.write_text("\n".join(lines))
    code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
    arguments = ("calibrate", str(source), "--chip", CHIP, "--out", str(tmp_path / "own.yaml"), "--json")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"row {longest} (" in done.stderr
    assert [row["row"] for row in json.loads(done.stdout)["set_aside"]] == [longest]


def test_unknown_chips_and_rows_that_nothing_fits_are_named(tmp_path: Path) -> None:
    source = measured(tmp_path / "chip.csv", "moe", count=60)
    with pytest.raises(UnknownNameError, match="b200"):
        calibrate_chip(source, "b2000_sxm")
    with pytest.raises(SpecError, match="no measurements of h100-sxm"):
        calibrate_chip(source, "h100_sxm")
    lone = measured(tmp_path / "chip.csv", "collectives", count=60)
    lone.write_text(lone.read_text().replace("NCCL", "gloo"))
    with pytest.raises(SpecError, match=r"known kernel.*gloo"):
        calibrate_chip(lone, CHIP)
    neither = measured(tmp_path / "chip.csv", "mla", count=60)
    neither.write_text(neither.read_text().replace(",mla,", ",sparse,"))
    with pytest.raises(SpecError, match=r"show a kernel that is fitted.*sparse"):
        calibrate_chip(neither, CHIP)


@pytest.mark.shared_data
def test_the_bundled_error_of_a_measured_chip_is_reproduced(tmp_path: Path, shared_data: Path) -> None:
    import duckdb

    source, part = shared_data / "silicon" / "attention_decode.parquet", tmp_path / "h100.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select * from '{source}' where gpu='h100_sxm' and backend='vllm' and version='0.24.0' "
            f"and op='attention' and kv_dtype='bfloat16' and kernel='vllm_flash_attn_fa3' and head_dim=128) to '{part}'"
        )
    (scores,) = calibrate_chip(part, "h100-sxm").errors.values()
    bundled = load_yaml(Path(own.__file__).parents[1] / "coefficients" / "attention_decode.yaml").data
    known = bundled["provenance"]["errors"]["fa3"]["h100-sxm"]["with_residual"]["median_pct"]
    assert scores["calibrated"]["median_pct"] < scores["physics"]["median_pct"]
    assert scores["calibrated"]["median_pct"] == pytest.approx(known, abs=1.0)
