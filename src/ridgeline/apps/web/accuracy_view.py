"""Accuracy: the page of the documentation, as tables that can be sorted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ridgeline.apps.web.blocks import Answer, Block, scatter, table, text
from ridgeline.core.errors import FileFormatError

LEAST_DOTS = 12
"""Rows of a table that is drawn, too."""


def accuracy(values: Mapping[str, Any]) -> Answer:
    """docs/accuracy.md."""
    blocks = list(page_blocks("accuracy.md"))
    data = "/path/to/data"
    return Answer(title="Accuracy", blocks=blocks, command=f"ridgeline validate --data {data}")


def page_blocks(name: str) -> Iterator[Block]:
    """A page of the documentation as paragraphs and tables."""
    heading, told, lines = "", False, iter([*_page(name).splitlines(), ""])
    paragraph: list[str] = []
    for line in lines:
        if paragraph and (not line.strip() or line.startswith(("- ", "#", "|"))):
            yield _said(" ".join(paragraph))
            paragraph = []
        if line.startswith("|"):
            head, rows = _cells(line), []
            next(lines)  # the rule under the head
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(_cells(row))
            yield table(heading, head, rows, quiet=not told)
            told = True
            yield from _errors(heading, head, rows)
        elif line.startswith("#"):
            heading, told = _words(line.lstrip("# ")), False
            if not line.startswith("# "):
                yield text(heading, kind="heading")
        elif line.strip():
            paragraph.append(line.strip())


def _said(words: str) -> Block:
    item = words.startswith("- ")
    return text(_words(words.removeprefix("- ")), kind="item" if item else "")


def _errors(heading: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Block]:
    """Median against 90th percentile, a dot per row, where a table has both."""
    if not {"median", "p90"} <= set(head) or len(rows) < LEAST_DOTS:
        return
    x, y = head.index("median"), head.index("p90")
    points = [
        {
            "x": float(row[x].rstrip("%")),
            "y": float(row[y].rstrip("%")),
            "front": "calibrated" in row,
            "words": list(zip(head, row, strict=True)),
        }
        for row in rows
        if row[x].endswith("%") and row[y].endswith("%")
    ]
    title = f"{heading}: median and 90th percentile of the error, a dot per row (large: calibrated)"
    yield scatter(title, ("median of the absolute error, %", "90th percentile, %"), points)


def _page(name: str) -> str:
    """As the wheel carries it, or beside the sources."""
    packed = resources.files("ridgeline.apps.web") / "pages" / name
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    beside = Path(__file__).parents[4] / "docs" / name
    if not beside.is_file():
        raise FileFormatError("this page is not part of the installation", at=name, fix="install the wheel or a clone")
    return beside.read_text(encoding="utf-8")


def _cells(line: str) -> list[str]:
    return [_words(cell.strip()) for cell in line.strip().strip("|").split("|")]


def _words(text: str) -> str:
    """Without the marks of emphasis."""
    return text.replace("**", "").replace("`", "").replace("&le;", "≤")
