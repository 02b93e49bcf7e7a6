"""Models by name or by path: bundled cards are read one at a time, when they are asked for, and kept."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.names import Names, fold
from ridgeline.workloads import cards
from ridgeline.workloads.importers.hub import from_hub
from ridgeline.workloads.importers.huggingface import from_config
from ridgeline.workloads.model import Model

FORMAT_OF = {
    "awq": "int4_wo",
    "awq-int4": "int4_wo",
    "gptq": "int4_wo",
    "gptq-int4": "int4_wo",
    "int4": "int4_wo",
    "w4a16": "int4_wo",
    "quantized.w4a16": "int4_wo",
    "gptq-int8": "int8_wo",
    "w8a16": "int8_wo",
    "quantized.w8a16": "int8_wo",
    "int8": "int8",
    "w8a8": "int8",
    "quantized.w8a8": "int8",
    "fp8": "fp8",
    "fp8-dynamic": "fp8",
    "fp8-kv": "fp8",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
}
"""Ends of names of converted checkpoints, and what their matmuls then do."""

_ENDS = "|".join(re.escape(one).replace(r"\-", "[-_]") for one in sorted(FORMAT_OF, key=len, reverse=True))
QUANTISED = re.compile(rf"(?P<name>.+?)[-_](?P<format>{_ENDS})", re.IGNORECASE)

LISTING = "`ridgeline catalogue models` lists them"
HUB = "hub:"


def models() -> tuple[str, ...]:
    """Canonical names of all bundled models, sorted."""
    return tuple(sorted(cards.entries()))


@lru_cache(maxsize=1)
def model_names() -> Names:
    """Resolves every spelling of a model to its canonical name, without its owner too where no other has that name."""
    spellings = {name: [name, *entry["aliases"]] for name, entry in cards.entries().items()}
    known = {fold(spelling) for own in spellings.values() for spelling in own}
    bare: dict[str, set[tuple[str, str]]] = {}
    for name, own in spellings.items():
        for short in (spelling.rpartition("/")[2] for spelling in own):
            bare.setdefault(fold(short), set()).add((name, short))
    aliases = {name: own[1:] for name, own in spellings.items()}
    for folded, claims in bare.items():
        if folded not in known and len({name for name, _ in claims}) == 1:
            name, short = min(claims)
            aliases[name].append(short)
    return Names("model", aliases, listing=LISTING)


def model(name: str | os.PathLike[str], *, at: str = "model") -> Model:
    """The model of that name, or of the `config.json` (or the folder that holds one) at that path.

    `hub:OWNER/NAME` asks for that configuration on the Hugging Face hub (extra `hub`); nothing else uses the network.
    A bundled name wins over a path. What ends in `.json`, starts with `.`, `~` or `/`, or names a file or folder that
    is there, is a path.

    Raises:
        UnknownNameError: neither a name nor a path; the fix lists the nearest names. There is no default model.
        FileFormatError, SpecError: the file cannot be read as a model.
    """
    spelling = os.fspath(name)
    if spelling in model_names():
        return _bundled(model_names().resolve(spelling))
    if spelling.startswith(HUB):
        return _from_hub(spelling.removeprefix(HUB))
    path = Path(spelling).expanduser()
    if spelling.endswith(".json") or spelling.startswith((".", "~", "/")) or _exists(path):
        return _from_path(str(path), _stamp(path))
    return _quantised(spelling) or _bundled(model_names().resolve(spelling, at=at))


def _quantised(spelling: str) -> Model | None:
    """A bundled model in the format that the end of an unknown name says, whoever converted it; None if there is none.

    `RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic` is Llama 3.1 8B with 8-bit weights, say.
    """
    found = QUANTISED.fullmatch(spelling.rpartition("/")[2])
    if found is None or found["name"] not in model_names():
        return None
    base = _bundled(model_names().resolve(found["name"]))
    how = SCHEMES[FORMAT_OF[found["format"].casefold().replace("_", "-")]]
    own = base.precision
    attention, ffn, experts = (one if one.weight_only else how for one in (own.attention, own.ffn, own.experts))
    shared = how if own.shared_experts is not None else None
    changed = replace(own, attention=attention, ffn=ffn, experts=experts, shared_experts=shared)
    return replace(base, precision=changed)


@lru_cache(maxsize=64)
def _from_hub(model_id: str) -> Model:
    return from_hub(model_id)


def published(name: str) -> cards.Published:
    """Parameter counts of a bundled model as its publisher gives them."""
    return _card(model_names().resolve(name)).published


def _bundled(canonical: str) -> Model:
    return _card(canonical).model


@lru_cache(maxsize=1024)
def _card(canonical: str) -> cards.Card:
    return cards.load(canonical)


@lru_cache(maxsize=256)
def _from_path(path: str, stamp: tuple[int, int]) -> Model:
    """Kept per content: a changed file is read again."""
    return from_config(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _stamp(path: Path) -> tuple[int, int]:
    try:
        inside = path / "config.json" if path.is_dir() else path
        state = inside.stat()
    except (OSError, ValueError):
        return (0, 0)
    return (state.st_mtime_ns, state.st_size)
