"""The form of a fleet file: its keys and their kinds. pydantic stops here; `spec.py` gives them meaning."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ridgeline.core.files import Document
from ridgeline.core.forms import Place, validated

Text = str | int | float
"""A quantity: text, or a plain number."""


class PoolModel(BaseModel):
    """One pool: its role, its machines, and columns of `predict serving`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: str = "mixed"
    to: str | None = None
    router: str | None = None
    on: str | None = None
    plan: str | None = None
    chip: str | None = None
    node: str | None = None
    replicas: Text | None = None
    tp: Text | None = None
    pp: Text | None = None
    dp: Text | None = None
    ep: Text | None = None
    moe_tp: Text | None = None
    cp: Text | None = None
    weights: str | None = None
    activations: str | None = None
    kv: str | None = None
    moe_weights: str | None = None
    runtime: str | None = None
    runtime_version: Text | None = None
    max_batch: Text | None = None
    max_batched_tokens: Text | None = None
    memory_frac: Text | None = None
    attention_chip: str | None = None
    attention_chips: Text | None = None
    attention_batches: Text | None = None
    attention_link_bytes_per_s: Text | None = None
    attention_latency_s: Text | None = None


class FleetFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    router: str | None = None
    pools: dict[str, PoolModel]


def validate(document: Document) -> FleetFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    return validated(FleetFile, document, part=_part, page="see the page on fleets")


def _part(loc: Place) -> type[BaseModel]:
    return FleetFile if len(loc) == 1 else PoolModel
