"""The index of the catalogue: which names there are and which file holds each.

Resolving a name must not parse a hundred YAML files, so names and the few columns that listings show are kept in
`catalogue/index.json`, generated from the files by `build_index.py`; a test fails when it is stale.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from ridgeline.core.files import load_yaml

ROOT = Path(__file__).parent / "catalogue"
INDEX = ROOT / "index.json"
KINDS = ("chips", "nodes", "sites")


class Entry(TypedDict):
    """One file of the catalogue, as far as listings and name look-ups need it."""

    title: str
    aliases: list[str]
    group: str


@lru_cache(maxsize=1)
def entries() -> dict[str, dict[str, Entry]]:
    """Kind -> canonical name -> entry, as generated."""
    index: dict[str, dict[str, Entry]] = json.loads(INDEX.read_text(encoding="utf-8"))
    return index


def build() -> dict[str, dict[str, Entry]]:
    """The index that the files call for. `group` is the chip's generation, the node's chip or the site's region."""
    return {kind: {path.stem: _entry(path) for path in sorted((ROOT / kind).glob("*.yaml"))} for kind in KINDS}


def render() -> str:
    """The text of `index.json`, one entry per line so that diffs stay small."""
    blocks = []
    for kind, rows in build().items():
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        blocks.append(f'  "{kind}": {{\n{lines}\n  }}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _entry(path: Path) -> Entry:
    data = load_yaml(path).data
    group = data.get("generation") or data.get("chip") or data.get("region") or ""
    return Entry(title=data["title"], aliases=data["aliases"], group=group)
