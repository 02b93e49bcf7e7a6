"""Candidates of two pools: prefill engines times decode engines times the sizes of both, balanced as arrays.

Engines of either pool are priced once; `serving.disaggregated.Pair`, which `predict` itself uses, then gives rates and
times of every product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ridgeline.core.cases import groups
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.chip import Value
from ridgeline.search.pareto import front
from ridgeline.search.planning.aggregated import LEAST_LOADED, MOST_LOADED, SHARES, load_column
from ridgeline.search.planning.engines import Engines, Shortage, fitting, usable
from ridgeline.search.planning.kept import SLACK, Kept
from ridgeline.search.planning.power import DecodePower, decode_power
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Column, Question, most_sequences
from ridgeline.search.planning.rows import Index, Rows
from ridgeline.search.planning.sizes import MOST_SIZES, MOST_TAILORED, batch_within, count, spread, tailor
from ridgeline.search.planning.spaces import Space, refuse_many
from ridgeline.serving.deployment import lane_load, make_pool, plan_of
from ridgeline.serving.disaggregated import Pair, decode_curve, prefill_step, share_bytes
from ridgeline.serving.links import spanning
from ridgeline.serving.steady import Curve

MOST_PRODUCTS = 20_000_000
"""Candidates of one kind of pools beyond which only those are evaluated that can win."""

LARGE = (
    "the space of separate pools is large: prefill engines that another is better than in every way were left out, and "
    "pool sizes were matched to each other"
)

BLOCK = 400_000
"""Candidates evaluated at once."""

HALVINGS = 14
"""Of the rate at which a limit on the whole time of a request holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Priced engines of both pools on one kind of machine under one runtime; columns [prefill] and [decode, workers].

    Where the load is a number of requests in flight, a decode engine is priced for each number of its workers, since
    that bounds its batch; else the second dimension is 1.
    """

    machine: int
    prefill: Engines
    decode: Engines
    prompt_s: Column
    waves: Column
    prefill_lanes: Column
    moved_bytes: Column
    decode_lanes: Column
    step_s: Curve
    slots: Column
    iterations: Column
    tokens_per_step: Column
    lag_steps: float
    power: DecodePower | None


def priced(question: Question, space: Space, predictor: Predictor) -> Pools | Shortage:
    """Both pools of a space priced, or what they lack in memory."""
    assert space.decode is not None, "a space of two pools"
    prefill, short = fitting(space.rows, predictor, pool="prefill")
    decode, lacks = fitting(space.decode, predictor, pool="decode")
    return short or lacks or _priced(question, space.machine, prefill, decode, predictor)


def _priced(question: Question, machine: int, prefill: Engines, decode: Engines, predictor: Predictor) -> Pools:
    prompt_s, waves, lanes, moved = _priced_prompts(prefill, predictor)
    workers = usable(question, machine) if question.concurrency else 1
    refuse_many(decode.rows.count * workers)
    repeated = np.repeat(np.arange(decode.rows.count), workers)
    rows = decode.rows.take(repeated).put(decode_workers=np.tile(np.arange(workers) + 1.0, decode.rows.count))
    if question.concurrency:
        rows = rows.put(concurrency=question.concurrency)
    shape = (decode.rows.count, workers)
    knots, times_s = np.empty((3, rows.count)), np.empty((3, rows.count))
    slots, decode_lanes, iterations, speculated = (np.empty(rows.count) for _ in range(4))
    lag_steps, power = 0.0, None
    for d, at in predictor.deployments(rows):
        c, load = d.cases, lane_load(d, 1.0)
        workers_of = c["decode_workers"]
        pool = make_pool(d, plan_of(d, "decode_"), load, workers_of, batch=c["decode_batch"], prompts_only=False)
        curve = decode_curve(pool, load)
        for i in range(3):
            knots[i, at], times_s[i, at] = curve.knots[i], curve.times_s[i]
        slots[at], iterations[at], speculated[at] = pool.limits.slots, load.iterations, load.tokens_per_step
        decode_lanes[at] = pool.lanes / workers_of
        lag_steps = d.runtime.admission_lag_steps
        power = decode_power(d, pool, load, curve, shape) if question.wants_energy else None
    k, t = knots.reshape(3, *shape), times_s.reshape(3, *shape)
    return Pools(
        machine=machine,
        prefill=prefill,
        decode=decode,
        prompt_s=prompt_s,
        waves=waves,
        prefill_lanes=lanes,
        moved_bytes=moved,
        decode_lanes=decode_lanes.reshape(shape),
        step_s=Curve(knots=(k[0], k[1], k[2]), times_s=(t[0], t[1], t[2])),
        slots=slots.reshape(shape),
        iterations=iterations.reshape(shape),
        tokens_per_step=speculated.reshape(shape),
        lag_steps=lag_steps,
        power=power,
    )


def _priced_prompts(prefill: Engines, predictor: Predictor) -> tuple[Column, Column, Column, Column]:
    """(seconds of a prefill step, prompts in it, lanes of a worker, bytes that a chip hands on per prompt)."""
    prompt_s, waves, lanes, moved = (np.empty(prefill.rows.count) for _ in range(4))
    for d, at in predictor.deployments(prefill.rows):
        load, asked = lane_load(d, 1.0), d.cases["prefill_batch"]
        pool = make_pool(d, plan_of(d, "prefill_"), load, np.ones(at.size), batch=asked, prompts_only=True)
        prompt_s[at], waves[at] = prefill_step(pool, load, asked)
        lanes[at], moved[at] = pool.lanes, share_bytes(d, pool, load.isl)
    return prompt_s, waves, lanes, moved


def offer_pools(pools: Pools, question: Question, kept: Kept, group: int, family: str) -> None:
    """Every pair of engines with every pair of pool sizes that the machines hold."""
    chips = usable(question, pools.machine)
    machines = MachineColumns((question.machines[pools.machine].machine,), None)
    blocks = _Blocks(pools, question, kept, group, family)
    loads = len(SHARES) if question.free else 1
    by_prefill, by_decode = _by_chips(pools.prefill), _by_chips(pools.decode)
    pairs = [(own, first, other, second) for own, first in by_prefill for other, second in by_decode]
    total = sum(count(own, other, chips) * first.size * second.size * loads for own, first, other, second in pairs)
    large = total > MOST_PRODUCTS
    if large:
        kept.notes.add(LARGE)
    for own, first, other, second in pairs:
        x, y = spread(own, other, chips)
        if not x.size:
            continue
        prefill = _undominated(pools, first) if large else first
        tailored = (large or x.size > MOST_SIZES) and not question.concurrency
        width = MOST_TAILORED if tailored else x.size
        step = max(BLOCK // (second.size * width * loads), 1)
        for start in range(0, prefill.size, step):
            part = prefill[start : start + step]
            if tailored:
                x, y = tailor(pools, question, part, second, (own, other, chips))
            links = spanning(machines, own * x + other * y)
            blocks.add(_Products(part, second, x, y), links)
    blocks.flush()


def _undominated(pools: Pools, rows: Index) -> Index:
    """Prefill engines of equal chips that none is better than in time, rate and bytes moved: no other can win."""
    service_s = pools.prompt_s / pools.waves / pools.prefill_lanes
    return rows[front(np.column_stack([pools.prompt_s[rows], service_s[rows], pools.moved_bytes[rows]]))]


@dataclass(frozen=True, slots=True)
class _Products:
    """Every prefill engine with every decode engine and every pair of sizes: [sizes], or for each engine its own."""

    prefill: Index
    decode: Index
    x: Column
    y: Column

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.prefill.size, self.decode.size, self.x.shape[-1]

    def of_decode(self, question: Question) -> Callable[[Column], Column]:
        """Columns of decode engines [decode, workers] as those of the products."""
        workers = (self.y - 1).astype(np.intp) if question.concurrency else np.zeros(1, dtype=np.intp)
        return lambda column: np.asarray(column[self.decode][:, workers][None])


class _Blocks:
    """Products on their way to be kept: many small ones are offered together."""

    def __init__(self, pools: Pools, question: Question, kept: Kept, group: int, family: str) -> None:
        self._pools, self._question, self._kept = pools, question, kept
        self._group, self._family = group, family
        self._waiting: list[tuple[_Products, dict[str, Column]]] = []
        self._rows = 0

    def add(self, products: _Products, links: tuple[Value, Value]) -> None:
        with np.errstate(all="ignore"):
            columns = _evaluated(self._pools, self._question, products, links)
        self._waiting.append((products, columns))
        self._rows += columns["ttft_s"].size
        if self._rows >= BLOCK:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        products, tables = zip(*self._waiting, strict=True)
        self._waiting, self._rows = [], 0
        columns = {name: np.concatenate([table[name].ravel() for table in tables]) for name in tables[0]}
        ends = np.cumsum([table["ttft_s"].size for table in tables])
        rate = columns["request_per_s"]
        q, own, other = self._question, self._pools.prefill, self._pools.decode
        load = np.broadcast_to(q.concurrency or q.rate_per_s, rate.shape) if not q.free else rate

        def locate(rows: Index) -> dict[str, Column]:
            found = {name: np.empty(rows.size) for name in ("engine", "decode", "workers", "decode_workers")}
            part_of = np.searchsorted(ends, rows, side="right")
            for part in np.unique(part_of).tolist():
                at, one = np.flatnonzero(part_of == part), products[part]
                within = rows[at] - (ends[part - 1] if part else 0)
                i, j, k = np.unravel_index(within % np.prod(one.shape), one.shape)
                found["engine"][at], found["decode"][at] = one.prefill[i], one.decode[j]
                found["workers"][at] = np.broadcast_to(one.x, one.shape)[i, j, k]
                found["decode_workers"][at] = np.broadcast_to(one.y, one.shape)[i, j, k]
            plans = [part.plan[found[name].astype(np.intp)] for part, name in ((own, "engine"), (other, "decode"))]
            found["plan"] = np.asarray(plans[0] * other.rows.count + plans[1], dtype=np.float64)
            return {**found, "group": np.full(rows.size, float(self._group)), "load": load[rows]}

        self._kept.offer(columns, locate, family=self._family)


def _by_chips(engines: Engines) -> list[tuple[float, Index]]:
    codes = engines.chips.astype(np.int32)
    return [(float(key[0]), rows) for key, rows in groups([codes], np.arange(codes.size))]


def _pair(pools: Pools, question: Question, products: _Products, links: tuple[Value, Value]) -> Pair:
    """The products as a block [prefill, decode, sizes], each part as small as it can be."""
    latency, bandwidth = links
    prefill, x, y = products.prefill, products.x, products.y
    workers = (y - 1).astype(np.intp) if question.concurrency else np.zeros(1, dtype=np.intp)

    def of_decode(column: Column) -> Column:
        return np.asarray(column[products.decode][:, workers][None])

    (k0, k1, k2), (t0, t1, t2) = (
        [of_decode(each) for each in part] for part in (pools.step_s.knots, pools.step_s.times_s)
    )
    return Pair(
        prompt_s=pools.prompt_s[prefill][:, None, None],
        waves=pools.waves[prefill][:, None, None],
        prefill_lanes=pools.prefill_lanes[prefill][:, None, None] * x,
        decode_lanes=of_decode(pools.decode_lanes) * y,
        transfer_s=latency + pools.moved_bytes[prefill][:, None, None] / bandwidth,
        step_s=Curve(knots=(k0, k1, k2), times_s=(t0, t1, t2)),
        slots=of_decode(pools.slots),
        lag_steps=pools.lag_steps,
        iterations=of_decode(pools.iterations),
        tokens_per_step=of_decode(pools.tokens_per_step),
        osl=question.osl,
    )


def _evaluated(pools: Pools, question: Question, products: _Products, links: tuple[Value, Value]) -> dict[str, Column]:
    """Times and sizes of one block of products [loads, prefill, decode, sizes], at every load that is to be tried."""
    pair, of_decode = _pair(pools, question, products, links), products.of_decode(question)
    own, other = pools.prefill.chips[products.prefill], pools.decode.chips[products.decode]
    chips = own[:, None, None] * products.x + other[:, None] * products.y
    there = usable(question, pools.machine)
    changed = pools.prefill.changed[products.prefill][:, None, None] + pools.decode.changed[products.decode][:, None]
    rate = _loads(pair, question)
    n, ttft_s, tpot_s = pair.times(rate, question.concurrency or np.inf)
    if not question.concurrency:
        crowded = (n > most_sequences(pair.slots) * (1.0 + SLACK)) | (rate * pair.service_s > MOST_LOADED + SLACK)
        ttft_s = np.where(crowded, np.nan, ttft_s)
    columns = {"ttft_s": ttft_s, "tpot_s": tpot_s, "e2e_s": ttft_s + tpot_s * max(question.osl - 1.0, 0.0)}
    columns["request_per_s"] = rate
    if pools.power is not None:
        columns["energy_j_per_output_token"] = pools.power.energy_j(of_decode, n, tpot_s, rate, pair, chips)
    if products.x.ndim > 1:
        columns["ttft_s"] = np.where((chips > there) | (products.x < 1) | (products.y < 1), np.nan, ttft_s)
    shape = (rate.shape[0], *products.shape)
    columns |= {"chips": chips, "usd_per_s": chips * question.machines[pools.machine].usd_per_s, "changed": changed}
    return {name: np.broadcast_to(column, shape) for name, column in columns.items()}


def _loads(pair: Pair, question: Question) -> Column:
    """Rates to try [loads, ...]: what is asked, or shares of the highest that keeps the limits."""
    if question.rate_per_s:
        return np.asarray(np.minimum(question.rate_per_s, pair.capacity))[None]
    if question.concurrency:
        return pair.closed_rate(question.concurrency)[None]
    edge = highest_rate(pair, question)
    rates = np.asarray(np.array(SHARES)[:, None, None, None] * edge)
    rates[0] = np.where(np.isfinite(edge), edge, LEAST_LOADED * pair.capacity)
    return rates


def highest_rate(pair: Pair, question: Question) -> Column:
    """The highest rate that keeps all limits, at most `MOST_LOADED` of what prefill lanes can do and with room for
    bursts in the batches of decode lanes; NaN where none does.

    The limit on TPOT bounds the batch, and with it the rate, in closed form; so does that on TTFT through the wait for
    a prefill lane. A request also misses a decode iteration, which depends on the rate a little: it is taken at the
    rate before, which is never too low, and once more at the one that this gives.
    """
    slo = question.slo
    rate = np.minimum(MOST_LOADED / pair.service_s, _rate_by_batch(pair, most_sequences(pair.slots)))
    rate = np.minimum(rate, _rate_by_tpot(pair, slo.tpot_s))
    if np.isfinite(slo.ttft_s):
        by_ttft = _rate_by_ttft(pair, slo.ttft_s, rate)
        lower = np.minimum(rate, by_ttft)
        upper = np.minimum(rate, _rate_by_ttft(pair, slo.ttft_s, lower))
        rate = np.minimum(upper, _rate_by_ttft(pair, slo.ttft_s, upper))
    if np.isfinite(slo.e2e_s):
        low, high = np.zeros_like(rate), rate.copy()
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            _, ttft_s, tpot_s = pair.times(middle)
            keeps = ttft_s + tpot_s * max(question.osl - 1.0, 0.0) <= slo.e2e_s
            low, high = np.where(keeps, middle, low), np.where(keeps, high, middle)
        rate = low
    return np.where(rate >= LEAST_LOADED * pair.capacity, rate, np.nan)


def _rate_by_tpot(pair: Pair, tpot_s: float) -> Column:
    """Requests per second at which a decode step takes as long as TPOT allows."""
    limit_s = tpot_s * pair.tokens_per_step
    n = batch_within(pair.step_s, limit_s, pair.slots)
    first_s = pair.step_s.times_s[0]
    return np.where((limit_s >= first_s) | (pair.iterations <= 0), _rate_by_batch(pair, n), np.nan)


def _rate_by_batch(pair: Pair, n: Column) -> Column:
    """Requests per second at which a lane decodes `n` sequences."""
    busy = np.maximum(pair.iterations * pair.step_s(n), 1e-12)
    return np.where(pair.iterations > 0, pair.decode_lanes * n / busy, np.inf)


def _rate_by_ttft(pair: Pair, ttft_s: float, rate: Column) -> Column:
    """Requests per second at which waiting takes what TTFT leaves, decode steps as long as at `rate`."""
    left_s = ttft_s - pair.prompt_s - pair.transfer_s - pair.lag_steps * pair.step_s(pair.resident(rate))
    load = 2.0 * left_s / (pair.service_s + 2.0 * left_s)
    return np.where(left_s > 0, load / pair.service_s, np.nan)


def rows_of(pools: Pools, question: Question, places: dict[str, Column]) -> Rows:
    """The case rows of candidates that were located in this group."""
    rows = pools.prefill.rows.take(places["engine"].astype(np.intp))
    other = pools.decode.rows.take(places["decode"].astype(np.intp))
    decode = {name: other.numbers[name] for name in other.numbers if name.startswith("decode_")}
    rows = rows.put(**decode, draft_tokens=other.numbers["draft_tokens"])
    rows = rows.put(prefill_workers=places["workers"], decode_workers=places["decode_workers"])
    return rows.put(**{load_column(question): places["load"]})
