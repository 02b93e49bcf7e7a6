"""Which engines are legal for a model on some machines, and which of these fit into memory, as columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems
from ridgeline.core.dtypes import DTYPES
from ridgeline.core.errors import SpecError
from ridgeline.hardware.chip import Chip
from ridgeline.plans import Plan, check_plan
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Allowed, Question
from ridgeline.search.planning.rows import Index, Rows, joined
from ridgeline.serving.deployment import lane_load, make_pool, plan_of
from ridgeline.serving.runtime import runtime
from ridgeline.workloads.catalogue import model as find_model
from ridgeline.workloads.model import CompressedLatent, GroupedQuery, Latent, MixtureOfExperts, Model

DEGREES = ("tp", "pp", "dp", "ep", "moe_tp", "cp")
NATIVE = {"fp8": "fp8", "fp4": "nvfp4"}
"""Compute format that a chip multiplies natively -> format of weights that uses it."""

MOST_ENGINES = 200_000
"""Engines that are priced; a question with more is refused, not cut."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engines:
    """Engines that fit.

    Attributes:
        rows: cases of one replica (or of one worker of a pool), without a load.
        machine: of each row, an index into the machines of the question.
        chips: of each row.
        changed: settings of each row that are not the default.
    """

    rows: Rows
    machine: Index
    chips: NDArray[np.float64]
    changed: NDArray[np.float64]

    def take(self, index: Index) -> Engines:
        """Some of them."""
        return Engines(
            rows=self.rows.take(index),
            machine=self.machine[index],
            chips=self.chips[index],
            changed=self.changed[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """The engine that comes nearest to fitting: bytes that a chip needs and may give."""

    needs_bytes: float
    has_bytes: float
    plan: str
    chip: str


def degrees(model: Model, allowed: Allowed, chips: int, context_parallel: tuple[int, ...]) -> NDArray[np.float64]:
    """Every legal cut of one replica on at most `chips`: rows of tp, pp, dp, ep, moe_tp, cp.

    Tensor parallelism divides all attention heads; stages are powers of two; attention data parallelism is for models
    with routed experts (elsewhere it is the same as replicas), whose experts are spread by every pair (ep, moe_tp) that
    the stage and the width of an expert allow. Chips of a stage fill whole innermost domains of links, or a whole
    fraction of one.
    """
    found = [
        (tp, pp, dp, ep, moe_tp, cp)
        for tp, dp, cp in _stages(model, allowed, chips, context_parallel)
        for ep, moe_tp in _expert_degrees(model, tp * dp * cp, dp)
        for pp in _powers(min(chips // (tp * dp * cp), int(np.max(np.asarray(model.layers)))))
    ]
    legal = np.array(found, dtype=np.float64).reshape(-1, len(DEGREES))
    problems = Problems(len(legal))
    check_plan(model, Plan(**dict(zip(DEGREES, legal.T, strict=True))), problems, np.arange(len(legal)))
    assert problems.ok.all(), problems.column()
    return legal


def _stages(
    model: Model, allowed: Allowed, chips: int, context_parallel: tuple[int, ...]
) -> Iterator[tuple[int, int, int]]:
    heads = [
        int(np.asarray(block.mixer.heads))
        for block in (*model.blocks, *model.encoder)
        if isinstance(block.mixer, (GroupedQuery, Latent, CompressedLatent))
    ]
    widest = math.gcd(*heads) if heads else 1
    levels = allowed.machine.levels
    inner = min(levels[0].size, allowed.chips) if levels else 1
    for tp in (n for n in range(1, min(widest, chips) + 1) if widest % n == 0):
        for dp in _powers(chips // tp) if _experts(model) else (1,):
            for cp in context_parallel:
                stage = tp * dp * cp
                if stage <= chips and (stage % inner == 0 or inner % stage == 0):
                    yield tp, dp, cp


def _expert_degrees(model: Model, stage: int, dp: int) -> list[tuple[int, int]]:
    ffn = _experts(model)
    if ffn is None:
        return [(0, 0)]
    experts, inter = int(np.asarray(ffn.experts)), int(np.asarray(ffn.inter))
    pairs = [(ep, stage // ep) for ep in range(1, stage + 1) if stage % ep == 0]
    return [(ep, moe_tp) for ep, moe_tp in pairs if ep <= experts and inter % moe_tp == 0]


def _experts(model: Model) -> MixtureOfExperts | None:
    return next((block.ffn for block in model.blocks if isinstance(block.ffn, MixtureOfExperts)), None)


def _powers(most: int) -> tuple[int, ...]:
    return tuple(2**n for n in range(most.bit_length()) if 2**n <= most)


def formats(wanted: tuple[str, ...], chip: Chip, published_bits: float) -> tuple[str, ...]:
    """Formats to try on a chip: as named, or for "any" the published one and each narrower one that is native there."""
    if "any" not in wanted:
        return wanted
    native = (stored for compute, stored in NATIVE.items() if compute in chip.matrix_flops_per_s)
    return ("", *(name for name in native if DTYPES[name].bits < published_bits))


def kinds(question: Question, machine: int) -> Iterator[tuple[str, str, str]]:
    """(runtime, weights, kv) to try on one kind of machine."""
    chip, published = question.machines[machine].machine.chip, find_model(question.model).precision
    for name in question.choices.runtimes:
        vendors = runtime(name).facts.get("vendors")
        if vendors is not None and chip.vendor not in vendors["value"]:
            continue
        for weights in formats(question.choices.weights, chip, published.ffn.weight.bits):
            for kv in formats(question.choices.kv, chip, published.kv.bits):
                if kv != "nvfp4":
                    yield runtime(name).name, weights, kv


def usable(question: Question, machine: int) -> int:
    """Chips of one kind that the limits on power and price leave."""
    allowed = question.machines[machine]
    most = [float(allowed.chips), question.power_w / allowed.machine.chip.tdp_w]
    if math.isfinite(question.usd_per_s):
        most.append(question.usd_per_s / allowed.usd_per_s)
    return int(min(most) + 1e-9)


def base(question: Question, machine: int, count: int) -> Rows:
    """Rows that say what all candidates on one kind of machine share."""
    allowed = question.machines[machine]
    rows = Rows(count=count, numbers={}, texts={}).put(
        model=question.model,
        chip=allowed.machine.chip.name,
        node=allowed.node,
        isl=question.isl,
        osl=question.osl,
        prefix_hit_frac=question.prefix_hit_frac,
    )
    return rows.put(acceptance_frac=question.acceptance_frac) if question.acceptance_frac else rows


def aggregated(question: Question) -> tuple[Rows, Index]:
    """Legal engines of one pool, and the machine of each."""
    parts, where = [], []
    c, model = question.choices, find_model(question.model)
    for machine, allowed in enumerate(question.machines):
        cuts = degrees(model, allowed, usable(question, machine), c.context_parallel)
        for name, weights, kv in kinds(question, machine) if len(cuts) else ():
            default = runtime(name).max_batched_tokens
            budgets = tuple(x for x in c.token_budgets if x != default)
            axes = (np.arange(len(cuts)), c.max_batches, budgets, c.draft_tokens)
            cut, batch, budget, drafts = (grid.ravel() for grid in np.meshgrid(*axes, indexing="ij"))
            rows = base(question, machine, cut.size).put(runtime=name, weights=weights, kv=kv)
            rows = rows.put(**dict(zip(DEGREES, cuts[cut].T, strict=True)))
            parts.append(rows.put(max_batch=batch, max_batched_tokens=budget, draft_tokens=drafts))
            where.append(np.full(cut.size, machine, dtype=np.intp))
    if not parts:
        return Rows(count=0, numbers={}, texts={}), np.empty(0, dtype=np.intp)
    rows = joined(parts)
    refuse_many(rows.count)
    return rows, np.concatenate(where)


def refuse_many(count: int) -> None:
    """Say that a space is too large to be searched whole. Raises SpecError."""
    if count > MOST_ENGINES:
        raise SpecError(
            f"the question has {count:,} distinct engines and the exhaustive search prices {MOST_ENGINES:,}",
            at="question",
            fix="allow fewer chips, runtimes, formats or settings",
        )


def fitting(rows: Rows, machine: Index, predictor: Predictor, *, pool: str = "") -> tuple[Engines, Shortage | None]:
    """The engines of a table that fit, without those whose batch limit memory makes meaningless.

    Args:
        rows: engines. machine: of each. predictor: how they are priced.
        pool: "" (a replica that does all), "prefill" or "decode": whose degrees are meant.
    Returns: the engines, and the one that is nearest to fitting if none does.
    """
    prefix = f"{pool}_" if pool else ""
    limit = f"{pool}_batch" if pool else "max_batch"
    fits = np.zeros(rows.count, dtype=np.bool_)
    most, needs, has = (np.zeros(rows.count) for _ in range(3))
    for d, at in predictor.deployments(rows):
        c = d.cases
        made = make_pool(
            d, plan_of(c, prefix), lane_load(d, 1.0), np.ones(at.size), batch=c[limit], prompts_only=pool == "prefill"
        )
        m = made.memory
        fits[at] = m.fits
        most[at] = m.max_sequences / made.stepper.plan.pp
        needs[at] = m.weights_bytes + m.reserve_bytes + m.sequence_bytes
        has[at] = needs[at] + m.free_bytes - m.sequence_bytes
    asked = rows.number(limit, 0.0)
    kept = np.flatnonzero(fits & ((asked == 0) | (asked < most) | (pool == "prefill")))
    chips = np.prod([rows.numbers[f"{prefix}{name}"] for name in ("tp", "pp", "dp")], axis=0) * rows.number("cp", 1.0)
    changed = sum(((rows.number(name, 0.0) > 0).astype(float) for name in (limit, "max_batched_tokens")), np.zeros(1))
    engines = Engines(rows=rows, machine=machine, chips=chips, changed=np.broadcast_to(changed, chips.shape))
    if kept.size:
        return engines.take(kept), None
    nearest = int(np.argmin(needs - has)) if rows.count else 0
    short = _shortage(rows, nearest, needs, has, prefix) if rows.count else None
    return engines.take(kept), short


def _shortage(rows: Rows, at: int, needs: NDArray[np.float64], has: NDArray[np.float64], prefix: str) -> Shortage:
    plan = Plan(**{name: rows.numbers[f"{prefix}{name}"][at] for name in DEGREES if f"{prefix}{name}" in rows.numbers})
    chip = rows.texts["chip"]
    return Shortage(
        needs_bytes=float(needs[at]),
        has_bytes=float(has[at]),
        plan=str(plan),
        chip=chip.values[chip.codes[at]],
    )
