"""Which plans are legal: checked over whole columns, each broken rule named with the nearest legal degree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.cases import Problems, Rows
from ridgeline.plans.plan import DEGREES, Plan
from ridgeline.workloads.model import (
    CompressedLatent,
    GroupedQuery,
    Latent,
    LinearAttention,
    Mixer,
    MixtureOfExperts,
    Model,
    StateSpace,
)
from ridgeline.workloads.ops import Dim

MOST_DIVISORS = 65536
"""Degrees beyond this are nobody's suggestion."""


def check_plan(model: Model, plan: Plan, problems: Problems, rows: Rows, chips: Dim | None = None) -> None:
    """Flag every row whose plan this model cannot follow, or that needs other chips than `chips`.

    Args:
        model: sizes are scalars or columns over `rows`.
        plan: likewise.
        problems: takes what is wrong.
        rows: the table rows that the columns stand for.
        chips: chips that are there for one replica, if given.
    """
    for name in DEGREES:
        degree = _column(getattr(plan, name), rows)
        lowest = 0.0 if name in ("ep", "moe_tp") else 1.0
        bad = ~np.isfinite(degree) | (degree < lowest) | (degree != np.floor(degree))
        _flag(problems, rows, bad, lambda i, d=degree, n=name: f"{n} must be a whole number >= 1 (got {d[i]:g})")
    tp, pp = _column(plan.tp, rows), _column(plan.pp, rows)
    for mixer in {id(block.mixer): block.mixer for block in (*model.blocks, *model.encoder)}.values():
        _check_heads(mixer, tp, problems, rows)
    layers = _column(model.layers, rows)
    _flag(
        problems,
        rows,
        pp > layers,
        lambda i: f"pp {pp[i]:g} exceeds the model's {layers[i]:g} layers; use pp <= {layers[i]:g}",
    )
    for block in model.blocks:
        if isinstance(block.ffn, MixtureOfExperts):
            _check_experts(block.ffn, plan, problems, rows)
            break
    if chips is not None:
        have, need = _column(chips, rows), _column(plan.chips, rows)
        _flag(
            problems,
            rows,
            need > have,
            lambda i: (
                f"the plan needs {need[i]:g} chips per replica and the machine has {have[i]:g}; lower tp, pp or dp"
            ),
        )


def check_away(model: Model, plan: Plan, problems: Problems, rows: Rows) -> None:
    """Flag every row whose decode attention cannot run on chips of its own as `plan.attention` says.

    Its chips divide a layer's key/value heads, or its sequences by whole groups of as many chips as there are heads.
    """
    chips, cp = _column(plan.attention, rows), _column(plan.cp, rows)
    slots = _column(plan.dp, rows) * _column(plan.pp, rows)
    bad = ~np.isfinite(chips) | (chips < 1.0) | (chips != np.floor(chips))
    _flag(
        problems,
        rows,
        bad,
        lambda i: (
            f"attention_chips must be a multiple of dp x pp = {slots[i]:g}, 1 at least for each (got "
            f"{chips[i] * slots[i]:g})"
        ),
    )
    what = "attention on chips of its own does not go with cp; give cp 1"
    _flag(problems, rows, cp > 1, lambda i: what)
    for mixer in {id(block.mixer): block.mixer for block in model.blocks}.values():
        if isinstance(mixer, StateSpace | LinearAttention):
            what = f"{type(mixer).__name__} layers keep states, not a cache that other chips could hold"
            problems.flag(rows, f"{what}; leave out attention_chip")
        if isinstance(mixer, GroupedQuery):
            heads = _column(mixer.kv_heads, rows)
            split = (heads % np.maximum(chips, 1.0) != 0) & (chips % np.maximum(heads, 1.0) != 0)
            _flag(
                problems,
                rows,
                split & ~bad,
                lambda i, heads=heads: (
                    f"attention_chips / (dp x pp) = {chips[i]:g} neither divides the {heads[i]:g} key/value heads nor "
                    f"is a multiple of them; nearest: {_near(heads[i], chips[i])}"
                ),
            )


def _check_heads(mixer: Mixer | None, tp: NDArray[np.float64], problems: Problems, rows: Rows) -> None:
    if not isinstance(mixer, (GroupedQuery, Latent, CompressedLatent)):
        return
    heads = _column(mixer.heads, rows)
    _flag(
        problems,
        rows,
        heads % np.maximum(tp, 1.0) != 0,
        lambda i: f"tp {tp[i]:g} does not divide the {heads[i]:g} attention heads; nearest: {_near(heads[i], tp[i])}",
    )


def _check_experts(ffn: MixtureOfExperts, plan: Plan, problems: Problems, rows: Rows) -> None:
    ep, moe_tp = (_column(degree, rows) for degree in plan.expert_degrees())
    experts, stage = _column(ffn.experts, rows), _column(plan.stage_chips, rows)
    _flag(
        problems,
        rows,
        ep > experts,
        lambda i: f"ep {ep[i]:g} exceeds the model's {experts[i]:g} experts; use ep <= {experts[i]:g}",
    )
    _flag(
        problems,
        rows,
        (ep * moe_tp != stage) | (moe_tp != np.floor(moe_tp)),
        lambda i: (
            f"ep {ep[i]:g} x moe_tp {moe_tp[i]:g} must equal tp x dp x cp = {stage[i]:g}; "
            f"nearest ep: {_near(stage[i], ep[i])}"
        ),
    )
    inter = _column(ffn.inter, rows)
    _flag(
        problems,
        rows,
        (inter % np.maximum(moe_tp, 1.0) != 0) & (moe_tp == np.floor(moe_tp)),
        lambda i: (
            f"moe_tp {moe_tp[i]:g} does not divide the expert width {inter[i]:g}; nearest: {_near(inter[i], moe_tp[i])}"
        ),
    )


def _near(whole: ArrayLike, wanted: ArrayLike) -> str:
    """Divisors of `whole` around `wanted`."""
    total, near = int(np.asarray(whole)), float(np.asarray(wanted))
    divisors = [d for d in range(1, min(total, MOST_DIVISORS) + 1) if total % d == 0]
    return ", ".join(str(d) for d in sorted(sorted(divisors, key=lambda d: abs(d - near))[:3]))


def _column(value: Dim, rows: Rows) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), rows.shape)


def _flag(problems: Problems, rows: Rows, bad: NDArray[np.bool_], message: object) -> None:
    """Message depends on few distinct values: one flag per distinct message."""
    where = np.flatnonzero(bad)
    if where.size == 0:
        return
    texts: dict[str, list[int]] = {}
    for i in where:
        texts.setdefault(message(int(i)), []).append(int(rows[i]))  # type: ignore[operator]
    for text, members in texts.items():
        problems.flag(np.array(members, dtype=np.intp), text)
