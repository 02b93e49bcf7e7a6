"""Sweeps on a real Ray cluster of two nodes on this machine: same bytes, watched workers, addresses that are none.

Everything runs in a process of its own: Ray starts servers and threads that a test process would keep.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")

ROOT = Path(__file__).resolve().parents[2]

CLUSTER = """
import hashlib, json, sys
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
from ridgeline.api.sweeps.sweep import sweep, fingerprint
from ridgeline.search.sweeps import pools, ray_pool, run
from ridgeline.search.sweeps.journal import Journal
from ridgeline.search.sweeps.results import write_results
from ridgeline.search.sweeps.work import Work
from tests.search.sweep_functions import deadly, node_of, points, swept

folder = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
told = {}
digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()

def on_cluster(out, count, chunk, work):
    every = points(count)
    with Journal(f"{out}.journal", {"count": str(count)}) as journal:
        pool = ray_pool.RayPool(work, count=2, most=99, address=cluster.address, fingerprint=fingerprint)
        summary = run.run(every, journal, pool, chunk=chunk)
        write_results(every, journal.pieces(), out)
    return summary

spec = folder / "sweep.yaml"
swept_there = sweep(spec, out=folder / "ray.parquet", engine="ray", address=cluster.address)
told["workers"], told["engine"] = swept_there.workers, swept_there.engine
sweep(spec, out=folder / "here.parquet")
told["predictions"] = [digest(folder / f"{name}.parquet") for name in ("ray", "here")]

nodes = {"nodes": str(folder / "nodes"), "pause_s": 0.05}
on_cluster(folder / "a.parquet", 200, 10, Work(evaluate=node_of, question=nodes))
from tests.search.sweep_functions import squares
swept(folder / "b.parquet", 200, 10, 0, Work(evaluate=squares, question={}))
told["squares"] = [digest(folder / f"{name}.parquet") for name in "ab"]
told["nodes"] = len(set((folder / "nodes").read_text().split()))

run.TRIES = 2
summary = on_cluster(folder / "c.csv", 12, 4, Work(evaluate=deadly, question={"at": 6.0, "how": "exit"}))
told["failed"], told["retried"] = summary.failed, summary.retried
told["deadly"] = [line for line in (folder / "c.csv").read_text().splitlines() if line.startswith("6,")]

if sys.argv[2] == "stop":
    pools.SILENT_S = 3.0
    run.TRIES = 1
    summary = on_cluster(folder / "d.csv", 4, 1, Work(evaluate=deadly, question={"at": 2.0, "how": "stop"}))
    told["stopped"] = [line for line in (folder / "d.csv").read_text().splitlines() if line.startswith("2,")]
    import threading
    run.TRIES, pools.SILENT_S = 3, 8.0
    gone = threading.Timer(6.0, lambda: cluster.remove_node(second, allow_graceful=False))
    gone.start()
    summary = on_cluster(folder / "e.parquet", 300, 10, Work(evaluate=squares, question={"pause_s": 0.5}))
    gone.join()
    swept(folder / "f.parquet", 300, 10, 0, Work(evaluate=squares, question={}))
    told["without a node"] = [digest(folder / f"{name}.parquet") for name in "ef"]
ray.shutdown()
cluster.shutdown()
print(json.dumps(told))
"""
SPEC = """task: predict serving
fixed: {model: meta-llama/Llama-3.1-8B, isl: 512, osl: 64}
axes: {chip: [h100-sxm, l40s], tp: [1, 3], concurrency: "range(1, 61)"}
chunk: 30
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.skipif(sys.platform == "win32", reason="Ray's test cluster is for Unix")
@pytest.mark.parametrize("more", ["", pytest.param("stop", marks=pytest.mark.slow)])
def test_a_cluster_of_two_nodes_gives_the_same_bytes_and_loses_no_point(tmp_path: Path, more: str) -> None:
    (tmp_path / "sweep.yaml").write_text(SPEC)
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(tmp_path), more],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (told["engine"], told["workers"]) == ("ray", 2)
    assert told["predictions"][0] == told["predictions"][1]
    assert told["squares"][0] == told["squares"][1]
    assert told["nodes"] == 2
    assert told["failed"] == 1
    assert told["retried"] >= 3
    assert "the worker died, 2 times" in told["deadly"][0]
    if more:
        assert "no sign of life" in told["stopped"][0] or "the worker died" in told["stopped"][0]
        assert told["without a node"][0] == told["without a node"][1]


def test_an_address_that_does_not_answer_is_an_error_within_seconds_or_falls_back_if_asked(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SPEC)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
        words = ["sweep", "sweep.yaml", "--out", "out.csv", "--engine", "ray", "--address", address]
        for more, expected in ((["--fallback", "local", "--json"], 4), ([], 2)):
            since = time.monotonic()
            command = [sys.executable, "-c", code, *words, *more]
            done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=60)
            assert done.returncode == expected, done.stderr
            assert time.monotonic() - since < 30
            if more:
                told = json.loads(done.stdout)
                assert (told["engine"], told["points"]) == ("local", 240)
                words += ["--fresh"]
            else:
                assert "no Ray cluster answers" in done.stderr
                assert address in done.stderr
                assert "--fallback local" in done.stderr
                assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_stops_within_two_seconds_on_ray_too(tmp_path: Path) -> None:
    text = (
        SPEC.replace("predict", "simulate")
        .replace("chunk: 30", "chunk: 1")
        .replace("isl: 512", "requests: 200000, isl: 512")
    )
    (tmp_path / "sweep.yaml").write_text(text)
    code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "sweep", "sweep.yaml", "--out", "out.csv", "--engine", "ray", "--workers", "1"]
    process = subprocess.Popen(words, env=environment(), cwd=tmp_path, stderr=subprocess.PIPE)
    time.sleep(20.0)
    assert process.poll() is None
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - since <= 2.0
    assert process.returncode == 130
    assert b"the same command goes on" in errors
    assert not (tmp_path / "out.csv").exists()
    assert (tmp_path / "out.csv.journal").exists()
