"""How many requests per second are drawn from laws, and read from traces in CSV and JSON lines."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _timing import measure, report
from ridgeline.workloads.traffic import load_traffic, make_traffic, read_trace

DRAWN_GOAL_PER_S = 2_000_000
DRAWN, ROWS = 2_000_000, 100_000


def drawn(arrivals: str) -> None:
    """Draw requests under one process."""
    made = measure(
        lambda: make_traffic(
            arrivals=arrivals, prompt="lognormal(mean=1024, sigma=0.8)", output="lognormal(p50=200, sigma=0.7)",
            requests=DRAWN,
        ),
        repeats=3,
    )  # fmt: skip
    report(arrivals, made, count=DRAWN, unit="requests", goal_per_s=DRAWN_GOAL_PER_S)


def sessions() -> None:
    """Draw chats with prefixes."""
    turns = {"turns": "geometric(5)", "think": "30s"}
    chat = {"arrivals": "poisson(5/s)", "prompt": 100, "output": 200, "sessions": turns}
    made = measure(lambda: load_traffic({"requests": ROWS, "classes": {"chat": chat}}), repeats=3)
    report("chats with prefixes", made, count=ROWS, unit="requests")


def read(folder: Path) -> None:
    """Read the same requests from a table and from lines."""
    table, lines = folder / "trace.csv", folder / "trace.jsonl"
    rows = [(i / 50, 300 + i % 4000, 1 + i % 700) for i in range(ROWS)]
    table.write_text(
        "arrival_s,prompt_tokens,output_tokens\n"
        + "".join(f"{time},{prompt},{output}\n" for time, prompt, output in rows)
    )
    line = '{"timestamp": %d, "input_length": %d, "output_length": %d, "hash_ids": [0, 1, 2, 3, 4, 5, 6, 7]}\n'
    lines.write_text("".join(line % (1000 * time, prompt + 4000, output) for time, prompt, output in rows))
    for path in (table, lines):
        report(f"read {path.suffix}", measure(lambda path=path: read_trace(path), repeats=3), count=ROWS, unit="rows")  # type: ignore[misc]


if __name__ == "__main__":
    for process in ("poisson(100/s)", "gamma(100/s, cv=2)", "diurnal(100/s, peak=3, period=1h)"):
        drawn(process)
    sessions()
    with tempfile.TemporaryDirectory() as name:
        read(Path(name))
