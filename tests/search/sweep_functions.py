"""Functions that workers of tested sweeps run, and a sweep as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.search.sweeps.journal import Journal, journal_of
from ridgeline.search.sweeps.points import Points
from ridgeline.search.sweeps.pools import InProcess, Pool, Processes
from ridgeline.search.sweeps.results import write_results
from ridgeline.search.sweeps.run import Summary, run
from ridgeline.search.sweeps.work import Work

Given = Mapping[str, list[Any]]


def points(count: int) -> Points:
    """Points whose only column is their number."""
    return Points(count=count, columns={"x": (np.arange(count), tuple(float(i) for i in range(count)))})


def squares(question: Mapping[str, Any], columns: Given) -> dict[str, Any]:
    """Numbers, truths and texts that depend on the whole part, as those of real sweeps do in their last bits."""
    x = np.array(columns["x"])
    if question.get("log"):
        handle = os.open(question["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{x[0]:.0f} {x.size} {os.getpid()}\n".encode())
        os.close(handle)
    time.sleep(question.get("pause_s", 0.0))
    results: dict[str, Any] = {"square": x * x / 7.0, "part_sum": np.full(x.size, (x / 3.0).sum()), "odd": x % 2 == 1}
    if x[0] >= question.get("extra_from", np.inf):
        results["extra"] = [f"é{value:.0f}" for value in x]
    return {**results, "error": ["thirteen" if value == 13 else "" for value in x]}


def deadly(question: Mapping[str, Any], columns: Given) -> dict[str, Any]:
    """One point ends its process, or makes it stop, stand still or never end."""
    if question["at"] in columns["x"]:
        how = question["how"]
        if how == "exit":
            os._exit(9)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        while how == "spin":
            pass
        time.sleep(1000.0)
    return squares(question, columns)


def quits(pipe: Any, work: Work) -> None:
    """A worker that ends before it is one."""
    os._exit(3)


def broken(question: Mapping[str, Any], columns: Given) -> dict[str, Any]:
    """One point is a mistake of ours."""
    if question["at"] in columns["x"]:
        raise KeyError("inner\nstate")
    return squares(question, columns)


def node_of(question: Mapping[str, Any], columns: Given) -> dict[str, Any]:
    """Squares, and a note of the node of the Ray cluster where they are made."""
    import ray

    with Path(question["nodes"]).open("a", encoding="utf-8") as file:
        file.write(f"{ray.get_runtime_context().get_node_id()}\n")
    return squares(question, columns)


def swept(out: Path, count: int, chunk: int, workers: int, work: Work, **question: Any) -> Summary:
    """A whole sweep, as `rl.sweep` runs it."""
    pool: Pool = Processes(work, workers) if workers else InProcess(work)
    every = points(count)
    with Journal(journal_of(out), {"version": "test", "count": str(count), **question}) as journal:
        summary = run(every, journal, pool, chunk=chunk)
        write_results(every, journal.pieces(), out)
    return summary


def main() -> None:
    """A sweep of squares by the arguments, as JSON, of this process."""
    given = json.loads(sys.argv[1])
    work = Work(evaluate=squares, question={"log": given["log"], "pause_s": given["pause_s"]})
    try:
        swept(Path(given["out"]), given["count"], given["chunk"], given["workers"], work)
    except KeyboardInterrupt:
        sys.exit(130)
