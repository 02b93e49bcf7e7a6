"""Which engines are legal for a model on some machines, as columns: nothing else is ever generated."""

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
from ridgeline.hardware.topology import UNBOUNDED
from ridgeline.plans import Plan, check_plan
from ridgeline.plans.plan import DEGREES
from ridgeline.search.planning.engines import usable
from ridgeline.search.planning.question import Allowed, Question
from ridgeline.search.planning.rows import Rows, joined
from ridgeline.serving.runtime import runtime
from ridgeline.workloads.catalogue import model as find_model
from ridgeline.workloads.model import CompressedLatent, GroupedQuery, Latent, MixtureOfExperts, Model

POOL_DEGREES = ("tp", "pp", "dp", "ep", "moe_tp")

NATIVE = {"fp8": "fp8", "fp4": "nvfp4"}
"""Compute format that a chip multiplies natively -> format of weights that uses it."""

ONLY_WEIGHTS = ("nvfp4",)
"""Formats in which no cache is kept."""

MOST_ENGINES = 200_000
"""Engines that are priced; a question with more is refused, not cut."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """Legal engines of one kind of machine under one runtime.

    Attributes:
        family: its name for people. machine: index into the machines of the question.
        rows: engines of the only pool, or of the prefill pool.
        decode: engines of the decode pool; None where there is one pool.
    """

    family: str
    machine: int
    rows: Rows
    decode: Rows | None = None


def spaces(question: Question) -> list[Space]:
    """Everything that is to be searched. Raises SpecError where that is more than is searched whole."""
    found = [
        space
        for machine, allowed in enumerate(question.machines)
        for chips in [usable(question, machine)]
        for name in question.choices.runtimes
        if chips >= 1 and _runs(name, allowed.machine.chip)
        for space in _of_runtime(question, machine, chips, name)
    ]
    refuse_many(sum(space.rows.count + (space.decode.count if space.decode is not None else 0) for space in found))
    return found


def refuse_many(count: int) -> None:
    """Raise SpecError where more engines would be priced than are searched whole."""
    if count > MOST_ENGINES:
        raise SpecError(
            f"the question has {count:,} distinct engines and the exhaustive search prices {MOST_ENGINES:,}",
            at="question",
            fix="allow fewer chips, runtimes, formats or settings",
        )


def _of_runtime(question: Question, machine: int, chips: int, name: str) -> Iterator[Space]:
    allowed, c = question.machines[machine], question.choices
    model = find_model(question.model)
    place = f"{name} on {allowed.machine.chip.name}"
    kinds = _formats(question, allowed.machine.chip, model)
    if "agg" in c.modes:
        cuts = degrees(model, allowed, chips, c.context_parallel)
        parts = [_one_pool(question, machine, cuts, name).put(weights=weights, kv=kv) for weights, kv in kinds]
        yield Space(family=f"agg, {place}", machine=machine, rows=joined(parts))
    if "disagg" in c.modes and chips >= 2:
        cuts = degrees(model, allowed, chips - 1, (1,))
        for weights, kv in kinds:
            common = {"runtime": name, "weights": weights, "kv": kv, "mode": "disagg"}
            yield Space(
                family=f"disagg, {place}",
                machine=machine,
                rows=_side(question, machine, cuts, "prefill", _prompt_batches(question), (0,)).put(**common),
                decode=_side(question, machine, cuts, "decode", c.max_batches, c.draft_tokens).put(**common),
            )


def _runs(name: str, chip: Chip) -> bool:
    """Whether a runtime is made for chips of this vendor, as far as its file says."""
    vendors = runtime(name).facts.get("vendors")
    return vendors is None or chip.vendor in vendors["value"]


def _formats(question: Question, chip: Chip, model: Model) -> list[tuple[str, str]]:
    """(weights, kv) to try on a chip."""
    c, published = question.choices, model.precision
    return [
        (weights, kv)
        for weights in _native(c.weights, chip, published.ffn.weight.bits)
        for kv in _native(c.kv, chip, published.kv.bits)
        if kv not in ONLY_WEIGHTS
    ]


def _one_pool(question: Question, machine: int, cuts: NDArray[np.float64], name: str) -> Rows:
    c = question.choices
    budgets = [budget for budget in c.token_budgets if budget != runtime(name).max_batched_tokens]
    axes = (np.arange(len(cuts)), c.max_batches, budgets or [0], c.draft_tokens)
    cut, batch, budget, drafts = (grid.ravel() for grid in np.meshgrid(*axes, indexing="ij"))
    rows = base(question, machine, cut.size).put(runtime=name, mode="agg")
    rows = rows.put(**dict(zip(DEGREES, cuts[cut].T, strict=True)))
    return rows.put(max_batch=batch, max_batched_tokens=budget, draft_tokens=drafts)


def _side(
    question: Question,
    machine: int,
    cuts: NDArray[np.float64],
    pool: str,
    batches: tuple[int, ...],
    drafts: tuple[int, ...],
) -> Rows:
    axes = (np.arange(len(cuts)), batches, drafts)
    cut, batch, draft = (grid.ravel() for grid in np.meshgrid(*axes, indexing="ij"))
    named = {f"{pool}_{name}": cuts[cut, place] for place, name in enumerate(POOL_DEGREES)}
    return base(question, machine, cut.size).put(**named, draft_tokens=draft, **{f"{pool}_batch": batch})


def _prompt_batches(question: Question) -> tuple[int, ...]:
    """Prompts per prefill step: one, and more where the largest token budget that is tried holds them."""
    prompt = max(question.isl * (1.0 - question.prefix_hit_frac), 1.0)
    most = max((*question.choices.token_budgets, 0)) / prompt
    return tuple(n for n in question.choices.prefill_batches if n == 1 or n <= most)


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
    tp, pp, dp, ep, moe_tp, cp = legal.T
    check_plan(model, Plan(tp=tp, pp=pp, dp=dp, ep=ep, moe_tp=moe_tp, cp=cp), problems, np.arange(len(legal)))
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
    node = allowed.machine.node
    inner = node.levels[0].size if node is not None and node.levels[0].size != UNBOUNDED else 1
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


def _native(wanted: tuple[str, ...], chip: Chip, published_bits: float) -> tuple[str, ...]:
    """Formats to try on a chip: as named, or for "any" the published one and each narrower one that is native there."""
    if "any" not in wanted:
        return wanted
    native = (stored for compute, stored in NATIVE.items() if compute in chip.matrix_flops_per_s)
    return ("", *(name for name in native if DTYPES[name].bits < published_bits))


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
