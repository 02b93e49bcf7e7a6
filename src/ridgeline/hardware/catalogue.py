"""The catalogue: real chips, nodes and sites by name, loaded one file at a time and kept."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeVar

from ridgeline.core.errors import SpecError
from ridgeline.core.files import load_yaml
from ridgeline.core.names import Names
from ridgeline.hardware import index
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.site import Site
from ridgeline.hardware.topology import Node

Item = TypeVar("Item", Chip, Node, Site)

TEMPLATES = {"scale_up": "generic-linked", "host": "generic-pcie", "": "generic-standalone"}
"""Which template joins chips that no node of the catalogue holds, by the widest port they have."""

MAKERS = frozenset({"amd", "apple", "aws", "google", "huawei", "intel", "nvidia", "qualcomm", "tenstorrent"})
"""What may stand before a chip's name without being part of it."""


def chips() -> tuple[str, ...]:
    """Canonical names of all chips, sorted."""
    return tuple(index.entries()["chips"])


def nodes() -> tuple[str, ...]:
    """Canonical names of all nodes, sorted; templates for chips without a node are not among them."""
    return tuple(name for name, entry in index.entries()["nodes"].items() if entry["group"])


def sites() -> tuple[str, ...]:
    """Canonical names of all sites, sorted."""
    return tuple(index.entries()["sites"])


@lru_cache(maxsize=1)
def chip_names() -> Names:
    """Resolves every spelling of a chip to its canonical name."""
    return Names("chip", _spellings("chips", chips()), listing="`ridgeline catalogue chips` lists them")


@lru_cache(maxsize=1)
def node_names() -> Names:
    """Resolves every spelling of a node to its canonical name."""
    return Names("node", _spellings("nodes", nodes()), listing="`ridgeline catalogue nodes` lists them")


@lru_cache(maxsize=1)
def site_names() -> Names:
    """Resolves every spelling of a site to its canonical name."""
    return Names("site", _spellings("sites", sites()), listing="`ridgeline catalogue sites` lists them")


@lru_cache(maxsize=1)
def machine_names() -> Names:
    """Resolves what a machine can be made of, chips and nodes; no spelling names both."""
    return Names(
        "chip or node",
        _spellings("chips", chips()) | _spellings("nodes", nodes()),
        listing="`ridgeline catalogue chips` and `ridgeline catalogue nodes` list them",
    )


def _spellings(kind: str, names: tuple[str, ...]) -> dict[str, list[str]]:
    return {name: index.entries()[kind][name]["aliases"] for name in names}


def chip(name: str, *, at: str = "chip") -> Chip:
    """The chip of that name. Raises UnknownNameError with the nearest names; there is no default chip."""
    known = chip_names()
    maker, _, rest = name.partition(" ")
    bare = rest if name not in known and maker.casefold() in MAKERS and rest in known else name
    return _chip(known.resolve(bare, at=at))


def node(name: str, *, at: str = "node") -> Node:
    """The node of that name. Raises UnknownNameError with the nearest names."""
    return _node(node_names().resolve(name, at=at))


def site(name: str, *, at: str = "site") -> Site:
    """The site of that name. Raises UnknownNameError with the nearest names."""
    return _site(site_names().resolve(name, at=at))


def default_node(chip: Chip) -> Node:
    """The node that chips of this kind stand in: the one their file names, else a template for their widest port.

    A chip of one's own may name a node of the catalogue; it then stands there in place of that node's chips.
    """
    if chip.default_node:
        home = node(chip.default_node, at=f"default_node of {chip.name}")
        return home if home.chip == chip.name else replace(home, chip=chip.name)
    port = next((name for name in TEMPLATES if name and chip.port(name)), "")
    return _from_template(TEMPLATES[port], chip)


def home(chip: Chip, name: str = "") -> Node:
    """The node that holds such chips: the one of that name, or of that file (.yaml), or the usual one.

    Raises: UnknownNameError, SpecError: there is none of that name, or it holds other chips.
    """
    usual = default_node(chip)
    if name in ("", usual.name):
        return usual
    found = load_node_file(name) if name.lower().endswith((".yaml", ".yml")) else node(name)
    if found.chip != chip.name:
        what = f"node {found.name} holds {found.chip}, not {chip.name}"
        raise SpecError(what, at="node", fix="name a node of this chip, or leave it out")
    return found


def load_chip_file(path: str | Path) -> Chip:
    """The chip that a file of one's own describes, checked as the catalogue's are.

    Raises: FileFormatError, SpecError or UnitError, each with file, line and column.
    """
    # pydantic takes longer to import than the rest of ridgeline together, so only those who read files pay for it.
    from ridgeline.hardware.reading import read_chip

    return read_chip(load_yaml(Path(path)))


def load_node_file(path: str | Path) -> Node:
    """The node that a file of one's own describes, checked as the catalogue's are. Raises: as `load_chip_file`."""
    from ridgeline.hardware.reading import read_node

    return read_node(load_yaml(Path(path)))


@cache
def _chip(name: str) -> Chip:
    path = index.ROOT / "chips" / f"{name}.yaml"
    return _named(load_chip_file(path), path)


@cache
def _node(name: str) -> Node:
    path = index.ROOT / "nodes" / f"{name}.yaml"
    return _named(load_node_file(path), path)


@cache
def _site(name: str) -> Site:
    from ridgeline.hardware.reading import read_site

    path = index.ROOT / "sites" / f"{name}.yaml"
    return _named(read_site(load_yaml(path)), path)


def _from_template(name: str, chip: Chip) -> Node:
    from ridgeline.hardware.reading import read_node

    return read_node(load_yaml(index.ROOT / "nodes" / f"{name}.yaml"), chip)


def _named(item: Item, path: Path) -> Item:
    """`item`, if its file is called by its name, as the index assumes."""
    if item.name != path.stem:
        raise SpecError("a catalogue file is called by the name in it", at=str(path), got=item.name, fix="rename it")
    return item
