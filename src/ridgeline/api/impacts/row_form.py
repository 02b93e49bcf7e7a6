"""The form of a file of a row: its keys and their kinds. pydantic stops here; `power_row.py` gives them meaning."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from ridgeline.core.files import Document
from ridgeline.core.forms import Place, validated

Text = str | int | float
"""A quantity: text, or a plain number."""


class GroupModel(BaseModel):
    """Servers that do the same: a table of power, or a case of `simulate serving`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    count: int
    priority: str = "low"
    power: str | None = None
    idle: Text | None = None
    most: Text | None = None
    case: dict[str, Any] | None = None
    together: bool = False


class PolicyModel(BaseModel):
    """What differs from the usual policy (`impact.row.RowPolicy`)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    first_threshold: float | None = None
    second_threshold: float | None = None
    release: float | None = None
    low_cap: float | None = None
    low_hard_cap: float | None = None
    high_cap: float | None = None
    brake_cap: float | None = None
    telemetry_delay: Text | None = None
    actuation_delay: Text | None = None
    brake_delay: Text | None = None


class BatteryModel(BaseModel):
    """Stored energy beside the row."""

    model_config = ConfigDict(extra="forbid", strict=True)

    capacity: Text
    power: Text


class RowFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    limit: Text
    step: Text = 1.0
    servers: dict[str, GroupModel]
    policy: PolicyModel | None = None
    battery: BatteryModel | None = None


def validate(document: Document) -> RowFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    return validated(RowFile, document, part=_part, page="see the page on impact")


def _part(loc: Place) -> type[BaseModel]:
    if len(loc) == 1:
        return RowFile
    parts: dict[str, type[BaseModel]] = {"policy": PolicyModel, "battery": BatteryModel}
    return parts.get(str(loc[0]), GroupModel)
