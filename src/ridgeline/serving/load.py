"""The load of a deployment and the procedure that measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from ridgeline.core.names import Names
from ridgeline.hardware.chip import Value
from ridgeline.serving.runtime import Runtime, version_numbers
from ridgeline.serving.shelf import documents, names

FOLDER = "procedures"

_SETTINGS = (
    "prompt_policy",
    "cache_policy",
    "memory_frac",
    "memory_base",
    "admission_lag_steps",
    "prefix_cache",
    "lost_slots",
    "host_step_s",
    "host_sequence_s",
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests as one lane sees them; every field a number or a column.

    Attributes:
        isl, osl: mean prompt and output tokens.
        concurrency: requests in flight per lane (inf: saturated; 0 where `rate_per_s` is given).
        rate_per_s: arrivals per lane (0 where concurrency is given).
        prefix_hit_frac: share of the prompt found in the cache.
        tokens_per_step: output tokens that one decode iteration yields per sequence (above 1 under speculation).
        idle_stages: stages of a pipeline per request in flight, where there are more stages than requests: as many
            chunks of one prompt are under way at once.
    """

    isl: Value
    osl: Value
    concurrency: Value
    rate_per_s: Value
    prefix_hit_frac: Value
    tokens_per_step: Value
    idle_stages: Value = 1.0

    @cached_property
    def prompt(self) -> Value:
        """Prompt tokens to compute; at least one is always computed."""
        return np.maximum(self.isl * (1.0 - np.asarray(self.prefix_hit_frac)), 1.0)

    @property
    def cached(self) -> Value:
        """Prompt tokens found in the cache."""
        return np.asarray(self.isl - self.prompt)

    @cached_property
    def iterations(self) -> Value:
        """Decode iterations per request after its first token."""
        return np.maximum(np.asarray(self.osl) - 1.0, 0.0) / self.tokens_per_step


def speculated_tokens(drafts: Value, acceptance_frac: Value) -> Value:
    """Expected tokens per verified step: (1 - a**(d+1)) / (1 - a), Leviathan et al., arXiv 2211.17192, equation 1."""
    a = np.clip(np.asarray(acceptance_frac, float), 0.0, 1.0 - 1e-9)
    expected: Value = (1.0 - a ** (np.asarray(drafts) + 1.0)) / (1.0 - a)
    return expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """How a load generator measures: what of the start it averages in, and how lengths vary.

    Attributes:
        requests_per_client: requests that each concurrent client sends; the first wave of all clients together is one
            of them (inf: the start is not measured).
        length_frac: mean length over the nominal one.
        fixed_lengths: whether all requests are equally long, so that those prefilled together finish together.
        low_frac: shortest over longest length; lengths are uniform between (1: all equal).
        unique_prompts: prompts in the data set; further requests repeat them (0: none repeats).
        engines: settings that the benchmark's harness imposes, by runtime.
    """

    name: str
    title: str
    requests_per_client: float
    length_frac: float
    fixed_lengths: bool
    facts: Mapping[str, Mapping[str, Any]]
    low_frac: float = 1.0
    unique_prompts: int = 0
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def cache_format(self, runtime: str) -> str:
        """Format of the KV cache that the harness sets beside 8-bit weights; "" for the model's own."""
        fact = self.engines.get(runtime, {}).get("kv")
        return str(fact["value"]) if fact else ""

    def imposed(self, runtime: Runtime, version: str = "", *, experts: bool = False) -> Runtime:
        """The runtime with the settings that this benchmark's harness gives to that version ("" is the newest).

        A variant of the settings may hold for versions before one, and for models with or without routed experts; later
        variants win.
        """
        facts = {name: fact for name, fact in self.engines.get(runtime.name, {}).items() if name != "variants"}
        for variant in self.engines.get(runtime.name, {}).get("variants", ()):
            before = variant.get("before", "")
            holds = not before or (version and version_numbers(version) < version_numbers(before))
            if holds and variant.get("experts", experts) == experts:
                facts |= variant["engine"]
        changes: dict[str, Any] = {name: fact["value"] for name, fact in facts.items() if name in _SETTINGS}
        if "token_budget" in facts:
            changes["budget_terms"] = {name: float(x) for name, x in facts["token_budget"]["value"].items()}
        if "batch_wait" in facts:
            wait = facts["batch_wait"]["value"]
            changes["batch_wait_steps"], changes["batch_wait_frac"] = float(wait["steps"]), float(wait["frac"])
            changes["batch_wait_when"] = {name: (float(a), float(b)) for name, (a, b) in wait["when"].items()}
        return replace(runtime, **changes) if changes else runtime


@cache
def procedure_names() -> Names:
    """The resolver of procedure names."""
    return names("measurement procedure", FOLDER, listing=f"known: {', '.join(sorted(documents(FOLDER)))}")


@cache
def procedure(name: str) -> Procedure:
    """The procedure of that name. Raises UnknownNameError with the nearest names."""
    data = documents(FOLDER)[procedure_names().resolve(name, at="procedure")].data
    facts = data["facts"]
    return Procedure(
        name=data["name"],
        title=data["title"],
        requests_per_client=float(facts["requests_per_client"]["value"]),
        length_frac=float(facts["length_frac"]["value"]),
        fixed_lengths=bool(facts["fixed_lengths"]["value"]),
        facts=facts,
        low_frac=float(facts["low_frac"]["value"]) if "low_frac" in facts else 1.0,
        unique_prompts=int(facts["unique_prompts"]["value"]) if "unique_prompts" in facts else 0,
        engines=data.get("engine", {}),
    )
