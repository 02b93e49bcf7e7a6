"""A search for the highest rate as people read it: the rates tried, the result, and what limits it there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.simulations.capacity import Capacity


def capacity_view(found: Capacity) -> RenderableType:
    """One line that answers, the rates tried, and the bound at the best of them."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("request/s", "in time", "interval", "draws", ""):
        table.add_column(name, justify="right" if name else "left")
    for one in found.tried:
        interval = f"{one.low:.2%} .. {one.high:.2%}" if one.draws > 1 else "-"
        verdict = "holds" if one.holds else "fails"
        table.add_row(units.count(one.rate_per_s), f"{one.share:.2%}", interval, str(one.draws), verdict)
    parts: list[RenderableType] = [Text(_answer(found)), table]
    if found.at_rate is not None:
        parts.append(Text(f"at that rate: {found.at_rate.answers.bound.words}"))
    return Group(*parts)


def _answer(found: Capacity) -> str:
    promise = f"{found.target:.4g} of the requests of each class keep their objectives"
    if math.isnan(found.rate_per_s):
        return f"no rate holds at which {promise}"
    above = "" if math.isinf(found.fails_per_s) else f" (fails at {units.count(found.fails_per_s)})"
    return f"{units.count(found.rate_per_s)} request/s is the highest rate at which {promise}{above}"
