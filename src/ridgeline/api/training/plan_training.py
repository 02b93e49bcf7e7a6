"""`rl.plan_training`: the fastest and the cheapest layouts of a training run, out of all that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.core import units
from ridgeline.core.errors import DomainError, RidgelineError
from ridgeline.hardware.catalogue import default_node
from ridgeline.hardware.chip import ChipColumns
from ridgeline.hardware.machine import machine
from ridgeline.hardware.topology import Machine
from ridgeline.search.layouts import Found, Space, legal_layouts, search_layouts, steps_of
from ridgeline.search.pareto import front
from ridgeline.training.fabric import shared
from ridgeline.training.layout import CONTEXTS, OFFLOADS, Layout
from ridgeline.training.links import links_of
from ridgeline.training.profile import coefficients, profile, recipe
from ridgeline.training.schedules import SCHEDULES
from ridgeline.training.setup import Setup, host_of
from ridgeline.training.step import step_power_w
from ridgeline.training.work import Work, work_of
from ridgeline.workloads.catalogue import model as model_of
from ridgeline.workloads.model import Model

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 10
"""Layouts that an answer tells."""

DAY_S = 86_400.0


class NothingFitsError(RidgelineError):
    """No layout of the space fits in memory."""

    code = "RL0141"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One layout with what it costs.

    Attributes:
        chips: used; `columns` the layout by the names of a case table, so that `rl.predict("training", **columns)`
            gives the whole prediction.
        step_s, tokens_per_s, mfu, memory_bytes_per_chip, power_w_per_chip, bubble_frac, exposed_comm_frac, bound: as
            `predict training` says.
        run_s, cost_usd, energy_j: of the whole run; NaN without `tokens`, or without a rental rate.
    """

    chips: int
    columns: Mapping[str, float | str]
    step_s: float
    tokens_per_s: float
    mfu: float
    memory_bytes_per_chip: float
    power_w_per_chip: float
    bubble_frac: float
    exposed_comm_frac: float
    bound: str
    run_s: float
    cost_usd: float
    energy_j: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        values = {name: getattr(self, name) for name in self.__slots__}
        plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
        return {**plain, "columns": dict(self.columns)}


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingPlan:
    """The layouts of a training run that are worth a look.

    Attributes:
        case: what was asked. `legal`, `fitting`: layouts of the space, and those that fit.
        best: the fastest layouts on all chips, fastest first.
        pareto: what no other number of chips beats in time and money, fastest first (time and chips without `tokens` or
            a rental rate).
    """

    case: Mapping[str, float | str]
    legal: int
    fitting: int
    best: tuple[Choice, ...] = field(repr=False)
    pareto: tuple[Choice, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verb": "plan",
            "task": "training",
            "case": dict(self.case),
            "results": {
                "legal": self.legal,
                "fitting": self.fitting,
                "best": [choice.to_dict() for choice in self.best],
                "pareto": [choice.to_dict() for choice in self.pareto],
            },
        }

    def __rich__(self) -> RenderableType:
        """The table that a terminal shows."""
        from ridgeline.api.training.plan_training_view import plan_view

        return plan_view(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.training.plan_training_view import plain

        return plain(self)


def plan_training(
    model: str | Model,
    *,
    on: str,
    seq: int,
    global_batch: int,
    precision: str = "bf16",
    framework: str = "",
    tokens: float | str = 0.0,
    chips: Sequence[int] = (),
    space: Space | None = None,
    shown: int = SHOWN,
    network: str = "",
) -> TrainingPlan:
    """Search all layouts of a space for the fastest that fit, and the Pareto front of time and money over chip counts.

    Args:
        model:        a name of the catalogue, a path to a config.json, or a `Model`.
        on:           machines, as "64x a100-80gb-sxm".
        seq:          tokens per sequence.
        global_batch: sequences per step.
        precision:    as of `predict training`.
        framework:    the same.
        tokens:       of the whole run, for its time, money and energy ("15T", 3e11); 0: per step only.
        chips:        numbers of chips to try besides all of `on`.
        space:        what a layout may choose (search.layouts.Space).
        shown:        most layouts of `best`.
        network:      between nodes, as of `predict training`.
    Raises: UnknownNameError, UnitError: as `predict`. DomainError: sizes that cannot be. NothingFitsError: no layout
        fits; says what the smallest would need.

    Example: `rl.plan_training("meta-llama/Llama-3.1-70B", on="256x h100-sxm", seq=8192, global_batch=1024)`
    """
    for name, value in (("seq", seq), ("global_batch", global_batch), ("shown", shown)):
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise DomainError(f"{name} is a whole number", at=name, got=value, fix="give a number from 1")
    whole = machine(on, at="on")
    total = units.parse(tokens, "count", at="tokens", bare_ok=True) if tokens else 0.0
    if not 0.0 <= total < math.inf:
        raise DomainError("tokens is a number", at="tokens", got=tokens, fix="give a number from 0")
    counts = sorted({whole.count, *_checked_chips(chips, whole.count)})
    setup, work = _setup(whole, framework, precision), work_of(_model(model), float(seq))
    chosen = space or Space()
    ask = {"seq": seq, "global_batch": global_batch}
    on_fabric = {n: _on_fabric(setup, whole, network, n) for n in counts}
    found = {n: _search(work, on_fabric[n], n, chosen, seq, global_batch, shown) for n in counts}
    fixed: dict[str, float | str] = {**ask, "precision": setup.recipe.name, "framework": setup.profile.name}
    fixed |= {"model": model if isinstance(model, str) else model.name, "chip": whole.chip.name}
    if whole.node is not None and whole.node.name != default_node(whole.chip).name:
        fixed["node"] = whole.node.name
    if network:
        fixed["network"] = network
    choices = {n: _choices(work, on_fabric[n], found[n], n, fixed, total, whole, shown) for n in counts}
    if not any(choices.values()):
        raise _nothing_fits(work, setup, whole.count, chosen, seq, global_batch)
    return TrainingPlan(
        case={**fixed, "on": on, "tokens": total},
        legal=sum(one.legal for one in found.values()),
        fitting=sum(one.fitting for one in found.values()),
        best=tuple(choices[whole.count]),
        pareto=_pareto([choice for some in choices.values() for choice in some]),
    )


def _checked_chips(chips: Sequence[int], most: int) -> list[int]:
    for count in chips:
        if isinstance(count, bool) or count != int(count) or not 1 <= count <= most:
            raise DomainError("chips are whole numbers", at="chips", got=count, fix=f"give 1 to {most}")
    return [int(count) for count in chips]


def _model(model: str | Model) -> Model:
    return model_of(model) if isinstance(model, str) else model


def _setup(whole: Machine, framework: str, precision: str) -> Setup:
    if whole.node is None:
        raise DomainError("the machine has no node, so no links", at="on", got=whole.name, fix="name a node")
    return Setup(
        chips=ChipColumns((whole.chip,)),
        links=links_of([whole.node]),
        profile=profile(framework),
        recipe=recipe(precision),
        coefficients=coefficients(),
        host=host_of([whole]),
    )


def _on_fabric(setup: Setup, whole: Machine, network: str, chips: int) -> Setup:
    """The set-up of a job of so many chips, with what the fabric leaves of the rates between nodes."""
    if not network:
        return setup
    nodes = np.array([chips / whole.node_chips]), np.array([float(whole.node_chips)])
    return replace(setup, links=shared(setup.links, [network], np.zeros(1, dtype=np.intp), *nodes))


def _search(work: Work, setup: Setup, chips: int, space: Space, seq: int, global_batch: int, shown: int) -> Found:
    layouts = legal_layouts(work, chips=chips, seq=seq, global_batch=global_batch, space=space)
    with np.errstate(all="ignore"):
        return search_layouts(work, setup, layouts, most=shown)


def _choices(
    work: Work,
    setup: Setup,
    found: Found,
    chips: int,
    fixed: Mapping[str, float | str],
    tokens: float,
    whole: Machine,
    shown: int,
) -> list[Choice]:
    """The fastest layouts of one search, in full."""
    if not found.step_s.size:
        return []
    with np.errstate(all="ignore"):
        step = steps_of(work, setup, found, shown)
        power = step_power_w(step, setup)
    rent = whole.chip.rent_usd_per_s
    bounds = tuple(step.terms)
    choices = []
    for i in range(min(shown, found.step_s.size)):
        rate = float(step.tokens_per_s[i])
        run_s = tokens / rate if tokens else math.nan
        choices.append(
            Choice(
                chips=chips,
                columns={**fixed, "chips": chips, **_columns(found.layout, i)},
                step_s=float(step.step_s[i]),
                tokens_per_s=rate,
                mfu=float(step.mfu()[i]),
                memory_bytes_per_chip=float(step.memory.total_bytes[i]),
                power_w_per_chip=float(power[i]),
                bubble_frac=float(step.bubble_frac[i]),
                exposed_comm_frac=float(step.exposed_comm_frac[i]),
                bound=bounds[int(step.bound_index()[i])],
                run_s=run_s,
                cost_usd=run_s * chips * rent if rent is not None else math.nan,
                energy_j=run_s * chips * float(power[i]),
            )
        )
    return choices


def _columns(layout: Layout, row: int) -> dict[str, float | str]:
    """One layout as columns of a case table."""

    def value(name: str) -> float:
        column = np.asarray(getattr(layout, name))
        return float(column[row] if column.ndim else column)

    degrees: dict[str, float | str] = {n: value(n) for n in ("tp", "pp", "dp", "cp", "ep", "vp", "micro_batch", "zero")}
    # The words of `recompute` that mean these shares.
    redone = "full" if value("redone_matmul") >= 1.0 else "norm, act, moe_act" if value("redone_vector") > 0 else "none"
    words = {
        "recompute": redone,
        "schedule": SCHEDULES[int(value("schedule"))],
        "context": CONTEXTS[int(value("context"))],
        "offload": OFFLOADS[int(value("offload"))],
        "sequence_parallel": "true" if value("sequence_parallel") > 0 else "false",
    }
    return {**degrees, "zero": f"{value('zero'):g}", **words}


def _pareto(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """Undominated in time and money, or in time per step and chips."""
    if not choices:
        return ()
    priced = all(math.isfinite(choice.cost_usd) for choice in choices)
    pairs = [(c.run_s, c.cost_usd) if priced else (c.step_s, float(c.chips)) for c in choices]
    kept = front(np.array(pairs))
    return tuple(sorted((c for c, k in zip(choices, kept.tolist(), strict=True) if k), key=lambda c: c.step_s))


def _nothing_fits(work: Work, setup: Setup, chips: int, space: Space, seq: int, global_batch: int) -> RidgelineError:
    layouts = legal_layouts(work, chips=chips, seq=seq, global_batch=global_batch, space=space)
    if not np.size(layouts.tp):
        fix = "choose a global batch and a sequence that degrees divide, or a wider space"
        return NothingFitsError("no layout divides this model, batch and machine", at="on", got=chips, fix=fix)
    need = setup.memory(work, layouts)
    least, room = float(need.total_bytes.min()), float(need.capacity_bytes.max())
    what = f"none of {np.size(layouts.tp):,} layouts fits: the smallest needs {units.size(least)} of {units.size(room)}"
    return NothingFitsError(what, at="on", got=f"{chips} chips", fix="give more chips, or let the space offload")
