"""Facts about clusters that files need: resource names, labels, images, ports. Each stands in `cluster.yaml`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from ridgeline.core.files import parse_yaml
from ridgeline.hardware import catalogue
from ridgeline.hardware.topology import Node


@cache
def fact(name: str) -> Any:
    """The value of one fact of `cluster.yaml`."""
    shelf = resources.files("ridgeline.serving.launch")
    return parse_yaml((shelf / "cluster.yaml").read_text("utf-8"), name="cluster.yaml").data[name]["value"]


def hosts_of(node: Node) -> int:
    """Chips that one operating system of the node sees."""
    return int(fact("host_chips").get(node.name, node.chips))


def chip_of_label(key: str, value: str) -> str:
    """The chip that a node label names; "" if the label is about something else, or the catalogue lacks the chip."""
    if key not in fact("chip_labels"):
        return ""
    known: dict[str, str] = fact("label_values")
    name = known.get(value.casefold(), value)
    names = catalogue.chip_names()
    return names.resolve(name) if name in names else ""
