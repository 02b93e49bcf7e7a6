"""Lanes of one plan: what each runs, the rules of its engine, its step times and power, sampled once.

A replica of a plan has `dp * pp` lanes, each an engine of its own that decodes its share of the sequences: ranks of
attention data parallelism, and the micro-batches that keep the stages of a pipeline busy.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems
from ridgeline.core.errors import CapacityError, DomainError, SpecError
from ridgeline.serving.clocks import governor
from ridgeline.serving.deployment import Deployment, check, flag_unfit, lane_load, make_pool, plan_of
from ridgeline.serving.deployment import Pool as Lanes
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes, sample
from ridgeline.serving.fleet.choices import Choices
from ridgeline.serving.fleet.lora import LoraCosts, lora_costs
from ridgeline.serving.fleet.models import ModelCosts, model_costs, models_of
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.registry import policy
from ridgeline.serving.record.power_table import PowerTable, sample_power
from ridgeline.workloads.traffic import Traffic

WIDEN = 4.0
"""Ratio of neighbouring contexts at which the slope of a decode step may change."""

SHORTEST = 32.0
"""Tokens: below this context the price of attention is its launch."""


@dataclass(slots=True, kw_only=True, eq=False)
class Slots:
    """Places of requests that come while the fleet runs; whoever runs it writes them, and uses them anew.

    Attributes:
        prompts, outputs: tokens of the request in each place.
        hash_tokens: tokens of a unit of the prefix cache; 0: none.
        units: ids of the units of each prompt.
    """

    prompts: array[int]
    outputs: array[int]
    hash_tokens: int = 0
    units: list[Sequence[int]] = field(default_factory=list)


Costs = LoraCosts | ModelCosts
"""Of what requests share and must be on the chips for them."""


class LaneMaker:
    """Makes lanes that serve one traffic: they share requests, their log, and the prefixes of their prompts."""

    def __init__(self, d: Deployment, traffic: Traffic, choices: Choices, slots: Slots | None = None) -> None:
        """`d` says how many prompt tokens are found in caches, for all pools; `slots` hold requests that come live."""
        self.traffic, self.choices = traffic, choices
        prompts: Sequence[int] = traffic.prompt_tokens.data if slots is None else slots.prompts
        outputs: Sequence[int] = traffic.output_tokens.data if slots is None else slots.outputs
        frac = float(d.cases["prefix_hit_frac"][0])
        hashed = (slots.hash_tokens if slots is not None else traffic.hash_tokens) > 0 and d.runtime.prefix_cache
        hits = array("q", [min(int(p * frac), p - 1) for p in prompts]) if frac > 0 and not hashed else None
        self.requests = Requests(prompts=prompts, outputs=outputs, hits=hits)
        self.log = Log(len(traffic))
        self.hash_tokens = slots.hash_tokens if slots is not None else traffic.hash_tokens
        self.units = None if not hashed else units_of(traffic) if slots is None else slots.units.__getitem__
        self.adapters = traffic.adapter.tolist() if (traffic.adapter >= 0).any() else None
        self.models = models_of(traffic.model)
        if self.models and self.adapters:
            raise SpecError("requests name a model or an adapter, not both", at="models", fix="leave out one of them")
        many = traffic.classes[1:] or traffic.classes[0].priority
        self.facts = Facts(
            prompt_tokens=prompts,
            output_tokens=outputs,
            arrival_s=self.log.sent,
            class_code=traffic.class_code.tolist() if many else None,
            classes=traffic.classes,
            tenant=traffic.tenant.tolist() if traffic.tenant.any() else None,
            session=traffic.session.tolist() if (traffic.session >= 0).any() else None,
            model=self.models,
            seed=choices.seed,
        )
        self.stores = [self.policy("tier", tier) for tier in choices.tiers]

    def policy(self, kind: str, chosen: object) -> Any:
        """The object of a policy for this run."""
        return policy(kind, chosen, plugins=self.choices.plugins)(self.facts)

    def lanes(self, d: Deployment, name: str, prefix: str, *, prompts_only: bool) -> Lanes:
        """Lanes of the plan in the columns of that prefix. Raises PlanError, CapacityError: it cannot be."""
        workers, asked = workers_of(d, prefix), asked_of(d, prefix)
        plan = plan_of(d, prefix)
        problems, rows = Problems(1), np.zeros(1, dtype=np.intp)
        check(d, plan, problems, rows)
        alone = lane_load(d, workers * plan.dp * plan.pp)
        lanes = make_pool(d, plan, alone, workers, batch=asked, prompts_only=prompts_only)
        flag_unfit(lanes, problems, rows)
        if not problems.ok[0]:
            raise CapacityError(problems.column()[0], at=f"{name} pool")
        pace = governor(float(d.cases["power_cap_w"][0]), d.machines.machines[0].chip)
        return replace(lanes, stepper=replace(lanes.stepper, pace=pace))

    def rules(
        self, d: Deployment, lanes: Lanes, asked: NDArray[np.float64], *, prefill_only: bool, tokens: float
    ) -> Rules:
        """The rules of each lane's engine, whose cache holds so many tokens."""
        r, choices = d.runtime, self.choices
        budget = max(float(r.token_budget(d.cases)[0]), 1.0)
        slots = float(asked[0]) if asked[0] > 0 else r.max_batch
        if r.prompt_policy != "prefill-first":
            slots = min(slots, max(budget - 1.0, 1.0))
        growth = float(np.ravel(lane_load(d, 1.0).tokens_per_step)[0])
        block = 1 if growth != 1.0 else r.cache_block_tokens
        if self.units is not None and growth == 1.0:
            block = math.gcd(block, self.hash_tokens)
        waits = bool(r.batch_waits(d.cases)[0])
        shared = np.ravel(np.asarray(lanes.lanes, float))[0] / np.ravel(np.asarray(d.cases["replicas"], float))[0]
        return Rules(
            slots=int(slots - r.lost_slots if slots > r.lost_slots else slots),
            token_budget=budget,
            prompts=r.prompt_policy,
            longest_chunk=choices.longest_chunk,
            cache=r.cache_policy,
            cache_tokens=float(math.floor(tokens)),
            longest_tokens=math.inf if d.attention is None else float(np.ravel(tokens / lanes.memory.groups)[0]),
            block_tokens=block,
            kept_tokens=self.policy("kv", choices.kv).tokens,
            watermark_frac=choices.watermark_frac,
            preemption=choices.preemption,
            copy_s=block_copy_s(d, lanes, block, choices.swap_call_s) if choices.preemption == "swap" else 0.0,
            lag=r.admission_lag_steps,
            wait_steps=int(r.batch_wait_steps) if waits else 0,
            wait_frac=r.batch_wait_frac,
            front_end_s=r.front_end_token_s * float(shared),
            growth=growth if not prefill_only else 1.0,
            prefill_only=prefill_only,
            batching=choices.batching,
        )

    def times(self, lanes: Lanes, rules: Rules) -> StepTimes:
        """The step table of a lane over the contexts that the traffic can bring."""
        low, high, marks = self._contexts()
        return sample(
            lanes.stepper,
            rows=1,
            low=low,
            high=high,
            slots=min(float(rules.slots), float(max(len(self.traffic), 1))),
            budget=min(rules.token_budget, float(self.traffic.prompt_tokens.sum(initial=1))),
            marks=marks,
        )[0]

    def power(self, lanes: Lanes, times: StepTimes) -> PowerTable:
        """The power of a chip of such lanes in their steps."""
        low, high, _ = self._contexts()
        return sample_power(lanes.stepper, low=low, high=high, tokens=times.tokens[-1] * times.width)

    def _contexts(self) -> tuple[float, float, list[float]]:
        """Shortest and longest context, and where the slope of a decode step may change between them."""
        longest = float((self.traffic.prompt_tokens + self.traffic.output_tokens).max(initial=2))
        low = max(min(float(self.traffic.prompt_tokens.min(initial=1)), longest / WIDEN), SHORTEST)
        pieces = max(math.ceil(math.log(max(longest / low, 1.0)) / math.log(WIDEN)), 1)
        return low, max(longest, low * 2.0), [low * (longest / low) ** (i / pieces) for i in range(1, pieces)]

    def costs(self, d: Deployment, lanes: Lanes) -> Costs | None:
        """What adapters, or models that take turns, cost on such lanes, if the traffic names any."""
        choices = self.choices
        if self.models is None:
            return None if self.adapters is None else lora_costs(d, lanes, choices.lora)
        return model_costs(
            d,
            lanes,
            choices.residence,
            source=choices.load_from,
            count=len(set(self.models)),
            order=lambda: self.policy("eviction", choices.residence.eviction),
        )

    def engine(self, times: StepTimes, rules: Rules, bytes_per_token: float, costs: Costs | None) -> Engine:
        """An empty engine."""
        choices, prefix, of = self.choices, None, self.models or self.adapters
        if self.units is not None:
            unit = self.hash_tokens
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
            adapters=costs.adapters(of) if costs and of else None,
            keep_runs=choices.keep_runs,
        )

    @property
    def longest_prompt(self) -> float:
        """Tokens of the longest prompt."""
        return float(self.traffic.prompt_tokens.max(initial=1))


def workers_of(d: Deployment, prefix: str) -> NDArray[np.float64]:
    """Replicas that the columns of a pool ask for."""
    return d.cases[f"{prefix}workers" if prefix else "replicas"]


def asked_of(d: Deployment, prefix: str) -> NDArray[np.float64]:
    """Sequences at once that the columns of a pool ask for; 0: as the runtime does."""
    return d.cases[f"{prefix}batch" if prefix else "max_batch"]


def copy_s(d: Deployment, lanes: Lanes) -> float:
    """Seconds per token of context between device and host: each chip over its own host port."""
    machine = (d.machines if d.attention is None else d.attention).machines[0]
    port = machine.chip.port("host")
    if port is None:
        what = f"{machine.chip.name} has no host port in the catalogue"
        raise DomainError(what, at="preemption", got="swap", fix="take preemption recompute")
    return token_bytes(d, lanes) / port.bandwidth_bytes_per_s


def block_copy_s(d: Deployment, lanes: Lanes, block: int, call_s: float) -> float:
    """Seconds to move one block: its bytes over the port, and a call per layer of a stage for keys and for values."""
    if not 0 <= call_s < math.inf:
        raise DomainError("a call takes some time or none", at="swap_call_s", got=call_s, fix="give for example 10us")
    stages = np.ravel(np.asarray(lanes.stepper.plan.pp, float))[0]
    layers = float(np.ceil(np.ravel(np.asarray(d.model.layers, float))[0] / stages))
    return block * copy_s(d, lanes) + 2.0 * layers * call_s


def cache_tokens(d: Deployment, lanes: Lanes, costs: Costs | None = None) -> float:
    """Tokens that the cache of one lane holds, at the mean length of a resident sequence, beside its adapters."""
    free_bytes = lanes.memory.free_bytes - (costs.taken_bytes if costs else 0.0)
    room = free_bytes / token_bytes(d, lanes) / np.asarray(lanes.stepper.plan.pp)
    return float(np.ravel(np.asarray(room, float))[0])


def token_bytes(d: Deployment, lanes: Lanes) -> float:
    """Cache bytes on a chip per token of a resident sequence of mean length."""
    return float(np.ravel(np.asarray(lanes.memory.sequence_bytes / lanes.context, float))[0])


def units_of(traffic: Traffic) -> Callable[[int], Sequence[int]]:
    """Ids of the prompt's units by request; where a later turn goes on from a request, the ids of that turn, which also
    name what the request emits. Keys and values of one adapter or model are no use to
    another.
    """
    start: list[int] = traffic.hash_start.tolist()
    ids: list[int] = traffic.hash_ids.tolist()
    owners = traffic.model if (traffic.model >= 0).any() else traffic.adapter
    if (owners >= 0).any():
        owner = np.repeat(owners, np.diff(traffic.hash_start))
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
