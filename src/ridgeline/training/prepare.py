"""Names of cases become values, layouts are completed and checked: rows in groups that are ready to be priced."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
from ridgeline.training.fabric import fabric_of, shared
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
from ridgeline.training.profile import Coefficients, Profile, Recipe, coefficients, profile, recipe
from ridgeline.training.setup import Setup, host_of
from ridgeline.training.step import TrainingStep, train_step
from ridgeline.training.update import update_of
from ridgeline.training.work import Work, work_of
from ridgeline.workloads import catalogue as workloads
from ridgeline.workloads.model import Model, stack

Column = NDArray[np.float64]
T = TypeVar("T")

TEXTS = (
    "model",
    "chip",
    "node",
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
    "trained",
    "network",
    "lengths",
    "batches",
    "islands",
    "between",
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
    "resolution",
)
"""Columns that this task reads. 0, NaN or empty text mean that the case does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Where names become values; each raises a RidgelineError that names the nearest."""

    model: Callable[[str], Model]
    chip: Callable[[str], Chip]
    node: Callable[[Chip, str], Node]


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
    return Catalogue(model=workloads.model, chip=hardware.chip, node=hardware.home)


def prepare(cases: Cases, problems: Problems, catalogue: Catalogue) -> list[Group]:
    """Resolve names, complete and check layouts; what remains is arithmetic."""
    _flag_negative(cases, problems)
    profiles, profile_of = _resolved(cases.labels("framework"), profile, problems)
    recipes, recipe_of = _resolved(cases.labels("precision"), recipe, problems)
    chips, chip_of = _resolved(cases.labels("chip"), catalogue.chip, problems, required="chip")
    chips, nodes, chip_of = _homes(cases, chips, chip_of, catalogue, problems)
    layout = layout_of(cases, profiles, profile_of, problems)
    unstated = unstated_recompute(cases.labels("recompute"))
    kinds, models, model_of = _models(cases, problems, catalogue)
    ok = np.flatnonzero(problems.ok & (profile_of >= 0) & (recipe_of >= 0) & (chip_of >= 0))
    prepared = []
    for (kind, p, r), rows in groups((kinds, profile_of, recipe_of), ok):
        model = _model(cases, rows, kind, models, model_of)
        part = taken(layout, rows)
        work = work_of(model, part.seq)
        part = replace(part, learning=_learning(cases, rows, work, problems))
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
            setup = _on_fabric(setup, cases.labels("network"), rows, part, [nodes[i] for i in chip_of[rows]], problems)
            _check_host(part, setup, problems, rows)
            part = recomputed_as_needed(part, work, setup, unstated[rows])
            prepared.append(Group(rows, work, part, setup))
    return prepared


def _learning(cases: Cases, rows: Rows, work: Work, problems: Problems) -> Column:
    """Share of the layers that learn; a language model's are its blocks, the last so many of which learn."""
    labels = cases.labels("trained")
    layers = np.full(len(labels.values), np.nan)
    for code, text in enumerate(labels.values):
        mine = rows[labels.codes[rows] == code]
        try:
            update = update_of(text)
        except RidgelineError as error:
            problems.flag(mine, error)
            continue
        if not update.plain:
            problems.flag(mine, 'single biases and weights learn in networks over images; say all, head or "last 4"')
        layers[code] = update.layers
    share = np.minimum(layers[labels.codes[rows]] / np.asarray(work.layers, float), 1.0)
    return np.asarray(np.nan_to_num(share, nan=1.0))


def _homes(
    cases: Cases, chips: Sequence[Chip], chip_of: NDArray[np.int32], catalogue: Catalogue, problems: Problems
) -> tuple[list[Chip], list[Node], NDArray[np.int32]]:
    """Distinct pairs of a chip and its node, and which of them each row has (-1: none)."""
    labels = cases.labels("node")
    code = chip_of.astype(np.int64) * max(len(labels.values), 1) + labels.codes
    homes: list[tuple[Chip, Node]] = []
    found = np.full(cases.rows, -1, dtype=np.int32)
    for pair in np.unique(code[chip_of >= 0]).tolist():
        rows = (code == pair) & (chip_of >= 0)
        place, text = divmod(pair, max(len(labels.values), 1))
        try:
            homes.append((chips[place], catalogue.node(chips[place], labels.values[text])))
        except RidgelineError as error:
            problems.flag(rows, error)
            continue
        found[rows] = len(homes) - 1
    return [chip for chip, _ in homes], [node for _, node in homes], found


def _on_fabric(
    setup: Setup, labels: Labels, rows: Rows, layout: Layout, nodes: Sequence[Node], problems: Problems
) -> Setup:
    """The set-up with what the rows' fabrics leave of the rates between nodes."""
    codes = labels.codes[rows].astype(np.intp)
    words = list(labels.values)
    for code in np.unique(codes).tolist():
        try:
            fabric_of(words[code])
        except RidgelineError as error:
            problems.flag(rows[codes == code], error)
            words[code] = ""
    if not any(words):
        return setup
    chips = np.array([float(node.chips) for node in nodes])
    count = np.broadcast_to(np.asarray(layout.chips, float), rows.shape) / chips
    return replace(setup, links=shared(setup.links, words, codes, count, chips))


def _check_host(layout: Layout, setup: Setup, problems: Problems, rows: Rows) -> None:
    """Flag rows that offload to a host or drives whose rates the catalogue does not know."""
    offload = np.asarray(layout.offload)
    fix = "offload nothing, or name a chip whose node has it (`ridgeline catalogue nodes`)"
    host = setup.host
    for where, rate, what in (
        (offload >= OFFLOADS.index("params"), host.host_bytes_per_s, "link to its host"),
        (offload == OFFLOADS.index("nvme"), host.nvme_bytes_per_s, "drives"),
        (offload == OFFLOADS.index("cxl"), host.cxl_bytes_per_s, "CXL memory"),
    ):
        unknown = where & (np.broadcast_to(np.asarray(rate, float), rows.shape) <= 0)
        problems.flag(rows[unknown], f"offload needs the rate of the chip's {what}, which is not known; {fix}")


def _setup(
    chips: Sequence[Chip], nodes: Sequence[Node], index: NDArray[np.int32], framework: Profile, precision: Recipe
) -> Setup:
    used = index.astype(np.intp)
    pairs = zip(chips, nodes, strict=True)
    machines = [Machine(name=chip.name, chip=chip, count=1, levels=(), node=node) for chip, node in pairs]
    return Setup(
        chips=ChipColumns(tuple(chips), used),
        links=links_of(nodes, used),
        profile=framework,
        recipe=precision,
        coefficients=coefficients(),
        host=host_of(machines, used),
    )


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
            models.append(named_model(text, catalogue))
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


def named_model(text: str, catalogue: Catalogue) -> Model:
    """The model of that name, or of the name without words about the run."""
    try:
        return catalogue.model(text)
    except UnknownNameError:
        shorter = AROUND.sub("", text)
        if shorter == text:
            raise
        return named_model(shorter, catalogue)


def _model(cases: Cases, rows: Rows, kind: int, models: Sequence[Model], model_of: NDArray[np.int32]) -> Model:
    if kind < 3:
        columns = {name: cases.number(name)[rows] for name in plain.COLUMNS}
        return plain.model_of(columns, kind, cases.number("seq")[rows])
    used, index = np.unique(model_of[rows], return_inverse=True)
    return stack([models[i] for i in used], index.astype(np.intp))
