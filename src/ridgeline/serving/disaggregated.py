"""Separate prefill and decode pools: prompts queue for one, caches cross the fabric, tokens come from the other.

The structure follows Splitwise (arXiv 2311.18677) and DistServe (arXiv 2401.09670): the slower pool sets the rate.
"""

from __future__ import annotations

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
    waves = _prompts_per_step(c["prefill_batch"], load, prefill)
    prompt_s = _prefill_s(prefill, load, waves)
    service_s = prompt_s / waves / prefill.lanes
    transfer_s = moved_s(d, prefill, load.isl, prefill.chips + decode.chips)
    context = load.isl + load.osl / 2.0
    slots = decode.limits.slots
    one, quarter, full = (np.maximum(np.asarray(slots * share), 1.0) for share in (0.0, 0.25, 1.0))

    def priced_s(n: Column) -> Column:
        return np.asarray(decode.stepper.time_s(decode.stepper.decode(n, context)))

    decode_s = Curve(knots=(one, quarter, full), times_s=(priced_s(one), priced_s(quarter), priced_s(full)))
    full_rate = decode.lanes * slots / np.maximum(load.iterations * decode_s(slots), 1e-12)
    capacity = np.minimum(1.0 / service_s, full_rate)
    low, high = np.zeros_like(capacity), capacity.copy()
    for _ in range(HALVINGS):
        rate = (low + high) / 2.0
        above = _in_flight(rate, service_s, prompt_s + transfer_s, decode_s, decode, load) > load.concurrency
        low, high = np.where(above, low, rate), np.where(above, rate, high)
    open_loop = np.asarray(load.rate_per_s) > 0
    rate = np.where(open_loop, np.minimum(load.rate_per_s, capacity), high)
    n = _resident(rate, decode_s, decode, load)
    tpot_s = np.where(load.iterations > 0, decode_s(n) / load.tokens_per_step, 0.0)
    ttft_s = _wait_s(rate, service_s) + prompt_s + transfer_s + d.runtime.admission_lag_steps * decode_s(n)
    in_flight = rate * (ttft_s + tpot_s * np.maximum(load.osl - 1.0, 0.0))
    finite = np.isfinite(load.concurrency) & ~open_loop
    ttft_s = ttft_s + np.where(finite, np.maximum(load.concurrency - in_flight, 0.0) / rate, 0.0)
    wave_s = np.where(finite, load.concurrency, 0.0) * service_s / 2.0 + prompt_s
    weight = np.where(finite, 1.0 / d.procedure.requests_per_client, 0.0)
    state = Steady(
        ttft_s=(1.0 - weight) * ttft_s + weight * np.maximum(wave_s, ttft_s),
        tpot_s=tpot_s,
        steady_ttft_s=ttft_s,
        steady_tpot_s=tpot_s,
        request_per_s=rate / decode.lanes,
        batch=np.asarray(n),
        overloaded=open_loop & (load.rate_per_s > capacity),
    )
    both = Pool(
        stepper=decode.stepper,
        limits=decode.limits,
        memory=decode.memory,
        context=decode.context,
        lanes=decode.lanes,
        chips=prefill.chips + decode.chips,
    )
    step = decode.stepper.step(decode.stepper.decode(np.maximum(n, 1.0), context))
    return report(d, both, load, state, step)


def prefill_rate(prefill: Pool, load: Load, asked: Value) -> Value:
    """Prompts per second that all lanes of a pool compute, `asked` of them in a step (0: what its budget holds)."""
    waves = _prompts_per_step(asked, load, prefill)
    rate: Value = np.asarray(prefill.lanes) * waves / _prefill_s(prefill, load, waves)
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
    plan = prefill.stepper.plan
    on_chip = cache_bytes(d.model, tokens, plan.tp) / np.asarray(plan.pp)
    latency, bandwidth = spanning(d.machines, chips)
    return np.asarray(latency + on_chip / bandwidth)


def _wait_s(rate: Value, service_s: Value) -> Value:
    """Mean wait for prefill: M/D/1 (Pollaczek-Khinchine with no variance of service), load below 1."""
    load = np.clip(np.asarray(rate) * service_s, 0.0, 0.999)
    return load * service_s / (2.0 * (1.0 - load))


def _resident(rate: Value, decode_s: Curve, decode: Pool, load: Load) -> Value:
    """Decoding sequences per lane at a request rate: n = rate x iterations x step(n), solved by halving."""
    low, high = np.zeros_like(np.asarray(decode.limits.slots, float)), np.asarray(decode.limits.slots, float)
    per_lane = np.asarray(rate) / decode.lanes
    for _ in range(HALVINGS):
        n = (low + high) / 2.0
        short = per_lane * load.iterations * decode_s(n) > n
        low, high = np.where(short, n, low), np.where(short, high, n)
    return high


def _in_flight(rate: Value, service_s: Value, path_s: Value, decode_s: Curve, decode: Pool, load: Load) -> Value:
    """Requests in the system at a rate, by Little's law."""
    n = _resident(rate, decode_s, decode, load)
    return np.asarray(rate) * (_wait_s(rate, service_s) + path_s) + n * decode.lanes
