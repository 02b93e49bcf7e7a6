"""The pipeline of a training step, drawn in time from its prediction."""

from __future__ import annotations

import os

import numpy as np

from ridgeline.api.predictions.predict import Prediction
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.errors import DomainError
from ridgeline.core.tables import from_mapping
from ridgeline.training.perfetto import write_schedule
from ridgeline.training.prepare import Group, bundled, prepare
from ridgeline.training.schedules import DUALPIPE, SCHEDULES, ZERO_BUBBLE, Times, pipeline

MOST_TASKS = 200_000
"""Pieces of work that a drawing may hold."""


def write_pipeline(prediction: Prediction, path: str | os.PathLike[str]) -> str:
    """Write the pipeline schedule of a predicted training step as a trace for ui.perfetto.dev.

    Stages are equal and take what the prediction says of a micro-batch; gradients, optimizer and offloading, which come
    once per step, are left out. Returns one line that says what the trace holds.

    Raises: DomainError: no training prediction, no pipeline, or one that is too long to draw.
    """
    if prediction.task != "training":
        raise DomainError("only training steps have pipelines", at="prediction", got=prediction.task)
    group = _group(prediction)
    layout = group.layout
    ranks, chunks, micro_batches = (int(_one(v)) for v in (layout.pp, layout.vp, layout.micro_batches))
    kind = int(_one(layout.schedule))
    if ranks == 1:
        raise DomainError("a single stage is no pipeline", at="pp", got=1, fix="give pp=2 or more")
    if ranks * chunks * micro_batches * 3 > MOST_TASKS:
        fix = f"a global batch of at most {MOST_TASKS // (ranks * chunks * 3)} micro-batches per rank"
        raise DomainError("the pipeline is too long to draw", at="global_batch", got=micro_batches, fix=fix)
    schedule = pipeline(SCHEDULES[kind], ranks, micro_batches, _times(group, kind, ranks, chunks))
    name = f"{SCHEDULES[kind]} pipeline of {prediction.case['model'] or 'a model'}"
    return f"{os.fspath(path)}: {write_schedule(schedule, path, name=name)}"


def _one(value: object) -> float:
    return float(np.max(np.asarray(value)))


def _group(prediction: Prediction) -> Group:
    given = {name: [value] for name, value in prediction.case.items() if value not in ("", 0.0)}
    cases, problems = intake("training", from_mapping(given, columns=wanted("training")))
    (group,) = prepare(cases, problems, bundled())
    return group


def _times(group: Group, kind: int, ranks: int, chunks: int) -> Times:
    """Equal stages from the terms that a micro-batch takes."""
    step = group.step()
    layout = group.layout
    once = ("bubble", "data_parallel", "optimizer", "offload", "pipeline_transfer")
    count = _one(layout.micro_batches) * chunks
    each = {name: _one(term) / count for name, term in step.terms.items() if name not in once}
    whole = sum(each.values())
    passes = 3.0 + _one(layout.redone_matmul)
    weights = (each["matmul"] + each["experts"]) / passes if kind in (ZERO_BUBBLE, DUALPIPE) else 0.0
    forward = whole / passes
    stages = ranks * (2 if kind == DUALPIPE else chunks)
    rounds = _one(layout.micro_batches) * _one(layout.vp) + ranks - 1.0
    transfer = _one(step.terms["pipeline_transfer"]) / (2.0 * rounds)
    return Times(
        forward_s=[forward] * stages,
        backward_s=[whole - forward - weights] * stages,
        weights_s=[weights] * stages,
        transfer_s=transfer,
    )
