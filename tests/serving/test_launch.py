"""Launch files: what each engine's words say, in both directions, and what they cannot say."""

from __future__ import annotations

import json
import os
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from ridgeline.api.planning.launch import launch_case, launch_files, read_launch, write_files
from ridgeline.api.predictions.predict import predict
from ridgeline.core.errors import FileFormatError, RidgelineError, SpecError, UnknownNameError
from ridgeline.core.files import parse_yaml
from ridgeline.serving.launch.facts import chip_of_label, fact
from ridgeline.serving.launch.flags import engine_flags, engine_names
from ridgeline.serving.launch.shell import commands_in

DENSE = {"model": "Qwen/Qwen3-32B", "on": "8x h200-sxm", "tp": 4}
EXPERTS = {"model": "deepseek-ai/DeepSeek-V3", "chip": "h200-sxm", "tp": 1, "dp": 8, "ep": 8}
SPLIT = {
    "model": "Qwen/Qwen3-32B",
    "chip": "h100-sxm",
    "mode": "disagg",
    "prefill_workers": 2,
    "prefill_tp": 2,
    "decode_workers": 1,
    "decode_tp": 4,
}
LOAD = {"isl": 2000, "osl": 500, "concurrency": 32}


def words_of(text: str) -> list[str]:
    """Words of the engine commands of a script, by an ordinary reader of shell text."""
    lines = text.replace("\\\n", " ").splitlines()
    return [word for line in lines if not line.startswith("#") for word in shlex.split(line)]


def case_of(line: str) -> dict[str, Any]:
    return dict(read_launch(line).case)


def test_every_decision_stands_on_vllms_command_line() -> None:
    files = launch_files(
        {**DENSE, "pp": 2, "weights": "fp8", "kv": "fp8", "max_batch": 128, "max_batched_tokens": 4096}
        | {"memory_frac": 0.85, "prefix_hit_frac": 0.5, "draft_tokens": 3},
        "vllm",
        context_tokens=32768,
    )
    words = words_of(files["node-01.sh"])
    pairs = dict(pairwise(words))
    wanted = {
        "serve": "Qwen/Qwen3-32B",
        "--tensor-parallel-size": "4",
        "--pipeline-parallel-size": "2",
        "--quantization": "fp8",
        "--kv-cache-dtype": "fp8",
        "--max-num-seqs": "128",
        "--max-num-batched-tokens": "4096",
        "--gpu-memory-utilization": "0.85",
        "--max-model-len": "32768",
    }
    assert {flag: pairs[flag] for flag in wanted} == wanted
    assert "--enable-prefix-caching" in words
    assert json.loads(pairs["--speculative-config"])["num_speculative_tokens"] == 3
    assert "draft_tokens" in {note.column for note in files.notes}


def test_replicas_of_a_host_see_their_own_chips_and_ports() -> None:
    words = words_of(launch_files(DENSE, "vllm")["node-01.sh"])
    assert [word for word in words if word.startswith("CUDA")] == [
        "CUDA_VISIBLE_DEVICES=0,1,2,3",
        "CUDA_VISIBLE_DEVICES=4,5,6,7",
    ]
    assert [words[i + 1] for i, word in enumerate(words) if word == "--port"] == ["8000", "8001"]


def test_attention_groups_share_sglangs_limits() -> None:
    """SGLang divides chunk and running requests by the groups; the written numbers are the case's times them."""
    case = {**EXPERTS, "max_batch": 64, "max_batched_tokens": 8192, "runtime": "sglang"}
    words = words_of(launch_files(case, "sglang")["node-01.sh"])
    pairs = dict(pairwise(words))
    assert (pairs["--tp-size"], pairs["--attn-dp-size"], pairs["--ep-size"]) == ("8", "8", "8")
    assert (pairs["--max-running-requests"], pairs["--chunked-prefill-size"]) == ("512", "65536")
    assert pairs["--max-prefill-tokens"] == "8192"


def test_tensorrt_llm_spreads_attention_by_its_options() -> None:
    files = launch_files({**EXPERTS, "kv": "fp8", "draft_tokens": 1, "runtime": "trtllm"}, "trtllm")
    options = yaml.safe_load(files["engine.yaml"])
    assert options["enable_attention_dp"] is True
    assert options["moe_expert_parallel_size"] == 8
    assert options["kv_cache_config"]["dtype"] == "fp8"
    assert options["speculative_config"] == {"decoding_type": "MTP", "num_nextn_predict_layers": 1}
    assert "--tp_size 8" in files["node-01.sh"]


@pytest.mark.parametrize(
    ("case", "target", "column"),
    [
        ({**DENSE, "weights": "int4_wo"}, "vllm", "weights"),
        ({**DENSE, "weights": "fp8", "runtime": "trtllm"}, "trtllm", "weights"),
        ({**EXPERTS, "tp": 2, "dp": 4, "runtime": "trtllm"}, "trtllm", "dp"),
        ({**EXPERTS, "ep": 4}, "vllm", "ep"),
        ({**DENSE, "moe_weights": "", "activations": "fp8"}, "sglang", "activations"),
        ({**DENSE, "nano_batches": 2, "runtime": "trtllm"}, "trtllm", "nano_batches"),
        ({**DENSE, "runtime": "trtllm"}, "vllm", "runtime"),
        ({**DENSE, "runtime_version": "0.6.0"}, "vllm", "runtime_version"),
        ({**DENSE, "on": "1x l40", "tp": 1, "weights": "fp8"}, "kubernetes", "chip"),
    ],
)
def test_what_an_engine_cannot_say_is_a_named_note_in_the_file(case: dict[str, Any], target: str, column: str) -> None:
    files = launch_files(case, target)
    (note, *_) = [one for one in files.notes if one.column == column]
    text = files.get("node-01.sh") or files["manifest.yaml"]
    assert f"# note: {note.line()}" in text


def test_two_pools_have_their_roles_everywhere() -> None:
    for target, prefill in (
        ("vllm", "kv_producer"),
        ("kubernetes", "kv_producer"),
        ("llm-d", "kv_producer"),
        ("dynamo", "prefill"),
    ):
        files = launch_files(SPLIT, target)
        assert prefill in "".join(files.values())
    files = launch_files({**SPLIT, "runtime": "trtllm"}, "trtllm")
    router = yaml.safe_load(files["router.yaml"])
    assert router["context_servers"] == {"num_instances": 2, "urls": ["node-01:8000", "node-01:8001"]}
    assert router["generation_servers"]["urls"] == ["node-01:8002"]
    assert yaml.safe_load(files["prefill.yaml"])["disable_overlap_scheduler"] is True


def test_a_worker_of_two_hosts_is_a_group_with_a_leader() -> None:
    documents = list(
        yaml.safe_load_all(
            launch_files({**DENSE, "on": "16x h200-sxm", "tp": 8, "pp": 2}, "kubernetes")["manifest.yaml"]
        )
    )
    group = documents[0]
    assert (group["kind"], group["spec"]["leaderWorkerTemplate"]["size"]) == ("LeaderWorkerSet", 2)
    template = group["spec"]["leaderWorkerTemplate"]
    leader, worker = (template[f"{side}Template"]["spec"]["containers"][0] for side in ("leader", "worker"))
    assert "--headless" in worker["command"]
    assert "--headless" not in leader["command"]
    assert worker["command"][worker["command"].index("--node-rank") + 1] == "$(LWS_WORKER_INDEX)"
    assert leader["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_a_rack_is_cut_into_its_hosts() -> None:
    case = {"model": "deepseek-ai/DeepSeek-V3", "on": "8x gb200", "tp": 8, "ep": 8}
    group = next(iter(yaml.safe_load_all(launch_files(case, "kubernetes")["manifest.yaml"])))
    assert group["spec"]["leaderWorkerTemplate"]["size"] == 2


def test_yaml_is_the_same_to_readers_of_both_versions() -> None:
    """Kubernetes reads YAML 1.1, our loader 1.2; a model named like a number is text to both."""
    folder = {"model": "Qwen/Qwen3-32B", "on": "1x h200-sxm", "weights": "fp8"}
    text = launch_files(folder, "dynamo")["dynamo.yaml"]
    assert parse_yaml(text).data == yaml.safe_load(text)
    assert "&" not in text.replace("&&", "")


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = launch_files({**DENSE, "on": "16x h200-sxm"}, "vllm")
    out = tmp_path / "out"
    assert [path.name for path in write_files(files, out)] == ["node-01.sh", "node-02.sh"]
    assert os.access(out / "node-01.sh", os.X_OK)
    with pytest.raises(FileFormatError, match="holds something"):
        write_files(files, out)
    with pytest.raises(FileFormatError, match="no such folder"):
        write_files(files, tmp_path / "absent" / "out")

    def full(*_: object) -> None:
        raise FileFormatError("cannot write the file: the disk is full", at="node-02.sh")

    real = files.texts["node-02.sh"]
    from ridgeline.api.planning import launch as module

    write = module.write_atomic
    monkeypatch.setattr(module, "write_atomic", lambda path, text: full() if text == real else write(path, text))
    with pytest.raises(FileFormatError, match="full"):
        write_files(files, tmp_path / "second")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("vllm serve Qwen/Qwen3-32B -tp 4", {"model": "Qwen/Qwen3-32B", "runtime": "vllm", "tp": 4.0}),
        ("vllm serve Qwen/Qwen3-32B --tensor_parallel_size=4 --max_num_seqs 8", {"tp": 4.0, "max_batch": 8.0}),
        ("vllm serve --model Qwen/Qwen3-32B -pp 2 --kv-cache-dtype fp8_e4m3", {"pp": 2.0, "kv": "fp8"}),
        ("vllm serve Qwen/Qwen3-30B-A3B -tp 4 -ep", {"ep": 4.0, "moe_tp": 1.0}),
        ("vllm serve Qwen/Qwen3-30B-A3B -tp 4", {"ep": 1.0, "moe_tp": 4.0}),
        ("vllm serve Qwen/Qwen3-32B-AWQ --quantization awq_marlin", {"model": "Qwen/Qwen3-32B-AWQ"}),
        (
            "vllm serve Qwen/Qwen3-32B -sc.method mtp --speculative-config.num_speculative_tokens 2",
            {"draft_tokens": 2.0},
        ),
        ("vllm serve Qwen/Qwen3-32B --max-num-batched-tokens 16384 --enable-dbo", {"nano_batches": 2.0}),
        ("/opt/venv/bin/vllm serve Qwen/Qwen3-32B --no-enable-prefix-caching", {"prefix_hit_frac": 0.0}),
        ("python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-32B --dtype half", {"weights": "fp16"}),
        (
            "docker run --gpus all -p 8000:8000 -e A=b vllm/vllm-openai:v0.9.1 --model Qwen/Qwen3-32B -tp 2",
            {"tp": 2.0, "runtime": "vllm"},
        ),
        (
            "python3 -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --tp 16 --dp 16 --enable-dp-attention",
            {"tp": 1.0, "dp": 16.0, "runtime": "sglang", "ep": 1.0, "moe_tp": 16.0},
        ),
        ("python -m sglang.launch_server --model Qwen/Qwen3-32B --tp 2 --dp 4", {"tp": 2.0, "replicas": 4.0}),
        (
            "sglang serve --model-path Qwen/Qwen3-32B --context-length 32k --mem-fraction-static .8",
            {"memory_frac": 0.8},
        ),
        ("trtllm-serve Qwen/Qwen3-32B --tp_size 4 --max_batch_size 64", {"runtime": "trtllm", "max_batch": 64.0}),
        ("trtllm-serve serve Qwen/Qwen3-32B --tp 4 --kv_cache_free_gpu_memory_fraction 0.8", {"memory_frac": 0.8}),
        ("export TP=8; vllm serve Qwen/Qwen3-32B -tp $TP --port ${PORT:-8000}", {"tp": 8.0}),
        ('A="-tp 2 -pp 2"; exec vllm serve Qwen/Qwen3-32B $A 2>&1 | tee log.txt', {"tp": 2.0, "pp": 2.0}),
    ],
)
def test_command_lines_of_the_field_are_read(line: str, columns: dict[str, Any]) -> None:
    case = case_of(line)
    assert {name: case[name] for name in columns} == columns


def test_what_matters_and_has_no_column_is_a_note_and_the_rest_is_listed() -> None:
    reading = read_launch("vllm serve Qwen/Qwen3-32B --enforce-eager --api-key k --seed 3 --brand-new-flag x")
    told = [note.line() for note in reading.notes]
    assert any(line.startswith("--enforce-eager") for line in told)
    assert any(line.startswith("--brand-new-flag") for line in told)
    assert reading.ignored == ("--api-key", "--seed")


def test_options_of_tensorrt_llm_win_over_flags(tmp_path: Path) -> None:
    (tmp_path / "extra.yaml").write_text("max_batch_size: 32\nenable_attention_dp: true\ncuda_graph_config: {a: 1}\n")
    script = tmp_path / "serve.sh"
    script.write_text(
        "trtllm-serve Qwen/Qwen3-32B --tp_size 4 --max_batch_size 64 --extra_llm_api_options /etc/extra.yaml\n"
    )
    reading = read_launch(script)
    assert (reading.case["max_batch"], reading.case["tp"], reading.case["dp"]) == (32.0, 1.0, 4.0)
    assert any("cuda_graph_config" in note.text for note in reading.notes)


def test_a_launch_is_predicted_as_its_columns_are() -> None:
    reading = read_launch("vllm serve Qwen/Qwen3-32B -tp 4 --max-num-seqs 64")
    launched = predict(on="8x h200-sxm", **launch_case(reading, on="8x h200-sxm", given=LOAD))
    plain = predict(model="Qwen/Qwen3-32B", on="8x h200-sxm", tp=4, max_batch=64, **LOAD)
    assert launched.values == plain.values


def test_what_is_given_wins_over_the_launch() -> None:
    reading = read_launch("vllm serve Qwen/Qwen3-30B-A3B -tp 4 -ep")
    assert launch_case(reading, given={"max_batch": 7, **LOAD})["max_batch"] == 7
    other = launch_case(reading, given={"tp": 2, **LOAD})
    assert predict(on="2x h200-sxm", **other).case["tp"] == 2.0


def test_manifests_say_chip_and_count(tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(launch_files(DENSE, "kubernetes")["manifest.yaml"])
    reading = read_launch(path)
    assert (reading.case["chip"], reading.case["replicas"], reading.chips) == ("h200-sxm", 2.0, 8.0)


MANIFEST = """# of the field
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  replicas: 3
  template:
    spec:
      nodeSelector: {cloud.google.com/gke-accelerator: nvidia-h100-80gb}
      containers:
      - name: proxy
        image: envoyproxy/envoy:v1
      - name: server
        image: vllm/vllm-openai:v0.28.0
        env:
        - {name: TP, value: "2"}
        args: ["--model", "Qwen/Qwen3-32B", "--tensor-parallel-size", "$(TP)"]
        resources: {limits: {nvidia.com/gpu: 2}}
---
apiVersion: v1
kind: Service
metadata: {name: llm}
"""


def test_manifests_of_the_field_are_read(tmp_path: Path) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(MANIFEST)
    reading = read_launch(path)
    assert (reading.case["tp"], reading.case["replicas"], reading.case["chip"]) == (2.0, 3.0, "h100-sxm")
    assert reading.chips == 6.0
    shell = 'command: [bash, -lc, "exec vllm serve Qwen/Qwen3-32B -tp $TP"]'
    path.write_text(MANIFEST.replace('args: ["--model", "Qwen/Qwen3-32B", "--tensor-parallel-size", "$(TP)"]', shell))
    assert read_launch(path).case["tp"] == 2.0
    path.write_text(MANIFEST.replace('"$(TP)"', '"x"'))
    with pytest.raises(RidgelineError, match=r"llm\.yaml:17"):
        read_launch(path)


def test_workers_that_ask_for_other_chips_than_their_plan_are_told(tmp_path: Path) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(MANIFEST.replace("nvidia.com/gpu: 2", "nvidia.com/gpu: 8"))
    assert any("asks for 8 chips and its plan needs 2" in note.text for note in read_launch(path).notes)


def test_two_deployments_are_not_one() -> None:
    with pytest.raises(SpecError, match="another model"):
        read_launch("vllm serve Qwen/Qwen3-32B; vllm serve Qwen/Qwen3-14B")
    with pytest.raises(SpecError, match="another tp"):
        read_launch("vllm serve Qwen/Qwen3-32B -tp 2; vllm serve Qwen/Qwen3-32B -tp 4")
    with pytest.raises(SpecError, match="no one deployment"):
        read_launch("python -m sglang.launch_server --model Qwen/Qwen3-32B --disaggregation-mode prefill")


def test_words_are_those_of_a_posix_shell() -> None:
    """Against Python's reader of shell words, on texts in which neither variables nor comments stand."""
    for text in ("a 'b c' d\\ e", 'x"y z"w', "a''b", "--f='[1, \"2\"]'", "é ü", "a=b c"):
        (command,) = commands_in(text, "line")
        words = [f"{name}={value}" for name, value in command.variables.items()]
        assert words + [word.text for word in command.words] == shlex.split(text)


@pytest.mark.parametrize("name", ["vllm", "sglang", "trtllm"])
def test_each_flag_has_one_meaning(name: str) -> None:
    engine = engine_flags(name)
    assert engine.version
    assert engine.programs
    uses = [flag.use for flag in {id(flag): flag for flag in engine.flags.values()}.values() if flag.use]
    assert len(uses) == len(set(uses))
    assert all(spelling.startswith("-") or name == "trtllm" for spelling in engine.flags)


def test_every_engine_is_a_runtime_of_the_catalogue() -> None:
    from ridgeline.serving.runtime import runtime

    assert [runtime(name).name for name in engine_names()] == list(engine_names())


def test_an_unknown_target_names_the_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="kubernetes"):
        launch_files(DENSE, "kubernetis")


def test_a_row_of_results_is_a_case_too() -> None:
    """What a search hands on: every column, numbers that are absent, and results beside them."""
    prediction = predict(**{**DENSE, **LOAD, "max_batch": 64})
    row = {**prediction.case, **prediction.values, "error": "", "draft_tokens": float("nan")}
    assert dict(launch_files(prediction, "vllm")) == dict(launch_files(row, "vllm"))
    assert "--max-num-seqs 64" in launch_files(row)["node-01.sh"]


def test_a_service_finds_the_pods_that_serve() -> None:
    """Selectors are labels of the pods' templates (Kubernetes API, Service v1 and Deployment apps/v1)."""
    for case in (DENSE, {**DENSE, "on": "16x h200-sxm", "tp": 8, "pp": 2}, SPLIT):
        objects = list(yaml.safe_load_all(launch_files(case, "kubernetes")["manifest.yaml"]))
        pods = []
        for one in objects:
            if one["kind"] == "Deployment":
                assert (
                    one["spec"]["selector"]["matchLabels"].items()
                    <= one["spec"]["template"]["metadata"]["labels"].items()
                )
                pods.append(one["spec"]["template"]["metadata"]["labels"])
            elif one["kind"] == "LeaderWorkerSet":
                templates = one["spec"]["leaderWorkerTemplate"]
                pods.append(templates["leaderTemplate"]["metadata"]["labels"])
                assert "role" not in templates["workerTemplate"]["metadata"]["labels"]
        services = [one["spec"]["selector"] for one in objects if one["kind"] == "Service"]
        assert len(services) == len(pods)
        for selector in services:
            assert sum(selector.items() <= labels.items() for labels in pods) == 1


GROUP = """apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: vllm}
spec:
  replicas: 2
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      spec:
        containers:
        - name: vllm-leader
          image: vllm/vllm-openai:v0.28.0
          command: [vllm, serve, meta-llama/Llama-3.1-405B-Instruct, --port, "8080", --tensor-parallel-size, "8",
            --pipeline-parallel-size, "2", --nnodes, $(LWS_GROUP_SIZE), --node-rank, $(LWS_WORKER_INDEX),
            --master-addr, $(LWS_LEADER_ADDRESS)]
          resources: {limits: {nvidia.com/gpu: "8"}}
    workerTemplate: {spec: {containers: []}}
"""
CHART = """multinode: true
modelArtifacts: {uri: "pvc://cache/models"}
decode:
  replicas: 1
  parallelism: {data: 4, tensor: 1, dataLocal: 2}
  acceleratorTypes: {labelKey: gpu.nvidia.com/model, labelValues: [H200]}
  containers:
  - name: worker
    image: "example.com/vllm:1"
    command: ["/bin/sh", "-c"]
    args:
    - |
      START_RANK=$(( ${LWS_WORKER_INDEX:-0} * DP_SIZE_LOCAL ))
      if [ "${LWS_WORKER_INDEX:-0}" -eq 0 ]; then
        exec vllm serve Qwen/Qwen3-30B-A3B-FP8 --enable-expert-parallel --tensor-parallel-size $TP_SIZE \\
          --data-parallel-size $DP_SIZE --data-parallel-start-rank $START_RANK
      else
        exec vllm serve Qwen/Qwen3-30B-A3B-FP8 --enable-expert-parallel --tensor-parallel-size $TP_SIZE \\
          --data-parallel-size $DP_SIZE --headless
      fi
"""
GRAPH = """apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  services:
    Frontend:
      extraPodSpec: {mainContainer: {args: ["python3 -m dynamo.frontend --http-port 8000"]}}
    Decode:
      replicas: 1
      resources: {limits: {gpu: "1"}}
      extraPodSpec: {mainContainer: {args: ["python3 -m dynamo.vllm --model Qwen/Qwen3-32B 2>&1 | tee /tmp/log"]}}
    Prefill:
      replicas: 3
      extraPodSpec:
        mainContainer: {args: ["python3 -m dynamo.vllm --model Qwen/Qwen3-32B --is-prefill-worker 2>&1 | tee /tmp/log"]}
"""


def test_groups_charts_and_graphs_of_the_field_are_read(tmp_path: Path) -> None:
    """Forms of the examples of lws (vllm.yaml), llm-d-modelservice (values-qwen-lws.yaml) and dynamo (disagg.yaml)."""
    path = tmp_path / "it.yaml"
    path.write_text(GROUP)
    reading = read_launch(path)
    assert (reading.case["tp"], reading.case["pp"], reading.case["replicas"], reading.chips) == (8.0, 2.0, 2.0, 32.0)
    path.write_text(CHART)
    case = read_launch(path).case
    assert (case["dp"], case["ep"], case["chip"], case["replicas"]) == (4.0, 4.0, "h200-sxm", 1.0)
    path.write_text(GRAPH.replace("--model Qwen/Qwen3-32B 2", "--model Qwen/Qwen3-32B --is-decode-worker 2"))
    case = read_launch(path).case
    assert (case["mode"], case["prefill_workers"], case["decode_workers"]) == ("disagg", 3.0, 1.0)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ({**DENSE, "replicas": 100_000, "on": "", "chip": "h200-sxm"}, {}),
        (DENSE, {"context_tokens": -1}),
        (DENSE, {"host_chips": 10**9}),
        ({**DENSE, "tp": 3}, {}),
        ({**DENSE, "on": ""}, {}),
        ({"on": "8x h200-sxm"}, {}),
        ({"model": "Qwen/Qwen3-32B", "chip": "h100-sxm", "node": "hgx-h200"}, {}),
    ],
)
def test_no_files_for_what_is_no_deployment(case: dict[str, Any], options: dict[str, int]) -> None:
    with pytest.raises(RidgelineError):
        launch_files(case, "vllm", **options)


@pytest.mark.parametrize("chip", sorted(fact("products")))
def test_a_product_label_that_we_write_is_read_back_as_the_same_chip(chip: str) -> None:
    assert chip_of_label(fact("product_label"), fact("products")[chip]) == chip


@pytest.mark.parametrize(
    ("key", "value", "chip"),
    [
        ("amd.com/gpu.product-name", "AMD_Instinct_MI300X_OAM", "mi300x"),
        ("cloud.google.com/gke-accelerator", "nvidia-gb200", "gb200"),
        ("kubernetes.io/arch", "nvidia-gb200", ""),
        ("nvidia.com/gpu.product", "NVIDIA-NO-SUCH-CHIP", ""),
    ],
)
def test_labels_of_other_makers_name_chips_too(key: str, value: str, chip: str) -> None:
    assert chip_of_label(key, value) == chip
