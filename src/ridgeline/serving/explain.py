"""Why a deployment is as fast as it is: its typical decode step and its prefill, op by op."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.core.cases import Cases, Problems
from ridgeline.core.dtypes import DTYPES
from ridgeline.plans import AWAY
from ridgeline.serving.deployment import Deployment, lane_load, make_pool, plan_of
from ridgeline.serving.measure import applies
from ridgeline.serving.predict import deployment_of
from ridgeline.serving.steady import solve
from ridgeline.steps import Step
from ridgeline.workloads.model import Batch


@dataclass(frozen=True, slots=True)
class Phase:
    """One typical iteration: what is in it, its priced ops, and the host time beside them."""

    name: str
    describes: str
    step: Step
    host_s: float


def explain(cases: Cases, row: int = 0, *, batch: float = np.nan) -> tuple[Phase, ...]:
    """The decode step and the prefill step of one row, at the batch that its steady state holds.

    A row with a problem has no phases. For disaggregated rows each phase is priced on its own pool. `batch` is the
    row's own result, which spares solving for its steady state again.
    """
    problems = Problems(cases.rows)
    deployment = deployment_of(cases, problems, row)
    if deployment is None:
        return ()
    if cases.text("mode", row) == "disagg":
        return (_phase(deployment, "decode", "decode_"), _phase(deployment, "prefill", "prefill_"))
    # A run of a named procedure has a mean batch of its own.
    known = np.nan if applies(deployment.procedure) else batch
    return (_phase(deployment, "decode", "", known), _phase(deployment, "prefill", ""))


def _phase(d: Deployment, name: str, pool_prefix: str, known: float = np.nan) -> Phase:
    c = d.cases
    plan = plan_of(d, pool_prefix)
    workers = c[f"{pool_prefix}workers"] if pool_prefix else c["replicas"]
    load = lane_load(d, workers * plan.dp * plan.pp, plan.pp)
    limit = c[f"{pool_prefix}batch"] if pool_prefix else c["max_batch"]
    pool = make_pool(d, plan, load, workers, batch=limit, prompts_only=name == "prefill")
    if name == "decode":
        batch = np.full(1, known) if known > 0 else solve(pool.stepper, load, pool.limits, d.procedure).batch
        sequences = np.maximum(np.round(batch), 1.0)
        context = load.isl + np.asarray(load.osl) / 2.0
        step = pool.stepper.decode(sequences, context)
        words = f"{_one(sequences):.0f} sequences decode at a mean context of {_one(context):,.0f} tokens"
    else:
        tokens = np.minimum(load.prompt, pool.limits.token_budget)
        step = Batch(prefill_seqs=1.0, prefill_tokens=tokens, prefill_prefix=load.cached)
        words = f"one prompt, {_one(tokens):,.0f} tokens in one iteration"
    return Phase(name, words, pool.stepper.step(step), _one(pool.stepper.host_s(step)))


def _one(value: object) -> float:
    return float(np.ravel(np.asarray(value, dtype=np.float64))[0])


def operational_intensity(step: Step) -> list[tuple[str, float, float, float]]:
    """Points of a roofline: (op, FLOPs per byte, FLOP/s, share of the step) of ops that compute beside the weights."""
    points = []
    whole = _one(step.time_s)
    for cost in step.ops:
        flops, time_s = _one(cost.price.flops), _one(cost.price.time_s)
        moved = _one(cost.price.read_bytes) + _one(cost.price.write_bytes)
        if cost.op.part == AWAY:
            continue
        if flops > 0 and moved > 0 and time_s > 0 and cost.op.compute in DTYPES:
            points.append((f"{cost.block}.{cost.op.name}", flops / moved, flops / time_s, _one(cost.time_s) / whole))
    return points
