"""Published runs with energy: read and joined, the fit gives back a law that made them, and validation scores them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ridgeline.api.accuracy.accuracy import Accuracy
from ridgeline.api.accuracy.accuracy_page import markdown_page
from ridgeline.api.accuracy.energy_accuracy import SUSPECT, validate_energy
from ridgeline.api.accuracy.energy_runs import EnergyRuns, predicted_token_j, read_energy_runs
from ridgeline.api.accuracy.fit_serving_power import SHARED, fitted, model_left_out, scored

pytest.importorskip("scipy")

MODELS = {
    "meta-llama/Llama-3.1-8B-Instruct": "bfloat16",
    "Qwen/Qwen3-32B": "bfloat16",
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "bfloat16",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": "fp8",
}
VALUES = {**SHARED, "byte_j": 2.4e-10, "kv": 0.6, "flops": 7.0, "mixture": 0.2}


def write(folder: Path, watts: dict[str, float]) -> None:
    """Both published tables, for every model at some batches on two chips."""
    folder.mkdir(parents=True, exist_ok=True)
    energy, rates = [], []
    for name, weights in MODELS.items():
        for gpu in ("H100-SXM-80GB", "B200"):
            for batch in (8, 32, 96):
                group = f"{name}{gpu}{batch}"
                chips = 8 if weights == "fp8" else 2 if "30B-A3B" in name else 1
                common = {"group": group, "version": "ML.ENERGY v3 (2025-12)", "engine": "vLLM", "model": name}
                common |= {"gpu": gpu, "n_gpus": chips, "tp": 1, "ep": chips if chips > 1 else 1, "dp": 1}
                notes = f"max_num_seqs={batch}; SUSPECT" if batch == 96 and gpu == "B200" else f"max_num_seqs={batch}"
                row = {**common, "case_id": group, "task": "lm-arena-chat", "batch": batch, "out_len": 500}
                energy.append({**row, "metric": "W", "value": watts.get(group, 100.0 * chips), "notes": notes})
                rates.append({**common, "metric": "output_tok_s_total", "value": batch / 0.02})
    for file, rows in (("energy", energy), ("inference_llm", rates)):
        with (folder / f"{file}.csv").open("w", newline="") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables whose watts are those of a law."""
    root = tmp_path_factory.mktemp("data")
    write(root / "published", {})
    blank = read(root)
    data = scored(blank)
    tdp = np.asarray(blank.chips.gather(lambda chip: chip.tdp_w))
    chips = np.asarray(blank.cases["chips"], np.float64)
    gpu = np.where(blank.chip == "b200-sxm", "B200", "H100-SXM-80GB")
    batch = np.asarray(blank.cases["concurrency"], np.float64)
    keys = [f"{m}{g}{b:g}" for m, g, b in zip(blank.model, gpu, batch, strict=True)]
    write(root / "published", dict(zip(keys, (data.law(VALUES) * tdp * chips).tolist(), strict=True)))
    return root


def read(root: Path) -> EnergyRuns:
    return read_energy_runs(*(root / "published" / f"{name}.csv" for name in ("energy", "inference_llm")))


def test_rows_of_both_tables_are_joined(folder: Path) -> None:
    runs = read(folder)
    assert len(runs.power_w) == 2 * 3 * len(MODELS)
    assert runs.suspect.sum() == len(MODELS)
    assert set(runs.chip) == {"h100-sxm", "b200-sxm"}
    np.testing.assert_allclose(runs.token_j, runs.power_w * runs.cases["chips"] / runs.tokens_per_s)
    tiled = scored(runs).load.tiled_bytes_per_s
    narrow = np.array([name.endswith("FP8") for name in runs.model])
    assert (np.asarray(tiled)[narrow] > 0).all()
    assert (np.asarray(tiled)[~narrow] == 0).all()


def test_a_fit_gives_back_the_law_that_made_the_runs(folder: Path) -> None:
    data = scored(read(folder))
    values = fitted(data)
    np.testing.assert_allclose(data.law(values), data.share, rtol=0.01)
    assert values["byte_j"] == pytest.approx(VALUES["byte_j"], rel=0.1)
    assert values["flops"] == pytest.approx(VALUES["flops"], rel=0.15)


def test_a_model_that_was_left_out_is_predicted_from_the_others(folder: Path) -> None:
    runs = read(folder)
    data = scored(runs)
    assert np.median(np.abs(model_left_out(runs, data) / data.share - 1)) < 0.1


def test_validation_scores_power_and_energy_and_sets_suspects_apart(folder: Path) -> None:
    found = validate_energy(folder)
    assert [(each.kind, each.regime) for each in found] == [
        ("serving power", "calibrated"),
        ("serving power", "extrapolated"),
        ("serving energy", "physics"),
    ]
    assert (found[0].apart == SUSPECT).sum() == len(MODELS)
    assert np.isfinite(predicted_token_j(read(folder))).all()
    page = markdown_page(Accuracy([], [], found))
    assert "## Power and energy of serving" in page
    assert validate_energy(folder / "nothing") == []
