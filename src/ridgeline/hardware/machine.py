"""Machines as people write them: "8x h100-sxm", "4x dgx-h100", "h200-sxm"."""

from __future__ import annotations

import re
from functools import lru_cache

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Machine, Node, levels_spanning

_COUNTED = re.compile(r"\s*(?P<count>[+-]?[0-9][0-9_.,]*)\s*[x×*]\s*(?P<name>\S.*?)\s*", re.IGNORECASE | re.DOTALL)
_MOST_CHIPS = 10_000_000


@lru_cache(maxsize=4096)
def machine(text: str, *, at: str = "machine") -> Machine:
    """The machine that `text` names: "[N x] NAME" of a chip or a node of the catalogue.

    N chips come in the chip's default node, as many nodes as they need; N nodes bring all their chips. Without N, one.

    Raises:
        UnknownNameError: neither a chip nor a node, with the nearest names of both.
        DomainError: a count that is not a positive integer, or beyond ten million chips.
    """
    count, name = _counted(text, at)
    canonical = catalogue.machine_names().resolve(name, at=at)
    if canonical in catalogue.nodes():
        node = catalogue.node(canonical)
        return machine_of(catalogue.chip(node.chip), _checked(count * node.chips, at), node=node)
    return machine_of(catalogue.chip(canonical), _checked(count, at))


def machine_of(chip: Chip, count: int = 1, *, node: Node | None = None) -> Machine:
    """`count` of `chip` in nodes of kind `node` (by default the chip's own kind of node)."""
    home = node or catalogue.default_node(chip)
    if home.chip != chip.name:
        raise SpecError(f"node {home.name} holds {home.chip}, not {chip.name}", at="node", fix="choose another node")
    return Machine(
        name=f"{count}x {chip.name}", chip=chip, count=count, levels=levels_spanning(home.levels, count), node=home
    )


def machine_in(chip: str, node: str, count: int) -> Machine:
    """At least `count` chips: of `chip` in its own kind of node, or what one `node` holds (of its chip, if unnamed)."""
    if not node:
        return machine_of(catalogue.chip(chip), count)
    home = catalogue.node(node)
    return machine_of(catalogue.chip(chip or home.chip), max(count, home.chips), node=home)


def _counted(text: str, at: str) -> tuple[int, str]:
    found = _COUNTED.fullmatch(text)
    if found is None:
        return 1, text.strip()
    written = found["count"]
    if not written.isdecimal():
        raise DomainError("a machine has a whole number of chips", at=at, got=text, fix='write it like "8x h100-sxm"')
    # Long digit strings are refused before int() sees them: it would raise its own ValueError beyond 4300 digits.
    return (int(written) if len(written) <= 12 else _MOST_CHIPS + 1), found["name"]


def _checked(count: int, at: str) -> int:
    if not 1 <= count <= _MOST_CHIPS:
        raise DomainError(
            f"a machine has 1 to {_MOST_CHIPS:,} chips", at=at, got=count, fix='write it like "8x h100-sxm"'
        )
    return count
