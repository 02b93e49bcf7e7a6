"""One structure of model on one kind of engine, for a column of deployments: from load to result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import units
from ridgeline.core.cases import Problems, Rows
from ridgeline.core.columns import map_columns
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.serving_power import ServingLoad, serving_power_w
from ridgeline.hardware.chip import Value
from ridgeline.plans import AWAY, LINK, Plan, check_away, check_plan
from ridgeline.serving.links import spanning
from ridgeline.serving.load import Load, Procedure, speculated_tokens
from ridgeline.serving.measure import Measured, applies, run_rows
from ridgeline.serving.runtime import Runtime
from ridgeline.serving.steady import Limits, Steady, solve
from ridgeline.serving.step_work import work_of
from ridgeline.serving.stepper import Stepper
from ridgeline.steps import Away, Memory, Step, Store, largest_name, memory_of
from ridgeline.workloads.model import Model

Column = NDArray[np.float64]

RESIDENT = {"grow": 0.5, "reserve": 1.0, "reserve-part": 0.7}
"""Share of its output that a resident sequence is counted with: half on average as it grows, all if reserved; SGLang's
new-token ratio starts at 0.7 (sgl-project/sglang, schedule_policy)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is deployed and under which load; `cases` holds the numeric columns of the rows.

    `bulk` answers every row by the closed form, as for tables too large for runs of the engine. `attention` are the
    machines of the chips that hold caches and run their attention, in all rows (None: in none). `measured_power` lets
    runs measured on a chip correct the law of power; validation does without.
    """

    model: Model
    machines: MachineColumns
    runtime: Runtime
    version: str
    procedure: Procedure
    cases: Mapping[str, Column]
    saturated: NDArray[np.bool_]
    bulk: bool = False
    attention: MachineColumns | None = None
    measured_power: bool = True

    @property
    def setting(self) -> Setting:
        """Kernels of the runtime: its graph is compiled, weights stream, and the load lasts."""
        fused = self.runtime.fuses(self.version)
        kernels = self.runtime.kernels or self.runtime.name
        own = self.runtime.own_kernels
        return Setting(runtime=kernels, version=self.version, sustained=True, fused=fused, own=own)

    def rows(self, chosen: NDArray[np.intp]) -> Deployment:
        """Some of the rows: every column in it, those of models and machines included."""
        cases = {name: column[chosen] for name, column in self.cases.items()}
        return replace(map_columns(self, lambda column: column[chosen]), cases=cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result columns, as `shared/case_tables` names them; `bound` and `regime` are texts per row."""

    ttft_s: Value
    tpot_s: Value
    steady_ttft_s: Value
    steady_tpot_s: Value
    tpot_low_s: Value
    tpot_high_s: Value
    e2e_s: Value
    request_per_s: Value
    output_tokens_per_s: Value
    output_tokens_per_s_per_chip: Value
    total_tokens_per_s: Value
    chips: Value
    batch: Value
    max_batch_that_fits: Value
    memory_bytes_per_chip: Value
    weights_bytes_per_chip: Value
    kv_bytes_per_chip: Value
    fits: Value
    power_w_per_chip: Value
    clock_frac_held: Value
    energy_j_per_output_token: Value
    cost_usd_per_1m_output_tokens: Value
    bound: NDArray[np.str_]
    regime: NDArray[np.str_]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the numeric columns."""
        return tuple(f.name for f in fields(cls) if f.name not in ("bound", "regime"))

    def numbers(self) -> dict[str, Value]:
        """Every numeric column."""
        return {name: getattr(self, name) for name in self.names()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Equal lanes of one plan: what each runs, how many there are, and the memory of a chip.

    `context` is the number of tokens with which `memory` counts a resident sequence.
    """

    stepper: Stepper
    limits: Limits
    memory: Memory
    context: Value
    lanes: Value
    chips: Value


def make_pool(d: Deployment, plan: Plan, load: Load, workers: Value, *, batch: Value, prompts_only: bool) -> Pool:
    """Lanes of `workers` replicas of `plan`, limited by memory, the runtime's batch and what the case asks."""
    c, r = d.cases, d.runtime
    drafts = 0.0 if prompts_only else c["draft_tokens"]
    resident = 0.0 if prompts_only else RESIDENT[r.cache_policy] * c["osl"]
    speculates = bool(np.any(np.asarray(drafts) > 0)) and bool(d.model.drafts)
    context = c["isl"] + resident
    away = None if d.attention is None else away_of(d, plan, d.attention)
    store = None
    if d.attention is not None:
        of_chip = d.attention.gather(lambda machine: machine.chip.dram.capacity_bytes)
        store = Store(chips=plan.attention, capacity_bytes=of_chip)
    memory = memory_of(
        d.model,
        plan,
        context=context,
        capacity_bytes=d.machines.gather(lambda machine: machine.chip.dram.capacity_bytes),
        memory_frac=np.where(c["memory_frac"] > 0, c["memory_frac"], r.memory_frac),
        reserve_bytes=r.reserve_bytes,
        of_free=r.memory_base == "free",
        drafts=speculates,
        store=store,
    )
    asked = np.where(batch > 0, batch, r.max_batch)
    slots = np.maximum(np.minimum(memory.max_sequences / plan.pp, asked), 1.0)
    budget = r.token_budget(c)
    if r.prompt_policy != "prefill-first":
        slots = np.minimum(slots, np.maximum(budget - 1.0, 1.0))
    lanes = workers * plan.dp * plan.pp
    in_flight = np.where(c["concurrency"] > 0, np.maximum(c["concurrency"] / lanes, 1.0), np.inf)
    stepper = Stepper(
        model=d.model,
        plan=plan,
        machines=d.machines,
        runtime=r,
        setting=d.setting,
        drafts=drafts,
        nano_batches=c["nano_batches"],
        away=away,
        turns=1.0 if away is None else c["attention_batches"],
    )
    limits = Limits(slots=np.minimum(slots, in_flight), token_budget=budget)
    chips = workers * (plan.chips + attention_chips(plan))
    return Pool(stepper=stepper, limits=limits, memory=memory, context=context, lanes=lanes, chips=chips)


def plan_of(d: Deployment, prefix: str = "") -> Plan:
    """The degrees in the columns of one pool."""
    c = d.cases
    tp, pp, dp, ep, moe_tp = (c[f"{prefix}{name}"] for name in ("tp", "pp", "dp", "ep", "moe_tp"))
    attention = 0.0 if d.attention is None else c["attention_chips"] / (dp * pp)
    return Plan(tp=tp, pp=pp, dp=dp, ep=ep, moe_tp=moe_tp, cp=c["cp"] if not prefix else 1.0, attention=attention)


def check(d: Deployment, plan: Plan, problems: Problems, rows: Rows) -> None:
    """Flag every row whose plan its model cannot follow."""
    check_plan(d.model, plan, problems, rows)
    if d.attention is None:
        return
    check_away(d.model, plan, problems, rows)
    away, nano = away_of(d, plan, d.attention), np.broadcast_to(np.asarray(d.cases["nano_batches"]), rows.shape)
    unlinked = ~np.isfinite(np.broadcast_to(np.asarray(away.bytes_per_s, float), rows.shape))
    what = "the catalogue knows no link between both kinds of chips; give attention_link_bytes_per_s"
    problems.flag(rows[unlinked], what)
    problems.flag(rows[nano > 1], "attention_chip does not go with nano_batches; give attention_batches")


def attention_chips(plan: Plan) -> Value:
    """Chips of a replica that hold its cache, beside those of its weights."""
    return plan.attention * plan.dp * plan.pp


def away_of(d: Deployment, plan: Plan, machines: MachineColumns) -> Away:
    """The chips that hold caches, and the link to them: as the case gives it, else the level of links that spans both.

    Chips of two kinds meet in the outermost level of each, and the slower side counts.
    """
    c = d.cases
    both = plan.chips + attention_chips(plan)
    names: dict[str, int] = {}
    kinds = [
        np.asarray(
            one.gather(lambda machine: float(names.setdefault(f"{machine.chip.name} {machine.node}", len(names))))
        )
        for one in (d.machines, machines)
    ]
    chips = np.where(kinds[0] == kinds[1], both, np.inf)
    rates, delays = [], []
    for one in (d.machines, machines):
        delay, rate = spanning(one, chips)
        rates.append(np.where(c["attention_link_bytes_per_s"] > 0, c["attention_link_bytes_per_s"], rate))
        delays.append(np.where(c["attention_latency_s"] >= 0, c["attention_latency_s"], delay))
    slower = np.minimum(plan.tp * rates[0], plan.attention * rates[1])
    return Away(machines=machines, bytes_per_s=slower, latency_s=np.maximum(*delays))


def lane_load(d: Deployment, lanes: Value, stages: Value = 1.0) -> Load:
    """The load of one lane, with the mean lengths that the procedure really sends; `stages` of its pipeline."""
    c, length = d.cases, d.procedure.length_frac
    per_lane = np.where(c["concurrency"] > 0, np.maximum(c["concurrency"] / lanes, 1.0), 0.0)
    rate = np.where(d.saturated | (per_lane > 0), 0.0, c["request_rate_per_s"])
    closed = np.where(rate > 0, 0.0, np.where(d.saturated, np.inf, per_lane))
    return Load(
        isl=np.maximum(c["isl"] * length, 1.0),
        osl=np.maximum(c["osl"] * length, 1.0),
        concurrency=closed,
        rate_per_s=rate / lanes,
        prefix_hit_frac=c["prefix_hit_frac"],
        tokens_per_step=speculated_tokens(c["draft_tokens"], c["acceptance_frac"]),
        idle_stages=np.where(per_lane > 0, np.clip(lanes / np.maximum(c["concurrency"], 1.0), 1.0, stages), 1.0),
    )


def flag_unfit(pool: Pool, problems: Problems, rows: Rows) -> None:
    """Say by how much the rows that do not fit miss."""
    fits = np.broadcast_to(pool.memory.fits, rows.shape)
    m = pool.memory
    apart = pool.stepper.away is not None
    spare = np.broadcast_to(np.asarray(m.spare_bytes, float), rows.shape)
    needed = m.weights_bytes + m.reserve_bytes + (0.0 if apart else m.sequence_bytes)
    alone = m.sequence_bytes * np.asarray(m.groups)
    short = np.asarray(alone) - m.free_bytes
    needs, has, lacks = (np.broadcast_to(value, rows.shape) for value in (needed, m.capacity_bytes, short))
    one = np.broadcast_to(np.asarray(alone, float), rows.shape)

    def message(i: int) -> str:
        if apart and spare[i] >= 0:
            return (
                f"does not fit: one sequence needs {units.size(float(one[i]))} of cache per attention chip, "
                f"{units.size(float(lacks[i]))} more than there is; "
                "raise attention_chips (up to the key/value heads), or take a smaller kv"
            )
        what = "weights and reserve" if apart else "weights, reserve and one sequence"
        lack = -float(spare[i]) if apart else float(lacks[i])
        return (
            f"does not fit: {what} need {units.size(float(needs[i]))} per chip, "
            f"{units.size(lack)} more than the engine may use of {units.size(float(has[i]))}; "
            "raise tp or pp, or take smaller formats"
        )

    unfit = np.flatnonzero(~fits)
    problems.flag_each(rows[unfit], [message(i) for i in unfit.tolist()])


def evaluate(d: Deployment, problems: Problems, rows: Rows) -> Outcome:
    """Results of a column of deployments; rows with problems are computed anyway and blanked by the caller."""
    c = d.cases
    plan = plan_of(d)
    check(d, plan, problems, rows)
    lanes = c["replicas"] * plan.dp * plan.pp
    load = lane_load(d, lanes, plan.pp)
    pool = make_pool(d, plan, load, c["replicas"], batch=c["max_batch"], prompts_only=False)
    flag_unfit(pool, problems, rows)
    state = solve(pool.stepper, load, pool.limits, d.procedure)
    _flag_overload(state, lanes, problems, rows)
    if not d.bulk and applies(d.procedure):
        state = _measured(d, pool, load, state)
    step = pool.stepper.step(pool.stepper.decode(np.maximum(state.batch, 1.0), load.isl + load.osl / 2.0))
    return report(d, pool, load, state, step)


def _measured(d: Deployment, pool: Pool, load: Load, state: Steady) -> Steady:
    """The steady state with what a run of the procedure gives, in the rows where a run was made."""
    room = pool.memory.free_bytes / pool.memory.sequence_bytes * pool.context / pool.stepper.plan.pp
    shared = np.asarray(pool.lanes / d.cases["replicas"], float)
    means, made = run_rows(pool.stepper, load, d.procedure, d.cases, cache_tokens=room, front_end_share=shared)
    chosen = {
        field.name: np.where(made, getattr(means, field.name), getattr(state, field.name)) for field in fields(Measured)
    }
    return replace(state, **chosen)


def _flag_overload(state: Steady, lanes: Value, problems: Problems, rows: Rows) -> None:
    limit = np.broadcast_to(state.request_per_s * lanes, rows.shape)
    over = np.flatnonzero(np.broadcast_to(state.overloaded, rows.shape))
    words = "requests/s arrive and queues grow without end; lower the rate or add replicas"
    problems.flag_each(rows[over], [f"overloaded: {limit[i]:.4g} {words}" for i in over.tolist()])


def served(d: Deployment, pool: Pool, load: Load, state: Steady) -> tuple[Value, Value]:
    """Requests per second of the deployment, and the time that the front end of a replica adds to each of them."""
    c = d.cases
    active = np.minimum(np.where(c["concurrency"] > 0, c["concurrency"] / pool.lanes, 1.0), 1.0)
    per_s = state.request_per_s * pool.lanes * active
    limit = d.runtime.front_end_token_s
    shared = np.maximum(per_s * load.osl / c["replicas"] * limit, 1.0) if limit > 0 else 1.0
    stretch_s = (np.asarray(shared) - 1.0) * (state.ttft_s + state.tpot_s * np.maximum(load.osl - 1.0, 0.0))
    return per_s / shared, stretch_s


def report(d: Deployment, pool: Pool, load: Load, state: Steady, step: Step) -> Outcome:
    """Per-deployment columns from one lane's steady state and its typical decode step."""
    c = d.cases
    per_s, stretch_s = served(d, pool, load, state)
    output_per_s = per_s * load.osl
    ttft_s, tpot_s = state.ttft_s + stretch_s, state.tpot_s
    resident = np.minimum(state.batch + state.request_per_s * state.steady_ttft_s, pool.limits.slots)
    kv = resident * pool.memory.sequence_bytes * np.asarray(pool.stepper.plan.pp)
    power = _mean_power_w(d, pool, load, state, step)
    low_s, high_s = step.interval()
    return Outcome(
        tpot_low_s=tpot_s * low_s / step.time_s,
        tpot_high_s=tpot_s * high_s / step.time_s,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        steady_ttft_s=state.steady_ttft_s + stretch_s,
        steady_tpot_s=state.steady_tpot_s,
        e2e_s=ttft_s + tpot_s * np.maximum(load.osl - 1.0, 0.0),
        request_per_s=per_s,
        output_tokens_per_s=output_per_s,
        output_tokens_per_s_per_chip=output_per_s / pool.chips,
        total_tokens_per_s=per_s * (load.isl + load.osl),
        chips=pool.chips,
        batch=state.batch,
        max_batch_that_fits=pool.memory.max_sequences * np.asarray(pool.stepper.plan.dp) * c["replicas"],
        memory_bytes_per_chip=pool.memory.weights_bytes
        + pool.memory.reserve_bytes
        + (kv if pool.stepper.away is None else 0.0),
        weights_bytes_per_chip=pool.memory.weights_bytes,
        kv_bytes_per_chip=kv,
        fits=np.asarray(pool.memory.fits, dtype=np.float64),
        power_w_per_chip=power,
        clock_frac_held=d.machines.gather(lambda machine: machine.chip.clock_frac),
        energy_j_per_output_token=power * pool.chips / output_per_s,
        cost_usd_per_1m_output_tokens=rent_usd_per_s(d, pool) * pool.chips / output_per_s * 1e6,
        bound=bound_of(pool.stepper, step, state),
        regime=np.where(np.asarray(step.calibrated()) > 0.5, "calibrated", "datasheet"),
    )


def bound_of(stepper: Stepper, step: Step, state: Steady) -> NDArray[np.str_]:
    """What holds most of the time between tokens: a resource of the decode step, the host, or the prompts of others."""
    step_s, sequence_s = stepper.host_rates_s
    host_s = step_s + sequence_s * np.asarray(state.batch)
    shares = dict(step.time_by_bound())
    shares["host"] = shares.get("host", 0.0) + host_s
    shares["prefill interference"] = np.maximum(state.tpot_s - step.time_s - host_s, 0.0)
    return largest_name(shares)


def _mean_power_w(d: Deployment, pool: Pool, load: Load, state: Steady, step: Step) -> Value:
    """Mean board power of a chip, over both kinds if there are two."""
    if d.attention is None:
        return serving_power_w(serving_load(d, pool, load, state, step), d.machines.chips, measured=d.measured_power)
    share = away_share(pool.stepper.plan)
    there = step.only(lambda op: op.part == AWAY)
    here = step.only(lambda op: op.part not in (AWAY, LINK))
    # Prompts are computed where the weights are.
    none = replace(state, request_per_s=0.0 * state.request_per_s)
    loads = serving_load(d, pool, load, state, here), serving_load(d, pool, load, none, there)
    watts = [
        serving_power_w(one, machines.chips, measured=d.measured_power)
        for one, machines in zip(loads, (d.machines, d.attention), strict=True)
    ]
    mean: Value = (1.0 - share) * watts[0] + share * watts[1]
    return mean


def away_share(plan: Plan) -> Value:
    """Share of all chips that hold caches and no weights."""
    apart = attention_chips(plan)
    share: Value = np.asarray(apart / (plan.chips + apart))
    return share


def serving_load(d: Deployment, pool: Pool, load: Load, state: Steady, step: Step) -> ServingLoad:
    """What a chip does per second over the mean iteration of a steady state.

    A chip of a pipeline holds one stage in `pp` and works for `pp` lanes, so that one pass of one lane is its share.
    Prompt tokens count as the operations of as many tokens of the decode step.
    """
    iteration_s = np.where(state.tpot_s > 0, state.tpot_s * load.tokens_per_step, np.inf)
    work = work_of(step, d.model)
    prompt_flops_per_s = state.request_per_s * load.prompt * work.flops / np.maximum(state.batch, 1.0)
    context = load.isl + load.osl / 2.0
    return work.load(1.0 / iteration_s, prompt_flops_per_s, chips=pool.stepper.plan.chips, context=context)


def rent_usd_per_s(d: Deployment, pool: Pool) -> Value:
    """Mean USD per chip and second; NaN where the catalogue has no price."""
    kinds = [d.machines] if d.attention is None else [d.machines, d.attention]
    rents = [one.gather(lambda machine: machine.chip.rent_usd_per_s or np.nan) for one in kinds]
    if len(rents) == 1:
        return rents[0]
    share = away_share(pool.stepper.plan)
    mean: Value = (1.0 - share) * rents[0] + share * rents[1]
    return mean
