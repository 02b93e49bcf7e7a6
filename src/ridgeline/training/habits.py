"""Layouts of cases, completed from what frameworks do unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Rows
from ridgeline.core.tables import Labels
from ridgeline.training.layout import Layout, completed
from ridgeline.training.profile import Profile, is_release_from
from ridgeline.training.schedules import ONE_F_ONE_B
from ridgeline.training.setup import Setup
from ridgeline.training.switches import adapters, contexts, flags, offloads, redone, schedules, wires, zeros
from ridgeline.training.work import Work

Column = NDArray[np.float64]


def stated(cases: Cases, name: str) -> Column:
    """A numeric column with NaN where the case does not say."""
    values = cases.number(name)
    return np.where(values == 0, np.nan, values)


def layout_of(cases: Cases, profiles: Sequence[Profile], profile_of: NDArray[np.int32], problems: Problems) -> Layout:
    """The layout columns of all rows, completed from the framework's habits."""
    of = np.where(profile_of >= 0, profile_of, 0)

    def habit(value: Callable[[Profile], float]) -> Column:
        return np.array([value(p) for p in profiles] or [0.0])[of]

    def given(name: str, default: float = 1.0) -> Column:
        return _or(stated(cases, name), np.full(cases.rows, default))

    def flag(name: str) -> Column:
        return flags(cases.labels(name), problems, name)

    zero = zeros(cases.labels("zero"), problems)
    lora, base_bytes = adapters(cases.labels("lora"), problems)
    secondary, weight_wire, gradient_wire = wires(cases.labels("zero_options"), problems)
    matmul, attention, vector = redone(cases.labels("recompute"), profiles, of, problems)
    fused = habit(lambda p: float(p.attention != "unfused"))
    layout = Layout(
        chips=given("chips", np.nan),
        seq=given("seq", np.nan),
        global_batch=given("global_batch", np.nan),
        micro_batch=given("micro_batch", np.nan),
        tp=given("tp"),
        pp=given("pp"),
        dp=given("dp", np.nan),
        cp=given("cp"),
        ep=given("ep", np.nan),
        vp=given("vp", np.nan),
        zero=np.where(np.isnan(zero), habit(lambda p: float(p.zero)), zero),
        redone_matmul=matmul,
        redone_attention=attention,
        redone_vector=vector,
        sequence_parallel=_or(flag("sequence_parallel"), habit(lambda p: float(p.sequence_parallel))),
        flash=_or(flag("flash"), np.ones(cases.rows)) * fused,
        lora=lora,
        base_bytes=base_bytes,
        captured=_or(flag("captured"), _captured(cases, profiles, of)),
        offload=offloads(cases.labels("offload"), problems),
        schedule=schedules(cases.labels("schedule"), problems),
        context=contexts(cases.labels("context"), problems),
        shard=cases.number("shard"),
        secondary=secondary,
        weight_wire_bytes=weight_wire,
        gradient_wire_bytes=gradient_wire,
    )
    problems.flag(np.isnan(np.asarray(layout.seq)), "seq must be given: tokens per sequence")
    problems.flag(np.asarray(layout.shard) < 0, "shard must be a whole number of ranks, or 0 for all")
    return _split_micro_batches(layout, habit(lambda p: float(p.splits_micro_batch)))


def _split_micro_batches(layout: Layout, splits: Column) -> Layout:
    """Frameworks whose micro-batch is the local batch cut it into single sequences under a pipeline; it is all that a
    rank does in a step unless a global batch is given.
    """
    single = (splits > 0) & (np.asarray(layout.pp) > 1)
    unstated = np.isnan(np.asarray(layout.global_batch))
    whole = completed(layout)
    local = np.where(single & unstated, whole.micro_batch * whole.dp, whole.global_batch)
    return replace(whole, global_batch=local, micro_batch=np.where(single, 1.0, whole.micro_batch))


def _captured(cases: Cases, profiles: Sequence[Profile], of: NDArray[np.intp]) -> Column:
    labels = cases.labels("framework_version")
    since = [profile.captured_since for profile in profiles] or [""]
    known = np.array([[is_release_from(text, release) for text in labels.values] for release in since], float)
    return known[of, labels.codes]


def _or(value: Column, other: Column) -> Column:
    return np.where(np.isnan(value), other, value)


def experts_spread(layout: Layout, work: Work, framework: Profile) -> Layout:
    """Without `ep`, experts stay where they are, or go round all ranks where the framework does that."""
    ep = np.asarray(layout.ep, float)
    experts = np.asarray(work.expert_count, float)
    everywhere = np.minimum(np.asarray(layout.tp * layout.cp * layout.dp, float), experts)
    unstated = np.where((experts > 0) & framework.experts_everywhere, everywhere, 1.0)
    return replace(layout, ep=np.where(np.isnan(ep), unstated, ep))


def unstated_recompute(labels: Labels) -> NDArray[np.bool_]:
    """Rows whose cell is empty or missing."""
    return np.array([*(not text for text in labels.values), True])[labels.codes]


LEAN = 0.9
"""Share of the memory-bound work in norms and activations, which frameworks compute again before whole layers."""

ROOM = 0.95
"""Share of memory that is filled where layers are computed again to fit: allocators need some room."""


def recomputed_as_needed(layout: Layout, work: Work, setup: Setup, unstated: NDArray[np.bool_]) -> Layout:
    """Where a case does not say what is computed again, frameworks that do so take the least that fits: nothing, norms
    and activations, then as many whole layers as it takes.
    """
    habit = setup.profile.unstated_recompute
    if habit == "none" or not unstated.any():
        return layout
    short = unstated & ~setup.memory(work, layout).fits
    level = 0.0 if setup.profile.recomputes_all_layers else LEAN
    lean = replace(layout, redone_vector=np.where(short, level, layout.redone_vector))
    before = setup.memory(work, lean)
    short &= ~before.fits
    # Memory falls linearly from one layer computed again to all of them.
    some, every = (setup.memory(work, replace(lean, redone_layers=share)).total_bytes for share in (1e-9, 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((some - ROOM * before.capacity_bytes) / (some - every), 0.0, 1.0)
    if setup.profile.recomputes_all_layers:
        share = np.ones_like(share)
    layout = replace(lean, redone_layers=np.where(short, np.nan_to_num(share, nan=1.0), 0.0))
    return replace(layout, redone_free=np.where(unstated & (habit == "in-share"), 1.0, layout.redone_free))


def interleaved(layout: Layout, work: Work, framework: Profile) -> Layout:
    """Without `vp`, one stage per rank, or as many as the framework's recipes cut where there are micro-batches."""
    vp = np.asarray(layout.vp, float)
    wanted = np.ones(1)
    if framework.layers_per_stage > 0:
        wanted = np.maximum(1.0, np.floor(np.asarray(work.layers, float) / (framework.layers_per_stage * layout.pp)))
    enough = (np.asarray(layout.pp) > 1) & (np.asarray(layout.micro_batches) >= layout.pp)
    enough &= np.asarray(layout.schedule) == ONE_F_ONE_B
    return replace(layout, vp=np.where(np.isnan(vp), np.where(enough, wanted, 1.0), vp))


def taken(layout: Layout, rows: Rows) -> Layout:
    """The layout of some rows."""
    columns = {name: np.asarray(getattr(layout, name)) for name in Layout.__dataclass_fields__}
    return Layout(**{name: value[rows] if value.ndim else value for name, value in columns.items()})
