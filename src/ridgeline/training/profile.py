"""Frameworks, precisions and fitted numbers, read from the YAML files of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from ridgeline.core.errors import SpecError
from ridgeline.core.files import Document, parse_yaml
from ridgeline.core.names import Names
from ridgeline.hardware.chip import Chip, ChipColumns, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Redone:
    """Shares of the forward pass that the backward pass computes again."""

    matmul: float = 0.0
    attention: float = 0.0
    vector: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a framework trains.

    Attributes:
        coefficients: under which name its fitted numbers stand; `attention` which attention kernels it uses.
        zero, sequence_parallel: what it does unless the case says otherwise.
        selective: what "selective" recomputation redoes.
        weight_bytes: weights and gradients per parameter; `reduce_bytes` per gradient on the wire.
        optimizer_bytes: master weights and moments per parameter.
        saves_narrow: whether operands of narrow matmuls are kept in the narrow format for the backward pass.
        unstated_recompute: what a case without `recompute` means: `none`; `as-needed`, the least of none, norms and
            activations, everything that fits; `in-share`, the same, its time being in the fitted share of peak.
        captured_since: the release from which a whole mixture-of-experts step is one device graph ("": never).
        experts_everywhere: whether experts are spread over all ranks when the case does not say how.
        splits_micro_batch: whether a pipeline cuts the micro-batch into single sequences.
        layers_per_stage: layers of a virtual stage where a case gives a pipeline without `vp` (0: no virtual stages).
        overlaps_exchange: whether, with virtual stages, the exchange of experts runs beside the next micro-batch.
        recomputes_all_layers: whether recomputation is all layers or none, without steps between.
    """

    name: str
    coefficients: str
    attention: str
    zero: int
    sequence_parallel: bool
    selective: Redone
    weight_bytes: float
    reduce_bytes: float
    source: str
    optimizer_bytes: float = 12.0
    saves_narrow: bool = False
    unstated_recompute: str = "none"
    captured_since: str = ""
    experts_everywhere: bool = False
    splits_micro_batch: bool = False
    layers_per_stage: int = 0
    recomputes_all_layers: bool = False
    overlaps_exchange: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training precision: the engine rate of its matmuls, conversion passes, the fitted share that applies."""

    name: str
    compute: str
    convert_passes: float
    share: str


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Fitted numbers by dotted name; a name falls back to its parents' `.default`."""

    values: Mapping[str, float]
    calibrated: frozenset[tuple[str, str]] = frozenset()

    def of(self, group: str, *keys: str) -> float:
        """`group.key1.key2`, else `group.key1`, else `group.default`. Raises SpecError when none is there."""
        for depth in range(len(keys), -1, -1):
            name = ".".join((group, *keys[:depth]))
            for spelled in (name, f"{name}.default"):
                if spelled in self.values:
                    return self.values[spelled]
        raise SpecError(f"no training coefficient {group!r}", at="training/coefficients.yaml", fix="refit it")

    def by_generation(self, chips: ChipColumns, group: str, *keys: str) -> Value:
        """The number that applies to each row's chip."""
        return chips.gather(lambda chip: self.of(group, *keys, chip.generation))

    def sustained_share(self, chips: ChipColumns) -> Value:
        """Share of the 16-bit peak that large matmuls hold; a chip of less power than its generation's largest holds
        a lower clock, and a measured chip departs a little from its generation.
        """

        def one(chip: Chip) -> float:
            exponent = self.of("power_exponent", chip.generation)
            reference = self.of("power_reference_w", chip.generation)
            limit = min(1.0, chip.tdp_w / reference) if reference > 0 else 1.0
            share = self.of("matrix_share", chip.generation) * self.of("chip_share", chip.name)
            return float(min(share * limit**exponent, 1.0))

        return chips.gather(one)


def _document(name: str) -> Document:
    source = resources.files("ridgeline.training") / name
    if not source.is_file():
        raise SpecError(f"{name} is missing", at="ridgeline/training", fix="reinstall ridgeline")
    return parse_yaml(source.read_text("utf-8"), name=name)


@cache
def coefficients() -> Coefficients:
    """The committed fit."""
    data = _document("coefficients.yaml").data
    values = {name: float(entry["value"]) for name, entry in data["coefficients"].items()}
    return Coefficients(values, frozenset((str(profile), str(chip)) for profile, chip in data["calibrated"]))


def fit_errors() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Errors that the committed fit wrote down, percent: by table (fitted, left out, ...) and by group."""
    errors: Mapping[str, Mapping[str, Mapping[str, float]]]
    errors = _document("coefficients.yaml").data["provenance"]["errors"]
    return errors


@cache
def _frameworks() -> tuple[Mapping[str, Profile], Names, str]:
    data = _document("profiles/frameworks.yaml").data
    known = {field.name for field in fields(Profile)}
    profiles = {}
    for name, entry in data["frameworks"].items():
        given: dict[str, Any] = {key: value for key, value in entry.items() if key in known}
        profiles[name] = Profile(name=name, **given | {"selective": Redone(**entry["selective"])})
    names = Names("framework", {name: entry["aliases"] for name, entry in data["frameworks"].items()})
    return profiles, names, str(data["default"])


@cache
def modules() -> Mapping[str, Redone]:
    """Recomputation by module, as Megatron-Core names modules: which share of a layer's forward pass each one is."""
    entries = _document("profiles/frameworks.yaml").data["modules"]
    return {name: Redone(**shares) for name, shares in entries.items()}


def profile(name: str, *, at: str = "framework") -> Profile:
    """The framework of that name ("" is the default). Raises UnknownNameError with the nearest names."""
    profiles, names, default = _frameworks()
    return profiles[names.resolve(name, at=at) if name else default]


@cache
def _precisions() -> tuple[Mapping[str, Recipe], Names]:
    entries = _document("profiles/precisions.yaml").data["precisions"]
    keys = ("compute", "convert_passes", "share")
    recipes = {name: Recipe(name=name, **{key: entry[key] for key in keys}) for name, entry in entries.items()}
    return recipes, Names("training precision", {name: entry["aliases"] for name, entry in entries.items()})


def recipe(name: str, *, at: str = "precision") -> Recipe:
    """The training precision of that name ("" is bf16). Raises UnknownNameError with the nearest names."""
    recipes, names = _precisions()
    return recipes[names.resolve(name, at=at) if name else "bf16"]


def frameworks() -> tuple[str, ...]:
    """Names of all frameworks."""
    return tuple(_frameworks()[0])


def is_release_from(version: str, since: str) -> bool:
    """Whether release `version` ("26.06.01", "NeMo container 26.06") is `since` or later; False when one is empty."""
    numbers = [part for part in version.replace("-", ".").split() if part[:1].isdigit()]
    if not since or not numbers:
        return False
    return _release(numbers[-1]) >= _release(since)


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
