"""`rl.plan_update`: what of a network over images a device can train: in which formats, which layers, what is kept."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.api.tables.tasks import predict_table
from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.hardware.machine import machine
from ridgeline.training.software import scheme_of
from ridgeline.training.update import layers_of
from ridgeline.training.vision import learner_by

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("int8", "fp32")
"""Tried on microcontrollers unless a precision is given; elsewhere it is bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One way to train, by the names of a case table, and what it needs.

    Attributes:
        columns: `rl.predict("training", **columns)` gives the whole prediction.
        memory_bytes: of main memory. fits: whether it, and the network in flash, has room.
        step_s, images_per_s, energy_j_per_image: as predicted.
    """

    columns: Mapping[str, float | str]
    memory_bytes: float
    fits: bool
    step_s: float
    images_per_s: float
    energy_j_per_image: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "columns": dict(self.columns)}


@dataclass(frozen=True, eq=False, kw_only=True)
class UpdatePlan:
    """What of a network can learn on a device.

    Attributes:
        case: what was asked. `capacity_bytes`: main memory of the device. `layers`: of the network, before its head.
        ways: for each format, with everything kept and with stretches computed again: all layers, the most last layers
            that fit, the most biases that fit, and the head alone.
    """

    case: Mapping[str, float | str]
    capacity_bytes: float
    layers: int
    ways: tuple[Learned, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        results = {"capacity_bytes": self.capacity_bytes, "layers": self.layers}
        ways = [way.to_dict() for way in self.ways]
        return {"verb": "plan", "task": "update", "case": dict(self.case), "results": {**results, "ways": ways}}

    def __rich__(self) -> RenderableType:
        """The table that a terminal shows."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("format", "learns", "computed again", "memory", "fits", "step", "image/s", "J/image"):
            table.add_column(name, justify="left" if name in ("format", "learns", "computed again") else "right")
        for way in self.ways:
            words = [str(way.columns[name]) for name in ("precision", "trained", "recompute")]
            rates = (units.count(way.images_per_s), units.si(way.energy_j_per_image, "J"))
            size, time = units.size(way.memory_bytes), units.duration(way.step_s)
            table.add_row(*words, size, "yes" if way.fits else "no", time, *rates)
        title = f"{self.case['model']} ({self.layers} layers and a head) on {self.case['on']}"
        return Group(Text(f"{title}, {units.size(self.capacity_bytes)} of memory"), table)

    def __str__(self) -> str:
        """The same as plain text."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=140, highlight=False, color_system=None)
        console.print(self)
        file = console.file
        assert isinstance(file, io.StringIO), "as made above"
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def plan_update(
    model: str, *, on: str, resolution: int = 0, batch: int = 1, precision: str = "", framework: str = ""
) -> UpdatePlan:
    """Find what of a network can learn within the memory of a device.

    Args:
        model:      a network over images, or a path to .onnx or .pt2.
        on:         the device, as "1x stm32f746".
        resolution: pixels along one side; 0: the network's own.
        batch:      images per step, over all chips.
        precision:  as of `predict training`; "": int8 and fp32 on microcontrollers, else bf16.
        framework:  the same.
    Raises: UnknownNameError, UnitError: as `predict`. DomainError: sizes that cannot be.

    Example: `rl.plan_update("mbv2_w035", on="1x stm32f746")`
    """
    for name, value, least in (("batch", batch, 1), ("resolution", resolution, 0)):
        if isinstance(value, bool) or value != int(value) or value < least:
            raise DomainError(f"{name} is a whole number", at=name, got=value, fix=f"give a number from {least}")
    whole = machine(on, at="on")
    formats = (precision,) if precision else FORMATS if whole.chip.kind == "mcu" else ("bf16",)
    layers = layers_of(learner_by(model).graph(1.0, float(resolution), scheme_of(formats[0])))
    counts = range(1, layers + 1)
    options = ["all", *(f"last {n}" for n in counts), *(f"biases {n}" for n in counts), "head"]
    rows = [(one, way, again) for one in formats for again in ("none", "full") for way in options]
    fixed = {"model": model, "chip": whole.chip.name, "chips": whole.count, "resolution": resolution}
    fixed |= {"global_batch": batch, "framework": framework}
    columns: dict[str, Any] = {name: [value] * len(rows) for name, value in fixed.items()}
    columns |= dict(zip(("precision", "trained", "recompute"), map(list, zip(*rows, strict=True)), strict=True))
    found = predict_table("training", columns)
    told = next((text for text in found["error"] if text), "")
    if told:
        raise DomainError("this cannot be trained", at="model", got=model, fix=told)
    ways = []
    for start in range(0, len(rows), len(options)):
        fits = np.asarray(found["fits"][start : start + len(options)], float) > 0
        picked = [0, *_most(fits, 1, layers), *_most(fits, 1 + layers, layers), len(options) - 1]
        ways += [_learned(found, columns, start + place) for place in picked]
    case: dict[str, float | str] = {
        "model": model,
        "on": on,
        "resolution": float(resolution),
        "batch": float(batch),
        "framework": framework,
    }
    return UpdatePlan(case=case, capacity_bytes=whole.chip.dram.capacity_bytes, layers=layers, ways=tuple(ways))


def _most(fits: Sequence[bool] | np.ndarray[Any, Any], start: int, count: int) -> list[int]:
    """The last of so many options that fits, if one does."""
    places = np.flatnonzero(fits[start : start + count])
    return [start + int(places[-1])] if places.size else []


def _learned(found: Mapping[str, Any], columns: Mapping[str, list[Any]], row: int) -> Learned:
    return Learned(
        columns={name: column[row] for name, column in columns.items()},
        memory_bytes=float(found["memory_bytes_per_chip"][row]),
        fits=bool(found["fits"][row]),
        step_s=float(found["step_s"][row]),
        images_per_s=float(found["tokens_per_s"][row]),
        energy_j_per_image=float(found["energy_j_per_token"][row]),
    )
