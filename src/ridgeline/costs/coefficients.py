"""Fitted numbers of the cost models: read from `coefficients/*.yaml`, never written by hand in code.

A file holds one op kind. For each kernel family it gives constants shared by every chip, then values by default, by chip
generation and by chip; the more specific wins. A chip that is listed was measured: its prices are `calibrated`. The files
are written by `ridgeline calibrate`, with the hash of the measurements, row counts and errors before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import parse_yaml
from ridgeline.hardware.chip import Chip, ChipColumns, Value


@cache
def coefficient_file(kind: str) -> Mapping[str, Any]:
    """The parsed file of one op kind. Raises SpecError when ridgeline was built without it."""
    source = resources.files("ridgeline.costs") / "coefficients" / f"{kind}.yaml"
    if not source.is_file():
        raise SpecError(f"no coefficients for {kind!r}", at="ridgeline/costs/coefficients", fix="reinstall ridgeline")
    data: Mapping[str, Any] = parse_yaml(source.read_text("utf-8"), name=source.name).data
    return data


@cache
def merged(kind: str, kernel: str, chip: str, generation: str) -> Mapping[str, float]:
    """Coefficients of a kernel family on a chip: shared, then default, then its generation, then the chip itself."""
    kernels = coefficient_file(kind)["kernels"]
    if kernel not in kernels:
        raise UnknownNameError(f"unknown {kind} kernel {kernel!r}", at=f"{kind}.yaml", fix=did_you_mean(kernel, kernels))
    family = kernels[kernel]
    values: dict[str, float] = dict(family.get("shared") or {})
    values.update(family.get("default") or {})
    values.update((family.get("generations") or {}).get(generation) or {})
    values.update((family.get("chips") or {}).get(chip) or {})
    return values


def is_calibrated(kind: str, kernel: str, chip: Chip) -> bool:
    """Whether the kernel family was fitted on measurements of this very chip."""
    return chip.name in (coefficient_file(kind)["kernels"][kernel].get("chips") or {})


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
