"""The form of a question file: its keys and their kinds. pydantic stops here; `plan_question.py` gives them meaning."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ridgeline.core.files import Document
from ridgeline.core.forms import validated

Text = str | int | float
"""A quantity: text, or a plain number."""


class QuestionFile(BaseModel):
    """The whole file; keys are those of `ridgeline plan` with underscores."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    on: str | list[str] | None = None
    isl: Text | None = None
    osl: Text | None = None
    rate: Text | None = None
    concurrency: Text | None = None
    trace: str | None = None
    arrivals: str | None = None
    prompt: Text | None = None
    output: Text | None = None
    ttft: Text | None = None
    tpot: Text | None = None
    e2e: Text | None = None
    objective: str | list[str] | None = None
    mode: str | list[str] | None = None
    runtime: str | list[str] | None = None
    weights: str | list[str] | None = None
    kv: str | list[str] | None = None
    max_batch: Text | list[int] | None = None
    max_batched_tokens: Text | list[int] | None = None
    prefill_batch: Text | list[int] | None = None
    cp: Text | list[int] | None = None
    prefix_hit_frac: Text | None = None
    acceptance_frac: Text | None = None
    draft_tokens: Text | list[int] | None = None
    power: Text | None = None
    budget: Text | None = None
    price: Text | dict[str, Text] | None = None
    site: str | None = None


def validate(document: Document) -> QuestionFile:
    """The file in its form. Raises SpecError at the first key that is unknown, missing or of another kind."""
    return validated(QuestionFile, document, part=lambda _: QuestionFile, page="see the page on planning")
