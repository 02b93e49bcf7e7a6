"""A table of training set-ups in, their steps out: rows are grouped by what cannot be a column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Rows, groups
from ridgeline.core.errors import RidgelineError, UnknownNameError
from ridgeline.core.tables import Labels
from ridgeline.hardware import catalogue as hardware
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.hardware.topology import Machine, Node
from ridgeline.training import numbers as plain
from ridgeline.training.habits import (
    experts_spread,
    interleaved,
    layout_of,
    recomputed_as_needed,
    stated,
    taken,
    unstated_recompute,
)
from ridgeline.training.layout import OFFLOADS, Layout, check
from ridgeline.training.links import links_of
from ridgeline.training.profile import (
    Coefficients,
    Profile,
    Recipe,
    coefficients,
    profile,
    recipe,
)
from ridgeline.training.setup import Host, Setup
from ridgeline.training.step import TrainingStep, step_power_w, train_step
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
    "schedule",
    "context",
    "zero_options",
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
    "shard",
    "stack_share",
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
    for group, step in stepped(cases, problems, catalogue):
        for name, value in _results(step, group.setup).items():
            found[name][group.rows] = value
        names, bound[group.rows] = tuple(step.terms), step.bound_index()
        regime[group.rows] = _regime(group, fitted)
    bad = ~problems.ok
    for column in found.values():
        column[bad] = np.nan
    bound[bad] = regime[bad] = -1
    return {**found, "bound": Labels(bound, names), "regime": Labels(regime, REGIMES)}


def stepped(
    cases: Cases, problems: Problems, catalogue: Catalogue | None = None
) -> Iterator[tuple[Group, TrainingStep]]:
    """Rows of one structure together, and their steps; arguments as of `predict_training`."""
    for group in prepare(cases, problems, catalogue or bundled()):
        yield group, group.step().at_speed(np.nan_to_num(stated(cases, "stack_share")[group.rows], nan=1.0))


def prepare(cases: Cases, problems: Problems, catalogue: Catalogue) -> list[Group]:
    """Resolve names, complete and check layouts; what remains is arithmetic."""
    _flag_negative(cases, problems)
    profiles, profile_of = _resolved(cases.labels("framework"), profile, problems)
    recipes, recipe_of = _resolved(cases.labels("precision"), recipe, problems)
    chips, chip_of = _resolved(cases.labels("chip"), catalogue.chip, problems, required="chip")
    nodes = [catalogue.node(chip) for chip in chips]
    layout = layout_of(cases, profiles, profile_of, problems)
    unstated = unstated_recompute(cases.labels("recompute"))
    kinds, models, model_of = _models(cases, problems, catalogue)
    ok = np.flatnonzero(problems.ok & (profile_of >= 0) & (recipe_of >= 0) & (chip_of >= 0))
    prepared = []
    for (kind, p, r), rows in groups((kinds, profile_of, recipe_of), ok):
        model = _model(cases, rows, kind, models, model_of)
        part = taken(layout, rows)
        work = work_of(model, part.seq)
        part = interleaved(experts_spread(part, work, profiles[p]), work, profiles[p])
        # Published pairs of releases show no gain of capture for hybrids: their recurrences break the graph.
        part = replace(part, captured=part.captured * (not work.recurrent))
        check(part, work, problems, rows)
        kept = problems.ok[rows]
        if kept.any() and not kept.all():
            rows, part = rows[kept], taken(part, np.flatnonzero(kept))
            work = work_of(_model(cases, rows, kind, models, model_of), part.seq)
        if kept.any():
            setup = _setup(chips, nodes, chip_of[rows], profiles[p], recipes[r])
            _check_host(part, setup, problems, rows)
            part = recomputed_as_needed(part, work, setup, unstated[rows])
            prepared.append(Group(rows, work, part, setup))
    return prepared


def _check_host(layout: Layout, setup: Setup, problems: Problems, rows: Rows) -> None:
    """Flag rows that offload to a host or drives whose rates the catalogue does not know."""
    offload = np.asarray(layout.offload)
    fix = "offload nothing, or name a chip whose node has it (`ridgeline catalogue nodes`)"
    for kind, rate, what in (
        (OFFLOADS.index("params"), setup.host.host_bytes_per_s, "link to its host"),
        (OFFLOADS.index("nvme"), setup.host.nvme_bytes_per_s, "drives"),
    ):
        unknown = (offload >= kind) & (np.broadcast_to(np.asarray(rate, float), rows.shape) <= 0)
        problems.flag(rows[unknown], f"offload needs the rate of the chip's {what}, which is not known; {fix}")


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
        problems.flag(stated(cases, name) <= 0, f"{name} must be positive")


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
            models.append(_named(text, catalogue))
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


AROUND = re.compile(r"[\s_-]+(\d+[\s-]?nodes?|lora|sft|pre-?train(ing)?|fine-?tun(e|ing))$", re.IGNORECASE)
"""What tables of training runs write behind a model's name: how it ran, which other columns say."""


def _named(text: str, catalogue: Catalogue) -> Model:
    """The model of that name, or of the name without words about the run."""
    try:
        return catalogue.model(text)
    except UnknownNameError:
        shorter = AROUND.sub("", text)
        if shorter == text:
            raise
        return _named(shorter, catalogue)


def _model(cases: Cases, rows: Rows, kind: int, models: Sequence[Model], model_of: NDArray[np.int32]) -> Model:
    if kind < 3:
        columns = {name: cases.number(name)[rows] for name in plain.COLUMNS}
        return plain.model_of(columns, kind, cases.number("seq")[rows])
    used, index = np.unique(model_of[rows], return_inverse=True)
    return stack([models[i] for i in used], index.astype(np.intp))
