"""Deployments side by side as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ridgeline.api.predictions.show import BOUND_WORDS, SERVING_ROWS, human

if TYPE_CHECKING:
    from ridgeline.api.predictions.compare import Compared

_ROWS = ("chips", *SERVING_ROWS, "memory_bytes_per_chip", "weights_bytes_per_chip", "kv_bytes_per_chip")


def compared_view(compared: Compared) -> RenderableType:
    """What differs, what follows, what bounds each, and notes."""
    parts: list[RenderableType] = [_differences(compared), _results(compared)]
    for name, prediction in zip(compared.names, compared.predictions, strict=True):
        bound = str(prediction.values["bound"])
        words = BOUND_WORDS.get(bound, "the largest part of the step")
        parts.append(Text(f"{name}: bound by {bound}: {words} ({prediction.values['regime']})"))
    for name, notes in zip(compared.names, compared.notes, strict=True):
        parts += [Text(f"{name}: note: {note.line()}", style="dim") for note in notes]
    return Group(*parts)


def _table(title: str, compared: Compared, *, ratios: bool) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for index, name in enumerate(compared.names):
        table.add_column(escape(name), justify="right", no_wrap=True)
        if ratios and index:
            table.add_column("ratio", justify="right", no_wrap=True)
    return table


def _differences(compared: Compared) -> RenderableType:
    rows = compared.differences
    if not rows:
        return Text("inputs: all equal")
    table = _table("inputs that differ", compared, ratios=False)
    for name, values in rows.items():
        table.add_row(name, *(escape(_input(value)) for value in values))
    return table


def _input(value: float | str) -> str:
    if isinstance(value, str):
        return value or "-"
    return f"{value:,.6g}"


def _results(compared: Compared) -> Table:
    table = _table("results, and their ratio to the first", compared, ratios=True)
    results, ratios = compared.results, compared.ratios
    for name in _ROWS:
        if name not in results:
            continue
        cells = []
        for index, value in enumerate(results[name]):
            cells.append(human(name, value))
            if index:
                ratio = ratios[name][index] if name in ratios else math.nan
                cells.append("" if math.isnan(ratio) else f"{ratio:.2f}x")
        table.add_row(name, *cells)
    return table
