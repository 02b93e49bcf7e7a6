"""Model cards: the facts of published models as YAML, and the index that resolves their names without reading them.

A card holds `name`, `aliases`, `source`, published `parameters`, and `config`: the fields of the publisher's
configuration that decide sizes, read by the same readers as a whole `config.json`. `precision` gives number formats by
part. `variants` are further checkpoints of the same architecture: each has a name, aliases, a source, and what it
changes.

`python -m ridgeline.workloads.cards` writes the index anew; a test fails when it is stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from ridgeline.core.dtypes import dtype, scheme
from ridgeline.core.errors import SpecError, did_you_mean
from ridgeline.core.files import Document, load_yaml, write_atomic
from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.huggingface import read_config
from ridgeline.workloads.model import Model, Precision

ROOT = Path(__file__).parent / "models"
INDEX = ROOT / "index.json"

_CARD = ("name", "aliases", "source", "parameters", "config", "precision", "variants")
_VARIANT = ("name", "aliases", "source", "parameters", "config", "precision")
_SCHEMES = ("attention", "ffn", "experts", "shared_experts", "head")
_STORAGE = ("kv", "score")
_COUNTS = ("total", "active", "source", "active_excludes")


class Entry(TypedDict):
    """One name of the catalogue, as far as look-ups and listings need it."""

    file: str
    aliases: list[str]
    family: str
    total: float
    active: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Parameter counts as printed ("70.6B"), and where; `active` is empty for dense models and where nobody states it.

    Some publishers leave the embedding table, or the head too, out of the active parameters (`active_excludes`).
    """

    total: str
    active: str
    source: str
    active_excludes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model with its published counts."""

    model: Model
    published: Published


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """Canonical name -> entry, as generated."""
    index: dict[str, Entry] = json.loads(INDEX.read_text(encoding="utf-8"))
    return index


def load(name: str) -> Card:
    """The card of a canonical name. Raises SpecError: the file breaks its schema."""
    document = load_yaml(ROOT / f"{entries()[name]['file']}.yaml")
    return read(document, name)


def read(document: Document, name: str) -> Card:
    """One of the models that a card file holds."""
    top = Config(document)
    _known(top, _CARD)
    if top.text("name") == name:
        return _card(top, top, Config(document, ("config",)))
    for variant in _variants(top):
        if variant.text("name") == name:
            _known(variant, _VARIANT)
            fields = top.data["config"] | variant.data.get("config", {})
            merged = replace(document, data=document.data | {"config": fields})
            return _card(variant, top, Config(merged, ("config",)))
    raise SpecError(f"the card does not hold {name!r}", at=top.at("name"), fix="rebuild the index")


def _card(own: Config, top: Config, config: Config) -> Card:
    holder = own if own.has("parameters") else top
    counts = holder.sub("parameters")
    _known(counts, _COUNTS)
    published = Published(
        total=_count(counts, "total"),
        active=_count(counts, "active") if counts.has("active") else "",
        source=counts.text("source"),
        active_excludes=tuple(counts.texts("active_excludes")),
    )
    model = read_config(config)
    for part in (top, own):
        if part.has("precision"):
            model = replace(model, precision=_precision(model.precision, part.sub("precision")))
    return Card(model=replace(model, name=own.text("name"), card=own.text("source")), published=published)


def _count(counts: Config, key: str) -> str:
    value = counts.text(key)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?[MBT]", value):
        raise counts.error(f"{key} is not a parameter count", key, fix="give it as published, such as 70.6B")
    return value


def count(text: str) -> float:
    """The number that a published count such as 70.6B states (0 for none)."""
    return float(text[:-1]) * {"M": 1e6, "B": 1e9, "T": 1e12}[text[-1]] if text else 0.0


def rounding(text: str) -> float:
    """Half a unit of the last digit that a published count shows, as a share of it."""
    digits = len(text[:-1].partition(".")[2])
    return 0.5 * 10.0**-digits / float(text[:-1])


def _precision(base: Precision, section: Config) -> Precision:
    _known(section, _SCHEMES + _STORAGE)
    changed: dict[str, Any] = {
        part: scheme(section.text(part), at=section.at(part)) for part in _SCHEMES if section.has(part)
    }
    changed |= {part: dtype(section.text(part), at=section.at(part)) for part in _STORAGE if section.has(part)}
    return replace(base, **changed)


def _known(section: Config, keys: tuple[str, ...]) -> None:
    for key in section.data:
        if key not in keys:
            raise SpecError(f"unknown key {key!r}", at=section.at(key), fix=did_you_mean(key, keys))


def _variants(top: Config) -> list[Config]:
    listed = top.data.get("variants", [])
    if not isinstance(listed, list):
        raise top.error("variants is not a list", "variants")
    return [Config(top.document, ("variants", i)) for i in range(len(listed))]


def build() -> dict[str, Entry]:
    """The index that the card files call for."""
    index: dict[str, Entry] = {}
    for path in sorted(ROOT.glob("*.yaml")):
        document = load_yaml(path)
        top = Config(document)
        for part in (top, *_variants(top)):
            name = part.text("name")
            if name in index:
                raise SpecError(f"two cards are called {name!r}", at=part.at("name"), got=index[name]["file"])
            card = read(document, name)
            index[name] = Entry(
                file=path.stem,
                aliases=part.texts("aliases"),
                family=card.model.family,
                total=count(card.published.total),
                active=count(card.published.active),
            )
    return index


def render(index: Mapping[str, Entry]) -> str:
    """The text of `index.json`, one entry per line so that diffs stay small."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(index.items()))
    return f"{{\n{lines}\n}}\n"


if __name__ == "__main__":
    write_atomic(INDEX, render(build()))
