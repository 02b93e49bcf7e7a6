"""A table of training set-ups in, their steps out: rows are grouped by what cannot be a column."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Resolved, Rows
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels, encode
from ridgeline.training.batches import Mix, mix_of, over_documents
from ridgeline.training.habits import stated
from ridgeline.training.images import RESULTS as NUMBERS
from ridgeline.training.images import is_network, predict_images
from ridgeline.training.prepare import Catalogue, Group, bundled, named_model, prepare
from ridgeline.training.profile import Coefficients, coefficients
from ridgeline.training.setup import Setup
from ridgeline.training.step import TrainingStep, step_power_w
from ridgeline.training.unlike import predict_unlike

Column = NDArray[np.float64]

RESULTS = (*NUMBERS, "bound", "regime")
"""Result columns, in the order of the case tables."""


def predict_training(
    cases: Cases, problems: Problems, catalogue: Catalogue | None = None
) -> dict[str, NDArray[np.float64] | Labels]:
    """Result columns of every row; rows with a problem are NaN or missing there.

    Args:
        cases:     rows of the training table.
        problems:  collects what is wrong with which row.
        catalogue: resolves models, chips and the nodes that chips stand in; the bundled ones by default.
    """
    resolved = catalogue or bundled()
    kinds = _kinds(cases, resolved)
    if kinds.any():
        return _together(cases, problems, resolved, kinds)
    found: dict[str, Column] = {name: np.full(cases.rows, np.nan) for name in NUMBERS}
    bound, regime = (np.full(cases.rows, -1, dtype=np.int32) for _ in range(2))
    names: tuple[str, ...] = ()
    fitted = coefficients()
    for group, step in stepped(cases, problems, resolved):
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
    """Rows of language models on equal chips, those of one structure together, and their steps; arguments as of
    `predict_training`.
    """
    mixes = Resolved(problems, cases, ("lengths", "batches"), mix_of)
    for group in prepare(cases, problems, catalogue or bundled()):
        step = group.step().at_speed(np.nan_to_num(stated(cases, "stack_share")[group.rows], nan=1.0))
        yield group, _batched(step, group, mixes, problems)


def _batched(step: TrainingStep, group: Group, mixes: Resolved[Mix | None], problems: Problems) -> TrainingStep:
    """The step over documents, of the rows that say which; what cannot be batched is a problem of its row."""
    if not any(mixes.values):
        return over_documents(step, group.work, group.layout, group.setup.links, ())
    wanted = [mixes.values[place] for place in mixes.of[group.rows].tolist()]
    for place in [place for place, mix in enumerate(wanted) if mix is not None and mix.way == "adaptive"]:
        ranks = int(np.broadcast_to(np.asarray(group.layout.dp * group.layout.cp, float), group.rows.shape)[place])
        if ranks & (ranks - 1):
            message = f"adaptive batches need dp x cp to be a power of two, not {ranks}"
            problems.flag(group.rows[place : place + 1], message)
            wanted[place] = None
    return over_documents(step, group.work, group.layout, group.setup.links, wanted)


ALIKE, IMAGES, UNLIKE = range(3)
"""Kinds of rows: language models on equal chips, networks over images, language models over islands."""


def _kinds(cases: Cases, catalogue: Catalogue) -> NDArray[np.int8]:
    """Which of them each row is."""
    models, islands = cases.labels("model"), cases.labels("islands")
    images = np.array([bool(text) and _is_image_network(text, catalogue) for text in models.values], dtype=np.bool_)
    unlike = np.array([bool(text) for text in islands.values], dtype=np.bool_)
    return np.where(unlike[islands.codes], UNLIKE, np.where(images[models.codes], IMAGES, ALIKE)).astype(np.int8)


def _is_image_network(text: str, catalogue: Catalogue) -> bool:
    try:
        named_model(text, catalogue)
    except RidgelineError:
        return is_network(text)
    return False


def _together(
    cases: Cases, problems: Problems, catalogue: Catalogue, kinds: NDArray[np.int8]
) -> dict[str, NDArray[np.float64] | Labels]:
    """All kinds of rows, each by its own model."""
    found: dict[str, Column] = {name: np.full(cases.rows, np.nan) for name in NUMBERS}
    texts: dict[str, list[str]] = {name: [""] * cases.rows for name in RESULTS[-2:]}
    models: dict[int, Callable[[Cases, Problems], dict[str, NDArray[np.float64] | Labels]]] = {
        ALIKE: lambda part, own: predict_training(part, own, catalogue),
        IMAGES: predict_images,
        UNLIKE: lambda part, own: predict_unlike(part, own, catalogue),
    }
    for kind, evaluate in models.items():
        rows: Rows = np.flatnonzero((kinds == kind) & problems.ok)
        if not rows.size:
            continue
        own = Problems(rows.size)
        results = evaluate(cases.part(rows), own)
        problems.flag_each(rows[~own.ok], [text for text in own.column() if text])
        for name, value in results.items():
            if isinstance(value, Labels):
                for row, text in zip(rows.tolist(), value.texts(), strict=True):
                    texts[name][row] = text
            else:
                found[name][rows] = value
    return {**found, **{name: encode(column) for name, column in texts.items()}}


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
