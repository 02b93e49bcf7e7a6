"""`rl.simulate`: a deployment serves a traffic, request by request; what came of it, with intervals and timelines."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ridgeline import __version__
from ridgeline.api.simulations.simulate_case import Asked, parted
from ridgeline.core import units
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.serving.engine.rules import Log
from ridgeline.serving.fleet.build import fleet_of
from ridgeline.serving.fleet.choices import Choices, PoolPlan
from ridgeline.serving.fleet.playing import play
from ridgeline.serving.record.answer_values import Answers
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.played import Played
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.streamed import Collector
from ridgeline.workloads.traffic import Traffic

LATEST = 10_000
"""Requests whose latencies the progress tells."""

Progress = Callable[[float, int, int, str], None]
"""Told now and then: simulated seconds, requests that have ended, requests in all, and latencies so far in words."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """What a simulated deployment did.

    Attributes:
        case: the inputs as they were understood.
        traffic: the requests. played: when what happened to each, and each lane's runs.
        answers: latencies, rates, goodput, energy and cost, over the whole run and at steady state.
        powers: of a chip of each pool, for timelines.
        provenance: version, seed, and hashes of the load and the configuration.
        interrupted: whether the run was stopped before its end.
        pools: inputs of each pool of a fleet file; empty without one. `case` is that of the first.
    """

    case: Mapping[str, float | str]
    traffic: Traffic = field(repr=False)
    played: Played = field(repr=False)
    answers: Answers = field(repr=False)
    powers: Mapping[str, PowerTable] = field(repr=False)
    provenance: Mapping[str, str | int]
    interrupted: bool = False
    pools: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Inputs and answers as plain values, for JSON. Absent answers are None."""
        return {
            "verb": "simulate",
            "task": "serving",
            "case": dict(self.case),
            "results": self.answers.to_dict(),
            "provenance": dict(self.provenance),
            "interrupted": self.interrupted,
            **({"pools": {name: dict(case) for name, case in self.pools.items()}} if self.pools else {}),
        }

    def __rich__(self) -> Any:
        """The table that a terminal shows."""
        from ridgeline.api.simulations.simulation_view import answers_view

        return answers_view(self.answers, title=self.title)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.simulations.simulation_view import plain

        return plain(self.answers, title=self.title)

    @property
    def title(self) -> str:
        """One line: what served what."""
        c = self.case
        chips = " and ".join(dict.fromkeys(str(pool["chip"]) for pool in self.pools.values())) or c["chip"]
        machine = f"{chips} x {self.answers.whole.chips:g}"
        return f"{c['model']} on {machine} with {c['runtime']}, {len(self.traffic):,} requests of {self.traffic.name}"

    def write_page(self, path: str | os.PathLike[str]) -> str:
        """A page with plots, by itself: no network."""
        from ridgeline.api.simulations.simulation_page import simulation_page, write_page

        code = self.traffic.class_code
        asked = {**self.case, **self.provenance}
        page = simulation_page(
            self.answers, self.played, title=self.title, case=asked, class_code=code, powers=self.powers
        )
        write_page(path, page)
        return os.fspath(path)

    def write_timeline(self, path: str | os.PathLike[str]) -> str:
        """Requests, runs and windows as tables: NAME.duckdb, or a file per table beside NAME.parquet or NAME.csv."""
        from ridgeline.serving.record.timeline import write_timeline

        names = [one.name for one in self.traffic.classes]
        code = self.traffic.class_code
        files = write_timeline(self.played, path, powers=self.powers, class_names=names, class_code=code)
        return ", ".join(str(file) for file in files)

    def write_perfetto(self, path: str | os.PathLike[str]) -> str:
        """A trace that opens in ui.perfetto.dev; returns what it holds and what it leaves out."""
        from ridgeline.serving.record.perfetto import write_trace

        return f"{os.fspath(path)}: {write_trace(self.played, path, powers=self.powers)}"


def simulate(
    task: str = "serving",
    *,
    on: str = "",
    plan: str = "",
    until: str | float = "",
    plugins: bool = True,
    keep_runs: bool = True,
    engine: str = "auto",
    progress: Progress | None = None,
    **case: Any,
) -> Simulated:
    """Simulate one deployment under one load.

    Args:
        task: serving.
        on: machines, as "8x h100-sxm".
        plan: the plan's notation, as "tp8 kv=fp8".
        until: simulated time at which the run ends.
        plugins: whether policies of installed distributions count.
        keep_runs: whether each lane's runs are kept; if not, they are summed up as they come: memory no longer grows
            with time, and there are no timelines, bills of requests, or times between tokens by class.
        engine: python, compiled (extra `jit`), or auto: compiled where that is possible and worth it; what is played is
            the same to the last bit.
        progress: told how far it is.
        case: the columns of `predict serving`, and of `api.columns.LOADS` and `FLEETS`; quantities may be text with a
            unit, policies may be objects, a trace may be a `Traffic`.
    Raises: as `predict`; and what is wrong with the load or the policies.

    Example: `rl.simulate(model="meta-llama/Llama-3.1-8B", on="h100-sxm", trace="conv.parquet", ttft_slo_s="1s")`
    """
    if task != "serving":
        fix = did_you_mean(task, ("serving",), listing="`ridgeline simulate serving`")
        raise UnknownNameError(f"unknown task {task!r} of simulate", at="task", fix=fix)
    asked = Asked.of(case)
    # Lanes always write runs down; who takes them says whether they stay.
    rest, words, chosen = parted(case, plugins=plugins, keep_runs=True)
    until_s = units.parse(until, "s", at="until", bare_ok=True) if until else math.inf
    traffic, plans, understood = asked.pools(words, rest, on=on, plan=plan)
    chosen = replace(chosen, entry=asked.entry)
    with np.errstate(all="ignore"):
        built = fleet_of(plans, traffic, choices=chosen)
    fleet, powers = built.fleet, built.powers
    if progress is not None:
        fleet.progress = lambda time, ended: progress(time, ended, len(traffic), _so_far(fleet.log, ended))
    collector = None if keep_runs else Collector(fleet.members, powers)
    fleet.on_runs = collector
    played = play(fleet, until_s, engine=engine)
    runtime, lane = plans[0].deployment.runtime, fleet.members[-1].engine
    first = next(iter(understood.values()))
    return Simulated(
        case=first,
        traffic=traffic,
        played=played,
        answers=answers(
            played,
            classes=traffic.classes,
            class_code=traffic.class_code,
            powers=powers,
            rent_usd_per_chip_s=built.rents,
            growth=lane.growth,
            grows=lane.grows,
            host_step_s=runtime.host_step_s,
            host_sequence_s=runtime.host_sequence_s,
            streamed=None if collector is None else collector.streamed,
        ),
        powers=powers,
        provenance=_provenance(int(words.seed), traffic, understood, chosen, plans),
        interrupted=fleet.interrupted,
        pools={} if asked.spec is None else understood,
    )


def _so_far(log: Log, ended: int) -> str:
    """Time to first token of the latest requests, for the screen."""
    latest = slice(max(ended - LATEST, 0), ended)
    waits = np.frombuffer(log.first)[latest] - np.frombuffer(log.sent)[latest]
    waits = waits[np.isfinite(waits)]
    if not waits.size:
        return ""
    median, most = np.percentile(waits, [50, 99])
    return f"TTFT p50 {units.duration(median)}, p99 {units.duration(most)}"


def _provenance(
    seed: int,
    traffic: Traffic,
    cases: Mapping[str, Mapping[str, float | str]],
    choices: Choices,
    plans: Sequence[PoolPlan],
) -> dict[str, str | int]:
    load = hashlib.sha256()
    for column in (traffic.arrival_s, traffic.prompt_tokens, traffic.output_tokens, traffic.after, traffic.think_s):
        load.update(np.ascontiguousarray(column).tobytes())
    load.update(np.ascontiguousarray(traffic.hash_ids).tobytes())
    if (traffic.adapter >= 0).any():
        load.update(np.ascontiguousarray(traffic.adapter).tobytes())
    if (traffic.model >= 0).any():
        load.update(np.ascontiguousarray(traffic.model).tobytes())
    told = [(name, sorted(case.items())) for name, case in cases.items()]
    pools = [(plan.name, plan.role, plan.to, plan.split, plan.router, plan.prefix) for plan in plans]
    configuration = hashlib.sha256(repr((told, pools, choices)).encode()).hexdigest()
    return {
        "version": __version__,
        "seed": seed,
        "traffic_sha256": load.hexdigest()[:16],
        "configuration_sha256": configuration[:16],
    }
