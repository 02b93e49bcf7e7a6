"""The notation of things with settings: `name`, or `name(value, key=value)`. A parser, and no evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.core.errors import SpecError

_CALL = re.compile(r"([A-Za-z][\w.-]*)(?:\s*\((.*)\))?", re.DOTALL)
_ITEM = re.compile(r"""\s*(?:([A-Za-z_]\w*)\s*=\s*)?("[^"]*"|'[^']*'|[^,"'()=]*)\s*(,|$)""")
_LONGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A name with the values behind it, still as text.

    Attributes:
        name: as written.
        plain: values without a key, in order.
        named: the others by key.
        text: all of it.
    """

    name: str
    plain: tuple[str, ...]
    named: Mapping[str, str]
    text: str


def parse_call(text: object, *, at: str, example: str) -> Call:
    """What a text says; values with commas or brackets stand in quotes.

    Args:
        text:    for example "queue(target=4, cool_down=60s)".
        at:      where it stands, for messages.
        example: what would be right, for messages.
    Raises:
        SpecError: not text, empty or endless, no such form, a value missing or given twice.
    """
    if not isinstance(text, str):
        raise SpecError("not text", at=at, got="null" if text is None else text, fix=f"write for example {example}")
    written = text.strip()
    found = _CALL.fullmatch(written) if len(written) <= _LONGEST else None
    if found is None:
        raise SpecError("not a name with settings", at=at, got=text, fix=f"write for example {example}")
    plain: list[str] = []
    named: dict[str, str] = {}
    body, position, more = (found[2] or "").strip(), 0, False
    while position < len(body) or more:
        item = _ITEM.match(body, position)
        if item is None or not (value := item[2].strip()):
            fix = "separate values by single commas; put text with commas or brackets in quotes"
            raise SpecError("a value is missing or malformed", at=at, got=text, fix=fix)
        value = value[1:-1] if value[0] in "\"'" else value
        if item[1] is None and named:
            raise SpecError("a plain value after a named one", at=at, got=text, fix="write plain values first")
        if item[1] is None:
            plain.append(value)
        elif item[1] in named:
            raise SpecError(f"{item[1]} is given twice", at=at, got=text, fix="keep one of them")
        else:
            named[item[1]] = value
        position, more = item.end(), item[3] == ","
    return Call(name=found[1], plain=tuple(plain), named=named, text=written)
