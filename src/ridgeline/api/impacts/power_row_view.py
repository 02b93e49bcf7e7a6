"""A played row as people read it: a line per number of servers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.impacts.power_row import PlayedRow, Scaled

POWERS = ("all at\nmost", "peak\nwanted", "peak\ndrawn")
CAPS = ("low\ncapped", "high\ncapped", "low\nlost", "high\nlost")


def power_row_view(found: PlayedRow) -> RenderableType:
    """The whole screen."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("servers", *POWERS, *CAPS, "brakes", "breaker"):
        table.add_column(head, justify="right")
    for one in found.played:
        table.add_row(*_row(one, found.limit_w))
    groups = ", ".join(f"{one.count} {one.name} ({'high' if one.high else 'low'})" for one in found.groups)
    title = f"{found.name}: {groups} under {units.si(found.limit_w, 'W')}"
    words = "Powers are shares of the limit; capped is of time, lost of the energy above idle."
    return Group(Text(title, style="bold"), table, Text(words, style="dim"))


def _row(one: Scaled, limit_w: float) -> tuple[str, ...]:
    run = one.run
    shares = (one.largest_w, float(one.demand_w.max()), run.peak_w)
    parts = (run.capped_frac[0], run.capped_frac[1], run.lost_frac[0], run.lost_frac[1])
    opened = "closed" if math.isnan(run.opened_s) else f"opens {units.duration(run.opened_s)}"
    powers = (f"{value / limit_w:.0%}" for value in shares)
    return (f"{one.servers:,}", *powers, *(f"{part:.1%}" for part in parts), f"{run.brakes}", opened)
