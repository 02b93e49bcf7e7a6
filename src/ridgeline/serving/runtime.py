"""Serving runtimes as facts: their limits, their rules, and the host time that each iteration costs.

Files: `runtimes/*.yaml`, each fact with its source. A runtime is data; how a step is formed from it is `steady.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError
from ridgeline.core.names import Names
from ridgeline.core.units import parse
from ridgeline.costs.price import OwnKernels
from ridgeline.serving.shelf import documents, names

FOLDER = "runtimes"

Column = NDArray[np.float64]

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
_VERSIONED = re.compile(r"(?P<name>.*?[^\s(@:=_-])[\s(@:=_-]+[vb]?(?P<version>\d[\w.+]*)\b.*")
"""A name, then a version that begins with a digit, then whatever else is said of the build."""

_TIMES = ("host_step", "host_sequence", "host_token_rate_limit")
_POLICIES = {
    "prompt_policy": ("chunked", "whole", "prefill-first"),
    "cache_policy": ("grow", "reserve", "reserve-part"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What an engine does by default.

    Attributes:
        max_batch: sequences per iteration and data-parallel rank.
        max_batched_tokens: new tokens per iteration (prompt chunks and decodes together).
        prompt_policy: chunked (prompts share iterations with decodes), whole (as that, but no prompt is cut) or
            prefill-first (decodes wait).
        cache_policy: grow (blocks as a sequence grows), reserve (whole length at admission) or reserve-part.
        cache_formats: format of the KV cache by that of the weights, where checkpoints state one that the engine takes.
        cache_block_tokens: tokens of one block of the cache, the unit in which it is given out.
        memory_frac: share of memory for weights, reserve and cache (`memory_base` total), or of what they leave (free).
        reserve_bytes: activations and buffers per chip.
        admission_lag_steps: iterations that a request sent at the end of another misses (asynchronous scheduling).
        host_step_s, host_sequence_s: host time per iteration, and per sequence in it, that the device does not hide.
        stage_host_s, stage_sequence_s: host time that each stage of a pipeline spends on a batch before it takes the
            next one, and per sequence in it (0: hidden behind the device, as without a pipeline).
        host_rank_s: host time per iteration that every further rank of tensor parallelism adds.
        older: numbers that releases before one have instead, by that release.
        front_end_token_s: time per token of the single front-end process (0: no limit seen).
        front_end_before: first version that no longer has that limit ("": all have it).
        fused_from: version from which ops leave their results in the format that the next matmul takes, so that no
            kernel quantises activations by itself (never: none does yet).
        kernels: whose kernels it runs, as `costs` knows them ("": its own).
        host_block_s: host time to issue one layer, operator by operator, while the device runs earlier ones (0: the
            step is captured in a graph, or issued by compiled code).
        own_kernels: in what its kernels differ from those (None: in nothing).
        captured_tokens: merged tokens of its device graphs, to which iterations are padded (none: no padding).
        prefix_cache: whether prompts that were seen before are found in the cache.
        lost_slots: slots that stay empty although requests wait.
        budget_terms: what a benchmark harness sets in the place of `max_batched_tokens`: tokens per unit of a case
            column, plus `constant`, and `at_least`.
        batch_wait_steps, batch_wait_frac, batch_wait_when: iterations that prompts wait until they fill a share of the
            budget, and the ranges of case columns in which that is switched on.
    """

    name: str
    title: str
    max_batch: float
    max_batched_tokens: float
    prompt_policy: str
    cache_policy: str
    cache_block_tokens: int
    memory_frac: float
    memory_base: str
    reserve_bytes: float
    admission_lag_steps: float
    host_step_s: float
    host_sequence_s: float
    front_end_token_s: float
    front_end_before: str
    facts: Mapping[str, Mapping[str, Any]]
    fused_from: str = ""
    kernels: str = ""
    host_block_s: float = 0.0
    stage_host_s: float = 0.0
    stage_sequence_s: float = 0.0
    host_rank_s: float = 0.0
    older: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    own_kernels: OwnKernels | None = None
    cache_formats: Mapping[str, str] = field(default_factory=dict)
    captured_tokens: tuple[float, ...] = ()
    prefix_cache: bool = True
    lost_slots: float = 0.0
    budget_terms: Mapping[str, float] | None = None
    batch_wait_steps: float = 0.0
    batch_wait_frac: float = 0.0
    batch_wait_when: Mapping[str, tuple[float, float]] | None = None

    def of_version(self, version: str) -> Runtime:
        """The runtime as that version has it ("" is the newest)."""
        changes: dict[str, float] = {}
        for before, numbers in self.older.items():
            changes |= numbers if _older(version, before) else {}
        if self.front_end_before and not _older(version, self.front_end_before):
            changes["front_end_token_s"] = 0.0
        return replace(self, **changes) if changes else self  # type: ignore[arg-type]

    def fuses(self, version: str) -> bool:
        """Whether that version ("" is the newest) quantises activations inside the op before a matmul."""
        return self.fused_from != "never" and not _older(version, self.fused_from)

    def token_budget(self, cases: Mapping[str, Column]) -> Column:
        """New tokens per iteration: what the case asks, else what the procedure gives, else the default."""
        asked = cases["max_batched_tokens"]
        terms = self.budget_terms
        if terms is None:
            given = np.full_like(asked, self.max_batched_tokens)
        else:
            given = np.maximum(
                sum((factor * cases[name] for name, factor in terms.items() if name in cases), start=0.0 * asked)
                + terms.get("constant", 0.0),
                terms.get("at_least", 1.0),
            )
        return np.where(asked > 0, asked, given)

    def batch_waits(self, cases: Mapping[str, Column]) -> NDArray[np.bool_]:
        """Rows in which prompts wait for others (TensorRT-LLM's batch wait)."""
        waits = np.full(cases["isl"].shape, self.batch_wait_steps > 0)
        for name, (low, high) in (self.batch_wait_when or {}).items():
            waits &= (cases[name] >= low) & (cases[name] <= high)
        return waits


def version_numbers(text: str) -> tuple[int, ...]:
    """The first numbers of a version, words before them aside: `vLLM v0.5.6.post2` is (0, 5, 6), 1.0.0rc3 (1, 0, 0).

    Empty where there are none.
    """
    found = _NUMBERS.search(text)
    return tuple(int(number) for number in found.group().split(".")) if found else ()


def _older(version: str, than: str) -> bool:
    """Whether a version that has numbers lies before another; one without is the newest."""
    numbers = version_numbers(version)
    return bool(numbers) and numbers < version_numbers(than)


@cache
def runtime_names() -> Names:
    """The resolver of runtime names and aliases."""
    return names("runtime", FOLDER, listing="`ridgeline catalogue runtimes` lists them")


@cache
def named_runtime(text: str) -> tuple[str, str]:
    """Name and version of a runtime as tables write it: `vLLM 0.6.3` is vllm at 0.6.3; "" where no version is there.

    Raises UnknownNameError with the nearest names.
    """
    known = runtime_names()
    found = _VERSIONED.fullmatch(text.strip())
    if found and text not in known:
        return known.resolve(found["name"], at="runtime"), found["version"]
    return known.resolve(text, at="runtime"), ""


@cache
def runtime(name: str) -> Runtime:
    """The runtime of that name, a version after it aside. Raises UnknownNameError with the nearest names."""
    document = documents(FOLDER)[named_runtime(name)[0]]
    facts: Mapping[str, Mapping[str, Any]] = document.data["facts"]
    for key, allowed in _POLICIES.items():
        if facts[key]["value"] not in allowed:
            raise SpecError(f"{key} is one of {allowed}", at=document.where("facts", key), got=facts[key]["value"])
    host_step, host_sequence, front_end = (parse(facts[key]["value"], "s", at=key) for key in _TIMES)
    return Runtime(
        name=document.data["name"],
        title=document.data["title"],
        max_batch=float(facts["max_batch"]["value"]),
        max_batched_tokens=float(facts["max_batched_tokens"]["value"]),
        prompt_policy=facts["prompt_policy"]["value"],
        cache_policy=facts["cache_policy"]["value"],
        cache_block_tokens=int(facts["cache_block_tokens"]["value"]),
        memory_frac=float(facts["memory_frac"]["value"]),
        memory_base=facts["memory_base"]["value"],
        reserve_bytes=parse(facts["reserve"]["value"], "byte", at="reserve"),
        admission_lag_steps=float(facts["admission_lag_steps"]["value"]),
        host_step_s=host_step,
        host_sequence_s=host_sequence,
        front_end_token_s=front_end,
        front_end_before=str(facts["host_token_rate_limit"].get("before", "")),
        facts=facts,
        fused_from=str(facts["fused_quantisation_from"]["value"]),
        kernels=str(facts.get("kernels", {}).get("value", "")),
        host_block_s=_seconds(facts, "host_block"),
        stage_host_s=_seconds(facts, "stage_host"),
        stage_sequence_s=_seconds(facts, "stage_sequence"),
        host_rank_s=_seconds(facts, "host_rank"),
        older={
            str(one["before"]): {f"{key}_s": _seconds(one, key) for key in one if key != "before"}
            for one in document.data.get("older", ())
        },
        own_kernels=OwnKernels(**facts["own_kernels"]["value"]) if "own_kernels" in facts else None,
        cache_formats=dict(facts.get("cache_formats", {}).get("value", {})),
        captured_tokens=_captured(facts.get("captured_tokens", {}).get("value", ())),
    )


def _seconds(facts: Mapping[str, Mapping[str, Any]], key: str) -> float:
    """A time, 0 where the file is silent."""
    return parse(facts[key]["value"], "s", at=key) if key in facts else 0.0


def _captured(ranges: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Sizes of (first, last, step) each."""
    return tuple(float(size) for first, last, step in ranges for size in range(first, last + 1, step))
