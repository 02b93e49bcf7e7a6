"""A table of training set-ups in, their steps out: rows are grouped by what cannot be a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Rows, groups
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels
from ridgeline.hardware import catalogue as hardware
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.hardware.topology import Machine, Node
from ridgeline.training import numbers as plain
from ridgeline.training.layout import Layout, check, completed
from ridgeline.training.links import links_of
from ridgeline.training.memory import memory_of
from ridgeline.training.profile import (
    Coefficients,
    Profile,
    Recipe,
    coefficients,
    is_release_from,
    profile,
    recipe,
)
from ridgeline.training.step import Host, Setup, TrainingStep, step_power_w, train_step
from ridgeline.training.switches import flags, offloads, redone, zeros
from ridgeline.training.work import Work, work_of
from ridgeline.workloads import catalogue as workloads
from ridgeline.workloads.model import Model, stack

Column = NDArray[np.float64]
T = TypeVar("T")

TEXTS = (
    "model",
    "chip",
    "precision",
    "framework",
    "framework_version",
    "recompute",
    "offload",
    "zero",
    "sequence_parallel",
    "flash",
    "lora",
    "captured",
)
NUMBERS = (
    *plain.COLUMNS,
    "chips",
    "seq",
    "global_batch",
    "micro_batch",
    "tp",
    "pp",
    "dp",
    "cp",
    "ep",
    "vp",
)
"""Columns that this task reads. 0, NaN or empty text mean that the case does not say."""

RESULTS = (
    "step_s",
    "tokens_per_s",
    "tokens_per_s_per_chip",
    "model_flops_per_s_per_chip",
    "hardware_flops_per_s_per_chip",
    "mfu",
    "hfu",
    "memory_bytes_per_chip",
    "fits",
    "bubble_frac",
    "exposed_comm_frac",
    "power_w_per_chip",
    "energy_j_per_token",
    "bound",
    "regime",
)
"""Result columns, in the order of the case tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Where names become values; each raises a RidgelineError that names the nearest."""

    model: Callable[[str], Model]
    chip: Callable[[str], Chip]
    node: Callable[[Chip], Node]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are evaluated at once: what they are made of, ready for any coefficients."""

    rows: Rows
    work: Work
    layout: Layout
    setup: Setup

    def step(self, fitted: Coefficients | None = None) -> TrainingStep:
        """The predicted step, with the committed coefficients or with others."""
        setup = self.setup if fitted is None else replace(self.setup, coefficients=fitted)
        return train_step(self.work, self.layout, setup)


def bundled() -> Catalogue:
    """Models, chips and nodes as they are bundled."""
    return Catalogue(model=workloads.model, chip=hardware.chip, node=hardware.default_node)


def predict_training(
    cases: Cases, problems: Problems, catalogue: Catalogue | None = None
) -> dict[str, NDArray[np.float64] | Labels]:
    """Result columns of every row; rows with a problem are NaN or missing there.

    Args:
        cases:     rows with the TEXTS and NUMBERS above.
        problems:  collects what is wrong with which row.
        catalogue: resolves models, chips and the nodes that chips stand in; the bundled ones by default.
    """
    found: dict[str, Column] = {name: np.full(cases.rows, np.nan) for name in RESULTS[:-2]}
    bound, regime = (np.full(cases.rows, -1, dtype=np.int32) for _ in range(2))
    names: tuple[str, ...] = ()
    fitted = coefficients()
    for group in prepare(cases, problems, catalogue or bundled()):
        step = group.step()
        for name, value in _results(step, group.setup).items():
            found[name][group.rows] = value
        names, bound[group.rows] = tuple(step.terms), step.bound_index()
        regime[group.rows] = _regime(group, fitted)
    bad = ~problems.ok
    for column in found.values():
        column[bad] = np.nan
    bound[bad] = regime[bad] = -1
    return {**found, "bound": Labels(bound, names), "regime": Labels(regime, REGIMES)}


def prepare(cases: Cases, problems: Problems, catalogue: Catalogue) -> list[Group]:
    """Resolve names, complete and check layouts; what remains is arithmetic."""
    _flag_negative(cases, problems)
    profiles, profile_of = _resolved(cases.labels("framework"), profile, problems)
    recipes, recipe_of = _resolved(cases.labels("precision"), recipe, problems)
    chips, chip_of = _resolved(cases.labels("chip"), catalogue.chip, problems, required="chip")
    nodes = [catalogue.node(chip) for chip in chips]
    layout = _layout(cases, profiles, profile_of, problems)
    unstated = _unstated(cases.labels("recompute"))
    kinds, models, model_of = _models(cases, problems, catalogue)
    ok = np.flatnonzero(problems.ok & (profile_of >= 0) & (recipe_of >= 0) & (chip_of >= 0))
    prepared = []
    for (kind, p, r), rows in groups((kinds, profile_of, recipe_of), ok):
        model = _model(cases, rows, kind, models, model_of)
        part = _taken(layout, rows)
        work = work_of(model, part.seq)
        part = _interleaved(_experts_spread(part, work, profiles[p]), work, profiles[p])
        # Published pairs of releases show no gain of capture for hybrids: their recurrences break the graph.
        part = replace(part, captured=part.captured * (not work.recurrent))
        check(part, work, problems, rows)
        kept = problems.ok[rows]
        if kept.any() and not kept.all():
            rows, part = rows[kept], _taken(part, np.flatnonzero(kept))
            work = work_of(_model(cases, rows, kind, models, model_of), part.seq)
        if kept.any():
            setup = _setup(chips, nodes, chip_of[rows], profiles[p], recipes[r])
            part = _recomputed_as_needed(part, work, setup, unstated[rows])
            prepared.append(Group(rows, work, part, setup))
    return prepared


def _setup(
    chips: Sequence[Chip], nodes: Sequence[Node], index: NDArray[np.int32], framework: Profile, precision: Recipe
) -> Setup:
    used = index.astype(np.intp)
    pairs = zip(chips, nodes, strict=True)
    machines = [Machine(name=chip.name, chip=chip, count=1, levels=(), node=node) for chip, node in pairs]
    hosts, drives = [m.host_tier() for m in machines], [m.nvme_tier() for m in machines]
    return Setup(
        chips=ChipColumns(tuple(chips), used),
        links=links_of(nodes, used),
        profile=framework,
        recipe=precision,
        coefficients=coefficients(),
        host=Host(
            host_bytes_per_s=np.array([tier.bandwidth_bytes_per_s if tier else 0.0 for tier in hosts])[used],
            nvme_bytes_per_s=np.array([tier.bandwidth_bytes_per_s if tier else 0.0 for tier in drives])[used],
        ),
    )


def _results(step: TrainingStep, setup: Setup) -> dict[str, Column]:
    per_chip = step.step_s * step.chips
    power = step_power_w(step, setup)
    return {
        "step_s": step.step_s,
        "tokens_per_s": step.tokens_per_s,
        "tokens_per_s_per_chip": step.tokens / per_chip,
        "model_flops_per_s_per_chip": step.model_flops / per_chip,
        "hardware_flops_per_s_per_chip": step.hardware_flops / per_chip,
        "mfu": step.mfu(),
        "hfu": step.hfu(),
        "memory_bytes_per_chip": step.memory.total_bytes,
        "fits": step.memory.fits.astype(np.float64),
        "bubble_frac": step.bubble_frac,
        "exposed_comm_frac": step.exposed_comm_frac,
        "power_w_per_chip": power,
        "energy_j_per_token": power * per_chip / step.tokens,
    }


REGIMES = ("datasheet", "calibrated")


def _regime(group: Group, fitted: Coefficients) -> NDArray[np.int32]:
    """Index into REGIMES: calibrated where runs of this framework on this very chip were in the fit."""
    chips = group.setup.chips
    known = chips.gather(lambda chip: float((group.setup.profile.name, chip.name) in fitted.calibrated))
    return (np.asarray(known) > 0).astype(np.int32)


def _flag_negative(cases: Cases, problems: Problems) -> None:
    for name in NUMBERS:
        problems.flag(_stated(cases, name) <= 0, f"{name} must be positive")


def _stated(cases: Cases, name: str) -> Column:
    """A numeric column with NaN where the case does not say."""
    values = cases.number(name)
    return np.where(values == 0, np.nan, values)


def _resolved(
    labels: Labels, find: Callable[[str], T], problems: Problems, *, required: str = ""
) -> tuple[list[T], NDArray[np.int32]]:
    """What each distinct text names, and for each row which (-1: none); rows with unknown names are flagged."""
    values: list[T] = []
    target = np.full(len(labels.values) + 1, -1, dtype=np.int32)
    for code, text in enumerate(labels.values):
        rows = labels.codes == code
        if not rows.any():
            continue
        if required and not text:
            problems.flag(rows, f"{required} is missing; name one of the catalogue")
            continue
        try:
            values.append(find(text))
            target[code] = len(values) - 1
        except RidgelineError as error:
            problems.flag(rows, error)
    return values, target[labels.codes]


def _layout(cases: Cases, profiles: Sequence[Profile], profile_of: NDArray[np.int32], problems: Problems) -> Layout:
    """The layout columns of all rows, completed from the framework's habits."""
    of = np.where(profile_of >= 0, profile_of, 0)

    def habit(value: Callable[[Profile], float]) -> Column:
        return np.array([value(p) for p in profiles] or [0.0])[of]

    def given(name: str, default: float = 1.0) -> Column:
        return _or(_stated(cases, name), np.full(cases.rows, default))

    def flag(name: str) -> Column:
        return flags(cases.labels(name), problems, name)

    zero = zeros(cases.labels("zero"), problems)
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
        lora=_or(flag("lora"), np.zeros(cases.rows)),
        captured=_or(flag("captured"), _captured(cases, profiles, of)),
        offload=offloads(cases.labels("offload"), problems),
        redone_layers=np.zeros(cases.rows),
        redone_free=np.zeros(cases.rows),
    )
    problems.flag(np.isnan(np.asarray(layout.seq)), "seq is missing; give the tokens per sequence")
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


def _models(
    cases: Cases, problems: Problems, catalogue: Catalogue
) -> tuple[NDArray[np.int32], list[Model], NDArray[np.int32]]:
    """A code of structure per row, the distinct named models, and which of them each row has (-1: plain numbers)."""
    labels = cases.labels("model")
    columns = {name: cases.number(name) for name in plain.COLUMNS}
    shapes = plain.kinds(columns)
    models: list[Model] = []
    target = np.full(len(labels.values) + 1, -1, dtype=np.int32)
    for code, text in enumerate(labels.values):
        rows = (labels.codes == code) & problems.ok
        if not text or not rows.any():
            continue
        try:
            models.append(catalogue.model(text))
            target[code] = len(models) - 1
        except RidgelineError as error:
            problems.flag(rows & (shapes < 0), error)
    model_of = target[labels.codes]
    message = "model is missing; name one, or give layers, hidden and heads"
    problems.flag((model_of < 0) & (shapes < 0), message)
    plain.check(columns, (model_of < 0) & (shapes >= 0), problems)
    signatures: dict[object, int] = {}
    numbered = [3 + signatures.setdefault(model.signature(), len(signatures)) for model in models]
    kinds = np.where(model_of >= 0, np.array([*numbered, 0], dtype=np.int32)[model_of], shapes)
    return kinds.astype(np.int32), models, model_of


def _model(cases: Cases, rows: Rows, kind: int, models: Sequence[Model], model_of: NDArray[np.int32]) -> Model:
    if kind < 3:
        columns = {name: cases.number(name)[rows] for name in plain.COLUMNS}
        return plain.model_of(columns, kind, cases.number("seq")[rows])
    used, index = np.unique(model_of[rows], return_inverse=True)
    return stack([models[i] for i in used], index.astype(np.intp))


def _experts_spread(layout: Layout, work: Work, framework: Profile) -> Layout:
    """Without `ep`, experts stay where they are, or go round all ranks where the framework does that."""
    ep = np.asarray(layout.ep, float)
    experts = np.asarray(work.expert_count, float)
    everywhere = np.minimum(np.asarray(layout.tp * layout.cp * layout.dp, float), experts)
    unstated = np.where((experts > 0) & framework.experts_everywhere, everywhere, 1.0)
    return replace(layout, ep=np.where(np.isnan(ep), unstated, ep))


def _unstated(labels: Labels) -> NDArray[np.bool_]:
    """Rows whose cell is empty or missing."""
    return np.array([*(not text for text in labels.values), True])[labels.codes]


LEAN = 0.9
"""Share of the memory-bound work in norms and activations, which frameworks compute again before whole layers."""

ROOM = 0.95
"""Share of memory that is filled where layers are computed again to fit: allocators need some room."""


def _recomputed_as_needed(layout: Layout, work: Work, setup: Setup, unstated: NDArray[np.bool_]) -> Layout:
    """Where a case does not say what is computed again, frameworks that do so take the least that fits: nothing, norms
    and activations, then as many whole layers as it takes.
    """
    habit = setup.profile.unstated_recompute
    if habit == "none" or not unstated.any():
        return layout
    parts = (setup.profile, setup.coefficients, setup.chips, setup.recipe)
    short = unstated & ~memory_of(work, layout, *parts).fits
    level = 0.0 if setup.profile.recomputes_all_layers else LEAN
    lean = replace(layout, redone_vector=np.where(short, level, layout.redone_vector))
    before = memory_of(work, lean, *parts)
    short &= ~before.fits
    # Memory falls linearly from one layer computed again to all of them.
    some, every = (memory_of(work, replace(lean, redone_layers=share), *parts).total_bytes for share in (1e-9, 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((some - ROOM * before.capacity_bytes) / (some - every), 0.0, 1.0)
    if setup.profile.recomputes_all_layers:
        share = np.ones_like(share)
    layout = replace(lean, redone_layers=np.where(short, np.nan_to_num(share, nan=1.0), 0.0))
    return replace(layout, redone_free=np.where(unstated & (habit == "in-share"), 1.0, layout.redone_free))


def _interleaved(layout: Layout, work: Work, framework: Profile) -> Layout:
    """Without `vp`, one stage per rank, or as many as the framework's recipes cut where there are micro-batches."""
    vp = np.asarray(layout.vp, float)
    wanted = np.ones(1)
    if framework.layers_per_stage > 0:
        wanted = np.maximum(1.0, np.floor(np.asarray(work.layers, float) / (framework.layers_per_stage * layout.pp)))
    enough = (np.asarray(layout.pp) > 1) & (np.asarray(layout.micro_batches) >= layout.pp)
    return replace(layout, vp=np.where(np.isnan(vp), np.where(enough, wanted, 1.0), vp))


def _taken(layout: Layout, rows: Rows) -> Layout:
    columns = {name: getattr(layout, name) for name in Layout.__dataclass_fields__}
    return Layout(**{name: np.asarray(value)[rows] for name, value in columns.items()})
