"""The form of a traffic file: its keys and their kinds. pydantic stops here; `spec.py` gives them meaning."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ridgeline.core.files import Document
from ridgeline.core.forms import Place, validated

Text = str | int | float
"""A quantity or a law: text, or a plain number."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SloModel(_Part):
    """What is promised: times like "1s" or "40ms"."""

    ttft: Text | None = None
    tpot: Text | None = None
    e2e: Text | None = None


class SessionsModel(_Part):
    """How sessions run; see `sessions.Sessions`."""

    turns: Text
    think: Text = "0s"
    system: Text = 0
    parallel: Text | None = None
    context: Text | None = None
    block: Text | None = None


class ClassModel(_Part):
    """One class: a trace, or arrivals with lengths, or a share of the arrivals of all."""

    trace: str | None = None
    format: str | None = None
    time_scale: Text | None = None
    sample: Text | None = None
    rate: Text | None = None
    arrivals: Text | None = None
    share: Text | None = None
    prompt: Text | None = None
    output: Text | None = None
    sessions: SessionsModel | None = None
    slo: SloModel | None = None
    priority: int = 0
    weight: Text = 1.0
    tenant: Text = 0
    adapter: Text | None = None
    model: Text | None = None


class TrafficFile(_Part):
    """The whole file."""

    seed: int | None = None
    requests: Text | None = None
    duration: Text | None = None
    arrivals: Text | None = None
    classes: dict[str, ClassModel]


def validate(document: Document) -> TrafficFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    return validated(TrafficFile, document, part=_part, page="see the page on traffic", odd_key=_half_a_law)


def _part(loc: Place) -> type[BaseModel]:
    inside: dict[str, type[BaseModel]] = {"sessions": SessionsModel, "slo": SloModel}
    depth = len(loc)
    return TrafficFile if depth == 1 else ClassModel if depth == 3 else inside.get(str(loc[2]), ClassModel)


def _half_a_law(key: str) -> tuple[str, str]:
    if ")" not in key:
        return "", ""
    return "half a law stands as a key", "inside braces YAML splits at commas: put the law in quotes"
