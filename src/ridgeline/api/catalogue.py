"""The catalogue as tables and as plain values: chips, nodes, sites, models, runtimes, each fact with its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from ridgeline.core import units
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.hardware import catalogue as hardware
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Node
from ridgeline.serving.runtime import runtime, runtime_names
from ridgeline.workloads import catalogue as workloads
from ridgeline.workloads.families.size import parameters


def kinds() -> Mapping[str, tuple[Callable[[], tuple[str, ...]], Callable[[str], Any]]]:
    """Kind -> (its names, how to get one)."""
    return {
        "chips": (hardware.chips, hardware.chip),
        "nodes": (hardware.nodes, hardware.node),
        "sites": (hardware.sites, hardware.site),
        "models": (workloads.models, workloads.model),
        "runtimes": (lambda: runtime_names().canonical, runtime),
    }


def entries(kind: str, name: str = "") -> list[dict[str, Any]]:
    """Plain values of one entry, or of all of a kind. Raises UnknownNameError for a kind or name that is not there."""
    names, find = _shelf(kind)
    return [_plain(find(each)) for each in ((name,) if name else names())]


def summary(kind: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line per entry of a kind. Raises UnknownNameError."""
    names, find = _shelf(kind)
    rows = [_summary(find(each)) for each in names()]
    return list(rows[0]), [list(row.values()) for row in rows]


def facts(kind: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line per fact of one entry, with its source. Raises UnknownNameError."""
    _, find = _shelf(kind)
    return fact_table(find(name))


def fact_table(entry: Any) -> tuple[list[str], list[list[str]]]:
    """The same of an entry that need not be in the catalogue."""
    return ["fact", "value", "kind", "source"], _fact_lines(entry)


def view(kind: str, name: str = "") -> RenderableType:
    """A table for people: one line per entry, or every fact of one entry with its source."""
    if name:
        head, lines = facts(kind, name)
        entry = _shelf(kind)[1](name)
        title = str(getattr(entry, "title", entry.name))
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in head:
            table.add_column(heading, overflow="fold")
    else:
        head, lines = summary(kind)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in head:
            table.add_column(heading, justify="left" if heading in ("name", "title", "chip") else "right")
    for line in lines:
        table.add_row(*line)
    return table


def _shelf(kind: str) -> tuple[Callable[[], tuple[str, ...]], Callable[[str], Any]]:
    shelves = kinds()
    if kind not in shelves:
        fix = did_you_mean(kind, shelves, listing=f"kinds: {', '.join(shelves)}")
        raise UnknownNameError(f"unknown kind of catalogue {kind!r}", at="catalogue", fix=fix)
    return shelves[kind]


def _summary(entry: Any) -> dict[str, str]:
    if isinstance(entry, Chip):
        return {
            "name": entry.name,
            "title": entry.title,
            "bf16 peak": units.si(entry.peak_flops_per_s("bf16"), "FLOP/s"),
            "memory": units.size(entry.dram.capacity_bytes),
            "bandwidth": units.si(entry.dram.bandwidth_bytes_per_s, "B/s"),
            "TDP": units.si(entry.tdp_w, "W"),
        }
    if isinstance(entry, Node):
        levels = " / ".join(f"{level.kind} {units.si(level.bandwidth_bytes_per_s, 'B/s')}" for level in entry.levels)
        return {
            "name": entry.name,
            "title": entry.title,
            "chip": entry.chip,
            "chips": str(entry.chips),
            "links": levels,
        }
    if hasattr(entry, "blocks"):
        size = parameters(entry)
        return {
            "name": entry.name,
            "family": entry.family,
            "parameters": units.count(float(np.asarray(size.total))),
            "active": units.count(float(np.asarray(size.active))),
            "layers": f"{float(np.asarray(entry.layers)):g}",
            "context": units.count(float(np.asarray(entry.context))),
        }
    return {"name": entry.name, "title": entry.title}


def _fact_lines(entry: Any) -> list[list[str]]:
    found = getattr(entry, "facts", None)
    if not found:
        return [[key, str(value), "", ""] for key, value in _plain(entry).items()]
    lines = []
    for key, fact in found.items():
        cells = asdict(fact) if is_dataclass(fact) and not isinstance(fact, type) else dict(fact)
        how = f" ({cells['how']})" if cells.get("how") else ""
        value = fact_in_words(key, cells["value"])
        lines.append([key, value, str(cells.get("kind", "")), f"{cells.get('source', '')}{how}"])
    return lines


READ_AS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("matrix.", lambda value: units.si(value, "FLOP/s")),
    ("vector.", lambda value: units.si(value, "FLOP/s")),
    ("bandwidth", lambda value: units.si(value, "B/s")),
    ("capacity", units.size),
    ("host_memory", units.size),
    ("latency", units.duration),
    ("clock", lambda value: units.si(value, "Hz")),
    ("tdp", lambda value: units.si(value, "W")),
    ("power", lambda value: units.si(value, "W")),
    ("die_area", lambda value: f"{value * 1e6:,.0f} mm2"),
    ("transistors", units.count),
    ("electricity_price", lambda value: f"${value * 3.6e6:.3g}/kWh"),
    ("price", lambda value: f"${value:,.0f}"),
    ("rental", lambda value: f"${value * 3600:.2f}/h"),
    ("carbon_intensity", lambda value: f"{value * 3.6e9:.3g} g/kWh"),
    ("water_usage", lambda value: f"{value * 3.6e6:.3g} L/kWh"),
)
"""Beginning or last word of a fact's key -> how people read its SI value; the first that fits."""


def fact_in_words(key: str, value: float | str) -> str:
    """A fact's value with its unit, as people write it."""
    if isinstance(value, str | bool):
        return str(value)
    last = key.rpartition(".")[2]
    for sign, write in READ_AS:
        if key.startswith(sign) or last == sign or last.endswith(f"_{sign}"):
            return write(value)
    return f"{value:,g}" if value >= 1e4 else f"{value:g}"


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and arrays as values that JSON holds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
