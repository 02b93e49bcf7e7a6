"""Engines, formats and lengths as published tables write them, and what engines with kernels of their own cost."""

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.errors import UnknownNameError
from ridgeline.costs.expert_loads import loads_of
from ridgeline.hardware import catalogue
from ridgeline.plans import requantise
from ridgeline.serving.runtime import named_runtime, runtime, version_numbers
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.ops import Experts

CASE = {"model": "meta-llama/Llama-3.1-8B", "chip": "h100-sxm", "isl": 512, "osl": 128, "concurrency": 1}


def predict(**columns):
    rows = max(len(np.atleast_1d(value)) for value in columns.values())
    table = {name: np.broadcast_to(np.asarray(value), (rows,)).copy() for name, value in {**CASE, **columns}.items()}
    found = rl.predict_table("serving", table)
    assert not any(found["error"]), found["error"]
    return found


@pytest.mark.parametrize(
    ("written", "name", "version"),
    [
        ("vLLM 0.6.3", "vllm", "0.6.3"),
        ("vLLM 0.4.3+rocm614, PyTorch 2.3.0, ROCm 6.1.2", "vllm", "0.4.3+rocm614"),
        ("SGLang v0.5.1.post1", "sglang", "0.5.1.post1"),
        ("TRT-LLM", "trtllm", ""),
        ("TensorRT-LLM 1.0", "trtllm", "1.0"),
        ("TensorRT 10.2.0, CUDA 12.4", "trtllm", "10.2.0"),
        ("TensorRT-LLM (PyTorch backend)", "trtllm", ""),
        ("llama.cpp CUDA", "llamacpp", ""),
        ("HF transformers", "transformers", ""),
    ],
)
def test_a_runtime_is_found_with_its_version_beside_it(written, name, version):
    assert named_runtime(written) == (name, version)
    assert runtime(written).name == name


def test_an_unknown_runtime_is_named_beside_the_nearest():
    with pytest.raises(UnknownNameError, match="vLLM"):
        named_runtime("vLMM 0.6.3")


def test_a_version_says_the_same_in_words_and_alone():
    assert version_numbers("TensorRT-LLM 0.9.0") == version_numbers("0.9.0") == (0, 9, 0)
    said = predict(runtime=["TensorRT-LLM 1.0.0rc3", "trtllm"], runtime_version=["", "1.0.0rc3"], weights="fp8")
    assert said["tpot_s"][0] == said["tpot_s"][1] != predict(runtime="trtllm", weights="fp8")["tpot_s"][0]


def test_means_of_lengths_need_not_be_whole():
    between = predict(osl=[379.0, 379.6, 380.0], isl=[99.0, 99.5, 100.0], concurrency=64)
    assert np.all(np.diff(between["e2e_s"]) > 0)


@pytest.mark.parametrize("published", ["openai/gpt-oss-120b", "deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-32B-FP8"])
def test_a_format_that_a_model_has_anyway_changes_nothing(published):
    kept = model(published)
    coarse = "mxfp4" if "gpt-oss" in published else "fp8"
    assert requantise(kept, weights=coarse).precision == requantise(kept, weights="auto").precision == kept.precision
    assert requantise(kept, weights="bf16").precision != kept.precision


def test_gguf_weights_take_their_bytes_and_no_more():
    held = predict(runtime="llamacpp", weights=["f16", "q8_0", "q4_k_m"])["weights_bytes_per_chip"]
    table = 128256 * 4096 * 2.0  # the embedding, of which a step reads a row
    assert (held[1:] - table) / (held[0] - table) == pytest.approx([8.5 / 16, 4.89 / 16], rel=0.01)


def test_kernels_of_its_own_make_llama_cpp_slower_where_bandwidth_is_high():
    chips = ["h100-sxm", "rtx-4090"]
    ours, theirs = (predict(chip=chips, runtime=name, weights="f16")["tpot_s"] for name in ("llamacpp", "vllm"))
    assert ours[0] / theirs[0] > 1.3 > 1.1 > ours[1] / theirs[1]


def test_eager_code_is_led_by_its_host_until_the_device_has_more_to_do():
    slow = predict(runtime="transformers", chip=["h100-sxm", "a100-80gb-sxm"])["tpot_s"]
    assert slow[0] == pytest.approx(slow[1], rel=0.02)  # 32 layers take the host as long on both
    busy = predict(runtime="transformers", chip="a100-80gb-sxm", concurrency=[1, 128], isl=2048)["tpot_s"]
    assert busy[1] > 1.5 * busy[0]


def test_a_prompt_as_long_as_the_budget_takes_one_iteration():
    just, over = predict(isl=[8192, 8193], max_batched_tokens=8192)["ttft_s"]
    assert over > 1.001 * just
    halves = predict(isl=8192, max_batched_tokens=4096)["ttft_s"][0]
    assert just < halves


def test_chunks_of_one_prompt_fill_the_stages_that_others_leave_idle():
    ttft = predict(isl=8192, osl=2, pp=4, max_batched_tokens=512, concurrency=[1, 4])["ttft_s"]
    alone = predict(isl=8192, osl=2, pp=1, max_batched_tokens=512)["ttft_s"][0]
    assert ttft[0] < 0.5 * alone < ttft[1]


@pytest.mark.parametrize("chip", [name for name in catalogue.chips() if name.startswith(("tpu", "gaudi", "mi3"))])
def test_long_caches_are_read_at_a_fair_share_of_memory_bandwidth(chip):
    # Chips of few large units were once given the streams of as few small ones: 1 to 7 % of bandwidth.
    cells = {"batch": 64, "kv_len": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "dtype": "bf16"}
    row = {name: np.array([value]) for name, value in {"kind": "attention_decode", "chip": chip, **cells}.items()}
    found = rl.predict_table("ops", row)
    share = found["read_bytes"][0] / found["time_s"][0] / catalogue.chip(chip).dram.bandwidth_bytes_per_s
    assert 0.3 < share <= 1.0


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("AMD MI300X", "mi300x"),
        ("Google TPU v5e", "tpu-v5e"),
        ("Huawei Ascend 910B", "ascend-910b"),
        ("trn2", "trainium2"),
    ],
)
def test_a_maker_may_stand_before_a_chip(written, name):
    assert catalogue.chip(written).name == name
    with pytest.raises(UnknownNameError):
        catalogue.chip("AMD MI999X")


def test_a_converted_checkpoint_is_its_model_in_the_format_that_its_name_ends_with():
    base = model("meta-llama/Llama-3.1-70B-Instruct")
    for ending, name in (
        ("FP8-dynamic", "fp8"),
        ("AWQ-INT4", "int4_wo"),
        ("quantized.w8a8", "int8"),
        ("NVFP4", "nvfp4"),
    ):
        found = model(f"somebody/Meta-Llama-3.1-70B-Instruct-{ending}")
        assert found.precision.ffn.name == name
        assert (found.hidden, found.layers) == (base.hidden, base.layers)
    with pytest.raises(UnknownNameError):
        model("somebody/Nothing-70B-FP8")


def test_random_routing_touches_fewer_experts_than_even_routing_and_as_many_in_the_end():
    tokens = np.array([1.0, 4.0, 16.0, 64.0, 1024.0])
    shape = {"name": "e", "part": "experts", "hidden": 64, "inter": 64, "topk": 8, "experts": 128, "ep": 4}
    op = {
        law: Experts(tokens=tokens, scheme=SCHEMES["bf16"], distribution=law, **shape) for law in ("random", "balanced")
    }
    random, even = loads_of(op["random"]), loads_of(op["balanced"])
    assert np.all(random.active <= random.local) and random.active[-1] == pytest.approx(32.0)
    assert np.all(np.diff(random.active) >= 0) and random.active[2] < 0.85 * even.active[2]
    assert np.all(random.rows >= even.rows) and random.rows[-1] == pytest.approx(even.rows[-1], rel=0.1)
    alone = loads_of(Experts(tokens=16.0, scheme=SCHEMES["bf16"], distribution="random", **{**shape, "ep": 1}))
    assert alone.rows == pytest.approx(128.0) and alone.active == pytest.approx(128 * (1 - (1 - 8 / 128) ** 16))


def test_stages_and_old_releases_pay_their_hosts():
    dense = {"chip": "rtx-pro-6000-server", "runtime": "trtllm", "load": "saturated", "isl": 128, "osl": 2048}
    rate = predict(model="meta-llama/Llama-3.1-70B", weights="nvfp4", concurrency=np.nan, pp=[2, 4, 8], **dense)
    per_chip = rate["output_tokens_per_s_per_chip"]
    assert per_chip[2] < per_chip[1]  # twice the stages do not carry twice the rate
    old, new = predict(runtime="vllm", runtime_version=["0.5.4", "0.6.0"], concurrency=64)["tpot_s"]
    assert old - new == pytest.approx(0.0095 + 64 * 230e-6, rel=0.05)


def test_deployments_do_not_inherit_the_host_of_the_tables():
    eight = {"kind": "collective", "op": "all_reduce", "dtype": "bf16", "num_chips": 8.0, "message_bytes": 2.0**24}
    table = {name: np.array([value]) for name, value in {**eight, "chip": "l40s", "runtime": "trtllm"}.items()}
    measured_s = rl.predict_table("ops", table)["time_s"][0]
    # An 8-way step of 64 sequences sums 160 times 1 MiB: at the rate of the tables' host that alone took 80 ms.
    served = predict(
        model="meta-llama/Llama-3.1-70B", chip="l40s", tp=8, weights="fp8", concurrency=64, runtime="trtllm"
    )
    assert served["tpot_s"][0] < 160 * measured_s / 16
