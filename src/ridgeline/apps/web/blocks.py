"""What an answer is made of; each block is plain JSON, and the browser draws it as text, never as markup."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline.apps.web.labels import result_label

Block = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a view shows.

    Attributes:
        title: one line.
        blocks: in the order in which they are read.
        rows: the data behind it, for exports.
        command: the command line that gives the same.
        python: so does this.
    """

    title: str
    blocks: Sequence[Block]
    rows: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    python: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON; numbers that are none are null."""
        return {
            "title": self.title,
            "blocks": [_plain(block) for block in self.blocks],
            "rows": [_plain(dict(row)) for row in self.rows],
            "command": self.command,
            "python": self.python,
        }


def numbers(items: Sequence[tuple[str, str, str]]) -> Block:
    """(name, value, meaning) of each number that people look for first."""
    return {
        "type": "numbers",
        "items": [{"name": n, "label": result_label(n), "value": v, "words": w} for n, v, w in items],
    }


def table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], *, links: str = "", quiet: bool = False
) -> Block:
    """A table that can be sorted. `links`: the field that a click on its first column fills. `quiet`: no caption."""
    block = {"type": "table", "title": title, "head": list(head), "rows": [list(row) for row in rows]}
    return {**block, "links": links, "quiet": quiet}


def scatter(title: str, labels: tuple[str, str], points: Sequence[Mapping[str, Any]]) -> Block:
    """Points that can be hovered and pinned: `x`, `y`, `front` (drawn large), and `words` as (name, value) pairs."""
    drawn = [dict(point) for point in points]
    return {"type": "scatter", "title": title, "x_label": labels[0], "y_label": labels[1], "points": drawn}


def picture(title: str, svg: str) -> Block:
    """A drawing."""
    return {"type": "picture", "title": title, "svg": svg}


def file(title: str, name: str, content: str) -> Block:
    """A file that can be read here, copied, and downloaded."""
    return {"type": "file", "title": title, "name": name, "text": content}


def text(words: str, *, kind: str = "") -> Block:
    """A paragraph; `kind` why: what bounds it; note: an aside."""
    return {"type": "text", "text": words, "kind": kind}


def bar(title: str, parts: Sequence[tuple[str, float, str]], capacity: float, *, tones: Sequence[str] = ()) -> Block:
    """Parts of a whole: (name, amount, amount in words) each. `tones`: names in the order of the colours."""
    shown = [
        {
            "name": name,
            "share": amount / capacity if capacity else 0.0,
            "words": words,
            "tone": tones.index(name) if name in tones else i,
        }
        for i, (name, amount, words) in enumerate(parts)
    ]
    return {"type": "bar", "title": title, "parts": shown}


def command_of(words: Sequence[str], values: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """A command line with a flag per value."""
    parts = ["ridgeline", *words]
    for name, value in values.items():
        flag = short.get(name, f"--{name.replace('_', '-')}")
        parts += [flag, shlex.quote(_bare(value))]
    return " ".join(parts)


def python_of(call: str, values: Mapping[str, Any]) -> str:
    """A call from Python with an argument per value."""
    named = [f"{name}={value!r}" for name, value in values.items()]
    arguments = ", ".join([*([call.partition("(")[2]] if not call.endswith("(") else []), *named])
    return f"import ridgeline as rl\n\nresult = rl.{call.partition('(')[0]}({arguments})\nprint(result)\n"


def _bare(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
