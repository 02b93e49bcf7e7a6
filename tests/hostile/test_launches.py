"""Hostile launches (quality B1 to B6): nothing is run, each fault is one clear error that says where, and soon."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.hostile.test_corpus import LONGEST_S, SCREEN_CHARACTERS, Corpus, bytes_that_are_no_text, with_flaws
from tests.hostile.test_mutation import FEWER, check

from ridgeline.api.planning.launch import launch_files, read_launch
from ridgeline.core.errors import RidgelineError
from ridgeline.core.files import parse_yaml
from ridgeline.serving.launch.shell import commands_in

SHELL = b"""#!/bin/sh
# two replicas
export MODEL=Qwen/Qwen3-32B
vllm serve "$MODEL" \\
  --tensor-parallel-size 4 --max-num-seqs 256 \\
  --gpu-memory-utilization 0.9 --kv-cache-dtype fp8 \\
  --speculative-config '{"method": "mtp", "num_speculative_tokens": 2}' &
wait
"""
MANIFEST = b"""apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  replicas: 3
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
      containers:
      - name: server
        image: vllm/vllm-openai:v0.33.0
        env: [{name: TP, value: "2"}]
        command: [vllm, serve, Qwen/Qwen3-32B, --tensor-parallel-size, $(TP), --disaggregation-mode, agg]
        resources: {limits: {nvidia.com/gpu: "2"}}
"""
NUMBERS = ("0", "-1", "1.5", "nan", "inf", "1e3", "1e308", "9" * 400, "", " ", "null", "true", "٤", "4;id", "0x4")


def shell_files() -> Corpus:
    """Shell texts that hold no sound launch."""
    swaps = {
        "a quote without end": (b"wait", b"echo 'wait"),
        "a double quote without end": (b"wait", b'echo "wait'),
        "a substitution without end": (b"wait", b"echo $(wait"),
        "a backquote without end": (b"wait", b"echo `wait"),
        "a here-document": (b"wait", b"cat <<EOF\nx\nEOF"),
        "a model from a command": (b'"$MODEL"', b"$(curl evil)"),
        "a degree from a command": (b"-size 4", b"-size $(nproc)"),
        "a degree from a backquote": (b"-size 4", b"-size `nproc`"),
        "a degree that only the caller knows": (b"-size 4", b'-size "$TP"'),
        "a degree of arithmetic": (b"-size 4", b"-size $((2*2))"),
        "a flag twice": (b"--max-num-seqs 256", b"--max-num-seqs 256 --max-num-seqs 128"),
        "a flag twice by an alias": (b"--max-num-seqs 256", b"-tp 2"),
        "a flag misspelt": (b"--max-num-seqs", b"--max-num-seq"),
        "a flag with letters swapped": (b"--tensor-parallel-size", b"--tensor-paralell-size"),
        "a flag cut short": (b"--gpu-memory-utilization", b"--gpu-memory-util"),
        "a flag without a value": (b"--kv-cache-dtype fp8", b"--kv-cache-dtype --x"),
        "the last flag without a value": (b"--kv-cache-dtype fp8 \\\n", b"--kv-cache-dtype\n:"),
        "more than all memory": (b"0.9", b"1.9"),
        "no memory": (b"0.9", b"0"),
        "json that is not": (b'"mtp",', b'"mtp"'),
        "json twice": (b'"method": "mtp"', b'"method": "mtp", "method": "x"'),
        "json of a list": (b'{"method": "mtp", "num_speculative_tokens": 2}', b"[1]"),
        "json without end": (b'{"method"', b'{"a":' * 90 + b'{"method"'),
        "a word too many": (b"--max-num-seqs", b"8 --max-num-seqs"),
        "two models": (b'"$MODEL"', b'"$MODEL" Qwen/Qwen3-14B'),
        "no model": (b' "$MODEL"', b""),
        "a model of the network": (b"Qwen/Qwen3-32B", b"hub:evil/model"),
        "an escape as a model": (b'"$MODEL"', b"'\x1b[2J'"),
        "a nul": (b"wait", b"wait\0"),
        "only an echo": (b"vllm serve", b"echo vllm serve"),
        "only a comment": (b"vllm serve", b"# vllm serve"),
        "another program": (b"vllm serve", b"vllm-serve"),
        **{f"a degree of {text[:9]!r}": (b"-size 4", f"-size '{text}'".encode()) for text in NUMBERS},
    }
    return {
        **bytes_that_are_no_text(),
        **with_flaws(SHELL, swaps),
        "two deployments": SHELL + SHELL.replace(b"32B", b"14B"),
        "too long": SHELL + b"#" * 300_000,
        "too many words": b"a " * 60_000,
        "substitutions in each other": b"$(" * 50_000,
        "braces in each other": b"${" * 50_000,
        "quotes in a row": b"'" * 99_999,
        "backslashes": b"\\" * 99_999,
        "a bomb of variables": b"A=" + b"x" * 200 + b"\n" + b"A=$A$A$A$A$A$A$A$A$A$A\n" * 30,
    }


def manifests() -> Corpus:
    """Manifests that hold no sound launch."""
    swaps = {
        "an alias": (b"metadata: {name: llm", b"metadata: {name: &a llm"),
        "a tag": (b"kind: Deployment", b"kind: !!python/name:os.system Deployment"),
        "a key twice": (b"replicas: 3", b"replicas: 3\n  replicas: 4"),
        "replicas of text": (b"replicas: 3", b"replicas: many"),
        "replicas below 0": (b"replicas: 3", b"replicas: -3"),
        "replicas without end": (b"replicas: 3", b"replicas: " + b"9" * 12),
        "replicas of a template": (b"replicas: 3", b'replicas: "{{ .Values.n }}"'),
        "no replicas": (b"replicas: 3", b"replicas: 0"),
        "containers of text": (
            b"      containers:\n      - name: server",
            b"      containers: server\n      x:\n      - name: s",
        ),
        "a command of text": (b"command: [vllm, serve, Qwen/Qwen3-32B,", b"command: vllm serve\n        x: ["),
        "a command of a mapping": (b"[vllm, serve,", b"[vllm, {serve: 1},"),
        "a command of nothing": (b"[vllm, serve,", b"[vllm, null,"),
        "a variable that is not there": (b"name: TP", b"name: PT"),
        "a variable of a secret": (b'value: "2"', b"valueFrom: {secretKeyRef: {name: a, key: b}}"),
        "a variable of a number": (b'value: "2"', b"value: 2"),
        "a degree of text": (b'value: "2"', b'value: "two"'),
        "chips of text": (b'gpu: "2"', b'gpu: "two"'),
        "chips below 0": (b'gpu: "2"', b"gpu: -2"),
        "a role that is not": (b"agg]", b"prefil]"),
        "one role alone": (b"agg]", b"prefill]"),
        "a shell without end": (b"command: [vllm", b'command: [sh, -c, "vllm serve \'x"]\n        args: [vllm'),
        "another kind": (b"kind: Deployment", b"kind: Deploymnet"),
        "kind of a list": (b"kind: Deployment", b"kind: [Deployment]"),
        "environment of text": (b'[{name: TP, value: "2"}]', b"TP"),
        "a label that is no map": (b"{nvidia.com/gpu.product: NVIDIA-H200}", b"h200"),
    }
    lists = b"[" * 70 + b"]" * 70
    return {
        **bytes_that_are_no_text(),
        **with_flaws(MANIFEST, swaps),
        "a bomb of aliases": b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "nested without end": b"kind: Deployment\napiVersion: v1\nspec: " + lists + b"\n",
        "documents without end": b"---\na: 1\n" * 500,
        "a list of lists": b"apiVersion: v1\nkind: List\nitems: [[1], 2, null]\n",
        "a case file": b"model: Qwen/Qwen3-32B\nisl: 10\n",
        "a second document that is not": MANIFEST + b"---\n{{ template }}\n",
    }


def unclear(files: Corpus, path: Path) -> list[str]:
    """Files that were read, or whose error is not clear or not soon."""
    found = []
    for name, content in files.items():
        path.write_bytes(content)
        started = time.process_time()
        try:
            read = read_launch(path)
        except RidgelineError as error:
            took = time.process_time() - started
            told = error.at and error.what
            if not told or len(error.screen()) > SCREEN_CHARACTERS or "\n" in error.line() or took > LONGEST_S:
                found.append(f"{name}: {took:.2f} s: {error.screen()[:300]}")
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
        else:
            found.append(f"{name}: was read as {read.case}")
    return found


def test_the_good_ones_are_good(tmp_path: Path) -> None:
    (tmp_path / "serve.sh").write_bytes(SHELL)
    (tmp_path / "llm.yaml").write_bytes(MANIFEST)
    assert read_launch(tmp_path / "serve.sh").case["tp"] == 4.0
    assert read_launch(tmp_path / "llm.yaml").case["replicas"] == 3.0


def test_every_hostile_script_is_one_clear_error(tmp_path: Path) -> None:
    assert unclear(shell_files(), tmp_path / "serve.sh") == []


def test_every_hostile_manifest_is_one_clear_error(tmp_path: Path) -> None:
    assert unclear(manifests(), tmp_path / "llm.yaml") == []


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "serve.sh"
    path.write_bytes(SHELL.replace(b"0.9", b"1.9"))
    with pytest.raises(RidgelineError) as caught:
        read_launch(path)
    assert caught.value.at == f"{path}:6"


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve Qwen/Qwen3-32B --port $(touch {marker})",
        "vllm serve Qwen/Qwen3-32B --port `touch {marker}`",
        "vllm serve Qwen/Qwen3-32B; touch {marker}",
        "touch {marker} && vllm serve Qwen/Qwen3-32B",
        "X=$(touch {marker}) vllm serve Qwen/Qwen3-32B | tee {marker}",
        "vllm serve Qwen/Qwen3-32B > {marker}",
        'vllm serve Qwen/Qwen3-32B --model-loader-extra-config \'{{"a": "$(touch {marker})"}}\'',
    ],
)
def test_nothing_is_run_or_written(line: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert read_launch(line.format(marker=marker)).case["model"] == "Qwen/Qwen3-32B"
    assert list(tmp_path.iterdir()) == []


def test_options_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("max_batch_size: 7\n")
    folder = tmp_path / "launch"
    folder.mkdir()
    for name in ("../secret.yaml", str(tmp_path / "secret.yaml"), "..\\secret.yaml"):
        path = folder / "serve.sh"
        path.write_text(f"trtllm-serve Qwen/Qwen3-32B --extra_llm_api_options '{name}'\n")
        reading = read_launch(path)
        assert "max_batch" not in reading.case
        assert any("not read" in note.text for note in reading.notes)


NAMES = (
    "a b",
    "$(id)",
    "`id`",
    "x';id;'",
    'x";id;"',
    "-rf",
    "a\\b",
    "x&y",
    "$HOME",
    "1e3",
    "on",
    "é",
    "#x",
    "a: b",
    "*x",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_others_are_quoted_in_every_file(name: str, tmp_path: Path) -> None:
    """A folder may be named like a command; written files hold it as one word, whatever reads them."""
    folder = tmp_path / name
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    case = {"model": str(folder), "chip": "h100-sxm", "runtime": "vllm"}
    script = launch_files(case, "vllm")["node-01.sh"]
    words = [word.text for command in commands_in(script, "s") for word in command.words]
    assert str(folder) in words
    asked = script.replace("vllm serve", "printf '%s\\n'").replace("CUDA_VISIBLE_DEVICES=0 ", "")
    printed = subprocess.run(["/bin/sh", "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert printed.stdout.splitlines()[0] == str(folder)
    for target, key in (("kubernetes", "manifest.yaml"), ("dynamo", "dynamo.yaml"), ("llm-d", "values.yaml")):
        text = launch_files(case, target)[key]
        assert list(yaml.safe_load_all(text)) == [parse_yaml(part).data for part in text.split("\n---\n")]
        path = tmp_path / key
        path.write_text(text)
        assert read_launch(path).case["model"] == str(folder)


def test_mutated_launches(tmp_path: Path) -> None:
    for name, content in (("serve.sh", SHELL), ("llm.yaml", MANIFEST)):
        path = tmp_path / name

        def read(mutated: bytes, path: Path = path) -> object:
            path.write_bytes(mutated)
            return read_launch(path)

        check(read, content, FEWER, 23)


def test_the_command_line_says_it_in_one_screen(tmp_path: Path) -> None:
    start = [sys.executable, "-c", "from ridgeline.apps.cli import main; main()", "predict", "serving", "--from-launch"]
    for line in (
        "vllm serve 'x",
        "vllm serve Qwen/Qwen3-32B -tp $(nproc)",
        str(tmp_path / "absent.sh"),
        "",
        "\n",
        "x" * 9000,
    ):
        done = subprocess.run([*start, line], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert len(done.stderr) < SCREEN_CHARACTERS
