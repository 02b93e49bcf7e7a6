"""`predict step`: one forward step of a model, prefill or decode, without a load around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems
from ridgeline.core.tables import Labels
from ridgeline.plans import check_plan
from ridgeline.serving.deployment import plan_of
from ridgeline.serving.predict import deployment_for, grouped
from ridgeline.serving.stepper import Stepper
from ridgeline.steps.memory import weight_bytes
from ridgeline.workloads.families.size import cache_bytes
from ridgeline.workloads.model import Batch

RESULTS = (
    "time_s",
    "time_low_s",
    "time_high_s",
    "device_s",
    "host_s",
    "communication_s",
    "floor_s",
    "flops",
    "tokens_per_s",
    "weights_bytes_per_chip",
    "kv_bytes_per_chip",
)

NO_LOAD = {"mode": "agg", "procedure": "steady", "load": "", "attention_chip": ""}
POOLS = tuple(f"{pool}_{name}" for pool in ("prefill", "decode") for name in ("tp", "pp", "dp"))
ABSENT = {**dict.fromkeys(POOLS, 1.0), "attention_chips": 0.0}


def predict_step(cases: Cases, problems: Problems) -> dict[str, NDArray[np.float64] | list[str]]:
    """Evaluate every row that has no problem yet.

    Args:    cases: every column of the step table, defaults filled in. problems: one entry per row.
    Returns: result column -> one value per row; times are one pass of one lane through every layer.
    """
    cases = _loaded(cases)
    results = {name: np.full(cases.rows, np.nan) for name in RESULTS}
    bound, regime = (np.full(cases.rows, "", dtype=object) for _ in range(2))
    prefill = np.array([value == "prefill" for value in cases.labels("phase").values])[cases.labels("phase").codes]
    for group in grouped(cases, problems):
        d, rows = deployment_for(group, group.rows, cases), group.rows
        c, plan = d.cases, plan_of(d)
        check_plan(d.model, plan, problems, rows)
        stepper = Stepper(model=d.model, plan=plan, machines=d.machines, runtime=d.runtime, setting=d.setting)
        prompts = np.where(prefill[rows], c["batch"], 0.0)
        batch = Batch(
            decode_seqs=c["batch"] - prompts,
            decode_context=c["context"] + 1.0,
            prefill_seqs=prompts,
            prefill_tokens=c["tokens"],
            prefill_prefix=c["context"],
        )
        step, host_s = stepper.step(batch), stepper.host_s(batch)
        low_s, high_s = step.interval()
        held = c["context"] + np.where(prefill[rows], c["tokens"], 1.0)
        values = {
            "time_s": step.time_s + host_s,
            "time_low_s": low_s + host_s,
            "time_high_s": high_s + host_s,
            "device_s": step.time_s,
            "host_s": host_s,
            "communication_s": step.communication_s,
            "floor_s": step.floor_s,
            "flops": step.flops,
            "tokens_per_s": batch.tokens * np.asarray(plan.dp) / (step.time_s + host_s),
            "weights_bytes_per_chip": weight_bytes(d.model, plan),
            "kv_bytes_per_chip": c["batch"] * cache_bytes(d.model, held, plan.tp) / np.asarray(plan.pp),
        }
        for name, value in values.items():
            results[name][rows] = value
        bound[rows] = step.bound()
        regime[rows] = np.where(np.asarray(step.calibrated()) > 0.5, "calibrated", "datasheet")
    bad = ~problems.ok
    for column in results.values():
        column[bad] = np.nan
    bound[bad] = regime[bad] = ""
    return {**results, "bound": bound.tolist(), "regime": regime.tolist()}


def _loaded(cases: Cases) -> Cases:
    """The cases with the columns of a load that a step does not have."""
    zero = np.zeros(cases.rows, dtype=np.int32)
    texts = {name: Labels(zero, (text,)) for name, text in NO_LOAD.items()}
    return Cases(cases.rows, {**ABSENT, **cases.numbers}, {**texts, **cases.texts})
