"""What software does to a network: eager, compiled or built into an engine; memory layout; inference or training.

The factors by kind of op and by chip are fitted (`vision.yaml`); names of runtimes and precisions are listed there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from ridgeline.core.dtypes import SCHEMES, Scheme, scheme
from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import parse_yaml
from ridgeline.core.names import Names
from ridgeline.hardware.chip import Chip


@dataclass(frozen=True, slots=True)
class Software:
    """`style` is eager, compiled or engine; `layout` nchw or nhwc; `on_cpu` whether it runs on a processor alone."""

    style: str
    layout: str = "nchw"
    training: bool = False
    on_cpu: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its factors, most specific first. Processors have one set: their libraries choose the layout."""
        mode = "training" if self.training else "inference"
        if self.on_cpu:
            return (f"cpu.nchw.{mode}",)
        return (f"{self.style}.{self.layout}.{mode}", f"{self.style}.nchw.{mode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """Fitted stretches of the rooms' prices.

    Attributes:
        software: by software key and kind of op; `chips` and `generations` by name and engine (matrix, memory), and
            `default` by kind of chip (cpu, or other).
        host: seconds that the host needs per launch, by style.
        training_work: work of a training step over that of a forward pass, where a style was only fitted in inference.
        measured: pairs of software style and chip that were in the fit.
    """

    software: Mapping[str, Mapping[str, float]]
    chips: Mapping[str, Mapping[str, float]]
    generations: Mapping[str, Mapping[str, float]]
    default: Mapping[str, Mapping[str, float]]
    host: Mapping[str, float]
    training_work: float
    reserve_bytes: float
    measured: frozenset[tuple[str, str]]

    def of_software(self, how: Software, kind: str) -> float:
        """Stretch of one kind of op. A style that was never timed in training does three times its inference."""
        for key in how.keys:
            if key in self.software:
                return self.software[key][kind]
        inference = replace(how, training=False)
        return self.training_work * self.of_software(inference, kind)

    def of_chip(self, chip: Chip, engine: str) -> float:
        """Stretch on a chip: its own, else its generation's, else the mean of all that are processors, or are not."""
        for table, name in ((self.chips, chip.name), (self.generations, chip.generation)):
            if name in table:
                return table[name][engine]
        return self.default["cpu" if chip.kind == "cpu" else "other"][engine]

    def host_s(self, how: Software) -> float:
        """Host seconds per op of the forward graph that the device may hide; a processor has no other host."""
        return 0.0 if how.on_cpu else self.host[how.style] * (self.training_work if how.training else 1.0)

    def knows(self, how: Software, chip: Chip) -> bool:
        """Whether this chip was in the fit under this style."""
        return ("cpu" if how.on_cpu else how.style, chip.name) in self.measured


@cache
def _data() -> Mapping[str, Any]:
    source = resources.files("ridgeline.training") / "vision.yaml"
    if not source.is_file():
        raise SpecError("vision.yaml is missing", at="ridgeline/training", fix="reinstall ridgeline")
    data: Mapping[str, Any] = parse_yaml(source.read_text("utf-8"), name=source.name).data
    return data


@cache
def factors() -> Factors:
    """The committed fit."""
    return factors_of(_data())


def factors_of(data: Mapping[str, Any]) -> Factors:
    """Factors from a document such as `vision.yaml`."""
    return Factors(
        software=data["software"],
        chips=data["chips"],
        generations=data["generations"],
        default=data["default"],
        host={style: entry["value"] for style, entry in data["host_s"].items()},
        training_work=data["training_work"]["value"],
        reserve_bytes=data["reserve_bytes"]["value"],
        measured=frozenset((str(style), str(chip)) for style, chip in data["measured"]),
    )


@cache
def _names(what: str) -> Names:
    return Names(what, {name: entry["aliases"] for name, entry in _data()[f"{what}s"].items()})


def software_of(runtime: str, compiled: str, layout: str, mode: str) -> Software:
    """The software that a case names. `compiled` wins over the runtime's own style.

    Raises UnknownNameError with the nearest names.
    """
    style = _data()["runtimes"][_names("runtime").resolve(runtime or "torch", at="runtime")]["style"]
    if compiled:
        style = _style(compiled)
    if layout and layout.lower() not in ("nchw", "nhwc", "channels_last"):
        fix = did_you_mean(layout, ("nchw", "nhwc"), listing="layouts: nchw, nhwc")
        raise UnknownNameError(f"unknown layout {layout!r}", at="layout", fix=fix)
    training = mode.lower() in ("training", "train")
    return Software(style, "nchw" if layout.lower() in ("", "nchw") else "nhwc", training)


def _style(compiled: str) -> str:
    styles = Names(
        "way to run",
        {
            "eager": ("false", "no", "0", "none"),
            "compiled": ("true", "yes", "1", "torch.compile", "compile", "inductor"),
            "engine": (),
        },
        listing="eager, compiled or engine",
    )
    return styles.resolve(compiled, at="compiled")


def scheme_of(precision: str) -> Scheme:
    """The matmul scheme of a precision; `amp` is what the framework's automatic mixed precision computes in."""
    names = _names("precision")
    if precision in names:
        return SCHEMES[_data()["precisions"][names.resolve(precision)]["scheme"]]
    return scheme(precision, at="precision")
