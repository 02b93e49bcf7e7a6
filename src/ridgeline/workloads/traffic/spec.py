"""Traffic from a file, or from the words of flags: the doors through which all of it comes in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgeline.core import units
from ridgeline.core.errors import RidgelineError, SpecError
from ridgeline.core.files import Document, load_yaml, parse_json
from ridgeline.workloads.traffic.arrivals import MAX_REQUESTS, parse_arrivals
from ridgeline.workloads.traffic.compose import Part, composed
from ridgeline.workloads.traffic.lengths import Law, fixed, parse_law
from ridgeline.workloads.traffic.readers import LENGTHS_ONLY, read_trace
from ridgeline.workloads.traffic.requests import MAX_TIME_S, MAX_TOKENS, RequestClass, Traffic
from ridgeline.workloads.traffic.sessions import DEFAULT_BLOCK, Sessions

_SPEC = (".yaml", ".yml")


def load_traffic(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    seed: int | None = None,
    requests: int | None = None,
    duration_s: float | None = None,
    arrivals: str | None = None,
) -> Traffic:
    """The traffic of a trace file, a traffic file (.yaml, .yml), or a mapping with the keys of a traffic file.

    Args:
        source:     the file, or the mapping.
        seed:       of every random draw; None: the file's, else 0.
        requests:   only the first so many; None: the file's.
        duration_s: only what arrives before; None: the file's.
        arrivals:   for a trace: a process in place of its own arrivals. A file of lengths needs one.
    Raises:
        RidgelineError: what is wrong, with file, line and column where it stands.
    """
    if isinstance(source, Mapping):
        return _of_document(_as_document(source), Path(), seed, requests, duration_s, arrivals)
    path = Path(os.fspath(source))
    if path.suffix.lower() in _SPEC:
        return _of_document(load_yaml(path), path.parent, seed, requests, duration_s, arrivals)
    trace = read_trace(path)
    if arrivals is None and LENGTHS_ONLY in trace.notes:
        fix = "give arrivals, for example poisson(12/s)"
        raise SpecError("the trace holds lengths without arrivals", at=os.fspath(path), fix=fix)
    if arrivals is None:
        _check_limits(requests, duration_s)
        cut = trace if duration_s is None else trace.cut(0.0, duration_s)
        return cut if requests is None else cut.head(requests)
    process = parse_arrivals(arrivals)
    part = Part(one=RequestClass(name="default"), arrivals=process, trace=trace, at=os.fspath(path))
    if requests is None and duration_s is None:
        requests = trace.rows
    found = composed([part], requests=requests, duration_s=duration_s, seed=seed or 0, name=trace.name)
    return found


def make_traffic(
    *,
    arrivals: str,
    prompt: object = None,
    output: object = None,
    trace: str | os.PathLike[str] | None = None,
    requests: int | None = None,
    duration_s: float | None = None,
    seed: int = 0,
    sessions: Sessions | None = None,
    one: RequestClass | None = None,
    name: str = "traffic",
) -> Traffic:
    """Traffic of one class from the words of flags.

    Args:
        arrivals: a process: "poisson(12/s)", "closed(64)".
        prompt:   a law of lengths: 1024, "lognormal(mean=1024, sigma=0.8)", "empirical(FILE)".
        output:   the same.
        trace:    a file whose rows are the lengths, instead of laws: prompt and output of a row stay together.
        requests: where it ends, by number.
        duration_s: where it ends, by time; one of the two, or both.
        seed:     of every random draw.
        sessions: if each arrival starts a session.
        one:      the class; by default without objectives.
        name:     of the traffic.
    Raises:
        RidgelineError: what is wrong.
    """
    lengths = [
        None if text is None else parse_law(text, at=what, column=f"{what}_tokens")
        for text, what in ((prompt, "prompt"), (output, "output"))
    ]
    part = Part(
        one=one or RequestClass(name="default"),
        arrivals=parse_arrivals(arrivals),
        prompt=lengths[0],
        output=lengths[1],
        sessions=sessions,
        trace=None if trace is None else read_trace(trace),
    )
    _check_limits(requests, duration_s)
    return composed([part], requests=requests, duration_s=duration_s, seed=seed, name=name)


def _check_limits(requests: int | None, duration_s: float | None) -> None:
    if requests is not None and not 1 <= requests <= MAX_REQUESTS:
        raise SpecError("requests is out of range", at="requests", got=requests, fix=f"give 1 to {MAX_REQUESTS:,}")
    if duration_s is not None and not 0 < duration_s <= MAX_TIME_S:
        raise SpecError("duration is out of range", at="duration", got=duration_s, fix="give for example 1h")


def _as_document(source: Mapping[str, Any]) -> Document:
    try:
        return parse_json(json.dumps(source), "<traffic>")
    except (TypeError, ValueError, RecursionError) as error:
        fix = "give text, numbers, true, false, lists and mappings"
        raise SpecError("not plain data", at="<traffic>", got=str(error), fix=fix) from error


def _of_document(
    document: Document,
    folder: Path,
    seed: int | None,
    requests: int | None,
    duration_s: float | None,
    arrivals: str | None,
) -> Traffic:
    # pydantic takes longer to import than the rest of this package, so only those who read files pay for it.
    from ridgeline.workloads.traffic.schema import validate

    model = validate(document)
    reader = _Reader(document, folder)
    if requests is None and model.requests is not None:
        requests = reader.whole(model.requests, 1, MAX_REQUESTS, "requests")
    if duration_s is None and model.duration is not None:
        duration_s = reader.number(model.duration, "s", MAX_TIME_S, "duration")
    _check_limits(requests, duration_s)
    common = None
    if arrivals is not None:
        common = parse_arrivals(arrivals)
    elif model.arrivals is not None:
        common = parse_arrivals(model.arrivals, at=document.where("arrivals"))
    if seed is None:
        seed = model.seed or 0
    if seed < 0:
        raise SpecError("a seed is a whole number >= 0", at=document.where("seed"), got=seed, fix="give for example 0")
    return composed(
        [reader.part(key, one, seed) for key, one in model.classes.items()],
        common=common,
        requests=requests,
        duration_s=duration_s,
        seed=seed,
        name=Path(document.name).stem.strip("<>") or "traffic",
        at=document.where("classes"),
    )


class _Reader:
    """Turns the values of a traffic file into numbers and laws; every message says where."""

    def __init__(self, document: Document, folder: Path) -> None:
        self._document, self._folder = document, folder

    def number(self, text: object, dimension: str, most: float, *path: str) -> float:
        """A quantity above 0."""
        value = units.parse(text, dimension, at=self._document.where(*path))  # type: ignore[arg-type]
        if not 0 < value <= most:
            fix = f"it is above 0 and at most {most:g}"
            raise SpecError(f"{path[-1]} is out of range", at=self._document.where(*path), got=text, fix=fix)
        return value

    def whole(self, text: object, least: int, most: int, *path: str) -> int:
        """A whole number within bounds."""
        value = units.parse(text, "count", at=self._document.where(*path))  # type: ignore[arg-type]
        if not least <= value <= most or value != int(value):
            fix = f"give a whole number from {least} to {most}"
            raise SpecError(f"{path[-1]} is out of range", at=self._document.where(*path), got=text, fix=fix)
        return int(value)

    def law(self, text: object, *path: str, dimension: str = "count", column: str = "prompt_tokens") -> Law | None:
        """A law, None where the file is silent."""
        if text is None:
            return None
        return parse_law(text, dimension, at=self._document.where(*path), folder=self._folder, column=column)

    def part(self, name: str, model: Any, seed: int) -> Part:
        """One class of the file."""
        here = ("classes", name)
        at = self._document.where(*here)
        trace = self._trace(model, here, seed)
        arrivals = None
        if model.arrivals is not None:
            if model.rate is not None:
                raise SpecError("rate and arrivals", at=at, fix="keep one: `rate` scales the arrivals of the trace")
            arrivals = parse_arrivals(model.arrivals, at=self._document.where(*here, "arrivals"))
        return Part(
            one=self._class(name, model, here),
            arrivals=arrivals,
            share=0.0 if model.share is None else self.number(model.share, "1", 1.0, *here, "share"),
            prompt=self.law(model.prompt, *here, "prompt"),
            output=self.law(model.output, *here, "output", column="output_tokens"),
            sessions=None if model.sessions is None else self._sessions(model.sessions, (*here, "sessions")),
            trace=trace,
            tenant=None if model.tenant == 0 else self.law(model.tenant, *here, "tenant"),
            adapter=self.law(model.adapter, *here, "adapter"),
            model=self.law(model.model, *here, "model"),
            at=at,
        )

    def _trace(self, model: Any, here: tuple[str, ...], seed: int) -> Traffic | None:
        if model.trace is None:
            for key in ("format", "time_scale", "sample", "rate"):
                if getattr(model, key) is not None:
                    where = self._document.where(*here, key)
                    raise SpecError(f"{key} without a trace", at=where, fix="give `trace: FILE`, or leave it out")
            return None
        try:
            trace = read_trace(self._folder / model.trace, form=model.format)
            if model.sample is not None:
                from ridgeline.core.seeding import stream

                share = self.number(model.sample, "1", 1.0, *here, "sample")
                trace = trace.sampled(share, stream(seed, f"{here[-1]}/sample"))
            if model.time_scale is not None:
                trace = trace.scaled(self.number(model.time_scale, "1", 1e6, *here, "time_scale"))
            if model.rate is not None:
                trace = trace.at_rate(self.number(model.rate, "1/s", 1e9, *here, "rate"))
        except RidgelineError as error:
            if error.at.startswith(self._document.name):
                raise
            inside = f"{self._document.where(*here, 'trace')} ({error.at})"
            raise type(error)(error.what, at=inside, got=error.got, fix=error.fix) from error
        if not len(trace):
            fix = "sample more of it"
            raise SpecError("nothing is left of the trace", at=self._document.where(*here, "sample"), fix=fix)
        return trace

    def _class(self, name: str, model: Any, here: tuple[str, ...]) -> RequestClass:
        slo = {
            f"{key}_s": math.inf if text is None else self.number(text, "s", MAX_TIME_S, *here, "slo", key)
            for key, text in (dict(model.slo) if model.slo is not None else {}).items()
        }
        weight = self.number(model.weight, "1", 1e9, *here, "weight")
        try:
            return RequestClass(name=name, priority=model.priority, weight=weight, **slo)
        except SpecError as error:
            raise SpecError(error.what, at=self._document.where(*here), got=error.got, fix=error.fix) from error

    def _sessions(self, model: Any, here: tuple[str, ...]) -> Sessions:
        turns, think = self.law(model.turns, *here, "turns"), self.law(model.think, *here, "think", dimension="s")
        made = Sessions(
            turns=turns or fixed(1.0),
            think=think or fixed(0.0),
            system=self.whole(model.system, 0, MAX_TOKENS, *here, "system"),
            parallel=self.law(model.parallel, *here, "parallel"),
        )
        most = made.context if model.context is None else self.whole(model.context, 1, MAX_TOKENS, *here, "context")
        size = DEFAULT_BLOCK if model.block is None else self.whole(model.block, 0, MAX_TOKENS, *here, "block")
        try:
            return replace(made, context=most, block=size)
        except SpecError as error:
            raise SpecError(error.what, at=self._document.where(*here), got=error.got, fix=error.fix) from error
