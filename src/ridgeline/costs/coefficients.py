"""Fitted numbers of the cost models: read from `coefficients/*.yaml`, never written by hand in code.

A file holds one op kind. For each kernel family it gives constants shared by every chip, then values by default, by
chip generation and by chip; the more specific wins. A chip that is listed was measured: its prices are `calibrated`.
The files are written by `ridgeline calibrate`, with the hash of the measurements, row counts and errors before and
after; files named in the environment variable RIDGELINE_CALIBRATIONS add chips of one's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import Document, load_yaml, parse_yaml
from ridgeline.hardware.chip import Chip, ChipColumns, Value

OWN_CALIBRATIONS = "RIDGELINE_CALIBRATIONS"
"""Environment variable: files that `ridgeline calibrate` wrote on this machine, separated as in PATH."""

TWIN, PHYSICS, UNMEASURED = "~", "physics", "unmeasured"
"""How validation names a measured chip's twins; no name in the catalogue holds a `~`."""


@cache
def coefficient_file(kind: str) -> Mapping[str, Any]:
    """The parsed file of one op kind. Raises SpecError when ridgeline was built without it."""
    source = resources.files("ridgeline.costs") / "coefficients" / f"{kind}.yaml"
    if not source.is_file():
        raise SpecError(f"no coefficients for {kind!r}", at="ridgeline/costs/coefficients", fix="reinstall ridgeline")
    data: dict[str, Any] = parse_yaml(source.read_text("utf-8"), name=source.name).data
    for _, document in own_calibrations(kind):
        _add_chips(data["kernels"], document)
    return data


def own_calibrations(kind: str) -> list[tuple[Path, Document]]:
    """The calibrations of one's own for an op kind, in the order in which the environment names them."""
    paths = filter(None, os.environ.get(OWN_CALIBRATIONS, "").split(os.pathsep))
    documents = [(Path(path), load_yaml(path)) for path in paths]
    return [(path, document) for path, document in documents if document.need("kind", kind=str) == kind]


def _add_chips(kernels: dict[str, Any], document: Document) -> None:
    """Take the chips of a calibration of one's own; it cannot change what other chips have in common."""
    for kernel, family in document.need("kernels", kind=dict).items():
        if kernel not in kernels:
            fix = did_you_mean(kernel, kernels)
            raise UnknownNameError(f"unknown kernel {kernel!r}", at=document.where("kernels", kernel), fix=fix)
        _refuse_unknown(kernels[kernel], kernel, family.get("chips") or {}, document)
        own = kernels[kernel].get("chips") or {}
        kernels[kernel]["chips"] = {**own, **(family.get("chips") or {})}


def _refuse_unknown(family: Mapping[str, Any], kernel: str, chips: Mapping[str, Any], document: Document) -> None:
    """Coefficients that no price reads come from a version with other mechanisms: ignoring them would misprice."""
    levels = [family.get("shared"), family.get("default"), *(family.get("generations") or {}).values()]
    levels += (family.get("chips") or {}).values()
    known = {name for level in levels for name in level or ()}
    for chip, values in chips.items():
        for name in values:
            if name not in known:
                raise UnknownNameError(
                    f"unknown coefficient {name!r}",
                    at=document.where("kernels", kernel, "chips", chip, name),
                    fix=f"calibrate again with this version; {did_you_mean(name, sorted(known))}",
                )


@cache
def merged(kind: str, kernel: str, chip: str, generation: str) -> Mapping[str, float]:
    """Coefficients of a kernel family on a chip: shared, then default, then its generation, then the chip itself."""
    kernels = coefficient_file(kind)["kernels"]
    if kernel not in kernels:
        raise UnknownNameError(
            f"unknown {kind} kernel {kernel!r}", at=f"{kind}.yaml", fix=did_you_mean(kernel, kernels)
        )
    family = kernels[kernel]
    name, _, twin = chip.partition(TWIN)
    measured = family.get("chips") or {}
    values: dict[str, float] = dict(family.get("shared") or {})
    values.update(family.get("default") or {})
    values.update((family.get("generations") or {}).get(generation) or {})
    if twin == UNMEASURED and name in measured:
        values.update(_without(kind, kernel, name))
    else:
        values.update(measured.get(name) or {})
    return values


def _without(kind: str, kernel: str, chip: str) -> Mapping[str, float]:
    """What the fit gave when every row of the chip was left out of it; nothing for kinds whose fits leave none out."""
    left_out = coefficient_file(kind).get("without") or {}
    if not left_out:
        return {}
    found: Mapping[str, float] | None = (left_out.get(chip) or {}).get(kernel)
    if found is None:
        raise SpecError(
            f"no chip but {chip} measured the {kind} kernel {kernel!r}", at=f"{kind}.yaml", fix="measure another chip"
        )
    return found


def physics_twin(chip: Chip) -> Chip:
    """The chip with its fitted numbers but without residual tables, which go by name."""
    return replace(chip, name=f"{chip.name}{TWIN}{PHYSICS}")


def unmeasured_twin(chip: Chip) -> Chip:
    """The chip as if only its datasheet were known: numbers of the fits that left it out, no residual tables."""
    return replace(chip, name=f"{chip.name}{TWIN}{UNMEASURED}")


def is_calibrated(kind: str, kernel: str, chip: Chip) -> bool:
    """Whether the kernel family was fitted on measurements of this very chip."""
    name, _, twin = chip.name.partition(TWIN)
    return twin != UNMEASURED and name in (coefficient_file(kind)["kernels"][kernel].get("chips") or {})


class Coefficients:
    """The coefficients of one kernel family for the chips of a call: `c["eps"]` is a scalar or one value per row."""

    __slots__ = ("_chips", "_kernel", "_kind", "calibrated")

    def __init__(self, kind: str, kernel: str, chips: ChipColumns) -> None:
        """Look nothing up yet except which rows are calibrated."""
        self._kind, self._kernel, self._chips = kind, kernel, chips
        known = chips.gather(lambda chip: float(is_calibrated(kind, kernel, chip)))
        self.calibrated: bool | NDArray[np.bool_] = np.asarray(known) > 0 if chips.index is not None else bool(known)

    def __getitem__(self, name: str) -> Value:
        """The coefficient for each row. Raises SpecError if the file lacks it for one of the chips."""

        def one(chip: Chip) -> float:
            values = merged(self._kind, self._kernel, chip.name, chip.generation)
            if name not in values:
                raise SpecError(
                    f"{self._kind} kernel {self._kernel!r} has no coefficient {name!r} for {chip.name}",
                    at=f"costs/coefficients/{self._kind}.yaml",
                    fix="run `ridgeline calibrate`",
                )
            return float(values[name])

        return self._chips.gather(one)
