"""Own chip: a catalogue file from a form; checked as the catalogue's own are, shown and handed over, kept nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ridgeline.api.catalogue import fact_table
from ridgeline.apps.web.blocks import Answer, file, numbers, table, text
from ridgeline.apps.web.fields import Field, given
from ridgeline.core import units
from ridgeline.core.files import load_yaml, parse_yaml
from ridgeline.hardware import index
from ridgeline.hardware.catalogue import chip_names

NONE = "none"
"""Typed into a fact, it leaves the fact out."""

# Field -> where its fact stands in the file.
_PLACES: Mapping[str, tuple[str, ...]] = {
    "bf16": ("matrix", "bf16"),
    "fp8": ("matrix", "fp8"),
    "fp4": ("matrix", "fp4"),
    "int8": ("matrix", "int8"),
    "fp32": ("vector", "fp32"),
    "memory": ("memory", "dram", "capacity"),
    "bandwidth": ("memory", "dram", "bandwidth"),
    "tdp": ("facts", "tdp"),
    "idle_power": ("facts", "idle_power"),
    "links": ("ports", "scale_up", "bandwidth"),
    "l2": ("memory", "l2", "capacity"),
    "compute_units": ("facts", "compute_units"),
    "clock": ("facts", "clock"),
    "launch_year": ("facts", "launch_year"),
    "price": ("facts", "price"),
    "rental": ("facts", "rental"),
}
_SHOWN = ("bf16", "fp16", "fp8", "fp4", "int8")
_WHOLE = ("compute_units", "launch_year")


def _fact(name: str, label: str, doc: str, default: str = "", *, more: bool = False) -> Field:
    return Field(name=name, kind="text", label=label, doc=doc, default=default, empty="as the other chip", more=more)


CHIP: tuple[Field, ...] = (
    Field(name="name", kind="text", doc="small letters, digits, - and .", default="my-chip"),
    Field(name="title", kind="text", doc="as people call it", default="My chip"),
    Field(
        name="like",
        kind="text",
        label="Otherwise like",
        doc="a chip of the catalogue; facts that are left empty are assumed to be its",
        default="h100-sxm",
        suggestions="chips",
    ),
    Field(name="source", kind="text", doc="the document that your facts come from", default="Vendor datasheet"),
    Field(name="date", kind="text", doc="of the document: 2026, 2026-11 or 2026-11-28", default="2026-11"),
    Field(
        name="evidence",
        kind="text",
        doc="what kind of evidence it is",
        default="datasheet",
        choices=("datasheet", "measured", "estimated", "assumed"),
    ),
    _fact("bf16", "bf16 peak", "dense, of the matrix engines, as 989 TFLOP/s; none: it has none", "1200 TFLOP/s"),
    _fact("fp8", "fp8 peak", "dense, of the matrix engines; none: it has none"),
    _fact("memory", "Memory", "of the device, as 80 GiB", "128 GiB"),
    _fact("bandwidth", "Memory bandwidth", "as 3.35 TB/s", "4 TB/s"),
    _fact("tdp", "Power limit", "as 700 W", "600 W"),
    _fact("links", "Link bandwidth", "to other chips, per direction, as 450 GB/s; needs a port of the other chip"),
    _fact("fp4", "fp4 peak", "dense, of the matrix engines", more=True),
    _fact("int8", "int8 peak", "dense, of the matrix engines", more=True),
    _fact("fp32", "fp32 vector peak", "of the vector units", more=True),
    _fact("l2", "Last-level cache", "as 50 MiB", more=True),
    _fact("idle_power", "Idle power", "as 70 W", more=True),
    _fact("compute_units", "Compute units", "SMs, CUs, cores", more=True),
    _fact("clock", "Clock", "as 1.83 GHz", more=True),
    _fact("launch_year", "Launch year", "as 2026", more=True),
    _fact("price", "Price", "as 30000 USD", more=True),
    _fact("rental", "Rent", "as 2.5 USD/h", more=True),
    Field(name="vendor", kind="text", doc="who makes it", empty="as the other chip", more=True),
)


def chip(values: Mapping[str, Any]) -> Answer:
    """The file, and the chip that ridgeline reads from it."""
    from ridgeline.hardware.reading import read_chip  # pydantic takes long to import

    asked = given(CHIP, values, needed=("name", "like", "source", "date", "evidence"))
    written = yaml.safe_dump(_document(asked), sort_keys=False, allow_unicode=True, width=110)
    name = f"{asked['name']}.yaml"
    read = read_chip(parse_yaml(written, name=name))
    head, lines = fact_table(read)
    rates = read.matrix_flops_per_s or read.vector_flops_per_s
    shown = [kind for kind in _SHOWN if kind in rates] or list(rates)
    peaks = [(f"{kind} peak", units.si(rates[kind], "FLOP/s"), "dense") for kind in shown]
    dram = read.dram
    ridge = rates[shown[0]] / dram.bandwidth_bytes_per_s
    kept = f"Nothing is kept here. In a clone, save it as src/ridgeline/hardware/catalogue/chips/{name}"
    return Answer(
        title=f"{read.title}: a chip that the catalogue would take",
        blocks=[
            numbers(
                [
                    *peaks,
                    ("memory", units.size(dram.capacity_bytes), dram.technology),
                    ("memory bandwidth", units.si(dram.bandwidth_bytes_per_s, "B/s"), ""),
                    ("ridge", f"{ridge:,.0f} FLOP/byte", f"where memory and {shown[0]} arithmetic take equally long"),
                ]
            ),
            file("The file", name, written),
            text(f"{kept} and run make index; --on {read.name} then works everywhere.", kind="note"),
            table("What it says", head, lines),
        ],
        rows=[dict(zip(head, line, strict=True)) for line in lines],
    )


def _document(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The other chip's file, its facts assumed, and one's own in their place."""
    like = chip_names().resolve(str(asked["like"]), at="like")
    base: dict[str, Any] = load_yaml(index.ROOT / "chips" / f"{like}.yaml").data
    made = {
        "name": asked["name"],
        "title": asked.get("title", asked["name"]),
        "vendor": asked.get("vendor", base["vendor"]),
        "kind": base["kind"],
        "generation": base["generation"],
        "aliases": [],
        "sources": {
            "own": {"document": asked["source"], "date": asked["date"], "kind": asked["evidence"]},
            "like": {"document": f"ridgeline catalogue, {like}", "date": asked["date"], "kind": "assumed"},
        },
    }
    for part in ("facts", "matrix", "vector", "memory", "ports"):
        if part in base:
            made[part] = _assumed(base[part], like)
    for name, place in _PLACES.items():
        if name in asked:
            _put(made, place, str(asked[name]), name, str(asked["evidence"]))
    return made


def _assumed(part: Any, like: str) -> Any:
    """Facts of the other chip, as assumptions."""
    if not isinstance(part, dict):
        return part
    if "value" in part:
        return {"value": part["value"], "source": "like", "how": f"as {like}"}
    return {name: _assumed(inner, like) for name, inner in part.items()}


def _put(made: dict[str, Any], place: tuple[str, ...], value: str, name: str, evidence: str) -> None:
    *path, last = place
    inside = made
    for step in path:
        inside = inside.setdefault(step, {})
    if value.casefold() == NONE:
        inside.pop(last, None)
        return
    fact: dict[str, Any] = {"value": int(value) if name in _WHOLE and value.isdecimal() else value, "source": "own"}
    if evidence in ("estimated", "assumed"):
        fact["how"] = "as its owner says"
    inside[last] = fact
