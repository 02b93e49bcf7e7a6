"""A question to `plan`, from arguments or a file, as the search takes it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ridgeline.api.planning.plan_columns import ASKED, SERVED
from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import load_json, load_yaml
from ridgeline.hardware import catalogue
from ridgeline.hardware.machine import machine
from ridgeline.search.planning import Allowed, Choices, Question, Slo
from ridgeline.serving.runtime import runtime
from ridgeline.workloads.traffic import Traffic, load_traffic, make_traffic

LIMITS = ("ttft", "tpot", "e2e")
SAMPLE = 10_000
"""Requests of which the mean lengths of laws are taken."""

_PERCENTILE = re.compile(r"\s*(?:(?P<level>p\d{1,2}(?:\.\d{1,3})?|mean)\s*=)?\s*(?P<time>.+?)\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with what only a simulation can answer.

    Attributes:
        question: for the search.
        percentiles: limit -> level, where it is on a percentile.
        load: `trace`, `arrivals`, `prompt`, `output` as given, for a simulation.
        notes: what was understood or assumed, in words.
        values: the arguments as they were given.
    """

    question: Question
    percentiles: Mapping[str, float]
    load: Mapping[str, Any]
    notes: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)


def read_question(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The keys of a question file (.yaml or .json), checked for their kinds. Raises RidgelineError."""
    from ridgeline.api.planning.plan_form import validate  # pydantic: only those who read files pay for it

    document = load_json(path) if os.fspath(path).endswith(".json") else load_yaml(path)
    return validate(document).model_dump(exclude_none=True)


def asked_of(values: Mapping[str, Any]) -> Asked:
    """The question in these arguments.

    Raises:
        UnknownNameError: an argument, a machine, a runtime, an objective or a format that does not exist.
        SpecError, DomainError, UnitError: what contradicts itself, is missing or out of range.
    """
    values = _known(values)
    if not values.get("model"):
        raise SpecError("nothing says which model is served", at="model", fix="give --model NAME")
    limits, percentiles = _limits(values)
    load, notes = _load(values)
    machines = _machines(values)
    place = catalogue.site(str(values["site"])) if values.get("site") else None
    question = Question(
        model=str(values["model"]),
        machines=machines,
        isl=load["isl"],
        osl=load["osl"],
        rate_per_s=load["rate"],
        concurrency=load["concurrency"],
        prefix_hit_frac=_frac(values, "prefix_hit_frac"),
        acceptance_frac=_frac(values, "acceptance_frac"),
        slo=Slo(**limits),
        objectives=_objectives(values, machines, load["rate"] > 0 or load["concurrency"] > 0),
        choices=_choices(values),
        power_w=_quantity(values, "power") or math.inf,
        usd_per_s=_money(values.get("budget"), "budget") or math.inf,
        pue=place.pue if place else math.nan,
        carbon_kg_per_j=place.carbon_kg_per_j if place else math.nan,
    )
    _check_prices(question, place is not None)
    words = {name: values[name] for name in ("trace", "arrivals", "prompt", "output") if values.get(name)}
    if percentiles:
        which = ", ".join(f"p{100 * level:g} of {name}" for name, level in percentiles.items())
        notes.append(f"the search holds means to the limits on {which}; simulation checks the percentiles")
    return Asked(question=question, percentiles=percentiles, load=words, notes=tuple(notes), values=values)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {column.name for column in ASKED}
    for name in values:
        if name not in names:
            fix = did_you_mean(name, names, listing="`ridgeline plan --help` lists them")
            raise UnknownNameError(f"unknown argument {name!r} of plan", at=name, fix=fix)
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _quantity(values: Mapping[str, Any], name: str) -> float:
    """A number in SI units; 0 where it is not given. Raises DomainError below 0."""
    given = values.get(name)
    if given is None:
        return 0.0
    column = next(column for column in ASKED if column.name == name)
    value = units.parse(given, column.unit or "count", at=name, bare_ok=True)
    if value < 0:
        raise DomainError(f"{name} is not negative", at=name, got=given, fix=column.doc)
    return value


def _positive(values: Mapping[str, Any], name: str) -> float:
    value = _quantity(values, name)
    if name in values and value <= 0:
        raise DomainError(f"{name} is positive", at=name, got=values[name], fix="leave it out, or give more than 0")
    return value


def _frac(values: Mapping[str, Any], name: str) -> float:
    value = _quantity(values, name)
    if value > 1.0:
        raise DomainError(f"{name} is a share", at=name, got=values[name], fix="give 0 to 1")
    return value


def _money(given: Any, at: str) -> float:
    """USD per second of a price; a bare number is USD per hour, as prices of chips are quoted."""
    if given is None or given == "":
        return 0.0
    plain = isinstance(given, int | float) and not isinstance(given, bool)
    value = units.parse(f"{given} USD/h" if plain or _bare(given) else given, "usd/s", at=at)
    if value <= 0:
        raise DomainError("a price is positive", at=at, got=given, fix='write it like "2.5 USD/h"')
    return value


def _bare(given: Any) -> bool:
    return isinstance(given, str) and re.fullmatch(r"[0-9.]+", given.strip()) is not None


def items(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list, or text with commas."""
    given = values.get(name)
    if given is None:
        return ()
    parts = (
        [str(one) for one in given]
        if isinstance(given, Sequence) and not isinstance(given, str)
        else str(given).split(",")
    )
    found = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not found:
        raise SpecError(f"{name} names nothing", at=name, got=given, fix="leave it out, or name one")
    return found


def _wholes(values: Mapping[str, Any], name: str, default: tuple[int, ...], lowest: int) -> tuple[int, ...]:
    found = []
    for item in items(values, name):
        number = units.parse(item, "count", at=name)
        if number != int(number) or not lowest <= number <= 1e9:
            raise DomainError(
                f"{name} takes whole numbers from {lowest}", at=name, got=item, fix="write it like 0,64,256"
            )
        found.append(int(number))
    return tuple(found) or default


def _limits(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Limits in seconds by the names of columns, and the levels of those that are on percentiles."""
    limits, percentiles = {}, {}
    for name in LIMITS:
        if name not in values:
            continue
        given = str(values[name])
        match = _PERCENTILE.fullmatch(given)
        if match is None:
            raise SpecError(f"cannot read a limit on {name}", at=name, got=given, fix='write it like "1s" or "p99=2s"')
        limits[f"{name}_s"] = units.parse(match["time"], "s", at=name, bare_ok=True)
        if not limits[f"{name}_s"] > 0:
            raise DomainError(f"a limit on {name} is positive", at=name, got=given, fix="leave it out for no limit")
        level = (match["level"] or "mean").casefold()
        if level != "mean":
            percentiles[name] = float(level[1:]) / 100.0
            if percentiles[name] <= 0:
                raise DomainError("a percentile lies between p0 and p100", at=name, got=given, fix="write p99=2s")
    return limits, percentiles


def _load(values: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Mean lengths, and rate or requests in flight, from numbers, laws or a trace."""
    notes: list[str] = []
    isl, osl = _positive(values, "isl"), _positive(values, "osl")
    rate, concurrency = _positive(values, "rate"), _positive(values, "concurrency")
    traffic = _traffic(values, isl, osl)
    if traffic is not None:
        if not len(traffic):
            raise SpecError("the traffic has no requests", at="trace", got=str(values.get("trace", "")))
        seen = traffic.summary()
        isl, osl = (float(max(round(length.mean), 1)) for length in (seen.prompt, seen.output))
        if values.get("arrivals", "").startswith("closed"):
            concurrency = float(traffic.clients or 0) or concurrency
        elif not rate and not concurrency and (values.get("trace") or values.get("arrivals")):
            rate = seen.rate_per_s
        told = f"{rate:.4g} requests/s, " if rate else ""
        notes.append(f"the search takes the means of the traffic: {told}{isl:g} tokens in, {osl:g} out")
    if not isl or not osl:
        fix = "give --isl and --osl, --prompt and --output laws, or --trace FILE"
        raise SpecError("nothing says how long requests are", at="isl, osl", fix=fix)
    return {"isl": isl, "osl": osl, "rate": rate, "concurrency": concurrency}, notes


def _traffic(values: Mapping[str, Any], isl: float, osl: float) -> Traffic | None:
    arrivals, trace = str(values.get("arrivals", "")), values.get("trace")
    if trace:
        if not isinstance(trace, str | os.PathLike | Traffic):
            raise SpecError("a trace is a file or a Traffic", at="trace", got=trace, fix="give its path")
        return trace if isinstance(trace, Traffic) else load_traffic(trace, arrivals=arrivals or None)
    if not (arrivals or values.get("prompt") or values.get("output")):
        return None
    prompt, output = (values.get(law) or mean for law, mean in (("prompt", isl), ("output", osl)))
    if not prompt or not output:
        return None
    return make_traffic(arrivals=arrivals or "poisson(1/s)", prompt=prompt, output=output, requests=SAMPLE)


def _machines(values: Mapping[str, Any]) -> tuple[Allowed, ...]:
    if not values.get("on"):
        raise SpecError("nothing says which machines may be used", at="on", fix='give --on "32x h200-sxm"')
    prices = _prices(values.get("price"))
    found: dict[tuple[str, str], Allowed] = {}
    for text in items(values, "on"):
        one = machine(text, at="on")
        home = one.node if one.node is not None else catalogue.default_node(one.chip)
        node = "" if home.name == catalogue.default_node(one.chip).name else home.name
        if (one.chip.name, node) in found:
            raise SpecError(f"{one.chip.name} is allowed twice", at="on", got=text, fix="add the counts up")
        price = prices.get(one.chip.name, prices.get("", one.chip.rent_usd_per_s or math.nan))
        found[one.chip.name, node] = Allowed(machine=one, node=node, usd_per_s=price)
    unused = set(prices) - {"", *(chip for chip, _ in found)}
    if unused:
        raise SpecError(f"a price for {', '.join(sorted(unused))}, which may not be used", at="price", fix="see --on")
    return tuple(found.values())


def _prices(given: Any) -> dict[str, float]:
    """USD per second by the name of a chip; "" for all."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = [(str(name), price) for name, price in given.items()]
    elif isinstance(given, str) and "=" in given:
        pairs = [(name.strip(), price.strip()) for name, _, price in (part.partition("=") for part in given.split(","))]
    else:
        return {"": _money(given, "price")}
    return {catalogue.chip(name, at="price").name: _money(price, "price") for name, price in pairs}


def _objectives(values: Mapping[str, Any], machines: tuple[Allowed, ...], fixed: bool) -> tuple[str, ...]:
    if values.get("objective"):
        return tuple(name.casefold() for name in items(values, "objective"))
    if not fixed:
        return ("throughput", "tpot")
    priced = all(math.isfinite(allowed.usd_per_s) for allowed in machines)
    return ("cost" if priced else "chips", "latency")


def _check_prices(question: Question, placed: bool) -> None:
    unpriced = [allowed.machine.chip.name for allowed in question.machines if math.isnan(allowed.usd_per_s)]
    if unpriced and ("cost" in question.objectives or math.isfinite(question.usd_per_s)):
        raise SpecError(
            f"the catalogue has no rent of {', '.join(unpriced)}",
            at="price",
            fix=f'give --price "{unpriced[0]}=2 USD/h", or objectives without cost',
        )
    if "carbon" in question.objectives and not placed:
        raise SpecError("carbon depends on the grid", at="site", fix="give --site NAME (`ridgeline catalogue sites`)")


def _choices(values: Mapping[str, Any]) -> Choices:
    usual = Choices()
    modes = tuple(name.casefold() for name in items(values, "mode")) or usual.modes
    for mode in modes:
        if mode not in usual.modes:
            fix = did_you_mean(mode, usual.modes, listing="modes: agg, disagg")
            raise UnknownNameError(f"unknown mode {mode!r}", at="mode", fix=fix)
    if "acceptance_frac" not in values and "draft_tokens" in values:
        raise SpecError("speculation needs an acceptance", at="draft_tokens", fix="give --acceptance-frac 0.7")
    drafts = (0, 1, 2, 3) if "acceptance_frac" in values else (0,)
    runtimes = tuple(dict.fromkeys(runtime(name).name for name in items(values, "runtime") or SERVED))
    return Choices(
        modes=modes,
        runtimes=runtimes,
        weights=_formats(values, "weights"),
        kv=_formats(values, "kv"),
        max_batches=_wholes(values, "max_batch", usual.max_batches, 0),
        token_budgets=_wholes(values, "max_batched_tokens", usual.token_budgets, 0),
        prefill_batches=_wholes(values, "prefill_batch", usual.prefill_batches, 1),
        context_parallel=_wholes(values, "cp", usual.context_parallel, 1),
        draft_tokens=_wholes(values, "draft_tokens", drafts, 0),
    )


def _formats(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = tuple("" if one.casefold() == "published" else one for one in items(values, name)) or ("",)
    return tuple("any" if one.casefold() == "any" else one for one in found)


def finite(value: float) -> float | None:
    """For JSON: None in the place of NaN and infinity."""
    return value if np.isfinite(value) else None
