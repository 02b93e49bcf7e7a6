"""Traffic files: classes with arrivals, traces or shares, and what is refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeline.core.errors import RidgelineError
from ridgeline.workloads.traffic import RequestClass, Traffic, load_traffic, make_traffic

TWO: dict[str, Any] = {
    "seed": 3,
    "requests": 5000,
    "classes": {
        "chat": {
            "arrivals": "poisson(8/s)",
            "prompt": "lognormal(mean=200, sigma=1)",
            "output": "gamma(200, cv=0.7)",
            "slo": {"ttft": "1s", "tpot": "40ms"},
            "weight": 2,
        },
        "batch": {
            "arrivals": "constant(2/s)",
            "prompt": 1024,
            "output": 128,
            "priority": -1,
            "adapter": "uniform(0, 3)",
        },
    },
}


def changed(*path: str, to: object, of: dict[str, Any] = TWO) -> dict[str, Any]:
    key, *rest = path
    return {**of, key: changed(*rest, to=to, of=of[key]) if rest else to}


def test_a_file_of_two_classes_has_both_at_their_rates(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(
        "seed: 3\nrequests: 5000\nclasses:\n"
        "  chat: {arrivals: poisson(8/s), prompt: 'lognormal(mean=200, sigma=1)', output: 'gamma(200, cv=0.7)',"
        " slo: {ttft: 1s, tpot: 40ms}, weight: 2}\n"
        "  batch: {arrivals: constant(2/s), prompt: 1024, output: 128, priority: -1, adapter: 'uniform(0, 3)'}\n",
        encoding="utf-8",
    )
    traffic = load_traffic(path)
    summary = traffic.summary()
    assert summary.requests == 5000
    assert summary.rate_per_s == pytest.approx(10, rel=0.05)
    assert summary.per_class["chat"] / 5000 == pytest.approx(0.8, abs=0.03)
    chat, batch = traffic.classes
    assert (chat.ttft_s, chat.tpot_s, chat.weight) == (1.0, 0.04, 2.0)
    assert batch.priority == -1
    assert set(traffic.adapter[traffic.class_code == 1].tolist()) == {0, 1, 2, 3}
    assert traffic.name == "two"
    again = load_traffic(TWO)
    assert again.arrival_s.tobytes() == traffic.arrival_s.tobytes()
    assert again.prompt_tokens.tobytes() == traffic.prompt_tokens.tobytes()


def test_arguments_win_over_the_file() -> None:
    assert len(load_traffic(TWO, requests=17)) == 17
    assert load_traffic(TWO, requests=100, duration_s=5.0).arrival_s[-1] < 5.0
    assert not np.array_equal(load_traffic(TWO, seed=4).prompt_tokens, load_traffic(TWO).prompt_tokens)


def test_a_class_draws_the_same_whoever_else_is_there() -> None:
    alone = changed("classes", to={"chat": TWO["classes"]["chat"]})
    both, one = (
        load_traffic(TWO, duration_s=100.0, requests=10**6),
        load_traffic(alone, duration_s=100.0, requests=10**6),
    )
    own = both.class_code == 0
    assert_array_equal(both.arrival_s[own], one.arrival_s)
    assert_array_equal(both.output_tokens[own], one.output_tokens)


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short, long = (
        load_traffic(TWO, duration_s=50.0, requests=10**6),
        load_traffic(TWO, duration_s=100.0, requests=10**6),
    )
    own, same = short.class_code == 0, long.class_code == 0
    assert_array_equal(short.arrival_s[own], long.arrival_s[same][: own.sum()])
    assert_array_equal(short.prompt_tokens[own], long.prompt_tokens[same][: own.sum()])


def test_shares_divide_common_arrivals() -> None:
    spec = {
        "requests": 20_000,
        "arrivals": "gamma(20/s, cv=2)",
        "classes": {
            "a": {"share": "70%", "prompt": 10, "output": 1},
            "b": {"share": 0.3, "prompt": 20, "output": 2, "sessions": {"turns": 3, "think": "1s"}},
        },
    }
    summary = load_traffic(spec).summary()
    assert summary.requests == 20_000
    # Each start of `b` is three requests: 0.7 and 0.9 per arrival.
    assert summary.per_class["a"] / 20_000 == pytest.approx(0.7 / 1.6, abs=0.02)


def test_a_closed_loop_of_shares_is_shuffled_and_has_no_arrivals() -> None:
    spec = {
        "requests": 1000,
        "arrivals": "closed(16, think='exponential(2s)')",
        "classes": {"a": {"share": 0.5, "prompt": 1, "output": 1}, "b": {"share": 0.5, "prompt": 2, "output": 2}},
    }
    loop = load_traffic(spec)
    assert (loop.clients, len(loop)) == (16, 1000)
    assert not loop.arrival_s.any()
    assert loop.think_s.mean() == pytest.approx(2, rel=0.15)
    assert 0.4 < np.mean(loop.prompt_tokens[:200] == 1) < 0.6


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    rows = "\n".join(f"{i / 4},{100 + i},{1 + i}" for i in range(400))
    path.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n", encoding="utf-8")
    return path


def test_a_trace_keeps_its_rows_under_another_rate_or_process(trace: Path) -> None:
    assert load_traffic(trace).rate_per_s == pytest.approx(4)
    assert len(load_traffic(trace, duration_s=10.0)) == 40
    spread = load_traffic(trace, arrivals="poisson(10/s)")
    assert_array_equal(spread.prompt_tokens, np.arange(100, 500))
    assert spread.rate_per_s == pytest.approx(10, rel=0.2)
    faster = load_traffic({"classes": {"a": {"trace": str(trace), "rate": "8/s"}}})
    assert faster.rate_per_s == pytest.approx(8)
    slower = load_traffic({"classes": {"a": {"trace": str(trace), "time_scale": 2, "slo": {"e2e": "30s"}}}})
    assert slower.rate_per_s == pytest.approx(2)
    assert slower.classes == (RequestClass(name="a", e2e_s=30.0),)
    part = load_traffic({"seed": 1, "classes": {"a": {"trace": str(trace), "sample": "25%"}}})
    assert len(part) == pytest.approx(100, abs=30)


def test_a_trace_beside_a_process_is_found_from_the_file(trace: Path) -> None:
    path = trace.parent / "mixed.yaml"
    path.write_text(
        "requests: 300\nclasses:\n  old: {trace: trace.csv}\n  new: {arrivals: poisson(4/s), prompt: 7,"
        " output: empirical(trace.csv)}\n",
        encoding="utf-8",
    )
    mixed = load_traffic(path)
    assert len(mixed) == 300
    assert mixed.summary().per_class["old"] == pytest.approx(150, abs=40)
    assert mixed.output_tokens[mixed.class_code == 1].max() <= 400


def test_flags_make_one_class() -> None:
    chat = RequestClass(name="chat", ttft_s=1.0)
    made = make_traffic(arrivals="poisson(5/s)", prompt=1024, output="uniform(1, 3)", requests=100, one=chat)
    assert isinstance(made, Traffic)
    assert made.classes == (chat,)
    assert (made.prompt_tokens == 1024).all()
    same = make_traffic(arrivals="poisson(5/s)", prompt=1024, output="uniform(1, 3)", requests=100, one=chat)
    assert_array_equal(made.arrival_s, same.arrival_s)
    with pytest.raises(RidgelineError, match="without lengths"):
        make_traffic(arrivals="poisson(5/s)", requests=100)
    with pytest.raises(RidgelineError, match="without an end"):
        make_traffic(arrivals="poisson(5/s)", prompt=1, output=1)


def test_traffic_of_nobody_is_empty_and_not_an_error() -> None:
    chat = {**TWO["classes"]["chat"], "arrivals": "poisson(1e-6/s)", "sessions": {"turns": 3, "think": "1s"}}
    spec = {
        "duration": "1ms",
        "classes": {"chat": chat, "batch": {**TWO["classes"]["batch"], "arrivals": "poisson(1e-6/s)"}},
    }
    assert len(load_traffic(spec)) == 0
    alone = {"duration": "1ms", "classes": {"chat": {**chat, "sessions": {**chat["sessions"], "parallel": 2}}}}
    assert len(load_traffic(alone)) == 0


def test_lengths_with_arrivals_are_a_trace_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("input_len,output_len\n1,2\n3,4\n", encoding="utf-8")
    once = load_traffic(tmp_path / "a.csv", arrivals="poisson(1/s)")
    assert (once.prompt_tokens.tolist(), once.output_tokens.tolist(), once.notes) == ([1, 3], [2, 4], ())
    drawn = load_traffic(tmp_path / "a.csv", arrivals="closed(4)", requests=100)
    assert set(zip(drawn.prompt_tokens.tolist(), drawn.output_tokens.tolist(), strict=True)) == {(1, 2), (3, 4)}
    assert drawn.clients == 4


def test_an_error_says_where(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "requests: 5\nclasses:\n  chat:\n    arrivals: poisson(0/s)\n    prompt: 1\n    output: 1\n", encoding="utf-8"
    )
    with pytest.raises(RidgelineError) as caught:
        load_traffic(path)
    assert caught.value.at == f"{path}:4:15 classes.chat.arrivals"
    path.write_text("requests: 5\nclasses:\n  chat: {trace: gone.csv}\n", encoding="utf-8")
    with pytest.raises(RidgelineError) as caught:
        load_traffic(path)
    assert caught.value.at.startswith(f"{path}:3:")
    assert "gone.csv" in caught.value.at


def test_a_law_that_yaml_splits_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("requests: 5\nclasses: {a: {arrivals: poisson(1/s), prompt: uniform(1, 2), output: 1}}\n")
    with pytest.raises(RidgelineError, match="quotes"):
        load_traffic(path)


EDGES: list[Any] = [0, -1, 1e308, -1e308, 10**400, "", None, True, [], {}, "é", "nan", "inf", "1e999", "-1s", "0/s"]
PLACES = [
    ("seed",), ("requests",), ("duration",), ("arrivals",), ("classes",), ("classes", "chat"),
    *(("classes", "chat", key) for key in ("trace", "format", "time_scale", "sample", "rate", "arrivals", "share",
      "prompt", "output", "sessions", "slo", "priority", "weight", "tenant", "adapter")),
    *(("classes", "chat", "slo", key) for key in ("ttft", "tpot", "e2e")),
]  # fmt: skip


@pytest.mark.parametrize("path", PLACES, ids=".".join)
def test_an_edge_value_is_taken_or_named(path: tuple[str, ...]) -> None:
    small = changed("requests", to=20)
    small["classes"]["chat"].setdefault("slo", {})
    for edge in EDGES:
        try:
            assert len(load_traffic(changed(*path, to=edge, of=small), requests=20)) <= 20
        except RidgelineError as error:
            assert error.what and error.at and error.fix


def test_other_processes_and_hash_seeds_make_the_same_bytes() -> None:
    code = (
        "import hashlib, json, sys; from ridgeline.workloads.traffic import load_traffic;"
        "t = load_traffic(json.loads(sys.argv[1]));"
        "print(hashlib.sha256(t.arrival_s.tobytes() + t.prompt_tokens.tobytes() + t.adapter.tobytes()).hexdigest())"
    )
    made = load_traffic(TWO)
    columns = made.arrival_s.tobytes() + made.prompt_tokens.tobytes() + made.adapter.tobytes()
    for seed in ("0", "random"):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(TWO)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == hashlib.sha256(columns).hexdigest()


def test_traffic_from_flags_loads_neither_duckdb_nor_pydantic() -> None:
    code = (
        "import sys; from ridgeline.workloads.traffic import make_traffic;"
        "make_traffic(arrivals='poisson(1/s)', prompt=1, output=1, requests=5);"
        "sys.exit(len({'duckdb', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
