"""Power of published diffusion runs beside the law of serving, which saw none of them.

A step of a diffusion transformer computes all tokens of an image or a video at once, so that its power is that of its
operations; chips that share an image wait for each other, and compute less per second. Power is predicted at the
measured timing, so that it alone is judged; `predict vision` has a timing of its own. Steps and sizes of the published
runs are those that the bundled networks have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.accuracy.validate import Points
from ridgeline.core.errors import UnknownNameError
from ridgeline.costs.serving_power import ServingLoad, serving_power_w
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.vision import network

Column = NDArray[np.float64]

KIND = "diffusion power"

RUNS = """
with rows as (select * from read_csv($1) where engine = 'xDiT' and version like 'ML.ENERGY v3%'),
  joules as (select "group", notes, batch, value from rows where metric in ('J/image', 'J/video'))
select rows.model, rows.task, rows.gpu as chip, rows.n_gpus::double as chips, rows.batch::double as batch,
  rows.value as power_w, joules.value as item_j
from rows join joules using ("group", notes, batch) where rows.metric = 'W' order by rows.case_id
"""


def item_flops(model: str) -> float:
    """Operations of one image or video of a bundled network at its own size: all steps, encoder and decoder."""
    return float(network(model).graph(1.0).flops())


def diffusion_points(energy: Path) -> Points | None:
    """Watts per chip of every published run of a known network, by the law of serving alone; None: there is none."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        found = connection.execute(RUNS, [str(energy)]).fetchnumpy()
    texts = {name: np.array([str(value) for value in found[name]]) for name in ("model", "task", "chip")}
    flops = {name: item_flops(name) for name in np.unique(texts["model"]).tolist() if _is_sampler(name)}
    known = np.isin(texts["model"], list(flops))
    if not known.any():
        return None
    texts = {name: column[known] for name, column in texts.items()}
    rows = {name: np.asarray(column, np.float64)[known] for name, column in found.items() if name not in texts}
    chips, index = np.unique(texts["chip"], return_inverse=True)
    columns = ChipColumns(tuple(catalogue.chip(str(name)) for name in chips), np.asarray(index, np.intp))
    item_s = rows["item_j"] / rows["power_w"]
    load = ServingLoad(
        weight_bytes_per_s=0.0,
        kv_bytes_per_s=0.0,
        flops_per_s=np.array([flops[name] for name in texts["model"].tolist()]) / item_s / rows["chips"],
        chips=rows["chips"],
    )
    predicted = np.asarray(serving_power_w(load, columns, measured=False))
    return _points(texts, rows, predicted, columns)


def _is_sampler(name: str) -> bool:
    try:
        return network(name).samples
    except UnknownNameError:
        return False


def _points(texts: dict[str, NDArray[np.str_]], rows: dict[str, Column], predicted: Column, on: ChipColumns) -> Points:
    size = predicted.size
    assert on.index is not None, "one chip per row"
    runs = zip(texts["model"], rows["chips"].tolist(), rows["batch"].tolist(), strict=True)
    words = [f"{model.rpartition('/')[2]} chips={chips:g} batch={batch:g}" for model, chips, batch in runs]
    labels = {
        "chip": np.array([on.chips[place].name for place in on.index.tolist()]),
        "runtime": np.full(size, "xdit"),
        "version": np.full(size, ""),
        "dtype": np.full(size, "dense"),
        "size": texts["task"],
        "bound": np.full(size, ""),
        "kernel": np.full(size, ""),
        "case": np.array(words),
    }
    measured = rows["power_w"] / rows["chips"]
    apart = np.full(size, "", dtype="<U1")
    return Points(kind=KIND, regime="extrapolated", predicted=predicted, measured=measured, labels=labels, apart=apart)
