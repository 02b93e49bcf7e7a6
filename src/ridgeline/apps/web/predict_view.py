"""Predict and Train: one case, answered while the sliders move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ridgeline.api.predictions.breakdown import breakdown_of
from ridgeline.api.predictions.predict import Prediction
from ridgeline.api.predictions.predict import predict as asked
from ridgeline.api.predictions.roofline import roofline_svg
from ridgeline.api.predictions.show import BOUND_WORDS, SERVING_ROWS, WORDS, human, title_of
from ridgeline.api.tables.columns import TASKS, Column
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.apps.cli.flags import SHORT
from ridgeline.apps.web.blocks import Answer, Block, bar, command_of, numbers, picture, python_of, table, text
from ridgeline.apps.web.fields import Field, fields_of, given
from ridgeline.core import units
from ridgeline.core.tables import from_mapping
from ridgeline.hardware import catalogue
from ridgeline.training.predict import stepped
from ridgeline.training.step import TrainingStep

_MACHINES = 'machines: "8x h100-sxm", "4x dgx-h100"'
ON = Field(name="on", kind="text", doc=_MACHINES, default="8x h100-sxm", suggestions="machines")
SUGGEST = {"model": "models", "chip": "chips", "node": "nodes", "runtime": "runtimes"}
FORMATS = dict.fromkeys(("weights", "kv", "moe_weights", "activations"), "formats")
MOST_OPS = 20
_STORED = ("weights", "cache", "reserve", "free", "optimizer", "activations", "logits")
_HELD = ("weights", "optimizer", "activations", "logits", "reserve")
_TONES = ("memory", "compute", "link", "host", "latency", "launch", "l2")


def _form(task: str, first: Mapping[str, str], sliders: Mapping[str, tuple[float, float]]) -> tuple[Field, ...]:
    hidden = {"trace", "chip"}
    columns: Sequence[Column] = [column for column in TASKS[task] if column.name not in hidden]
    fields = fields_of(columns, first=first, sliders=sliders, suggest={**SUGGEST, **FORMATS})
    return (*fields[:1], ON, *fields[1:])


PREDICT = _form(
    "serving",
    {
        "model": "meta-llama/Llama-3.1-70B",
        "runtime": "vllm",
        "tp": "8",
        "isl": "1024",
        "osl": "1024",
        "concurrency": "64",
        "weights": "",
        "kv": "",
    },
    {"isl": (16, 131072), "osl": (1, 16384), "concurrency": (1, 4096), "tp": (1, 16)},
)
TRAIN = _form(
    "training",
    {
        "model": "meta-llama/Llama-3.1-8B",
        "seq": "8192",
        "global_batch": "128",
        "micro_batch": "1",
        "precision": "bf16",
        "tp": "1",
        "pp": "1",
        "zero": "3",
        "recompute": "none",
    },
    {"seq": (512, 131072), "global_batch": (8, 8192), "micro_batch": (1, 32), "tp": (1, 16), "pp": (1, 16)},
)


def predict(values: Mapping[str, Any]) -> Answer:
    """A deployment under load."""
    case = given(PREDICT, values, needed=("model", "on"))
    prediction = asked("serving", **case)
    blocks = [
        text(f"Bound by {_why(prediction)}", kind="why"),
        numbers([_told(prediction, name) for name in SERVING_ROWS]),
        _memory(prediction),
        picture("Roofline: each op a dot, its area the share of its step's time", roofline_svg(prediction)),
        *(block for phase in prediction.phases for block in _breakdown(phase)),
        text(_regime(prediction), kind="note"),
    ]
    return _answer("serving", prediction, case, blocks)


def train(values: Mapping[str, Any]) -> Answer:
    """A training step."""
    case = given(TRAIN, values, needed=("on",))
    prediction = asked("training", **case)
    shown = [_told(prediction, name) for name in prediction.values if name not in ("bound", "regime")]
    blocks = [text(f"Bound by {_why(prediction)}", kind="why"), numbers(shown)]
    for step in _steps(prediction):
        held = [(name, float(np.ravel(getattr(step.memory, f"{name}_bytes"))[0])) for name in _HELD]
        blocks += [*_spent(step), _stored(prediction, held)]
    blocks.append(text(_regime(prediction), kind="note"))
    return _answer("training", prediction, case, blocks)


def _steps(prediction: Prediction) -> list[TrainingStep]:
    """The step of a training case, by mechanism; none of a network over images, or over unlike chips."""
    table = from_mapping({name: [value] for name, value in prediction.case.items()}, columns=wanted("training"))
    return [step for _, step in stepped(*intake("training", table))]


def _spent(step: TrainingStep) -> Iterator[Block]:
    """Where the time of a step goes."""
    whole = float(step.step_s[0])
    terms = sorted(((name.replace("_", " "), float(term[0])) for name, term in step.terms.items()), key=lambda t: -t[1])
    parts = [(name, time_s, f"{time_s / whole:.1%}") for name, time_s in terms if time_s > 0]
    yield bar(f"Step, {units.duration(whole)}, by what it is spent on", parts, whole)
    rows = [(name, units.duration(time_s), share) for name, time_s, share in parts]
    yield table("Part by part", ("spent on", "time", "share"), rows)


def _answer(task: str, prediction: Prediction, case: Mapping[str, Any], blocks: Sequence[Block]) -> Answer:
    return Answer(
        title=title_of(prediction),
        blocks=blocks,
        rows=[{**prediction.case, **prediction.values}],
        command=command_of(("predict", task), case, SHORT),
        python=python_of(f"predict({task!r}", case),
    )


def _why(prediction: Prediction) -> str:
    bound = str(prediction.values["bound"])
    return f"{BOUND_WORDS.get(bound, f'{bound}: the largest part of the step')}."


def _regime(prediction: Prediction) -> str:
    if prediction.values["regime"] == "calibrated":
        return "Calibrated: most of the time is priced with coefficients measured on this chip."
    return "Datasheet: this chip contributed nothing but its datasheet."


def _memory(prediction: Prediction) -> Block:
    weights, kv, total = (float(prediction.values[f"{n}_bytes_per_chip"]) for n in ("weights", "kv", "memory"))
    parts = [("weights", weights), ("cache", kv), ("reserve", max(total - weights - kv, 0.0))]
    return _stored(prediction, parts)


def _stored(prediction: Prediction, parts: Sequence[tuple[str, float]]) -> Block:
    """A chip's memory and what is in it."""
    capacity = catalogue.chip(str(prediction.case["chip"])).dram.capacity_bytes
    free = max(capacity - sum(size for _, size in parts), 0.0)
    shown = [(name, size, units.size(size)) for name, size in (*parts, ("free", free))]
    return bar(f"Memory per chip, of {units.size(capacity)}", shown, capacity, tones=_STORED)


def _told(prediction: Prediction, name: str) -> tuple[str, str, str]:
    """(name, value, meaning), the interval in the meaning where there is one."""
    value, words = human(name, prediction.values[name]), WORDS.get(name, "")
    stem = name.removesuffix("_s")
    if f"{stem}_low_s" in prediction.values:
        span = [human(name, prediction.values[f"{stem}_{end}_s"]) for end in ("low", "high")]
        words = "; ".join(filter(None, (words, f"80 % interval {span[0]} .. {span[1]}")))
    return name, value, words


def _breakdown(phase: Any) -> Iterator[Block]:
    """A step by what bounds its ops, and op by op."""
    rows = breakdown_of(phase.step)
    whole = sum(float(row["time_s"]) for row in rows) + phase.host_s
    by_bound: dict[str, float] = defaultdict(float)
    for row in rows:
        by_bound[row["bound"]] += float(row["time_s"])
    by_bound["host"] += phase.host_s
    longest = sorted(by_bound.items(), key=lambda item: -item[1])
    parts = [(name, time_s, f"{time_s / whole:.1%}") for name, time_s in longest if time_s > 0.0]
    yield bar(
        f"{phase.name.capitalize()} step, {units.duration(whole)}, by what bounds its ops", parts, whole, tones=_TONES
    )
    shown = [
        (
            row["op"] if row["times"] == 1 else f"{row['block']}.{row['op']}",
            f"{row['times']:.0f}",
            units.duration(float(row["time_s"])),
            f"{float(row['time_s']) / whole:.1%}",
            row["bound"],
            row["kernel"],
        )
        for row in rows[:MOST_OPS]
    ]
    if phase.host_s:
        shown.append(("host", "1", units.duration(phase.host_s), f"{phase.host_s / whole:.1%}", "host", ""))
    yield table(f"Op by op: {phase.describes}", ("op", "runs", "time", "share", "bound by", "kernel"), shown)
