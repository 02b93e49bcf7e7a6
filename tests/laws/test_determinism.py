"""The same question gets the same bytes: whatever the process, the hash seed, the order of rows or what ran before."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ridgeline.api.tables.tasks import predict_table

CASES = """model,chip,tp,isl,osl,concurrency,procedure,runtime
meta-llama/Llama-3.1-8B,h100-sxm,1,1024,128,8,inferencemax,vllm
Qwen/Qwen3-30B-A3B,h200-sxm,2,2048,256,16,steady,sglang
meta-llama/Llama-3.1-70B,b200-sxm,4,512,64,4,aiconfigurator,trtllm
no-such-model,b200-sxm,4,512,64,4,steady,vllm
deepseek-ai/DeepSeek-V3,h200-sxm,8,4096,128,32,steady,vllm
"""


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_other_processes_and_hash_seeds_write_the_same_bytes(tmp_path: Path, seed: str) -> None:
    (tmp_path / "cases.csv").write_text(CASES)
    digests = set()
    for run in range(2):
        out = tmp_path / f"{run}.csv"
        code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "predict", "serving", "--cases", str(tmp_path / "cases.csv")]
        environment = {**os.environ, "PYTHONHASHSEED": seed if run else "7"}
        subprocess.run([*command, "--out", str(out)], env=environment, check=True, capture_output=True)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("seed", ["0", "random"])
def test_a_simulation_is_the_same_bytes_in_other_processes_and_hash_seeds(seed: str) -> None:
    words = "simulate serving --model meta-llama/Llama-3.1-8B --on 3x?h100-sxm --json --isl 300 --requests 120 --seed 4"
    load = ["--arrivals", "gamma(9/s, cv=2)", "--output", "lognormal(mean=40, sigma=0.5)"]
    fleet = [
        "--router",
        "power-of-two",
        "--scheduler",
        "shortest-predicted",
        "--failures",
        "random(mtbf=20s, repair=2s)",
    ]
    code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
    arguments = [word.replace("?", " ") for word in words.split()]
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, *arguments, *load, *fleet],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in (seed, "7")
    }
    assert len(printed) == 1


def table() -> dict[str, list[str]]:
    header, *rows = (line.split(",") for line in CASES.strip().splitlines())
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def test_the_order_of_rows_and_what_ran_before_change_nothing() -> None:
    cases = table()
    first = predict_table("serving", cases)
    order = [3, 0, 4, 2, 1]
    shuffled = predict_table("serving", {name: [values[i] for i in order] for name, values in cases.items()})
    again = predict_table("serving", cases)
    for name in ("ttft_s", "tpot_s", "power_w_per_chip", "memory_bytes_per_chip"):
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_allclose(shuffled[name], first[name][order], rtol=1e-12)
    assert list(shuffled["error"]) == [first["error"][i] for i in order]


def test_names_of_one_thing_are_one_thing() -> None:
    """Symmetry: aliases, units and spelling do not change a result."""
    spellings = {
        "model": ["meta-llama/Llama-3.1-70B", "llama_3.1_70b", "Llama-3.1-70B"],
        "chip": ["h100-sxm", "NVIDIA H100 80GB HBM3", "H100_SXM"],
        "runtime": ["trtllm", "TensorRT-LLM", "tensorrt_llm"],
        "weights": ["fp8", "FP8", "float8"],
    }
    out = predict_table(
        "serving", {**spellings, "tp": [8] * 3, "isl": [1000] * 3, "osl": [100] * 3, "concurrency": [4] * 3}
    )
    for name in ("ttft_s", "tpot_s", "power_w_per_chip"):
        assert len(set(out[name].tolist())) == 1
