"""Continuous batching at steady state, in closed form over columns.

One lane holds `slots` requests: some decode, the others prefill or wait to. Between two completions the lane runs a
fixed number of iterations; those that carry prompt tokens take longer, and every decoding sequence feels them. Step
times are priced at a few batches and interpolated, so a column of deployments costs a handful of vectorised prices.

The closed form has no bunching of its own: with equal lengths, requests that were prefilled together return together,
and the procedure's group size is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.columns import map_columns
from ridgeline.hardware.chip import Value
from ridgeline.serving.load import Load, Procedure
from ridgeline.serving.runtime import Runtime
from ridgeline.serving.stepper import Stepper
from ridgeline.workloads.model import Batch

Column = NDArray[np.float64]

ROUNDS = 60
"""Most steps towards a fixed point."""

FEW_GO = 0.25
"""Share of the rows below which those that are still on their way go on without the others."""

EXACT = 1e-11
"""Share of the slots to which a fixed point is found."""

TINY = 1e-6
"""Lower end of the bracket: a lane that decodes a millionth of a sequence is empty."""

MOST_CAME = 0.7
"""Share of the time that prompts take, at most, when those are counted that came during a request's own: beyond it they
wait for room in iterations, which is counted apart. Chosen, of 0.7 and 0.95, by agreement with the simulator.
"""

MOST_USED = 0.95
"""Share of the token budget that prompts use, at most, when their backlog is estimated: a closed loop bounds it."""

POINTS = 48
"""Numbers of sequences at which a distribution of them is summed."""

REGULAR = 0.25
"""Backlog of prompts over that of random arrivals (M/D/1): completions of a batch come in turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds a lane: sequences at once, and new tokens per iteration."""

    slots: Value
    token_budget: Value


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Step times at three batch sizes, linear between them and constant beyond."""

    knots: tuple[Column, Column, Column]
    times_s: tuple[Column, Column, Column]

    @cached_property
    def slopes(self) -> tuple[Column, Column]:
        """Seconds per sequence between the first two knots, and between the last two."""
        (x0, x1, x2), (y0, y1, y2) = self.knots, self.times_s
        return _slope(x0, x1, y0, y1), _slope(x1, x2, y1, y2)

    def __call__(self, n: Value) -> Column:
        """Seconds of a step of `n` sequences."""
        n = np.minimum(np.maximum(n, self.knots[0]), self.knots[2])
        low = self.times_s[0] + self.slopes[0] * (n - self.knots[0])
        high = self.times_s[1] + self.slopes[1] * (n - self.knots[1])
        return np.where(n < self.knots[1], low, high)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Step times of a lane at sampled batches, interpolated: `decode(n)` and `mixed(n, tokens)`, in seconds."""

    slots: Column
    knots: tuple[Column, Column, Column]
    decode_s: tuple[Column, Column, Column]
    chunk: Column
    merged: Column
    alone_s: Column
    mixed_s: Column
    merged_s: Column

    @cached_property
    def _decode(self) -> Curve:
        return Curve(knots=self.knots, times_s=self.decode_s)

    @cached_property
    def _token_slope(self) -> Column:
        """Seconds per prompt token beyond a chunk."""
        return np.maximum(_slope(self.chunk, self.merged, self.mixed_s, self.merged_s), 0.0)

    @cached_property
    def _beside_s(self) -> Column:
        """What a full batch of decodes adds to a chunk."""
        return self.mixed_s - self.alone_s

    def decode(self, n: Value) -> Column:
        """An iteration of `n` decoding sequences: linear between 1, a quarter of the slots, and all of them."""
        return self._decode(n)

    def mixed(self, n: Value, tokens: Value) -> Column:
        """An iteration of `n` decoding sequences and `tokens` prompt tokens."""
        share = np.minimum(np.maximum(n / self.slots, 0.0), 1.0)
        one = self.alone_s + share * self._beside_s
        flat = self.decode(n)
        above = one + self._token_slope * (tokens - self.chunk)
        below = flat + np.maximum(one - flat, 0.0) * tokens / self.chunk
        return np.maximum(np.where(tokens >= self.chunk, above, below), flat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """A lane at steady state. Times are means over requests; TTFT runs from arrival to the first token.

    `tpot_s` is the time between tokens after the first; `batch` the mean number of decoding sequences; `request_per_s`
    completions of the lane. `ttft_s` and `tpot_s` are what the procedure prints, `steady_*` without its start.
    """

    ttft_s: Column
    tpot_s: Column
    steady_ttft_s: Column
    steady_tpot_s: Column
    request_per_s: Column
    batch: Column
    overloaded: NDArray[np.bool_]


def sample_times(stepper: Stepper, load: Load, limits: Limits) -> Times:
    """Price the batches between which a lane's step times are interpolated, all of them in one go."""
    context = np.asarray(load.isl + np.asarray(load.osl) / 2.0)
    prompt, cached = np.asarray(load.prompt, float), np.asarray(load.cached, float)
    slots = np.maximum(np.asarray(limits.slots, float), 1.0) + 0.0 * (prompt + context)
    # Beside a prompt, all others of a full batch decode.
    room = np.maximum(limits.token_budget - (slots - 1.0), 1.0)
    chunk = np.minimum(prompt, room)
    beside = slots / np.maximum(load.iterations, 1.0)
    merged = np.clip((1.0 + beside) * prompt, chunk, np.maximum(room, chunk))
    none, one = np.zeros_like(slots), np.ones_like(slots)
    quarter = np.maximum(slots / 4.0, 1.0)
    # Decodes alone at three batches; a chunk alone; a chunk, and the merged prompts, beside a full batch,
    # where they are longer than a chunk.
    every, grown = np.arange(slots.size), np.flatnonzero(merged > chunk)
    rows = np.concatenate([every, every, every, every, every, grown])
    decodes = np.concatenate([one, quarter, slots, none, slots, slots[grown]])
    tokens = np.concatenate([none, none, none, chunk, chunk, merged[grown]])
    context, prompt, cached = ((full + none)[rows] for full in (context, prompt, cached))
    whole = np.clip(tokens, 1.0, prompt)
    many = stepper.rows(rows)
    # Lengths of sequences that are not there would only keep equal batches apart.
    batch = Batch(
        decode_seqs=decodes,
        decode_context=np.where(decodes > 0, context, 1.0),
        decode_tokens=1.0 + np.asarray(many.drafts),
        prefill_seqs=tokens / whole,
        prefill_tokens=whole,
        prefill_prefix=np.where(tokens > 0, cached + np.maximum(prompt - whole, 0.0) / 2.0, 0.0),
    )
    sampled = np.split(np.broadcast_to(many.time_s(batch), decodes.shape), slots.size * np.arange(1, 6))
    merged_s = sampled[4].copy()
    merged_s[grown] = sampled[5]
    return Times(
        slots=slots,
        knots=(one, quarter, slots),
        decode_s=(sampled[0], sampled[1], sampled[2]),
        chunk=chunk,
        merged=merged,
        alone_s=sampled[3],
        mixed_s=sampled[4],
        merged_s=merged_s,
    )


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The mean-field equations of a lane; every method takes the number of decoding sequences.

    `group` is how many requests are prefilled together; `others` the share of prompts that a request meets while it
    decodes: in a closed loop all but its own. `stages` of a pipeline work on chunks of one prompt at once: those that
    other requests leave idle.
    """

    times: Times
    load: Load
    limits: Limits
    runtime: Runtime
    group: Value
    others: Value
    stages: Value = 1.0

    @cached_property
    def chunks(self) -> Column:
        """Iterations that one prompt needs."""
        return np.ceil(self.load.prompt / self.times.chunk)

    @property
    def separate(self) -> bool:
        """Whether decodes wait while prompts are computed."""
        return self.runtime.prompt_policy == "prefill-first"

    def interval_s(self, n: Value) -> Column:
        """Mean time between completions with `n` decoding sequences."""
        per_request = self.load.iterations / np.maximum(n, 1e-9)
        decode_s = self.times.decode(n)
        if self.separate:
            return self.prefill_s(n) + per_request * decode_s
        # Iterations that carry prompts: each prompt's chunks, fewer when several share an iteration.
        spread = np.minimum(self.chunks, per_request)
        tokens = np.where(per_request > 0, self.load.prompt / np.maximum(spread, 1e-9), self.times.chunk)
        busy_s = self.times.mixed(n, np.minimum(tokens, np.maximum(self.limits.token_budget - n, self.times.chunk)))
        over = tokens / np.maximum(self.limits.token_budget - n, self.times.chunk)
        spread = spread * np.maximum(over, 1.0)
        extra_s = spread * busy_s + np.maximum(per_request - spread, 0.0) * decode_s
        return np.where(per_request > 0, extra_s, self.chunks * busy_s)

    def busy_interval_s(self, n: Value, rate: Value) -> Column:
        """Mean time between completions while `n` sequences decode, and prompts come at a rate whatever `n` is.

        Prompts take the lane for a share of the time that depends on their own rate, not on that of completions; both
        are equal where completions keep up, and so is this and `interval_s`.
        """
        decode_s = self.load.iterations / np.maximum(n, 1e-9) * self.times.decode(n)
        whole_s = self.interval_s(n)
        prompt_s = np.maximum(whole_s - decode_s, 0.0)
        taken = np.minimum(rate * prompt_s, MOST_USED)
        # Prompts that came during a request's own, and during theirs, are ahead of its first decode iterations.
        share = np.minimum(rate * self.prefill_s(n), MOST_CAME)
        came = share / (1.0 - share)
        met_s = decode_s + came * prompt_s / np.maximum(n, 1.0)
        return np.asarray(np.where(np.asarray(self.load.iterations) > 0, met_s / (1.0 - taken), whole_s))

    @cached_property
    def most_decoding(self) -> Column:
        """Sequences that can decode while prompts enter no faster than the token budget takes them."""
        budget, prompt = np.asarray(self.limits.token_budget, float), self.load.prompt
        if self.separate:
            return np.full_like(self.times.slots, np.inf)
        # n prompt / iterations = budget - n; at least one, for prompts longer than the budget.
        return np.maximum(budget / (1.0 + prompt / np.maximum(self.load.iterations, 1.0)), 1.0) + 0.0 * self.times.slots

    def prefill_s(self, n: Value) -> Column:
        """Time that one prompt's chunks take in the lane, decodes beside it where they share iterations."""
        passes = 1.0 + (self.chunks - 1.0) / self.stages
        return passes * (self.times.alone_s if self.separate else self.times.mixed(n, self.times.chunk))

    def tpot_s(self, n: Value) -> Column:
        """Time per output token after the first: decode iterations, stretched by the prompts of other requests."""
        share = np.maximum(n, 1e-9) / np.maximum(self.load.iterations, 1e-9)
        decode_s = self.times.decode(n)
        stretch_s = np.maximum(self.interval_s(n) * share - decode_s, 0.0)
        return np.asarray((decode_s + self.others * stretch_s) / self.load.tokens_per_step)

    def first_token_s(self, n: Value, interval_s: Value) -> Column:
        """From arrival at a free slot to the first token: missed iterations, prompts beside and ahead, its own chunks.

        Completions, and with them the arrivals of a closed loop, fall on the ends of iterations: what a prompt meets is
        counted per iteration, not per second. `interval_s` is `self.interval_s(n)`, which the caller needs too.
        """
        n = np.maximum(n, 1e-9)
        # A request that comes to an idle engine meets nobody: a lone client never waits.
        others = np.asarray(self.load.concurrency, float) - 1.0
        met = np.clip(np.where(others > -1.0, others, n), 0.0, 1.0)
        arriving = n / np.maximum(self.load.iterations, 1.0)  # requests per decode iteration
        beside = met * np.maximum(arriving * (1.0 - 1.0 / np.maximum(n, 1.0)), self.group - 1.0)
        beside = np.minimum(beside, np.maximum(n - 1.0, 0.0))
        decoding = np.zeros_like(n) if self.separate else n
        room = np.maximum(self.limits.token_budget - decoding * self.others, self.times.chunk)
        tokens = (1.0 + beside) * self.load.prompt
        rounds = self.load.prompt / room
        full_s = self.times.mixed(decoding, room)
        own_s = np.where(
            tokens <= room,
            self.times.mixed(decoding, np.minimum(tokens, room)),
            np.maximum(self.prefill_s(n), full_s) + beside / 2.0 * rounds * full_s,
        )
        used = np.minimum(0.0 if self.separate else arriving * rounds, MOST_USED)
        backlog_s = met * REGULAR * used / (2.0 * (1.0 - used)) * np.maximum(rounds, 1.0) * full_s
        missed_s = met * self.runtime.admission_lag_steps * self._missed_s(n, interval_s, arriving)
        return np.asarray(missed_s + own_s + backlog_s)

    def _missed_s(self, n: Value, interval_s: Value, arriving: Value) -> Column:
        """The iteration that a lagging scheduler has already formed when a request arrives."""
        if not self.separate:
            return np.asarray(
                interval_s * np.where(self.chunks > 1.0, np.minimum(arriving, 1.0 / self.chunks), arriving)
            )
        prompts_s = self.times.mixed(0.0 * n, np.maximum(arriving, 1.0) * self.load.prompt)
        share = np.minimum(arriving, 1.0)
        return np.asarray(share * prompts_s + (1.0 - share) * self.times.decode(n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What increases with the number of decoding sequences, and is zero where a lane settles.

    Closed loop: requests in the lane beyond those that are there. Open loop: the excess of completions over arrivals.
    """

    lane: Lane
    resident: Column
    rate: Column

    def __call__(self, n: Column) -> Column:
        """The balance of each row with `n` decoding sequences."""
        interval_s = self.lane.interval_s(n)
        closed = n + self.lane.first_token_s(n, interval_s) / interval_s - self.resident
        if not np.any(self.rate > 0):
            return np.asarray(closed)
        return np.where(self.rate > 0, n * (1.0 - self.rate * interval_s), closed)


def solve(stepper: Stepper, load: Load, limits: Limits, measured: Procedure) -> Steady:
    """The steady state of a lane, and what `measured` would print of it.

    Closed loop: decoding plus prefilling requests fill the slots, the rest of the concurrency waits (Little's law).
    Open loop: the number of decoding sequences at which completions keep up with arrivals.
    """
    return settle(sample_times(stepper, load, limits), stepper.runtime, load, limits, measured)


def settle(times: Times, runtime: Runtime, load: Load, limits: Limits, measured: Procedure) -> Steady:
    """As `solve`, of steps that are priced already: they depend on a load through its lengths alone."""
    budget = np.maximum(np.asarray(limits.token_budget, float), 1.0)
    whole = np.maximum(np.floor(budget / load.prompt), 1.0)
    group = np.where(measured.fixed_lengths, whole, 1.0)
    if measured.fixed_lengths and runtime.prompt_policy == "prefill-first":
        group = np.asarray(times.slots)  # lock-step: the whole batch returns and is prefilled together
    concurrency, rate = np.asarray(load.concurrency, float), np.asarray(load.rate_per_s, float)
    resident = np.minimum(np.where(concurrency > 0, concurrency, np.inf), times.slots)
    others = np.where(rate > 0, 1.0, 1.0 - 1.0 / np.maximum(resident, 1.0))
    stages = load.idle_stages
    lane = Lane(times=times, load=load, limits=limits, runtime=runtime, group=group, others=others, stages=stages)

    most = np.minimum(times.slots, lane.most_decoding)
    n = _root(Balance(lane=lane, resident=resident, rate=rate), most)
    overloaded = (rate > 0) & (rate * lane.interval_s(times.slots) > 1.0)
    if np.any(rate > 0):
        return _report(lane, arrivals(lane, n, most, rate), measured, resident, overloaded)
    return _report(lane, State(n=n), measured, resident, overloaded)


def arrivals(lane: Lane, n: Column, most: Column, rate: Column) -> State:
    """Random arrivals: the number of sequences moves, and what a prompt meets is counted per second.

    Sequences that share a lane are a processor-sharing queue whose speed depends on their number, for which the numbers
    are distributed as in the birth and death process with those rates, whatever the law of the lengths (Kelly,
    Reversibility and Stochastic Networks, 1979, chapter 3).
    """
    rate = np.where(rate > 0, rate, np.nan)
    mean = _mean_number(lane, np.where(rate > 0, n, 1.0), most, rate)
    steps = np.maximum(lane.load.iterations, 1.0)
    iteration_s = mean / (rate * steps)
    tpot_s = iteration_s / lane.load.tokens_per_step
    # An iteration takes the prompts that arrived during the one before.
    each = rate * iteration_s
    with_prompts = 1.0 - np.exp(-each)
    decoding = np.zeros_like(mean) if lane.separate else mean
    room = np.maximum(lane.limits.token_budget - decoding, lane.times.chunk)
    rounds = lane.load.prompt / room
    full_s = lane.times.mixed(decoding, room)
    some_s = lane.times.mixed(decoding, np.minimum(each / with_prompts * lane.load.prompt, room))
    plain_s = lane.times.decode(mean)
    busy = 1.0 - np.exp(-mean)
    left_s = (with_prompts * some_s**2 + (1.0 - with_prompts) * plain_s**2) / (
        2.0 * (with_prompts * some_s + (1.0 - with_prompts) * plain_s)
    )
    tokens = (1.0 + each) * lane.load.prompt
    own_s = np.where(
        tokens <= room,
        lane.times.mixed(decoding, np.minimum(tokens, room)),
        np.maximum(lane.prefill_s(mean), full_s) + each / 2.0 * rounds * full_s,
    )
    # Prompts that an iteration has no room for: as many servers as prompts fit into one (Sakasegawa, 1977, for M/D/c).
    used = np.minimum(rate * rounds * full_s, MOST_USED)
    servers = np.maximum(1.0 / rounds, 1.0)
    queued = used ** (np.sqrt(2.0 * (servers + 1.0)) - 1.0) / (2.0 * servers * (1.0 - used))
    backlog_s = queued * np.maximum(rounds, 1.0) * full_s
    wait_s = busy * (left_s + lane.runtime.admission_lag_steps * iteration_s)
    return State(n=np.where(rate > 0, mean, n), open_ttft_s=wait_s + own_s + backlog_s, open_tpot_s=tpot_s)


def _mean_number(lane: Lane, n: Column, most: Column, rate: Column) -> Column:
    """Mean of the birth and death process with births at `rate` and a death every `busy_interval_s(n)`.

    It is summed over whole numbers around its mode `n`, or over points between them where it is wide.
    """
    near = np.maximum(n * 1.01, n + 0.01)
    slack = np.log(lane.busy_interval_s(n, rate) / lane.busy_interval_s(near, rate)) / np.log(near / n)
    width = 7.0 * np.sqrt(n / np.clip(slack, 0.02, 1.0)) + 8.0
    low = np.floor(np.maximum(n - width, 0.0))
    gap = np.maximum((np.minimum(n + width, np.maximum(most, 1.0)) - low) / (POINTS - 1), 1.0)
    x = low + gap * np.arange(POINTS)[:, None]
    log = np.log(rate * lane.busy_interval_s(np.maximum(x, TINY), rate))
    rise = gap * (log[1:] + log[:-1]) / 2.0 + (log[1:] - log[:-1]) / 2.0
    rise = np.where(x[1:] > most + 0.5, -np.inf, rise)
    weight = np.concatenate([np.zeros_like(rise[:1]), np.cumsum(rise, axis=0)])
    weight = np.exp(weight - weight.max(axis=0))
    return np.asarray((weight * x).sum(axis=0) / weight.sum(axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a lane settles: decoding sequences; in an open loop also the mean times, NaN elsewhere."""

    n: Column
    open_ttft_s: Value = np.nan
    open_tpot_s: Value = np.nan


def _report(lane: Lane, state: State, measured: Procedure, resident: Column, overloaded: NDArray[np.bool_]) -> Steady:
    load, n = lane.load, state.n
    concurrency, rate = np.asarray(load.concurrency, float), np.asarray(load.rate_per_s, float)
    interval_s = lane.interval_s(n)
    tpot_s = np.where(rate > 0, state.open_tpot_s, lane.tpot_s(n))
    tpot_s = np.where(load.iterations > 0, tpot_s, 0.0)
    decoding_s = tpot_s * np.maximum(np.asarray(load.osl) - 1.0, 0.0)
    engine_ttft_s = lane.first_token_s(n, interval_s)
    # Where prompts fill the budget of every iteration, all who do not decode wait (Little's law).
    filled_up = n >= lane.most_decoding * (1.0 - 1e-6)
    engine_ttft_s = np.where(filled_up, np.maximum(resident * interval_s - decoding_s, engine_ttft_s), engine_ttft_s)
    engine_ttft_s = np.where(rate > 0, state.open_ttft_s, engine_ttft_s)
    per_s = np.where(rate > 0, rate, resident / (engine_ttft_s + decoding_s))
    waiting = np.where(np.isfinite(concurrency) & (rate <= 0), np.maximum(concurrency - resident, 0.0), 0.0)
    steady_ttft_s = engine_ttft_s + waiting / per_s
    # The first wave: all clients at once, prefilled group by group.
    size = np.minimum(np.where(np.isfinite(concurrency), concurrency, 0.0), lane.times.slots)
    at_once = np.maximum(np.floor(lane.limits.token_budget / load.prompt), 1.0)
    rounds = np.ceil(np.maximum(size, 1.0) / at_once)
    filled = np.minimum(at_once, np.maximum(size, 1.0))
    round_s = lane.times.mixed(size / 2.0, filled * np.minimum(load.prompt, lane.times.chunk))
    burst_s = np.maximum((rounds + 1.0) / 2.0 * round_s * np.where(at_once > 1, 1.0, lane.chunks), lane.prefill_s(n))
    weight = np.where((rate > 0) | ~np.isfinite(concurrency), 0.0, 1.0 / measured.requests_per_client)
    ttft_s = (1.0 - weight) * steady_ttft_s + weight * (burst_s + waiting / per_s)
    return Steady(
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        steady_ttft_s=steady_ttft_s,
        steady_tpot_s=tpot_s,
        request_per_s=per_s,
        batch=n,
        overloaded=overloaded,
    )


def _slope(x0: Value, x1: Value, y0: Value, y1: Value) -> Column:
    """Of the line through two points; flat where they coincide."""
    apart = np.asarray(x1 > x0)
    return np.where(apart, (y1 - y0) / np.where(apart, x1 - x0, 1.0), 0.0)


def _root(balance: Balance, most: Column) -> Column:
    """Where the increasing `balance(n)` crosses zero in (0, most]; the upper end if it does not.

    Inverse quadratic interpolation where that is safe, else halving (Chandrupatla, Advances in Engineering Software 28,
    1997). Most rows need a handful of steps; those with a jump go on by themselves.
    """
    top = most.ravel().astype(np.float64)
    found, rows, last, other = top.copy(), np.arange(top.size), top.copy(), np.full_like(top, TINY)
    above, below = balance(last), balance(other)
    going = above > 0
    with np.errstate(all="ignore"):
        share = np.clip(above / (above - below), 0.0, 1.0)
        for _ in range(ROUNDS):
            if np.count_nonzero(going) < FEW_GO * going.size:
                some = np.flatnonzero(going)
                if not some.size:
                    break
                balance, rows, top, last, other, above, below, share, going = map_columns(
                    (balance, rows, top, last, other, above, below, share, going),
                    lambda column, some=some: column[some],  # type: ignore[misc]
                )
            n = last + share * (other - last)
            value = balance(n)
            same = (value > 0) == (above > 0)
            third, beyond = np.where(same, last, other), np.where(same, above, below)
            other, below = np.where(same, other, last), np.where(same, below, above)
            last, above = n, value
            nearer = np.abs(above) < np.abs(below)
            found[rows] = np.where(going, np.where(nearer, last, other), found[rows])
            width = np.abs(other - last)
            close = np.where(nearer, np.abs(above), np.abs(below)) <= EXACT * top
            going = going & ~(close | (width <= 2.0 * EXACT * top))
            share = _share(last, other, third, above, below, beyond)
            least = np.minimum(EXACT * top / width, 0.5)
            share = np.clip(share, least, 1.0 - least)
    return found.reshape(most.shape)


def _share(last: Column, other: Column, third: Column, above: Column, below: Column, beyond: Column) -> Column:
    """Where, from `last` to `other`, the parabola through three points and their values is zero; else half-way."""
    place, rise = (last - other) / (third - other), (above - below) / (beyond - below)
    smooth = (rise * rise < place) & ((1.0 - rise) ** 2 < 1.0 - place)
    curved = above / (below - above) * beyond / (below - beyond)
    curved += (third - last) / (other - last) * above / (beyond - above) * below / (beyond - below)
    return np.where(smooth & np.isfinite(curved), curved, 0.5)
