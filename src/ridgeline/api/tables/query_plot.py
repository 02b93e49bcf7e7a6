"""Plots of an answer: two of its columns, and a third as colour; a page by itself, a picture, or a PNG."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.charts import COLOURS, Axis, Line, line_chart
from ridgeline.api.simulations.simulation_page import POLICY, STYLE
from ridgeline.api.tables.query import Answer, QueryError
from ridgeline.core.errors import FileFormatError, MissingExtraError
from ridgeline.core.files import atomic_path, writable_target, write_atomic

FORMATS = (".html", ".svg", ".png")


def check_plot(path: str | os.PathLike[str]) -> None:
    """Refuse a plot that could not be written. Raises FileFormatError."""
    suffix = Path(path).suffix.casefold()
    if suffix not in FORMATS:
        raise FileFormatError(f"a plot is {', '.join(FORMATS)}", at=os.fspath(path), got=suffix, fix="choose one")
    writable_target(path)


def plot(
    answer: Answer, path: str | os.PathLike[str], *, x: str, y: str, color: str = "", log: str = "", title: str = ""
) -> None:
    """Draw the rows of an answer.

    Args:
        answer: of a query.
        path: .html, .svg or .png.
        x: column of numbers across.
        y: column of numbers up.
        color: column with at most as many values as there are colours; "": one colour.
        log: axes that are logarithmic: "x", "y", "xy" or "".
        title: above it.
    Raises:
        UnknownNameError: no such column. QueryError: a column without numbers, or too many colours.
        FileFormatError: it cannot be written. MissingExtraError: .png without matplotlib (extra `plot`).
    """
    check_plot(path)
    if set(log) - set("xy"):
        raise QueryError("only x and y can be logarithmic", at="log", got=log, fix="--log x, y or xy")
    across, up = _numbers(answer, x), _numbers(answer, y)
    shown = np.isfinite(across) & np.isfinite(up)
    shown &= (across > 0) | ("x" not in log)
    shown &= (up > 0) | ("y" not in log)
    lines = [
        Line(name=name, x=across[rows & shown], y=up[rows & shown], dots=True) for name, rows in _groups(answer, color)
    ]
    words = title or f"{y} over {x}"
    if Path(path).suffix.casefold() == ".png":
        _png(lines, path, words, x, y, log)
        return
    axes = {name: Axis(label=label, log=name in log) for name, label in (("x", x), ("y", y))}
    picture = line_chart(words, lines, x=axes["x"], y=axes["y"])
    write_atomic(path, _page(words, picture, color) if Path(path).suffix.casefold() == ".html" else picture)


def _numbers(answer: Answer, name: str) -> NDArray[np.float64]:
    values = answer.column(name)
    if any(isinstance(value, str) for value in values):
        got = next(value for value in values if isinstance(value, str))
        raise QueryError(f"{name} holds text, which has no place on an axis", at=name, got=got, fix="use it as --color")
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _groups(answer: Answer, color: str) -> list[tuple[str, NDArray[np.bool_]]]:
    """Rows of each colour."""
    if not color:
        return [("", np.ones(answer.rows, dtype=np.bool_))]
    values: Sequence[Any] = answer.column(color)
    distinct = sorted(dict.fromkeys(values), key=lambda value: (isinstance(value, str), value is None, value or 0))
    if len(distinct) > len(COLOURS):
        fix = "choose fewer in the query, with WHERE or CASE"
        raise QueryError(f"at most {len(COLOURS)} colours", at=color, got=f"{len(distinct)} values", fix=fix)
    told = {value: f"{value:g}" if isinstance(value, float) else str(value) for value in distinct}
    return [(told[value], np.array([one == value for one in values], dtype=np.bool_)) for value in distinct]


def _page(title: str, picture: str, color: str) -> str:
    shown, by = html.escape(title), f"<p>colour: {html.escape(color)}</p>" if color else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{shown}</title>'
        f"<style>{STYLE} svg {{ width: 100%; max-width: 900px; }}</style></head>"
        f"<body><h1>{shown}</h1>{picture}{by}</body></html>\n"
    )


def _png(lines: Sequence[Line], path: str | os.PathLike[str], title: str, x: str, y: str, log: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        fix = "pip install 'ridgeline[plot]', or write .html or .svg"
        raise MissingExtraError("a PNG needs matplotlib", at=os.fspath(path), fix=fix) from error
    figure = Figure(figsize=(9, 5.2), dpi=120)
    panel: Any = figure.add_subplot()
    for i, line in enumerate(lines):
        panel.scatter(line.x, line.y, s=14, color=COLOURS[i % len(COLOURS)], label=line.name or None)
    panel.set(xlabel=x, ylabel=y, title=title, **{f"{axis}scale": "log" for axis in log})
    panel.grid(visible=True, alpha=0.3)
    if len(lines) > 1:
        panel.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
