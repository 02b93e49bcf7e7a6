"""Separate prefill and decode pools: prompts queue for one, caches cross the fabric, tokens come from the other.

The structure follows Splitwise (arXiv 2311.18677) and DistServe (arXiv 2401.09670): the slower pool sets the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ridgeline.core.cases import Problems, Rows
from ridgeline.hardware.chip import Value
from ridgeline.plans import check_plan
from ridgeline.serving.deployment import Deployment, Outcome, Pool, flag_unfit, lane_load, make_pool, plan_of, report
from ridgeline.serving.links import spanning
from ridgeline.serving.load import Load
from ridgeline.serving.steady import Column, Curve, Steady
from ridgeline.workloads.families.size import cache_bytes
from ridgeline.workloads.model import Batch

HALVINGS = 40
"""Of a bracket: beyond float64's resolution of any rate."""

MOST_BUSY = 0.999
"""Share of its time that a prefill pool computes, at most, when its waits are counted."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A prefill pool and a decode pool as requests meet them; every field is a number or a column of one length.

    Attributes:
        prompt_s, waves: a prefill step of whole prompts, and how many it takes.
        prefill_lanes, decode_lanes: of each pool.
        transfer_s: of a prompt's cache between them.
        step_s: of the decode pool by sequences of a lane; slots: most of these.
        lag_steps: decode iterations that a new request misses.
        iterations, tokens_per_step, osl: as of `Load`.
    """

    prompt_s: Value
    waves: Value
    prefill_lanes: Value
    decode_lanes: Value
    transfer_s: Value
    step_s: Curve
    slots: Value
    lag_steps: float
    iterations: Value
    tokens_per_step: Value
    osl: Value

    @cached_property
    def service_s(self) -> Value:
        """Time that the prefill pool spends on a prompt, its lanes together."""
        service: Value = self.prompt_s / self.waves / self.prefill_lanes
        return service

    @cached_property
    def decode_capacity(self) -> Value:
        """Requests per second of the decode pool with full batches."""
        return np.asarray(self.decode_lanes * self.slots / np.maximum(self.iterations * self.step_s(self.slots), 1e-12))

    @cached_property
    def capacity(self) -> Value:
        """Requests per second of the slower pool."""
        return np.asarray(np.minimum(1.0 / self.service_s, self.decode_capacity))

    def resident(self, rate: Value) -> Column:
        """Decoding sequences of a lane at a request rate: n = rate x iterations x step(n) / lanes, at most the slots.

        Steps are linear between knots, so the equation is solved on each stretch; the first stretch that holds its
        solution has it.
        """
        (x0, x1, x2), (y0, y1, _) = self.step_s.knots, self.step_s.times_s
        busy = np.asarray(rate) * self.iterations / self.decode_lanes
        n = np.minimum(np.asarray(self.slots, float), x2) + 0.0 * busy
        for start, end, at_s, slope in ((x1, x2, y1, self.step_s.slopes[1]), (x0, x1, y0, self.step_s.slopes[0])):
            left = 1.0 - busy * slope
            found = busy * (at_s - slope * start) / np.where(left > 0, left, np.nan)
            n = np.where((found >= start) & (found <= end), found, n)
        return np.where(busy * y0 <= x0, busy * y0, n)

    def wait_s(self, rate: Value) -> Value:
        """Mean wait for prefill: M/D/1 (Pollaczek-Khinchine with no variance of service), load below 1."""
        load = np.clip(np.asarray(rate) * self.service_s, 0.0, MOST_BUSY)
        waiting: Value = load * self.service_s / (2.0 * (1.0 - load))
        return waiting

    def in_flight(self, rate: Value) -> Value:
        """Requests in the system at a rate, by Little's law."""
        path_s = self.wait_s(rate) + self.prompt_s + self.transfer_s
        return np.asarray(np.asarray(rate) * path_s + self.resident(rate) * self.decode_lanes)

    def closed_rate(self, concurrency: Value) -> Column:
        """The rate at which the requests in flight add up to `concurrency`, at most what the pools can do."""
        low, high = np.zeros_like(np.asarray(self.capacity, float)), np.array(self.capacity, float)
        for _ in range(HALVINGS):
            rate = (low + high) / 2.0
            above = self.in_flight(rate) > concurrency
            low, high = np.where(above, low, rate), np.where(above, rate, high)
        return high

    def times(self, rate: Value, concurrency: Value = np.inf) -> tuple[Column, Column, Column]:
        """(decoding sequences of a lane, TTFT, TPOT) at a rate; of a finite `concurrency`, the rest waits to enter."""
        n = self.resident(rate)
        step_s = self.step_s(n)
        tpot_s = np.where(self.iterations > 0, step_s / self.tokens_per_step, 0.0)
        ttft_s = self.wait_s(rate) + self.prompt_s + self.transfer_s + self.lag_steps * step_s
        if np.any(np.isfinite(concurrency)):
            in_flight = rate * (ttft_s + tpot_s * np.maximum(self.osl - 1.0, 0.0))
            outside = np.where(np.isfinite(concurrency), np.maximum(concurrency - in_flight, 0.0), 0.0)
            ttft_s = ttft_s + outside / rate
        return n, np.asarray(ttft_s), np.asarray(tpot_s)


def pair_of(d: Deployment, prefill: Pool, decode: Pool, load: Load, *, prompts: Value, transfer_s: Value) -> Pair:
    """Both pools priced: a prefill step, and decode steps at three batches; `prompts` asked for in a prefill step."""
    prompt_s, waves = prefill_step(prefill, load, prompts)
    return Pair(
        prompt_s=prompt_s,
        waves=waves,
        prefill_lanes=prefill.lanes,
        decode_lanes=decode.lanes,
        transfer_s=transfer_s,
        step_s=decode_curve(decode, load),
        slots=decode.limits.slots,
        lag_steps=d.runtime.admission_lag_steps,
        iterations=load.iterations,
        tokens_per_step=load.tokens_per_step,
        osl=load.osl,
    )


def prefill_step(prefill: Pool, load: Load, prompts: Value) -> tuple[Value, Value]:
    """(seconds, prompts) of a prefill step of whole prompts: as many as asked for, else what the budget holds (0)."""
    waves = _prompts_per_step(prompts, load, prefill)
    return _prefill_s(prefill, load, waves), waves


def decode_curve(decode: Pool, load: Load) -> Curve:
    """Seconds of a decode step, priced at one sequence, at a quarter of the slots and at all of them."""
    slots, context = decode.limits.slots, load.isl + load.osl / 2.0
    one, quarter, full = (np.maximum(np.asarray(slots * share), 1.0) for share in (0.0, 0.25, 1.0))

    def priced_s(n: Column) -> Column:
        return np.asarray(decode.stepper.time_s(decode.stepper.decode(n, context)))

    return Curve(knots=(one, quarter, full), times_s=(priced_s(one), priced_s(quarter), priced_s(full)))


def evaluate_pools(d: Deployment, problems: Problems, rows: Rows) -> Outcome:
    """Results of disaggregated deployments.

    A request waits for a prefill lane, is prefilled, its cache moves to a decode lane over the links that span both
    pools, and it decodes there. In a closed loop the rate is the one at which the requests in flight add up.
    """
    c = d.cases
    prefill_plan, decode_plan = plan_of(d, "prefill_"), plan_of(d, "decode_")
    for plan in (prefill_plan, decode_plan):
        check_plan(d.model, plan, problems, rows)
    load = lane_load(d, 1.0)
    prefill = make_pool(d, prefill_plan, load, c["prefill_workers"], batch=c["prefill_batch"], prompts_only=True)
    decode = make_pool(d, decode_plan, load, c["decode_workers"], batch=c["decode_batch"], prompts_only=False)
    for pool in (prefill, decode):
        flag_unfit(pool, problems, rows)
    transfer_s = moved_s(d, prefill, load.isl, prefill.chips + decode.chips)
    pair = pair_of(d, prefill, decode, load, prompts=c["prefill_batch"], transfer_s=transfer_s)
    open_loop = np.asarray(load.rate_per_s) > 0
    rate = np.where(open_loop, np.minimum(load.rate_per_s, pair.capacity), pair.closed_rate(load.concurrency))
    finite = np.isfinite(load.concurrency) & ~open_loop
    n, ttft_s, tpot_s = pair.times(rate, np.where(finite, load.concurrency, np.inf))
    wave_s = np.where(finite, load.concurrency, 0.0) * pair.service_s / 2.0 + pair.prompt_s
    weight = np.where(finite, 1.0 / d.procedure.requests_per_client, 0.0)
    state = Steady(
        ttft_s=(1.0 - weight) * ttft_s + weight * np.maximum(wave_s, ttft_s),
        tpot_s=tpot_s,
        steady_ttft_s=ttft_s,
        steady_tpot_s=tpot_s,
        request_per_s=rate / decode.lanes,
        batch=n,
        overloaded=open_loop & (load.rate_per_s > pair.capacity),
    )
    both = Pool(
        stepper=decode.stepper,
        limits=decode.limits,
        memory=decode.memory,
        context=decode.context,
        lanes=decode.lanes,
        chips=prefill.chips + decode.chips,
    )
    step = decode.stepper.step(decode.stepper.decode(np.maximum(n, 1.0), load.isl + load.osl / 2.0))
    return report(d, both, load, state, step)


def prefill_rate(prefill: Pool, load: Load, asked: Value) -> Value:
    """Prompts per second that all lanes of a pool compute, `asked` of them in a step (0: what its budget holds)."""
    prompt_s, waves = prefill_step(prefill, load, asked)
    rate: Value = np.asarray(prefill.lanes) * waves / prompt_s
    return rate


def decode_rate(decode: Pool, load: Load) -> Value:
    """Requests per second that all lanes of a pool decode with full batches."""
    slots = np.maximum(np.asarray(decode.limits.slots, float), 1.0)
    step_s = decode.stepper.time_s(decode.stepper.decode(slots, load.isl + load.osl / 2.0))
    rate: Value = np.asarray(decode.lanes) * slots / np.maximum(load.iterations * step_s, 1e-12)
    return rate


def _prompts_per_step(asked: Value, load: Load, pool: Pool) -> Value:
    """Prompts that one prefill step takes: as asked, else as many as the token budget holds."""
    fitting = np.maximum(np.floor(pool.limits.token_budget / load.prompt), 1.0)
    return np.where(np.asarray(asked) > 0, asked, fitting)


def _prefill_s(pool: Pool, load: Load, prompts: Value) -> Value:
    """A prefill step of whole prompts."""
    batch = Batch(prefill_seqs=prompts, prefill_tokens=load.prompt, prefill_prefix=load.cached)
    return np.asarray(pool.stepper.time_s(batch))


def moved_s(d: Deployment, prefill: Pool, tokens: Value, chips: Value) -> Value:
    """A prompt's cache over the innermost level of links that spans the chips of both pools.

    Every chip of the prefill lane sends its share at once. A machine without links between nodes pays nothing there.
    """
    latency, bandwidth = spanning(d.machines, chips)
    return np.asarray(latency + share_bytes(d, prefill, tokens) / bandwidth)


def share_bytes(d: Deployment, prefill: Pool, tokens: Value) -> Value:
    """A chip's share of the cache of a prompt."""
    plan = prefill.stepper.plan
    return np.asarray(cache_bytes(d.model, tokens, plan.tp) / np.asarray(plan.pp))
