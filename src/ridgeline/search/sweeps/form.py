"""The form of a sweep file: its keys and their kinds. pydantic stops here; `spec.py` gives them meaning."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ridgeline.core.files import Document
from ridgeline.core.forms import Place, validated

Scalar = str | int | float | bool
"""A value of a column: text, also with a unit, or a plain number."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SampleForm(_Part):
    """Points drawn at random from some axes."""

    points: int
    seed: int = 0
    method: str = "latin-hypercube"
    axes: dict[str, Scalar | list[Scalar]]


class SweepFile(_Part):
    """The whole file."""

    task: str
    out: str | None = None
    fixed: dict[str, Scalar] = {}
    axes: dict[str, Scalar | list[Scalar]] = {}
    zip: list[dict[str, list[Scalar]]] = []
    sample: SampleForm | None = None
    where: str | None = None
    chunk: int | None = None
    limit: Scalar | None = None


def validate(document: Document) -> SweepFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    return validated(SweepFile, document, part=_part, page="see the page on sweeps")


def _part(loc: Place) -> type[BaseModel]:
    return SampleForm if len(loc) == 2 and loc[0] == "sample" else SweepFile
