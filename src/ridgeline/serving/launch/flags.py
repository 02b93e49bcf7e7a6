"""The flags of an engine at a stated release: which carry a decision, which matter besides, which do not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ridgeline.core.errors import DomainError, FileFormatError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import parse_json
from ridgeline.serving.shelf import documents

FOLDER = "launch/engines"

Value = float | str | bool | Mapping[str, Any]

_WHOLE = re.compile(r"[+-]?[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmMgG]?)")
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_LARGEST = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        name: its first spelling.
        kind: how its value is read (count, whole, integer, length, share, text, choice, json, switch, value, list).
        use: the decision that it carries; "" for none.
        why: why it matters although no column holds it.
        choices: legal values of a choice.
    """

    name: str
    kind: str
    use: str = ""
    why: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """What an engine's command line takes, with the tables between its words and number formats."""

    name: str
    title: str
    version: str
    programs: tuple[tuple[str, ...], ...]
    images: tuple[str, ...]
    flags: Mapping[str, Flag]
    options: Mapping[str, Flag]
    quantise: Mapping[str, str]
    quantised: Mapping[str, str]
    wide: Mapping[str, str]
    cache: Mapping[str, str]
    cached: Mapping[str, str]

    def find(self, spelling: str) -> tuple[Flag, bool] | None:
        """The flag of that spelling, `_` for `-` allowed, and whether it is a switch turned off (`--no-...`)."""
        name = spelling.replace("_", "-")
        if name in self.flags:
            return self.flags[name], False
        for before, other in (("--no-", "--"), ("--disable-", "--enable-"), ("--enable-", "--disable-")):
            found = self.flags.get(f"{other}{name.removeprefix(before)}") if name.startswith(before) else None
            if found is not None and found.kind == "switch":
                return found, True
        return None

    def unknown(self, spelling: str, at: str) -> str:
        """What to say of a flag that the release lacks.

        Raises UnknownNameError where it looks like a slip for a flag that carries a decision.
        """
        name = spelling.replace("_", "-")
        carrying = [known for known, flag in self.flags.items() if flag.use and known.startswith("--")]
        short = name.startswith("--") and len(name) >= 5
        close = [known for known in carrying if short and (known.startswith(name) or _near(name, known))]
        if close:
            fix = did_you_mean(name, close, listing=f"flags of {self.title} {self.version} are known")
            raise UnknownNameError(f"unknown flag {spelling!r} of {self.title} {self.version}", at=at, fix=fix)
        return f"{self.title} {self.version} has no such flag; nothing was taken from it"


@cache
def engine_flags(name: str) -> EngineFlags:
    """The table of the engine of that name (vllm, sglang, trtllm)."""
    data = documents(FOLDER)[name].data
    flags: dict[str, Flag] = {}
    for spelling, row in data["flags"].items():
        flag = Flag(name=spelling, kind=row["kind"], use=row["use"], choices=tuple(row.get("choices", ())))
        for other in (spelling, *row.get("aliases", ())):
            flags[other] = flag
    for spelling, row in data["matters"].items():
        flag = Flag(name=spelling, kind=row["kind"], why=row["why"])
        for other in (spelling, *row.get("aliases", ())):
            flags[other] = flag
    for kind, title in (("switch", "switches"), ("value", "valued"), ("list", "lists")):
        for bare in data[title]:
            spelling = bare if bare.startswith("-") else f"--{bare}"
            flags.setdefault(spelling, Flag(name=spelling, kind=kind))
    options = {
        key: Flag(name=key, kind=row["kind"], use=row["use"], choices=tuple(row.get("choices", ())))
        for key, row in data.get("options", {}).items()
    }
    tables = {table: dict(data[table]) for table in ("quantise", "quantised", "wide", "cache", "cached")}
    return EngineFlags(
        name=data["name"],
        title=data["title"],
        version=str(data["version"]),
        programs=tuple(tuple(words) for words in data["programs"]),
        images=tuple(data["images"]),
        flags=flags,
        options=options,
        **tables,
    )


def engine_names() -> tuple[str, ...]:
    """Engines with a table."""
    return tuple(documents(FOLDER))


def value_of(flag: Flag, text: str, at: str) -> Value:
    """The value of a flag. Raises DomainError, UnknownNameError or FileFormatError, with the place."""
    reader = _READERS.get(flag.kind)
    return reader(flag, text, at) if reader is not None else text


def _near(one: str, other: str) -> bool:
    """Whether two flags differ by a slip: one letter more, less, other, or two swapped."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, others = one[start:], other[start:]
    swapped = rest[1::-1] + rest[2:] if len(rest) > 1 else rest
    return rest[1:] == others[1:] or rest[1:] == others or rest == others[1:] or swapped == others


def _whole(flag: Flag, text: str, at: str) -> float:
    lowest = {"count": 1, "whole": 0}.get(flag.kind, -_LARGEST)
    if not _WHOLE.fullmatch(text) or not lowest <= int(text) <= _LARGEST:
        what = f"{flag.name} takes a whole number" + (f" >= {lowest}" if lowest >= 0 else "")
        raise DomainError(what, at=at, got=text, fix=f"write it like {flag.name} 8")
    return float(int(text))


def _length(flag: Flag, text: str, at: str) -> float:
    """A number of tokens, where 1k is 1000 and 1K 1024 (vLLM's and SGLang's own reading)."""
    found = _LENGTH.fullmatch(text) if len(text) < 20 else None
    tokens = float(found[1]) * _SCALES[found[2]] if found else math.nan
    if not 1 <= tokens <= _LARGEST or tokens != int(tokens):
        if text in ("-1", "auto"):
            return 0.0
        raise DomainError(f"{flag.name} takes a number of tokens", at=at, got=text, fix=f"write {flag.name} 8192")
    return tokens


def _share(flag: Flag, text: str, at: str) -> float:
    share = float(text) if _NUMBER.fullmatch(text) and len(text) < 40 else math.nan
    if not 0 < share <= 1:
        raise DomainError(f"{flag.name} takes a share in 0 .. 1", at=at, got=text, fix=f"write it like {flag.name} 0.9")
    return share


def _choice(flag: Flag, text: str, at: str) -> str:
    if text not in flag.choices:
        fix = did_you_mean(text, flag.choices, listing=f"known: {', '.join(flag.choices)}")
        raise UnknownNameError(f"{flag.name} has no choice {text!r}", at=at, fix=fix)
    return text


def _json(flag: Flag, text: str, at: str) -> Mapping[str, Any]:
    try:
        data = parse_json(text, at).data
    except FileFormatError as error:
        raise FileFormatError(f"{flag.name}: {error.what}", at=at, got=text, fix=error.fix) from error
    if not isinstance(data, dict):
        fix = f"write {flag.name} '{json.dumps({'key': 'value'})}'"
        raise SpecError(f"{flag.name} takes a JSON object", at=at, got=text, fix=fix)
    return data


def _switch(flag: Flag, text: str, at: str) -> bool:
    if text.casefold() not in ("true", "false"):
        raise DomainError(f"{flag.name} is true or false", at=at, got=text, fix="write true or false")
    return text.casefold() == "true"


_READERS: Mapping[str, Any] = {
    "count": _whole,
    "whole": _whole,
    "integer": _whole,
    "length": _length,
    "share": _share,
    "choice": _choice,
    "json": _json,
    "switch": _switch,
}
