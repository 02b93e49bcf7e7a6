"""An audit on a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ridgeline.api.predictions.audit import Audit

PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def audit_view(audit: Audit) -> RenderableType:
    """Every bound on a line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("bound, per chip", "needs", "has", "share", "kernels reach", "verdict"):
        table.add_column(heading, justify="left" if heading in ("bound, per chip", "verdict") else "right")
    for bound in audit.bounds:
        table.add_row(
            bound.name,
            _scaled(bound.needs, bound.unit),
            _scaled(bound.has, bound.unit),
            f"{bound.share:.1%}",
            f"{bound.reach:.0%}",
            bound.verdict,
        )
    return Group(Text(f"{audit.machine}: {audit.verdict}", style="bold"), table)


def _scaled(value: float, unit: str) -> str:
    for size, prefix in PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
