"""Power of published diffusion runs beside the law of serving, which saw none of them.

A step of a diffusion transformer computes all tokens of an image or a video at once, so that its power is that of its
operations; chips that share an image wait for each other, and compute less per second. Power is predicted at the
measured timing: a diffusion workload has no timing here. Shapes of the networks: `costs/fits/diffusion_runs.yaml`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.validate import Points
from ridgeline.core.files import parse_yaml
from ridgeline.costs.serving_power import ServingLoad, serving_power_w
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns

Column = NDArray[np.float64]

KIND = "diffusion power"

RUNS = """
with rows as (select * from read_csv($1) where engine = 'xDiT' and version like 'ML.ENERGY v3%'),
  joules as (select "group", notes, batch, value from rows where metric in ('J/image', 'J/video'))
select rows.model, rows.task, rows.gpu as chip, rows.n_gpus::double as chips, rows.batch::double as batch,
  rows.value as power_w, joules.value as item_j,
  regexp_extract(notes, '([0-9]+) steps', 1)::double as steps,
  regexp_extract(notes, '([0-9]+)x[0-9]+', 1)::double as width,
  regexp_extract(notes, '[0-9]+x([0-9]+)', 1)::double as height,
  coalesce(try_cast(regexp_extract(notes, '([0-9]+) frames', 1) as double), 1) as frames,
  regexp_extract(notes, 'params=([0-9.]+)B', 1)::double * 1e9 as parameters
from rows join joules using ("group", notes, batch) where rows.metric = 'W' order by rows.case_id
"""


def item_flops(shape: dict[str, Column], rows: dict[str, Column]) -> Column:
    """Operations of one image or video: all steps, the network's weights on every token, attention among them.

    Args:
        shape: columns of `diffusion_runs.yaml`.
        rows: parameters, steps, width and height in pixels, frames.
    Returns: FLOPs, one per row.
    """
    side = shape["token_pixels"]
    latent = np.floor((rows["frames"] - 1.0) / shape["token_frames"]) + 1.0
    tokens = latent * np.floor(rows["width"] / side) * np.floor(rows["height"] / side) + shape["text_tokens"]
    linear = 2.0 * shape["active"] * rows["parameters"] * tokens
    attention = 4.0 * tokens * tokens * shape["width"] * shape["layers"]
    found: Column = rows["steps"] * shape["passes"] * (linear + attention)
    return found


def diffusion_points(energy: Path) -> Points | None:
    """Watts per chip of every published run of a known network, by the law of serving alone; None: there is none."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        found = connection.execute(RUNS, [str(energy)]).fetchnumpy()
    source = resources.files("ridgeline.costs") / "fits" / "diffusion_runs.yaml"
    models: dict[str, dict[str, Any]] = parse_yaml(source.read_text("utf-8"), name=source.name).data["models"]
    texts = {name: np.array([str(value) for value in found[name]]) for name in ("model", "task", "chip")}
    known = np.isin(texts["model"], list(models))
    if not known.any():
        return None
    texts = {name: column[known] for name, column in texts.items()}
    rows = {name: np.asarray(column, np.float64)[known] for name, column in found.items() if name not in texts}
    names = ("token_pixels", "token_frames", "text_tokens", "passes", "layers", "width", "active")
    shape = {name: np.array([float(models[model].get(name, 1.0)) for model in texts["model"]]) for name in names}
    chips, index = np.unique(texts["chip"], return_inverse=True)
    columns = ChipColumns(tuple(catalogue.chip(str(name)) for name in chips), np.asarray(index, np.intp))
    item_s = rows["item_j"] / rows["power_w"]
    load = ServingLoad(
        weight_bytes_per_s=0.0,
        kv_bytes_per_s=0.0,
        flops_per_s=item_flops(shape, rows) / item_s / rows["chips"],
        chips=rows["chips"],
    )
    predicted = np.asarray(serving_power_w(load, columns, measured=False))
    return _points(texts, rows, predicted, columns)


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
