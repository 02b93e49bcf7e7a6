"""Accuracy: the page of the documentation, as tables that can be sorted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ridgeline.apps.web.blocks import Answer, Block, table, text
from ridgeline.core.errors import FileFormatError


def accuracy(values: Mapping[str, Any]) -> Answer:
    """docs/accuracy.md."""
    blocks = list(page_blocks("accuracy.md"))
    data = "/path/to/data"
    return Answer(title="Accuracy", blocks=blocks, command=f"ridgeline validate --data {data}")


def page_blocks(name: str) -> Iterator[Block]:
    """A page of the documentation as paragraphs and tables."""
    heading, lines = "", iter([*_page(name).splitlines(), ""])
    paragraph: list[str] = []
    for line in lines:
        if line.startswith("|"):
            head, rows = _cells(line), []
            next(lines)  # the rule under the head
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(_cells(row))
            yield table(heading, head, rows)
        elif line.startswith("#"):
            heading = _words(line.lstrip("# "))
            if not line.startswith("# "):
                yield text(heading, kind="heading")
        elif line.strip():
            paragraph.append(line.strip())
        if not line.strip() and paragraph:
            yield text(_words(" ".join(paragraph)))
            paragraph = []


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
