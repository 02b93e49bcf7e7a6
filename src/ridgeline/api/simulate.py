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
from ridgeline.api.columns import FLEETS, LOADS
from ridgeline.api.intake import intake, wanted
from ridgeline.api.predict import CaseError, case_values, cell_value
from ridgeline.core import units
from ridgeline.core.cases import Cases
from ridgeline.core.errors import RidgelineError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.seeding import stream
from ridgeline.core.tables import from_mapping
from ridgeline.serving.deployment import Deployment
from ridgeline.serving.engine.rules import Log
from ridgeline.serving.fleet.build import fleet_of
from ridgeline.serving.fleet.choices import Choices, PoolPlan, usual_pools
from ridgeline.serving.fleet.lora import Lora
from ridgeline.serving.fleet.playing import play
from ridgeline.serving.fleet.slices import Split
from ridgeline.serving.fleet.spec import FleetSpec, load_fleet
from ridgeline.serving.fleet.upkeep import parse_failures
from ridgeline.serving.load import procedure
from ridgeline.serving.measure import MOST_REQUESTS, Benchmark
from ridgeline.serving.predict import deployment_of
from ridgeline.serving.record.answer_values import Answers
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.played import Played
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.streamed import Collector
from ridgeline.workloads.traffic import RequestClass, Traffic, load_traffic, make_traffic, parse_law

USUAL_REQUESTS = 2_000
"""Requests of a generated load that names neither a number nor a duration."""

WAVES = 20
"""Requests per client of a closed loop that names neither."""

LATEST = 10_000
"""Requests whose latencies the progress tells."""

Progress = Callable[[float, int, int, str], None]
"""Told now and then: simulated seconds, requests that have ended, requests in all, and latencies so far in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Which requests come: the columns `api.columns.LOADS` in SI units (0 or empty: not given).

    `trace` may be a `Traffic`. `request_rate_per_s` of the case scales a trace in time to that mean rate.
    """

    trace: str | os.PathLike[str] | Traffic = ""
    arrivals: str = ""
    prompt: str = ""
    output: str = ""
    adapters: str = ""
    requests: float = 0.0
    duration_s: float = 0.0
    ttft_slo_s: float = 0.0
    tpot_slo_s: float = 0.0
    e2e_slo_s: float = 0.0
    seed: float = 0.0

    def traffic(self, values: Mapping[str, float | str]) -> Traffic:
        """The requests. Raises RidgelineError: files and words that cannot be read, nothing that says a load."""
        rate = float(values.get("request_rate_per_s", 0.0))
        if isinstance(self.trace, Traffic):
            found = self.trace.head(int(self.requests)) if self.requests else self.trace
        elif self.trace:
            found = load_traffic(self.trace, arrivals=self.arrivals or None, **self._ends())
        else:
            found = self._generated(values)
        if self.trace and rate > 0:
            found = found.at_rate(rate)
        if self.adapters:
            drawn = parse_law(self.adapters, at="adapters").sample(len(found), stream(int(self.seed), "adapters"))
            found = replace(found, adapter=drawn.astype(np.int32))
        return self._promised(found)

    def _ends(self) -> dict[str, Any]:
        """Where the load ends, and its seed, as `workloads.traffic` takes them."""
        requests, duration = int(self.requests) or None, self.duration_s or None
        return {"requests": requests, "duration_s": duration, "seed": int(self.seed)}

    def _generated(self, values: Mapping[str, float | str]) -> Traffic:
        named = str(values.get("procedure", "steady"))
        clients = float(values.get("concurrency", 0.0))
        rate = float(values.get("request_rate_per_s", 0.0))
        measured = procedure(named)
        if not self.arrivals and clients >= 1 and measured.requests_per_client <= MOST_REQUESTS:
            return self._benchmark(values, clients, measured.requests_per_client)
        words = self.arrivals or (
            f"poisson({rate!r}/s)" if rate > 0 else f"closed({clients:g})" if clients >= 1 else ""
        )
        if not words:
            fix = "give --trace FILE, --arrivals 'poisson(5/s)', --rate 5/s or --concurrency 64"
            raise SpecError("nothing says which requests come", at="simulate serving", fix=fix)
        if not (self.prompt or "isl" in values) or not (self.output or "osl" in values):
            fix = "give --isl and --osl, or --prompt and --output laws"
            raise SpecError("nothing says how long requests are", at="simulate serving", fix=fix)
        ends = self._ends()
        if not self.requests and not self.duration_s:
            ends["requests"] = max(round(clients) * WAVES, USUAL_REQUESTS)
        prompt, output = (words or values[name] for words, name in ((self.prompt, "isl"), (self.output, "osl")))
        return make_traffic(arrivals=words, prompt=prompt, output=output, **ends)

    def _benchmark(self, values: Mapping[str, float | str], clients: float, per_client: float) -> Traffic:
        """What a named procedure's load generator sends."""
        measured = procedure(str(values["procedure"]))
        sent = Benchmark(
            isl=max(round(float(values["isl"])), 1),
            osl=max(round(float(values["osl"])), 1),
            low_frac=measured.low_frac,
            clients=round(clients),
            count=round(clients * per_client),
            hit_frac=0.0,
            unique=0,
        ).requests()
        zeros = np.zeros(len(sent.prompts))
        lengths = (np.array(tokens, dtype=np.int64) for tokens in (sent.prompts, sent.outputs))
        return Traffic.of(zeros, *lengths, clients=round(clients), name=measured.name)

    def _promised(self, found: Traffic) -> Traffic:
        """Classes without an objective take those of the flags."""

        def promised(one: RequestClass) -> RequestClass:
            return replace(
                one,
                ttft_s=self.ttft_slo_s or one.ttft_s if math.isinf(one.ttft_s) else one.ttft_s,
                tpot_s=self.tpot_slo_s or one.tpot_s if math.isinf(one.tpot_s) else one.tpot_s,
                e2e_s=self.e2e_slo_s or one.e2e_s if math.isinf(one.e2e_s) else one.e2e_s,
            )

        return replace(found, classes=tuple(promised(one) for one in found.classes))


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
        from ridgeline.api.simulation_view import answers_view

        return answers_view(self.answers, title=self.title)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.simulation_view import plain

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
        from ridgeline.api.simulation_page import simulation_page, write_page

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
    asked = _Asked(**{name: case.pop(name) for name in ("fleet", "phase_split_frac") if case.get(name) is not None})
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
        pools={} if asked.fleet == "" else understood,
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


@dataclass(kw_only=True)
class _Asked:
    """What is asked for beside one plain case: a fleet file, or chips that are cut in two."""

    fleet: Any = ""
    phase_split_frac: Any = 0.0
    entry: str = ""

    def pools(
        self, words: Load, case: Mapping[str, Any], *, on: str, plan: str
    ) -> tuple[Traffic, list[PoolPlan], dict[str, dict[str, float | str]]]:
        """The requests, the pools that serve them, and the case of each as it was understood."""
        if self.fleet == "":
            values = case_values("serving", on=on, plan=plan, case=case)
            traffic = words.traffic(values)
            cases, deployment = deployed(values, traffic)
            separate = cases.text("mode", 0) == "disagg"
            plans = usual_pools(deployment, disaggregated=separate, split=self._split(separate))
            return traffic, list(plans), {"": _understood(cases)}
        spec = load_fleet(self.fleet)
        self._check(spec, case, on, plan)
        self.entry = spec.router
        model = {"model": spec.model} if spec.model and "model" not in case else {}
        base = case_values("serving", on="", plan="", case={**case, **model})
        traffic = words.traffic(base)
        made, understood = [], {}
        for pool in spec.pools:
            cases, deployment = self._deployed(pool.at, {**case, **model, **pool.columns}, traffic)
            understood[pool.name] = _understood(cases)
            made.append(
                PoolPlan(
                    name=pool.name,
                    deployment=deployment,
                    role=pool.role,
                    to=pool.to,
                    split=pool.split,
                    router=pool.router,
                )
            )
        kept = {name: str(own["kv"]) for name, own in understood.items()}
        for pool in spec.pools:
            if pool.to and kept[pool.name] != kept[pool.to]:
                fix = "give both pools one kv"
                raise SpecError("pools that hand on caches keep them in one format", at=pool.at, got=kept, fix=fix)
        return traffic, made, understood

    def _split(self, separate: bool) -> Split | None:
        column = next(column for column in FLEETS if column.name == "phase_split_frac")
        frac = float(cell_value(column, self.phase_split_frac))
        if frac and separate:
            fix = "leave out phase_split_frac, or mode=disagg"
            raise SpecError("separate pools do not split their chips", at="phase_split_frac", got=frac, fix=fix)
        return Split(frac=frac) if frac else None

    def _check(self, spec: FleetSpec, case: Mapping[str, Any], on: str, plan: str) -> None:
        """What a fleet file says is not said beside it."""
        own = {name for name in ("chip", "node", "replicas", "mode") if name in case}
        own |= {name for name, given in (("on", on), ("plan", plan)) if given}
        own |= {"phase_split_frac"} if self.phase_split_frac else set()
        if own:
            fix = "say it in the pools of the file"
            raise SpecError(
                "a fleet file names the machines", at=", ".join(sorted(own)), got=str(self.fleet)[:80], fix=fix
            )
        if not spec.model and "model" not in case:
            fix = "give --model, or model: in the file"
            raise SpecError("nothing says which model the fleet serves", at="model", fix=fix)

    def _deployed(self, at: str, values: dict[str, Any], traffic: Traffic) -> tuple[Cases, Deployment]:
        """One pool's deployment; what is wrong with it is told where it stands."""
        on, plan = str(values.pop("on", "")), str(values.pop("plan", ""))
        if "runtime_version" in values:
            values["runtime_version"] = str(values["runtime_version"])
        try:
            return deployed(case_values("serving", on=on, plan=plan, case=values), traffic)
        except RidgelineError as error:
            error.at = f"{at}: {error.at}" if error.at else at
            raise


def _understood(cases: Cases) -> dict[str, float | str]:
    """The inputs of one case."""
    found: dict[str, float | str] = {name: float(cases.number(name)[0]) for name in cases.numbers}
    return found | {name: cases.text(name, 0) for name in cases.texts}


def parted(case: Mapping[str, Any], *, plugins: bool, keep_runs: bool) -> tuple[dict[str, Any], Load, Choices]:
    """What of the arguments is the case, what says the load, and what how the fleet is run."""
    rest = {name: value for name, value in case.items() if value is not None}
    load: dict[str, Any] = {}
    fleet: dict[str, Any] = {}
    for columns, taken in ((LOADS, load), (FLEETS, fleet)):
        for column in columns:
            if column.name in rest:
                value = rest.pop(column.name)
                plain = isinstance(value, str | float | int)
                taken[column.name] = cell_value(column, value) if plain else value
    words = Load(**load)
    cold, switch = fleet.pop("cold_start_s", -1.0), fleet.pop("switch_s", -1.0)
    limits = {name: fleet.pop(name, 0.0) for name in ("longest", "longest_chunk")}
    lora = {
        name: fleet.pop(f"lora_{name}") for name in ("rank", "slots", "cache", "targets") if f"lora_{name}" in fleet
    }
    lora |= {name: int(lora[name]) for name in ("slots", "cache") if name in lora}
    failures, tiers, kept = (fleet.pop(name, "") for name in ("failures", "tiers", "kept"))
    limited: dict[str, Any] = {name: value or math.inf for name, value in limits.items()}
    choices = Choices(
        **fleet,
        **limited,
        lora=Lora(**lora),
        kv=kept or "full",
        tiers=[tier.strip() for tier in tiers.split("+")] if isinstance(tiers, str) and tiers else tiers or (),
        cold_start_s=None if cold < 0 else cold,
        switch_s=None if switch < 0 else switch,
        failures=parse_failures(failures) if isinstance(failures, str) and failures else failures or None,
        plugins=plugins,
        seed=int(words.seed),
        keep_runs=keep_runs,
    )
    return rest, words, choices


def deployed(values: Mapping[str, float | str], traffic: Traffic) -> tuple[Cases, Deployment]:
    """The deployment of a case whose load is a traffic: isl and osl are its means. Raises CaseError."""
    if not len(traffic):
        raise CaseError("the load holds no request", at="simulate serving", fix="see what of the file was skipped")
    means = {"isl": traffic.prompt_tokens.mean(), "osl": traffic.output_tokens.mean()}
    filled = {**values, **{name: float(max(round(float(mean)), 1)) for name, mean in means.items()}}
    if traffic.clients:
        filled["concurrency"] = float(traffic.clients)
    table = from_mapping({name: [value] for name, value in filled.items()}, columns=wanted("serving"))
    cases, problems = intake("serving", table)
    with np.errstate(all="ignore"):
        deployment = deployment_of(cases, problems, 0)
    if deployment is None:
        raise CaseError(problems.column()[0], at="simulate serving")
    return cases, deployment


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
    told = [(name, sorted(case.items())) for name, case in cases.items()]
    pools = [(plan.name, plan.role, plan.to, plan.split, plan.router, plan.prefix) for plan in plans]
    configuration = hashlib.sha256(repr((told, pools, choices)).encode()).hexdigest()
    return {
        "version": __version__,
        "seed": seed,
        "traffic_sha256": load.hexdigest()[:16],
        "configuration_sha256": configuration[:16],
    }
