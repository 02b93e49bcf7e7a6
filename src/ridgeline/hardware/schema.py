"""What a catalogue file may say: its fields and their form, checked once at the boundary.

Every fact carries the key of a source of its file; its kind (datasheet, measured, estimated, assumed) is the source's
unless the fact says otherwise, and what is estimated or assumed says how. `reading.py` turns files into values.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ridgeline.core.errors import SpecError, nearest
from ridgeline.core.files import Document

Kind = Literal["datasheet", "measured", "estimated", "assumed"]
Engine = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4"]
Tier = Literal["registers", "shared", "l2", "dram", "flash", "host", "nvme"]
PortName = Literal["scale_up", "scale_out", "host"]
Joint = Literal[
    "on-package",
    "on-board",
    "nvswitch",
    "nvlink-mesh",
    "nvlink-pair",
    "xgmi-mesh",
    "xe-link",
    "pcie",
    "inter-socket",
    "torus",
    "hccs-mesh",
    "ub",
    "roce-mesh",
    "roce",
    "slingshot",
    "infiniband",
    "ethernet",
]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceModel(_Strict):
    """A document that facts come from, and what kind of evidence it is."""

    document: Text
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}){0,2}$")]
    kind: Kind
    where: str = ""


class FactModel(_Strict):
    """One value as written, with the key of its source."""

    value: bool | int | float | Text
    source: Text
    kind: Kind | None = None
    how: str = ""
    where: str = ""


class TierModel(_Strict):
    """One memory level."""

    technology: Text
    capacity: FactModel
    bandwidth: FactModel
    latency: FactModel | None = None
    inline_ecc: FactModel | None = None


class PortModel(_Strict):
    """One way out of a chip, per direction."""

    technology: Text
    bandwidth: FactModel
    latency: FactModel


class ChipFacts(_Strict):
    """Scalar facts of a chip; the required ones are what every price needs."""

    launch_year: FactModel
    process: FactModel | None = None
    dies: FactModel | None = None
    die_area: FactModel | None = None
    transistors: FactModel | None = None
    compute_units: FactModel
    clock: FactModel
    tdp: FactModel
    idle_power: FactModel
    price: FactModel | None = None
    rental: FactModel | None = None


class _Named(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$", max_length=60)]
    title: Text
    aliases: list[Text]
    note: str = ""
    sources: dict[str, SourceModel]


class ChipFile(_Named):
    """catalogue/chips/NAME.yaml."""

    vendor: Text
    kind: Text
    generation: Text
    default_node: str = ""
    facts: ChipFacts
    matrix: dict[Engine, FactModel] = {}
    vector: dict[Engine, FactModel]
    memory: dict[Tier, TierModel]
    ports: dict[PortName, PortModel] = {}


class LevelModel(_Strict):
    """One level of a node; without `size` it spans any number of chips, with `port` it has that port's bandwidth."""

    name: Text
    kind: Joint
    size: FactModel | None = None
    bandwidth: FactModel | None = None
    port: PortName | None = None
    latency: FactModel
    reduces_in_switch: FactModel | None = None


class NodeFacts(_Strict):
    """Scalar facts of a node; absent is not known."""

    launch_year: FactModel | None = None
    chips: FactModel
    host_cpu: FactModel | None = None
    host_memory: FactModel | None = None
    host_memory_bandwidth: FactModel | None = None
    nics: FactModel | None = None
    nic_bandwidth: FactModel | None = None
    nvme_capacity: FactModel | None = None
    nvme_bandwidth: FactModel | None = None
    cxl_capacity: FactModel | None = None
    cxl_bandwidth: FactModel | None = None
    cxl_latency: FactModel | None = None
    max_power: FactModel | None = None
    price: FactModel | None = None
    rental: FactModel | None = None


class NodeFile(_Named):
    """catalogue/nodes/NAME.yaml; without `chip` it is a template for chips that have no node of their own."""

    chip: Text | None = None
    facts: NodeFacts
    levels: list[LevelModel]


class SiteFacts(_Strict):
    """What a joule costs at a site."""

    pue: FactModel
    carbon_intensity: FactModel
    electricity_price: FactModel
    water_usage: FactModel | None = None


class SiteFile(_Named):
    """catalogue/sites/NAME.yaml."""

    region: Text
    facts: SiteFacts


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], document: Document) -> Model:
    """`document` as `model`. Raises SpecError for the first fault, with its place and the nearest valid name."""
    try:
        return model.model_validate(document.data)
    except ValidationError as fault:
        raise _spec_error(fault, model, document) from None


def _spec_error(fault: ValidationError, model: type[BaseModel], document: Document) -> SpecError:
    """The first fault as one line; unknown keys come first, because a misspelt key also leaves its field missing."""
    first = min(fault.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    loc = first["loc"]
    where = document.where(*_present(document.data, loc))
    if first["type"] == "extra_forbidden":
        return _unknown("key", str(loc[-1]), _fields(model, loc[:-1]), where)
    if first["type"] == "literal_error":
        choices = [part.strip("' ") for part in first["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return _unknown("key" if loc[-1] == "[key]" else "value", str(first["input"]), choices, where)
    field = ".".join(str(part) for part in loc)
    if first["type"] == "missing":
        return SpecError(f"{field} is missing", at=where, fix="add it, with its source")
    return SpecError(f"{field}: {first['msg']}", at=where, got=first["input"], fix="see hardware/catalogue/README.md")


def _unknown(what: str, wrong: str, known: Iterable[str], where: str) -> SpecError:
    choices = sorted(known)
    hits = nearest(wrong, choices)
    fix = f"did you mean {' or '.join(map(repr, hits))}?" if hits else f"known: {', '.join(choices)}"
    return SpecError(f"unknown {what} {wrong!r}", at=where, fix=fix)


def _fields(model: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    """The field names of the model that validates the mapping at `loc` inside a `model`."""
    current: Any = model
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        else:
            current = get_args(current)[-1]
        if get_origin(current) in (Union, types.UnionType):
            current = next(choice for choice in get_args(current) if choice is not type(None))
    fields: Mapping[str, object] = current.model_fields
    return fields


def _present(data: object, loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """The longest part of `loc` that exists in the file (pydantic adds union branches and missing fields)."""
    path: list[str | int] = []
    for part in loc:
        if not (isinstance(data, dict) and part in data) and not (isinstance(data, list) and part in range(len(data))):
            break
        data = data[part]  # type: ignore[index]
        path.append(part)
    return tuple(path)
