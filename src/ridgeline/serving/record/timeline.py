"""A simulated run as tables: one row per request, per run of iterations, and per window."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.database import write_tables
from ridgeline.core.tables import Labels, encode
from ridgeline.serving.record.energy import attributed, table_of
from ridgeline.serving.record.played import RUN_COLUMNS, Played, run_ends_s
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.series import windows_of

ENDS = ("done", "rejected", "unfinished", "failed")
WINDOWS = 500
"""Windows of a timeline whose width nobody chose."""


def timeline_of(
    played: Played,
    *,
    window_s: float | None = None,
    powers: Mapping[str, PowerTable] | None = None,
    class_names: Sequence[str] = (),
    class_code: NDArray[np.integer] | None = None,
) -> dict[str, dict[str, Any]]:
    """The tables `requests`, `runs` and `windows`, each as named columns.

    Args:
        played: the run.
        window_s: width of a window; None: a five-hundredth of the run.
        powers: of each pool; without, energy and power are empty.
        class_names: of the classes of requests.
        class_code: class of each request.
    """
    width = window_s if window_s is not None else max(played.end_s, 1e-9) / WINDOWS
    return {
        "requests": _requests(played, powers, class_names, class_code),
        "runs": _runs(played, powers),
        "windows": windows_of(played, width_s=width, powers=powers),
    }


def write_timeline(played: Played, path: str | os.PathLike[str], **options: Any) -> tuple[Path, ...]:
    """Write the tables of a run; `options` as of `timeline_of`.

    Args:
        played: the run.
        path: NAME.duckdb for one database; NAME.parquet, NAME.csv or NAME.csv.gz for a file per table.
        options: see `timeline_of`.
    Returns: the files written.
    Raises:
        FileFormatError: another format, or a place that cannot be written.
    """
    return write_tables(timeline_of(played, **options), path)


def _requests(
    played: Played,
    powers: Mapping[str, PowerTable] | None,
    class_names: Sequence[str],
    class_code: NDArray[np.integer] | None,
) -> dict[str, Any]:
    count = played.arrival_s.size
    columns: dict[str, Any] = {"request": np.arange(count)}
    if class_code is not None and class_names:
        columns["class"] = Labels(np.asarray(class_code, np.int32), tuple(class_names))
    gaps = np.maximum(played.output_tokens - 1, 1)
    several = played.output_tokens > 1
    return columns | {
        "arrival_s": played.arrival_s,
        "admitted_s": played.admitted_s,
        "first_s": played.first_s,
        "last_s": played.last_s,
        "ttft_s": played.first_s - played.arrival_s,
        "tpot_s": np.where(several, (played.last_s - played.first_s) / gaps, math.nan),
        "e2e_s": played.last_s - played.arrival_s,
        "prompt_tokens": played.prompt_tokens,
        "output_tokens": played.output_tokens,
        "found_tokens": played.found_tokens,
        "preemptions": played.preemptions,
        "end": Labels(played.end.astype(np.int32), ENDS),
        "lane": played.lane,
        "energy_j": attributed(played, powers).per_request_j if powers else np.full(count, math.nan),
    }


def _runs(played: Played, powers: Mapping[str, PowerTable] | None) -> dict[str, Any]:
    sizes = [lane.runs.size for lane in played.lanes]
    index = np.repeat(np.arange(len(sizes)), sizes)
    pools = [lane.pool for lane in played.lanes]
    named = encode(pools)
    every = [lane.runs for lane in played.lanes]
    watts = [
        table_of(powers, lane).power_w(lane.runs) if powers else np.full(lane.runs.size, math.nan)
        for lane in played.lanes
    ]
    return {
        "lane": index,
        "pool": Labels(named.codes[index], named.values),
        "replica": np.array([lane.replica for lane in played.lanes], np.int64)[index],
        **{name: np.concatenate([np.empty(0), *(runs[name] for runs in every)]) for name in RUN_COLUMNS},
        "end_s": np.concatenate([np.empty(0), *(run_ends_s(runs) for runs in every)]),
        "power_w_per_chip": np.concatenate([np.empty(0), *watts]),
    }
