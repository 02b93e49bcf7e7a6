"""`rl.simulate`: a deployment serves a traffic, request by request; what came of it, with intervals and timelines."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ridgeline import __version__
from ridgeline.api.intake import intake, wanted
from ridgeline.api.predict import CaseError, case_values
from ridgeline.core.cases import Cases
from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.tables import from_mapping
from ridgeline.serving.answer_values import Answers
from ridgeline.serving.answers import answers
from ridgeline.serving.deployment import Deployment
from ridgeline.serving.load import procedure
from ridgeline.serving.measure import MOST_REQUESTS, Benchmark
from ridgeline.serving.played import Played
from ridgeline.serving.power_table import PowerTable
from ridgeline.serving.predict import deployment_of
from ridgeline.serving.simulate import Choices, fleet_of
from ridgeline.workloads.traffic import RequestClass, Traffic, load_traffic, make_traffic

USUAL_REQUESTS = 2_000
"""Requests of a generated load that names neither a number nor a duration."""

WAVES = 20
"""Requests per client of a closed loop that names neither."""

Progress = Callable[[float, int, int], None]
"""Told now and then: simulated seconds, requests that have ended, requests in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWords:
    """The load as flags say it; the columns isl, osl, concurrency and request_rate_per_s of the case say the rest.

    Attributes:
        trace: a file of requests, or a traffic file; or a `Traffic`.
        arrivals: a process, as "poisson(12/s)"; instead of the trace's own arrivals.
        prompt, output: laws of lengths, as "lognormal(mean=1024, sigma=0.8)".
        requests, duration_s: where the load ends.
        rate_per_s: the trace is scaled in time to this mean rate.
        ttft_s, tpot_s, e2e_s: objectives of requests whose class states none.
        seed: of every random draw.
    """

    trace: str | os.PathLike[str] | Traffic | None = None
    arrivals: str = ""
    prompt: str = ""
    output: str = ""
    requests: int | None = None
    duration_s: float | None = None
    rate_per_s: float = 0.0
    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf
    seed: int = 0

    def traffic(self, values: Mapping[str, float | str]) -> Traffic:
        """The requests. Raises RidgelineError: files and words that cannot be read, nothing that says a load."""
        if isinstance(self.trace, Traffic):
            found = self.trace if self.requests is None else self.trace.head(self.requests)
        elif self.trace is not None:
            found = load_traffic(
                self.trace,
                seed=self.seed,
                requests=self.requests,
                duration_s=self.duration_s,
                arrivals=self.arrivals or None,
            )
        else:
            found = self._generated(values)
        if self.rate_per_s > 0 and (self.trace is not None):
            found = found.at_rate(self.rate_per_s)
        return self._promised(found)

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
        usual = round(clients) * WAVES if words.startswith("closed") and clients else USUAL_REQUESTS
        return make_traffic(
            arrivals=words,
            prompt=self.prompt or float(values["isl"]),
            output=self.output or float(values["osl"]),
            requests=self.requests or (None if self.duration_s is not None else max(usual, USUAL_REQUESTS)),
            duration_s=self.duration_s,
            seed=self.seed,
        )

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
                ttft_s=self.ttft_s if math.isinf(one.ttft_s) else one.ttft_s,
                tpot_s=self.tpot_s if math.isinf(one.tpot_s) else one.tpot_s,
                e2e_s=self.e2e_s if math.isinf(one.e2e_s) else one.e2e_s,
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
    """

    case: Mapping[str, float | str]
    traffic: Traffic = field(repr=False)
    played: Played = field(repr=False)
    answers: Answers = field(repr=False)
    powers: Mapping[str, PowerTable] = field(repr=False)
    provenance: Mapping[str, str | int]
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Inputs and answers as plain values, for JSON. Absent answers are None."""
        return {
            "task": "simulate serving",
            "case": dict(self.case),
            "answers": self.answers.to_dict(),
            "provenance": dict(self.provenance),
            "interrupted": self.interrupted,
        }


def simulate(
    task: str = "serving",
    *,
    on: str = "",
    plan: str = "",
    load: LoadWords | None = None,
    choices: Choices | None = None,
    until_s: float = math.inf,
    progress: Progress | None = None,
    **case: Any,
) -> Simulated:
    """Simulate one deployment under one load.

    Args:
        task: serving.
        on: machines, as "8x h100-sxm".
        plan: the plan's notation, as "tp8 kv=fp8".
        load: the requests; without it the case's isl, osl and concurrency or request_rate_per_s make them.
        choices: how the fleet is run.
        until_s: simulated time at which the run ends.
        progress: told how far it is.
        case: the columns of `predict serving`.
    Raises: as `predict`; and what is wrong with the load.
    """
    if task != "serving":
        fix = did_you_mean(task, ("serving",), listing="`ridgeline simulate serving`")
        raise UnknownNameError(f"unknown task {task!r} of simulate", at="task", fix=fix)
    words = load or LoadWords()
    values = case_values("serving", on=on, plan=plan, case=case)
    traffic = words.traffic(values)
    cases, deployment = deployed(values, traffic)
    told = None if progress is None else (lambda time, ended: progress(time, ended, len(traffic)))
    chosen = choices or Choices(seed=words.seed)
    separate = cases.text("mode", 0) == "disagg"
    with np.errstate(all="ignore"):
        fleet, powers = fleet_of(deployment, traffic, choices=chosen, disaggregated=separate, progress=told)
    played = fleet.play(until_s)
    runtime, engine = deployment.runtime, fleet.members[-1].engine
    understood: dict[str, float | str] = {name: float(cases.number(name)[0]) for name in cases.numbers}
    understood |= {name: cases.text(name, 0) for name in cases.texts}
    return Simulated(
        case=understood,
        traffic=traffic,
        played=played,
        answers=answers(
            played,
            classes=traffic.classes,
            class_code=traffic.class_code,
            powers=powers,
            rent_usd_per_chip_s=deployment.machines.machines[0].chip.rent_usd_per_s or math.nan,
            growth=engine.growth,
            grows=engine.grows,
            host_step_s=runtime.host_step_s,
            host_sequence_s=runtime.host_sequence_s,
        ),
        powers=powers,
        provenance=_provenance(words.seed, traffic, understood, chosen),
        interrupted=fleet.interrupted,
    )


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


def _provenance(seed: int, traffic: Traffic, case: Mapping[str, float | str], choices: Choices) -> dict[str, str | int]:
    load = hashlib.sha256()
    for column in (traffic.arrival_s, traffic.prompt_tokens, traffic.output_tokens, traffic.after, traffic.think_s):
        load.update(np.ascontiguousarray(column).tobytes())
    load.update(np.ascontiguousarray(traffic.hash_ids).tobytes())
    configuration = hashlib.sha256(repr((sorted(case.items()), choices)).encode()).hexdigest()
    return {
        "version": __version__,
        "seed": seed,
        "traffic_sha256": load.hexdigest()[:16],
        "configuration_sha256": configuration[:16],
    }
