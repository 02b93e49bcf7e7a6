"""Rows per second of reading and writing case tables: `python benchmarks/tables.py [ROWS]`.

Twelve columns in (four of text, one of free text that is carried), nine result columns out, as `predict ops` has them.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import duckdb
import numpy as np

from _timing import measure, report
from ridgeline.core.tables import Kind, Labels, encode, read_table, write_table

COLUMNS: dict[str, Kind] = {
    **dict.fromkeys(("kind", "chip", "dtype", "runtime"), "text"),
    **dict.fromkeys(("m", "n", "k", "batch", "window", "topk"), "number"),
}
# `predict ops` is to reach 500,000 rows/s from Parquet to Parquet; reading and writing must each be faster than this.
GOAL_ROWS_PER_S = 1e6
QUERY = """
SELECT ['gemm', 'attention_prefill', 'moe'][1 + i % 3] AS kind, ['h100_sxm', 'a100_sxm_80', 'l40s'][1 + i % 3] AS chip,
    ['bf16', 'fp8'][1 + i % 2] AS dtype, 'trtllm' AS runtime, i % 97 * 128 AS m, i % 89 * 64 AS n, i % 83 * 64 AS k,
    (i % 5)::INT AS batch, CASE WHEN i % 10 = 0 THEN 4096 END AS window, i % 8 AS topk, i AS id, 'row ' || i AS note
FROM range({rows}) t(i)
"""


def results_of(rows: int) -> dict[str, np.ndarray | Labels]:
    """Result columns such as a prediction has: smooth numbers, two columns of labels, rare errors."""
    generator = np.random.default_rng(0)
    index = np.arange(rows, dtype=np.int32)
    numbers = {name: generator.lognormal(0, 3, rows) for name in ("time_s", "energy_j", "power_w")}
    sizes = dict.fromkeys(("flops", "read_bytes", "write_bytes"), index % 9973 * 1024.0)
    bound = Labels(index % 3, ("compute", "memory", "launch"))
    error = Labels(np.where(index % 1000 == 0, np.int32(0), np.int32(-1)), ("m is not a number (got 'x')",))
    return {
        **numbers,
        **sizes,
        "bound": bound,
        "regime": Labels(index % 2, ("calibrated", "datasheet")),
        "error": error,
    }


def main(rows: int) -> None:
    """Print rows per second for each format and direction."""
    results = results_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".parquet", ".csv"):
            path = Path(folder) / f"cases{suffix}"
            duckdb.execute(f"COPY ({QUERY.format(rows=rows)}) TO '{path}'")
            read = measure(partial(read_table, path, columns=COLUMNS), repeats=3)
            report(
                f"read {suffix}",
                read,
                count=rows,
                unit="rows",
                goal_per_s=GOAL_ROWS_PER_S if suffix == ".parquet" else None,
            )
            table = read_table(path, columns=COLUMNS)
            for out in (".parquet", ".csv"):
                write = measure(partial(write_table, table, results, Path(folder) / f"out{out}"), repeats=3)
                goal = GOAL_ROWS_PER_S if suffix == out == ".parquet" else None
                report(f"write {suffix} to {out}", write, count=rows, unit="rows", goal_per_s=goal)
    texts = np.array(["gemm", "moe", None, "attention"], dtype=object)[np.arange(rows) % 4].tolist()
    report("encode a list", measure(partial(encode, texts)), count=rows, unit="rows")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
