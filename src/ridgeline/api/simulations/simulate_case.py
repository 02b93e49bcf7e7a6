"""A case of `simulate` and `capacity` taken apart: which requests come, which pools serve them, and how."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.predictions.predict import CaseError, case_values, cell_value
from ridgeline.api.tables.columns import FLEETS, LOADS
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.cases import Cases
from ridgeline.core.errors import RidgelineError, SpecError
from ridgeline.core.seeding import stream
from ridgeline.core.tables import from_mapping
from ridgeline.serving.deployment import Deployment
from ridgeline.serving.fleet.choices import Choices, PoolPlan, usual_pools
from ridgeline.serving.fleet.lora import Lora
from ridgeline.serving.fleet.models import Residence
from ridgeline.serving.fleet.slices import Split
from ridgeline.serving.fleet.spec import FleetSpec, load_fleet
from ridgeline.serving.fleet.upkeep import parse_failures
from ridgeline.serving.load import procedure
from ridgeline.serving.measure import MOST_REQUESTS, Benchmark
from ridgeline.serving.predict import deployment_of
from ridgeline.workloads.traffic import RequestClass, Traffic, load_traffic, make_traffic, parse_law

USUAL_REQUESTS = 2_000
"""Requests of a generated load that names neither a number nor a duration."""

WAVES = 20
"""Requests per client of a closed loop that names neither."""


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
    models: str = ""
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
            found = replace(found, adapter=self._drawn("adapters", self.adapters, len(found)))
        if self.models:
            found = replace(found, model=self._drawn("models", self.models, len(found)))
        return self._promised(found)

    def _drawn(self, name: str, law: str, count: int) -> NDArray[np.int32]:
        """Numbers by a law, from a stream of their own."""
        return parse_law(law, at=name).sample(count, stream(int(self.seed), name)).astype(np.int32)

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


BESIDE = ("fleet", "phase_split_frac")
"""Columns of `FLEETS` that say which pools there are, not how they are run."""


@dataclass(kw_only=True)
class Asked:
    """What is asked for beside one plain case: a fleet file, or chips that are cut in two."""

    fleet: Any = ""
    phase_split_frac: Any = 0.0

    @classmethod
    def of(cls, case: Mapping[str, Any]) -> Asked:
        """From the arguments."""
        return cls(**{name: case[name] for name in BESIDE if case.get(name) is not None})

    @cached_property
    def spec(self) -> FleetSpec | None:
        """The fleet of the file, if one is asked for."""
        return None if self.fleet == "" else load_fleet(self.fleet)

    @property
    def entry(self) -> str:
        """The router among lanes of several pools, if the file names one."""
        return "" if self.spec is None else self.spec.router

    def values(self, case: Mapping[str, Any], *, on: str, plan: str) -> dict[str, float | str]:
        """What of the case a load can depend on: rate, lengths, procedure."""
        if self.spec is None:
            return case_values("serving", on=on, plan=plan, case=case)
        self._check(self.spec, case, on, plan)
        return case_values("serving", on="", plan="", case={**case, **_model_of(self.spec, case)})

    def pools(
        self, words: Load, case: Mapping[str, Any], *, on: str, plan: str
    ) -> tuple[Traffic, list[PoolPlan], dict[str, dict[str, float | str]]]:
        """The requests, the pools that serve them, and the case of each as it was understood."""
        values = self.values(case, on=on, plan=plan)
        traffic = words.traffic(values)
        spec = self.spec
        if spec is None:
            cases, deployment = deployed(values, traffic)
            separate = cases.text("mode", 0) == "disagg"
            plans = usual_pools(deployment, disaggregated=separate, split=self._split(separate))
            return traffic, list(plans), {"": _understood(cases)}
        model = _model_of(spec, case)
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


def _model_of(spec: FleetSpec, case: Mapping[str, Any]) -> dict[str, str]:
    return {"model": spec.model} if spec.model and "model" not in case else {}


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
    for name in BESIDE:
        fleet.pop(name, None)
    cold, switch = fleet.pop("cold_start_s", -1.0), fleet.pop("switch_s", -1.0)
    limits = {name: fleet.pop(name, 0.0) for name in ("longest", "longest_chunk")}
    lora = {
        name: fleet.pop(f"lora_{name}") for name in ("rank", "slots", "cache", "targets") if f"lora_{name}" in fleet
    }
    lora |= {name: int(lora[name]) for name in ("slots", "cache") if name in lora}
    residence = {
        name: fleet.pop(f"models_{column}")
        for name, column in (("kept", "cache"), ("host", "host"), ("eviction", "eviction"))
        if f"models_{column}" in fleet
    }
    residence |= {name: int(residence[name]) for name in ("kept", "host") if name in residence}
    failures, tiers, kept = (fleet.pop(name, "") for name in ("failures", "tiers", "kept"))
    limited: dict[str, Any] = {name: value or math.inf for name, value in limits.items()}
    choices = Choices(
        **fleet,
        **limited,
        lora=Lora(**lora),
        residence=Residence(**residence),
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
    if values.get("site"):
        raise CaseError("a run is accounted after it", at="site", fix="rl.impact(run, site=...)")
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
