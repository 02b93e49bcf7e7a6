"""Layouts: the fastest and the cheapest ways to lay a training run on machines, out of all that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ridgeline.api.training.plan_training import Choice, TrainingPlan, plan_training
from ridgeline.api.training.plan_training_view import HEADS, layout_cells, layout_words
from ridgeline.apps.web.blocks import Answer, Block, command_of, numbers, scatter, table, text
from ridgeline.apps.web.fields import Field, given
from ridgeline.apps.web.jobs import Told
from ridgeline.core import units
from ridgeline.core.errors import DomainError

_MACHINES = 'machines that may be used: "256x h100-sxm"'
LAYOUTS: tuple[Field, ...] = (
    Field(name="model", kind="text", doc="bundled name", default="meta-llama/Llama-3.1-70B", suggestions="models"),
    Field(name="on", kind="text", doc=_MACHINES, default="256x h100-sxm", suggestions="machines"),
    Field(name="seq", kind="number", doc="tokens per sequence", default="8192", low=512, high=131072),
    Field(name="global_batch", kind="number", doc="sequences per step", default="1024", low=8, high=8192),
    Field(name="tokens", kind="text", doc="of the whole run, for its time and money: 15T", default="1T"),
    Field(name="chips", kind="text", doc='numbers of chips to try besides all: "64, 128"', default="64, 128"),
    Field(name="precision", kind="text", doc="bf16, fp8, ...", empty="bf16", more=True),
    Field(name="framework", kind="text", doc="whose training stack", more=True),
)


def layouts(values: Mapping[str, Any], tell: Told) -> Answer:
    """Search; it tells nothing between its start and its end."""
    case = given(LAYOUTS, values, needed=("model", "on", "seq", "global_batch"))
    tell(0.05, "searching all layouts")
    sizes = {name: units.parse(str(case[name]), "count", at=name, bare_ok=True) for name in ("seq", "global_batch")}
    whole = {name: int(size) if size.is_integer() else size for name, size in sizes.items()}
    asked = {**case, **whole, "chips": _counts(str(case.get("chips", "")))}
    planned = plan_training(**{name: value for name, value in asked.items() if value != ()})
    arguments = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value != ())
    return Answer(
        title=f"{case['model']} on {case['on']}: {planned.legal:,} layouts, of which {planned.fitting:,} fit",
        blocks=_blocks(planned),
        rows=[{"layout": layout_words(one), **one.columns, **_figures(one)} for one in _all(planned)],
        command=command_of(("plan", "--train"), case, {}),
        python=f"import ridgeline as rl\n\nresult = rl.plan_training({arguments})\nprint(result)\n",
    )


def _counts(text: str) -> tuple[int, ...]:
    """Numbers of chips, as they are written. Raises DomainError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and len(word) < 10 for word in words):
        raise DomainError("chips are whole numbers", at="chips", got=text, fix='as "64, 128"')
    return tuple(int(word) for word in words)


def _all(planned: TrainingPlan) -> list[Choice]:
    return [*planned.best, *(one for one in planned.pareto if one not in planned.best)]


def _figures(one: Choice) -> dict[str, Any]:
    return {name: value for name, value in one.to_dict().items() if name != "columns"}


def _blocks(planned: TrainingPlan) -> list[Block]:
    best = planned.best[0] if planned.best else planned.pareto[0]
    shown = [
        ("step_s", units.duration(best.step_s), ""),
        ("tokens_per_s", f"{units.count(best.tokens_per_s)} token/s", ""),
        ("mfu", f"{best.mfu:.1%}", ""),
        ("memory_bytes_per_chip", units.size(best.memory_bytes_per_chip), ""),
        ("power_w_per_chip", units.si(best.power_w_per_chip, "W"), "boards alone"),
    ]
    if not math.isnan(best.run_s):
        shown.append(("run", units.duration(best.run_s), f"{units.count(float(planned.case['tokens']))} tokens"))
    if not math.isnan(best.cost_usd):
        shown.append(("cost", f"${best.cost_usd:,.0f}", "rent of the chips over the run"))
    blocks = [text(f"Fastest: {layout_words(best)}, bound by {best.bound}.", kind="why"), numbers(shown)]
    blocks.append(_dots(planned))
    blocks.append(table("Fastest layouts on all chips", HEADS, [layout_cells(one) for one in planned.best]))
    if len(planned.pareto) > 1:
        blocks.append(
            table("Time against money, by number of chips", HEADS, [layout_cells(one) for one in planned.pareto])
        )
    return blocks


def _dots(planned: TrainingPlan) -> Block:
    """Speed against memory of a chip; those that no other number of chips beats are large."""
    points = [
        {
            "x": one.memory_bytes_per_chip / 2**30,
            "y": one.tokens_per_s / one.chips,
            "front": one in planned.pareto or one is planned.best[0],
            "words": list(zip(HEADS, layout_cells(one), strict=True)),
        }
        for one in _all(planned)
    ]
    title = "Layouts (large: what no other number of chips beats in time and money)"
    return scatter(title, ("memory per chip, GiB", "token/s per chip"), points)
