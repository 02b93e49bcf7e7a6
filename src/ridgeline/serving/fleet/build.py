"""From a case of `predict serving` and a traffic to a fleet of engines, and the run that they play.

A replica of a plan has `dp * pp` lanes, each an engine of its own that decodes its share of the sequences: ranks of
attention data parallelism, and the micro-batches that keep the stages of a pipeline busy. Step times are sampled once.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems
from ridgeline.core.errors import CapacityError, DomainError
from ridgeline.plans import check_plan
from ridgeline.serving.deployment import (
    Deployment,
    flag_unfit,
    lane_load,
    make_pool,
    plan_of,
)
from ridgeline.serving.deployment import (
    Pool as Lanes,
)
from ridgeline.serving.disaggregated import moved_s
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes, sample
from ridgeline.serving.fleet.fleet import Fleet, Member, Pool
from ridgeline.serving.fleet.lora import Lora, LoraCosts, lora_costs
from ridgeline.serving.fleet.upkeep import Failures, Scaling, arm_failures
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.registry import policy
from ridgeline.serving.record.power_table import PowerTable, sample_power
from ridgeline.sim import Simulation
from ridgeline.workloads.traffic import Traffic

WIDEN = 4.0
"""Ratio of neighbouring contexts at which the slope of a decode step may change."""

SHORTEST = 32.0
"""Tokens: below this context the price of attention is its launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How the fleet is run, beyond what the case says; policies as `policies.policy` takes them.

    Attributes:
        scheduler: order of each engine's queue. router: which lane takes a request.
        kv: what a sequence keeps of its cache. eviction: order in which prefixes leave. tiers: where they go to.
        preemption: recompute or swap. batching: continuous or static.
        watermark_frac: share of the cache that admission keeps free.
        longest_chunk: most tokens of one prompt in an iteration.
        longest: most tokens of prompt and output that are served.
        lora: adapters, where the traffic names any.
        autoscaler: how many of the case's replicas are up (""; all of them).
        cold_start_s: from the decision to start a replica until it serves (None: its weights over the host's link).
        failures: how replicas fail.
        plugins: whether policies of installed distributions count.
        seed: of policies and failures.
        keep_runs: keep each lane's runs, for timelines and per-token times.
    """

    scheduler: object = "fcfs"
    router: object = "least-loaded"
    kv: object = "full"
    eviction: object = "lru"
    tiers: Sequence[object] = ()
    preemption: str = "recompute"
    batching: str = "continuous"
    watermark_frac: float = 0.0
    longest_chunk: float = math.inf
    longest: float = math.inf
    lora: Lora = field(default_factory=Lora)
    autoscaler: object = ""
    cold_start_s: float | None = None
    failures: Failures | None = None
    plugins: bool = True
    seed: int = 0
    keep_runs: bool = True


def fleet_of(
    d: Deployment,
    traffic: Traffic,
    *,
    choices: Choices | None = None,
    disaggregated: bool = False,
) -> tuple[Fleet, dict[str, PowerTable]]:
    """The fleet that serves the traffic, and the power of a chip of each of its pools.

    Args:
        d: one deployment; its isl and osl are the means of the traffic.
        traffic: the load.
        choices: policies.
        disaggregated: separate prefill and decode pools.
    Raises:
        PlanError, CapacityError: the plan is not legal, or the model does not fit.
    """
    choices = choices or Choices()
    build = _Builder(d, traffic, choices)
    if disaggregated:
        decode = build.pool("decode", "decode_", d.cases["decode_workers"], None)
        prefill = build.pool("prefill", "prefill_", d.cases["prefill_workers"], decode)
        pools = [prefill, decode]
    else:
        pools = [build.pool("serving", "", d.cases["replicas"], None)]
    control = Simulation(seed=choices.seed) if choices.autoscaler or choices.failures is not None else None
    fleet = Fleet(traffic, build.requests, build.log, pools, control=control, longest=choices.longest)
    if control is not None:
        build.keep_up(fleet, control)
    return fleet, build.powers


class _Builder:
    """What the pools of one fleet share: requests, their log, and the prefixes of their prompts."""

    def __init__(self, d: Deployment, traffic: Traffic, choices: Choices) -> None:
        self.d, self.traffic, self.choices = d, traffic, choices
        prompts, outputs = traffic.prompt_tokens.data, traffic.output_tokens.data
        frac = float(d.cases["prefix_hit_frac"][0])
        hashed = bool(traffic.hash_tokens) and d.runtime.prefix_cache
        hits = array("q", [min(int(p * frac), p - 1) for p in prompts]) if frac > 0 and not hashed else None
        self.requests = Requests(prompts=prompts, outputs=outputs, hits=hits)
        self.log = Log(len(traffic))
        self.units = units_of(traffic) if hashed else None
        self.adapters = traffic.adapter.tolist() if (traffic.adapter >= 0).any() else None
        self.lanes: dict[str, Lanes] = {}
        self.powers: dict[str, PowerTable] = {}
        many = traffic.classes[1:] or traffic.classes[0].priority
        self.facts = Facts(
            prompt_tokens=prompts,
            output_tokens=outputs,
            arrival_s=self.log.sent,
            class_code=traffic.class_code.tolist() if many else None,
            classes=traffic.classes,
            tenant=traffic.tenant.tolist() if traffic.tenant.any() else None,
            session=traffic.session.tolist() if (traffic.session >= 0).any() else None,
            seed=choices.seed,
        )

        self.stores = [self.policy("tier", tier) for tier in choices.tiers]

    def policy(self, kind: str, chosen: object) -> Any:
        """The object of a policy for this run."""
        return policy(kind, chosen, plugins=self.choices.plugins)(self.facts)

    def keep_up(self, fleet: Fleet, control: Simulation) -> None:
        """Failures and scaling of every pool."""
        choices = self.choices
        if choices.failures is not None:
            arm_failures(fleet, control, choices.failures)
        if choices.autoscaler:
            for pool in fleet.pools:
                scaler = self.policy("autoscaler", choices.autoscaler)
                Scaling(fleet, control, pool, scaler, cold_start_s=self._cold_start_s(pool.name))

    def _cold_start_s(self, name: str) -> float:
        given = self.choices.cold_start_s
        if given is not None:
            return given
        port = self.d.machines.machines[0].chip.port("host")
        if port is None:
            fix = "give the time, for example --cold-start 60s"
            raise DomainError(
                "the catalogue has no host port of this chip to load weights over", at="cold_start", fix=fix
            )
        return float(np.ravel(np.asarray(self.lanes[name].memory.weights_bytes))[0] / port.bandwidth_bytes_per_s)

    def pool(self, name: str, prefix: str, workers: NDArray[np.float64], passes_to: Pool | None) -> Pool:
        """Lanes of one plan, and their router."""
        d, choices = self.d, self.choices
        plan = plan_of(d.cases, prefix)
        problems, rows = Problems(1), np.zeros(1, dtype=np.intp)
        check_plan(d.model, plan, problems, rows)
        alone = lane_load(d, workers * plan.dp * plan.pp)
        asked = d.cases[f"{prefix}batch"] if prefix else d.cases["max_batch"]
        lanes = make_pool(d, plan, alone, workers, batch=asked, prompts_only=passes_to is not None)
        flag_unfit(lanes, problems, rows)
        if not problems.ok[0]:
            raise CapacityError(problems.column()[0], at=f"{name} pool")
        self.lanes[name] = lanes
        costs = lora_costs(d, lanes, choices.lora) if self.adapters is not None else None
        rules = self._rules(lanes, asked, costs, prefill_only=passes_to is not None)
        times = self._times(name, lanes, rules)
        replicas, per = int(workers[0]), int(np.ravel(plan.dp * plan.pp)[0])
        chips = float(np.ravel(np.asarray(lanes.chips, float))[0]) / (replicas * per)
        per_token = token_bytes(d, lanes)
        members = [
            Member(self._engine(times, rules, per_token, costs), replica=replica, chips=chips)
            for replica in range(replicas)
            for _ in range(per)
        ]
        made = Pool(name=name, members=members, router=self.policy("router", choices.router), passes_to=passes_to)
        if passes_to is not None:
            total = lanes.chips + self.lanes[passes_to.name].chips
            tokens = np.asarray(self.traffic.prompt_tokens, dtype=np.float64)
            made.transfer_s = array("d", np.broadcast_to(moved_s(d, lanes, tokens, total), tokens.shape).tobytes())
        return made

    def _rules(self, lanes: Lanes, asked: NDArray[np.float64], costs: LoraCosts | None, *, prefill_only: bool) -> Rules:
        d, r, choices = self.d, self.d.runtime, self.choices
        budget = max(float(r.token_budget(d.cases)[0]), 1.0)
        slots = float(asked[0]) if asked[0] > 0 else r.max_batch
        if r.prompt_policy != "prefill-first":
            slots = min(slots, max(budget - 1.0, 1.0))
        growth = float(np.ravel(lane_load(d, 1.0).tokens_per_step)[0])
        block = 1 if growth != 1.0 else r.cache_block_tokens
        if self.units is not None and growth == 1.0:
            block = math.gcd(block, self.traffic.hash_tokens)
        waits = bool(r.batch_waits(d.cases)[0])
        shared = np.ravel(np.asarray(lanes.lanes, float))[0] / np.ravel(np.asarray(d.cases["replicas"], float))[0]
        return Rules(
            slots=int(slots - r.lost_slots if slots > r.lost_slots else slots),
            token_budget=budget,
            prompts=r.prompt_policy,
            longest_chunk=choices.longest_chunk,
            cache=r.cache_policy,
            cache_tokens=float(math.floor(cache_tokens(d, lanes, costs.taken_bytes if costs else 0.0))),
            block_tokens=block,
            kept_tokens=self.policy("kv", choices.kv).tokens,
            watermark_frac=choices.watermark_frac,
            preemption=choices.preemption,
            copy_s=block * self._copy_s(lanes) if choices.preemption == "swap" else 0.0,
            lag=r.admission_lag_steps,
            wait_steps=int(r.batch_wait_steps) if waits else 0,
            wait_frac=r.batch_wait_frac,
            front_end_s=r.front_end_token_s * float(shared),
            growth=growth if not prefill_only else 1.0,
            prefill_only=prefill_only,
            batching=choices.batching,
        )

    def _copy_s(self, lanes: Lanes) -> float:
        """Seconds per token of context between device and host: each chip over its own host port."""
        machine = self.d.machines.machines[0]
        port = machine.chip.port("host")
        if port is None:
            what = f"{machine.chip.name} has no host port in the catalogue"
            raise DomainError(what, at="preemption", got="swap", fix="take preemption recompute")
        return token_bytes(self.d, lanes) / port.bandwidth_bytes_per_s

    def _times(self, name: str, lanes: Lanes, rules: Rules) -> StepTimes:
        """The step table of a lane over the contexts that the traffic can bring, and the power of its steps."""
        longest = float((self.traffic.prompt_tokens + self.traffic.output_tokens).max(initial=2))
        low = max(min(float(self.traffic.prompt_tokens.min(initial=1)), longest / WIDEN), SHORTEST)
        pieces = max(math.ceil(math.log(max(longest / low, 1.0)) / math.log(WIDEN)), 1)
        marks = [low * (longest / low) ** (i / pieces) for i in range(1, pieces)]
        times = sample(
            lanes.stepper,
            rows=1,
            low=low,
            high=max(longest, low * 2.0),
            slots=min(float(rules.slots), float(max(len(self.traffic), 1))),
            budget=min(rules.token_budget, float(self.traffic.prompt_tokens.sum(initial=1))),
            marks=marks,
        )[0]
        self.powers[name] = sample_power(
            lanes.stepper, low=low, high=max(longest, low * 2.0), tokens=times.tokens[-1] * times.width
        )
        return times

    def _engine(self, times: StepTimes, rules: Rules, bytes_per_token: float, costs: LoraCosts | None) -> Engine:
        choices, prefix = self.choices, None
        if self.units is not None:
            unit = self.traffic.hash_tokens
            prefix = PrefixCache(
                self.units,
                unit_tokens=unit,
                block_tokens=rules.block_tokens,
                tiers=[store.tier(unit * bytes_per_token) for store in self.stores],
                order=self.policy("eviction", choices.eviction),
            )
        return Engine(
            times,
            rules,
            self.requests,
            self.log,
            queue=self.policy("scheduler", choices.scheduler),
            prefix=prefix,
            adapters=costs.adapters(self.adapters) if costs and self.adapters else None,
            keep_runs=choices.keep_runs,
        )


def cache_tokens(d: Deployment, lanes: Lanes, taken_bytes: float = 0.0) -> float:
    """Tokens that the cache of one lane holds, at the mean length of a resident sequence, beside what is `taken`."""
    room = (lanes.memory.free_bytes - taken_bytes) / token_bytes(d, lanes) / np.asarray(lanes.stepper.plan.pp)
    return float(np.ravel(np.asarray(room, float))[0])


def token_bytes(d: Deployment, lanes: Lanes) -> float:
    """Cache bytes on a chip per token of a resident sequence of mean length."""
    return float(np.ravel(np.asarray(lanes.memory.sequence_bytes / lanes.context, float))[0])


def units_of(traffic: Traffic) -> Callable[[int], Sequence[int]]:
    """Ids of the prompt's units by request; where a later turn goes on from a request, the ids of that turn, which also
    name what the request emits. Keys and values of one adapter are no use to another.
    """
    start: list[int] = traffic.hash_start.tolist()
    ids: list[int] = traffic.hash_ids.tolist()
    if (traffic.adapter >= 0).any():
        owner = np.repeat(traffic.adapter, np.diff(traffic.hash_start))
        ids = np.unique(np.stack([traffic.hash_ids, owner]), axis=1, return_inverse=True)[1].ravel().tolist()
    longer: dict[int, int] = {}
    for child in np.flatnonzero(traffic.after >= 0).tolist():
        parent = int(traffic.after[child])
        own = ids[start[parent] : start[parent] + int(traffic.prompt_tokens[parent]) // traffic.hash_tokens]
        if own and ids[start[child] : start[child] + len(own)] == own:
            longer.setdefault(parent, child)

    def units(request: int) -> Sequence[int]:
        named = longer.get(request, request)
        return ids[start[named] : start[named + 1]]

    return units
