"""From the pools of a fleet and a traffic to engines that run: lanes, routers, links, and what happens on the way."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.core.errors import SpecError
from ridgeline.hardware.chip import Value
from ridgeline.serving.deployment import Pool as Lanes
from ridgeline.serving.deployment import rent_usd_per_s
from ridgeline.serving.disaggregated import moved_s
from ridgeline.serving.engine.rules import Rules
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.fleet.choices import Choices, PoolPlan
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.lanes import Costs, LaneMaker, Slots, asked_of, cache_tokens, token_bytes, workers_of
from ridgeline.serving.fleet.loading import load_bytes_per_s
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.fleet.moving import Changer, Link, Rebalancing, Switching
from ridgeline.serving.fleet.rates import lane_rate
from ridgeline.serving.fleet.slices import Split, asked_frac, sliced, sliced_machines
from ridgeline.serving.fleet.upkeep import Scaling, arm_failures
from ridgeline.serving.record.played import DECODE, MIXED, PREFILL
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.sim import Simulation
from ridgeline.workloads.model import Batch
from ridgeline.workloads.traffic import Traffic

MOST_LANES = 1 << 17
"""Of one pool: each is an engine of some ten kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """A fleet that is ready to play.

    Attributes:
        fleet: its engines.
        powers: of a chip of each pool.
        rents: of a chip of each pool, USD/s; NaN where the catalogue has none.
    """

    fleet: Fleet
    powers: Mapping[str, PowerTable]
    rents: Mapping[str, float]


@dataclass(slots=True, kw_only=True, eq=False)
class _Made:
    """A pool as it was made: replicas of equal lanes under one set of rules."""

    plan: PoolPlan
    lanes: Lanes
    rules: Rules
    times: StepTimes
    replicas: int
    per_replica: int
    chips: float
    bytes_per_token: float
    costs: Costs | None
    pool: Pool

    @property
    def name(self) -> str:
        return self.pool.name


def fleet_of(
    plans: Sequence[PoolPlan],
    traffic: Traffic,
    *,
    choices: Choices | None = None,
    slots: Slots | None = None,
) -> Built:
    """The fleet that serves the traffic.

    Args:
        plans: its pools. Arrivals enter those that are no decode pools.
        traffic: the load.
        choices: policies.
        slots: places of requests that come live; `traffic` then only says how many and how long they may be.
    Raises:
        PlanError, CapacityError: a plan is not legal, or the model does not fit.
        SpecError: choices that do not go together.
    """
    choices = choices or Choices()
    return _Builder(plans, traffic, choices, slots).built()


class _Builder:
    """Makes the pools of one fleet, decode pools first."""

    def __init__(
        self, plans: Sequence[PoolPlan], traffic: Traffic, choices: Choices, slots: Slots | None = None
    ) -> None:
        self.plans, self.traffic, self.choices = plans, traffic, choices
        self.maker = LaneMaker(plans[0].deployment, traffic, choices, slots)
        self.made: dict[str, _Made] = {}
        self.changers: list[tuple[_Made, _Made, list[Changer]]] = []
        self.powers: dict[str, PowerTable] = {}

    def built(self) -> Built:
        """All of it."""
        self._check()
        for plan in self.plans:
            if plan.role == DECODE:
                self._pool(plan)
        for plan in self.plans:
            if plan.split is not None:
                self._split(plan, plan.split)
            elif plan.role != DECODE:
                self._pool(plan, passes_to=self.made[plan.to] if plan.role == PREFILL else None)
        for plan in self.plans:
            if self.choices.roles and plan.role == PREFILL:
                self._twins(self.made[plan.name], self.made[plan.to])
        made = self._ordered()
        choices = self.choices
        moves = choices.autoscaler or choices.failures or choices.roles or choices.rebalance
        control = Simulation(seed=choices.seed) if moves else None
        fleet = Fleet(
            self.traffic,
            self.maker.requests,
            self.maker.log,
            [one.pool for one in made],
            entry=self._entry(made),
            control=control,
            longest=choices.longest,
        )
        if control is not None:
            self._keep_up(fleet, control)
        rents = {one.name: _number(rent_usd_per_s(one.plan.deployment, one.lanes)) for one in made}
        return Built(fleet=fleet, powers=self.powers, rents=rents)

    def _check(self) -> None:
        """Refuse choices that do not go together."""
        c = self.choices
        roles, kept = [plan.role for plan in self.plans], c.autoscaler or c.failures
        if c.roles and (PREFILL not in roles or kept or sorted(roles).count(DECODE) != roles.count(PREFILL)):
            fix = "give each prefill pool a decode pool of its own, and neither autoscaler nor failures"
            raise SpecError("roles change between a prefill pool and a decode pool", at="roles", got=c.roles, fix=fix)
        apart = [plan for plan in self.plans if plan.deployment.attention is not None]
        beside = c.roles or c.rebalance or self.maker.adapters or self.maker.models
        if apart and (beside or any(plan.split is not None or plan.role != MIXED for plan in apart)):
            fix = "leave out attention_chip, or separate pools, split chips, roles, rebalance, adapters and models"
            raise SpecError("attention on chips of its own is of a mixed pool", at="attention_chip", fix=fix)
        if self.maker.models and (c.roles or c.rebalance or any(p.split or p.role != MIXED for p in self.plans)):
            fix = "leave out separate pools, split chips, roles and rebalance"
            raise SpecError("models take turns in mixed pools", at="models", fix=fix)
        if any((p in apart or p.split is not None) and p.deployment.cases["power_cap_w"][0] > 0 for p in self.plans):
            fix = "leave out power_cap_w, attention_chip and split chips; clock_frac works with all of them"
            raise SpecError("a power cap is of chips that run whole lanes", at="power_cap_w", fix=fix)
        if kept and any(plan.split is not None for plan in self.plans):
            fix = "leave out autoscaler and failures, or do not split chips"
            raise SpecError("lanes that share a chip cannot fail or come one by one", at="split", fix=fix)

    def _ordered(self) -> list[_Made]:
        """Pools as they were asked for, but those that arrivals enter first."""
        return sorted(self.made.values(), key=lambda one: one.pool.passes_to is None and one.plan.role != MIXED)

    # Pools -----------------------------------------------------------------------------------------------------------

    def _pool(self, plan: PoolPlan, *, passes_to: _Made | None = None) -> None:
        """Lanes of one plan, and their router."""
        d, prompts_only = plan.deployment, passes_to is not None
        lanes = self.maker.lanes(d, plan.name, plan.prefix, prompts_only=prompts_only)
        costs = self.maker.costs(d, lanes)
        made = self._made(plan, plan.name, lanes, cache_tokens(d, lanes, costs), costs, prompts_only=prompts_only)
        self.powers[plan.name] = self.maker.power(lanes, made.times)
        made.pool.members += self._members(made, made.replicas)
        if passes_to is not None:
            made.pool.passes_to = passes_to.pool
            made.pool.transfer_s = self._transfer_s(made, passes_to)

    def _made(
        self,
        plan: PoolPlan,
        name: str,
        lanes: Lanes,
        tokens: float,
        costs: Costs | None,
        *,
        prompts_only: bool,
        share: float = 1.0,
    ) -> _Made:
        """A pool without lanes yet; each will have `share` of its chips."""
        d = plan.deployment
        rules = self.maker.rules(d, lanes, asked_of(d, plan.prefix), prefill_only=prompts_only, tokens=tokens)
        replicas = int(workers_of(d, plan.prefix)[0])
        per = int(np.ravel(np.asarray(lanes.stepper.plan.dp * lanes.stepper.plan.pp))[0])
        made = _Made(
            plan=plan,
            lanes=lanes,
            rules=rules,
            times=self.maker.times(lanes, rules),
            replicas=replicas,
            per_replica=per,
            chips=share * float(np.ravel(np.asarray(lanes.chips, float))[0]) / (replicas * per),
            bytes_per_token=token_bytes(d, lanes),
            costs=costs,
            pool=Pool(name=name, members=[], router=self.maker.policy("router", plan.router or self.choices.router)),
        )
        self.made[name] = made
        return made

    def _members(self, made: _Made, replicas: int, start: int = 0) -> list[Member]:
        """Lanes of so many replicas, numbered from `start`."""
        if replicas * made.per_replica > MOST_LANES:
            fix = f"simulate at most {MOST_LANES:,} lanes: a share of the fleet under that share of the load"
            raise SpecError("too many lanes to simulate", at=made.name, got=replicas * made.per_replica, fix=fix)
        return [
            Member(
                self.maker.engine(made.times, made.rules, made.bytes_per_token, made.costs),
                replica=start + i,
                chips=made.chips,
            )
            for i in range(replicas)
            for _ in range(made.per_replica)
        ]

    def _transfer_s(self, prefill: _Made, decode: _Made) -> array[float]:
        """Seconds that each prompt's cache takes to the pool that decodes; of two kinds of machine, by the slower."""
        source, target = prefill.plan.deployment, decode.plan.deployment
        tokens = np.asarray(self.traffic.prompt_tokens, dtype=np.float64)
        together = prefill.lanes.chips + decode.lanes.chips
        machines = [d.machines.machines[0] for d in (source, target)]
        alike = machines[0].chip.name == machines[1].chip.name and machines[0].node == machines[1].node
        if not alike:  # they meet in the outermost level of links
            ends = [np.asarray(moved_s(one.plan.deployment, one.lanes, tokens, np.inf)) for one in (prefill, decode)]
            times = np.maximum(ends[0], ends[1])
        else:
            times = np.asarray(moved_s(source, prefill.lanes, tokens, together))
        return array("d", np.broadcast_to(times, tokens.shape).tobytes())

    def _split(self, plan: PoolPlan, split: Split) -> None:
        """Two lanes on the chips of each: one for prompts, one that decodes, each with its part of the units."""
        whole = plan.deployment.machines
        shares = (split.frac, 1.0 - split.frac)
        names = (f"{plan.name}-{PREFILL}", f"{plan.name}-{DECODE}")
        alone = [self._slice(plan, name, share, split.alone(share)) for name, share in zip(names, shares, strict=True)]
        lanes = [self.maker.lanes(part.deployment, name, "", prompts_only=name == names[0]) for part, name in alone]
        costs = self.maker.costs(plan.deployment, lanes[1])
        total = cache_tokens(plan.deployment, lanes[1], costs)
        budget = float(plan.deployment.runtime.token_budget(plan.deployment.cases)[0])
        prompts = min(max(self.maker.longest_prompt, 2.0 * budget), total / 2.0)
        made = [
            self._made(part, name, one, tokens, costs, prompts_only=name == names[0], share=share)
            for (part, name), one, tokens, share in zip(alone, lanes, (prompts, total - prompts), shares, strict=True)
        ]
        asks = [
            asked_frac(lanes[0].stepper, Batch(prefill_seqs=1.0, prefill_tokens=budget), whole),
            asked_frac(lanes[1].stepper, lanes[1].stepper.decode(made[1].rules.slots / 2.0, lanes[1].context), whole),
        ]
        paces = []
        for i, (one, name, share) in enumerate(zip(made, names, shares, strict=True)):
            part, _ = self._slice(plan, name, share, split.beside(share, asks[1 - i]))
            beside = self.maker.lanes(part.deployment, name, "", prompts_only=i == 0)
            paces.append((one.times, self.maker.times(beside, one.rules)))
            # Loads of a part are shares of what its part of the chip could do, so that both add up to one chip.
            table = self.maker.power(one.lanes, one.times)
            self.powers[name] = replace(table, chip=sliced(whole.machines[0].chip, share, share))
            one.pool.members += self._members(one, one.replicas)
        for prompt, decoding in zip(made[0].pool.members, made[1].pool.members, strict=True):
            prompt.partner, decoding.partner = decoding, prompt
            prompt.paces, decoding.paces = paces
        made[0].pool.passes_to = made[1].pool
        made[0].pool.transfer_s = array("d", bytes(8 * len(self.traffic)))

    def _slice(self, plan: PoolPlan, name: str, units: float, bandwidth: float) -> tuple[PoolPlan, str]:
        """The pool on a part of its chips."""
        d = plan.deployment
        part = replace(d, machines=sliced_machines(d.machines, units, bandwidth))
        return replace(plan, deployment=part), name

    def _twins(self, prefill: _Made, decode: _Made) -> None:
        """Each replica of two pools gets lanes in the other one, too, which are down."""
        first, second = (one.chips * one.per_replica for one in (prefill, decode))
        chips = [one.plan.deployment.machines.machines[0].chip.name for one in (prefill, decode)]
        if first != second or chips[0] != chips[1] or prefill.replicas + decode.replicas < 3:
            got = f"{first:g} {chips[0]} and {second:g} {chips[1]}"
            fix = "give both pools replicas of as many equal chips, three replicas at least"
            raise SpecError("replicas of different size cannot change roles", at="roles", got=got, fix=fix)
        for one, other in ((prefill, decode), (decode, prefill)):
            one.pool.members += self._members(one, other.replicas, start=one.replicas)
        changers = []
        for i in range(prefill.replicas + decode.replicas):
            prefills = i < prefill.replicas
            places = (i, decode.replicas + i) if prefills else (i, i - prefill.replicas)
            sides = [
                one.pool.members[place * one.per_replica : (place + 1) * one.per_replica]
                for one, place in zip((prefill, decode), places, strict=True)
            ]
            changers.append(Changer(prefill=sides[0], decode=sides[1], prefills=prefills))
        self.changers.append((prefill, decode, changers))

    def _entry(self, made: Sequence[_Made]) -> Pool | None:
        """Lanes of all pools that arrivals may enter, if these are several."""
        pools = [one for one in made if one.plan.role != DECODE and not _decodes(one, made)]
        if len(pools) < 2:
            return None
        members = [member for one in pools for member in one.pool.members]
        chosen = self.choices.entry
        if not chosen or chosen == "weighted":
            rates = [rate for one in pools for rate in [self._rate(one)] * len(one.pool.members)]
            chosen = f"weighted({', '.join(repr(rate) for rate in rates)})"
        return Pool(name="entry", members=members, router=self.maker.policy("router", chosen))

    def _rate(self, one: _Made) -> float:
        """Requests per second of a lane at saturation, by the closed form."""
        to = next((other for other in self.made.values() if other.pool is one.pool.passes_to), None)
        whole = lane_rate(one.plan.deployment, one.lanes, decode=None if to is None else to.lanes)
        return whole / (one.replicas * one.per_replica)

    # What happens besides --------------------------------------------------------------------------------------------

    def _keep_up(self, fleet: Fleet, control: Simulation) -> None:
        """Failures, scaling, changes of role and moves."""
        choices = self.choices
        if choices.failures is not None:
            arm_failures(fleet, control, choices.failures)
        if choices.autoscaler:
            for one in self.made.values():
                scaler = self.maker.policy("autoscaler", choices.autoscaler)
                Scaling(fleet, control, one.pool, scaler, cold_start_s=self._cold_start_s(one))
        for prefill, decode, changers in self.changers:
            rule = self.maker.policy("roles", choices.roles)
            switch_s = self._switch_s(prefill, decode)
            Switching(fleet, control, prefill.pool, decode.pool, changers, rule, switch_s=switch_s)
        if choices.rebalance:
            for one in self.made.values():
                if not one.rules.prefill_only and len(one.pool.members) > 1:
                    rule = self.maker.policy("rebalance", choices.rebalance)
                    Rebalancing(fleet, control, one.pool, rule, self._link(one))

    def _cold_start_s(self, one: _Made) -> float:
        return self._load_s(one) if self.choices.cold_start_s is None else self.choices.cold_start_s

    def _load_s(self, one: _Made) -> float:
        if self.maker.models is not None:
            return 0.0  # a model is loaded by the first batch that needs it
        rate = load_bytes_per_s(one.plan.deployment.machines.machines[0], self.choices.load_from)
        return float(np.ravel(np.asarray(one.lanes.memory.weights_bytes))[0] / rate)

    def _switch_s(self, prefill: _Made, decode: _Made) -> float:
        """Weights stay where both roles have one plan and format."""
        if self.choices.switch_s is not None:
            return self.choices.switch_s
        plans = [repr(one.lanes.stepper.plan) for one in (prefill, decode)]
        models = [one.plan.deployment.model.precision for one in (prefill, decode)]
        if plans[0] == plans[1] and models[0] == models[1]:
            return 0.0
        return max(self._load_s(one) for one in (prefill, decode))

    def _link(self, one: _Made) -> Link:
        """Between two lanes of a pool."""
        d, context = one.plan.deployment, float(np.ravel(np.asarray(one.lanes.context, float))[0])
        ends = moved_s(d, one.lanes, np.array([0.0, context]), one.lanes.chips)
        start, end = np.broadcast_to(np.asarray(ends, float), (2,)).tolist()
        return Link(latency_s=start, token_s=(end - start) / context)


def _number(value: Value) -> float:
    return float(np.ravel(np.asarray(value, float))[0])


def _decodes(one: _Made, made: Sequence[_Made]) -> bool:
    """Whether another pool passes to it."""
    return any(other.pool.passes_to is one.pool for other in made)
