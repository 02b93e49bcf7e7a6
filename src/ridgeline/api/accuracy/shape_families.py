"""The regime `extrapolated` of `ridgeline validate`: whole families of shapes that the refitted numbers never saw."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.accuracy.validate import Points, measured_tables, size_classes, was_fitted

if TYPE_CHECKING:
    from ridgeline.costs.fits.shape_families import Extrapolated

REGIME = "extrapolated"


def can_refit() -> bool:
    """Whether what fits need is installed (extra `fit`)."""
    return find_spec("scipy") is not None


def validate_shape_families(data: Path, kinds: Sequence[str] = ()) -> list[Points]:
    """Refit without each family of `shape_families.yaml` in turn, and price the family's held-out rows.

    Only the tables that the bundled numbers were fitted on are refitted; it takes some minutes for all kinds.

    Raises: MissingExtraError: scipy is not installed.
    """
    from ridgeline.costs.fits.shape_families import extrapolated

    found = []
    for table in measured_tables(data, kinds):
        if table.kind == "power" or (kinds and table.kind not in kinds) or not was_fitted(table):
            continue
        if rows := extrapolated(table):
            found.append(_points(table.kind, rows))
    return found


def _points(kind: str, parts: Sequence[Extrapolated]) -> Points:
    def column(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(part, name) for part in parts])

    def text(name: str) -> NDArray[np.str_]:
        return np.concatenate([np.full(part.measured_s.size, getattr(part, name)) for part in parts])

    measured = column("measured_s")
    inside = [
        (part.measured_s >= part.low * part.priced_s) & (part.measured_s <= part.high * part.priced_s) for part in parts
    ]
    nothing = np.full(measured.size, "")
    labels = {name: text(name) for name in ("chip", "kernel", "shapes")}
    labels |= dict.fromkeys(("runtime", "version", "dtype", "bound", "case"), nothing)
    return Points(
        kind=kind,
        regime=REGIME,
        predicted=column("priced_s"),
        measured=measured,
        labels={**labels, "size": size_classes(measured)},
        apart=nothing,
        covered=np.concatenate(inside).astype(np.float64),
        known=column("known_s"),
    )
