"""From a simulated run to its answers: `answers(played)` computes what `answer_values` names.

Latencies of a stretch of time are those of the requests that arrive in it, however long they take; rates count what is
emitted or completes in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.serving.record.answer_values import Answers, ClassAnswer, Stretch
from ridgeline.serving.record.bound import UNKNOWN, bound_of
from ridgeline.serving.record.energy import alive_of, attributed, energy_j, table_of, watts_of
from ridgeline.serving.record.gaps import Gaps, gaps_of, join
from ridgeline.serving.record.latency import (
    Latency,
    Objectives,
    Promise,
    WarmUp,
    gap_latency,
    kept,
    latency_of,
    tpot_of,
    warm_up_of,
)
from ridgeline.serving.record.played import DECODE, DONE, FAILED, REJECTED, UNFINISHED, Column, Lane, Played, runs_kept
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.run_statistics import cache_shares
from ridgeline.serving.record.run_windows import time_in
from ridgeline.serving.record.series import flight_of, queue_of
from ridgeline.serving.record.spans import present
from ridgeline.serving.record.streamed import Streamed, streamed_energy_j, streamed_gaps, sums_between
from ridgeline.sim.timeline import window_means

ALL = "all"
NOTABLE = 0.01
"""Share of the time between tokens above which waits that the gaps do not hold are mentioned."""

Mask = NDArray[np.bool_]


def answers(
    played: Played,
    *,
    classes: Sequence[Objectives] = (),
    class_code: NDArray[np.integer] | None = None,
    powers: Mapping[str, PowerTable] | None = None,
    rent_usd_per_chip_s: float | Mapping[str, float] = math.nan,
    warm_up: float | None = None,
    confidence: float = 0.95,
    growth: float = 1.0,
    grows: bool = True,
    host_step_s: float = 0.0,
    host_sequence_s: float = 0.0,
    streamed: Streamed | None = None,
) -> Answers:
    """Answer everything about a run.

    Args:
        played: the run, with its runs of iterations, or with `streamed` in their place.
        classes: objectives of each class of requests (none: one class without promises).
        class_code: class of each request, index into `classes`.
        powers: of each pool; without, power and energy are NaN.
        rent_usd_per_chip_s: of a chip that is up, the same in all pools or by pool.
        warm_up: share of the requests that is left out as warm-up; None: MSER-5 finds it.
        confidence: of intervals.
        growth: tokens per sequence and iteration.
        grows: whether the cache grows with the sequences, see `RunStatistics.add`.
        host_step_s: host time within an iteration.
        host_sequence_s: and of each sequence in it.
        streamed: of a run whose runs of iterations were not kept: the sums of each pool. Times between tokens are then
            those of all classes and of the whole run, and bills of requests, peak power and the bound are not known.
    """
    told = tuple(classes) or (Promise(name=ALL),)
    code = np.zeros(played.arrival_s.size, np.intp) if class_code is None else np.asarray(class_code)
    if code.shape != played.arrival_s.shape or (code.size and not 0 <= code.min() <= code.max() < len(told)):
        raise DomainError("one class per request, out of those given", at="class_code", got=code.shape)
    played, code = _by_arrival(played, code)
    if runs_kept(played) == (streamed is not None) and any(lane.busy_s for lane in played.lanes):
        fix = "give `streamed` if, and only if, runs of iterations were not kept"
        raise DomainError("runs of iterations are kept or summed up", at="streamed", fix=fix)
    if streamed is not None and not {lane.pool for lane in played.lanes} <= set(streamed):
        raise DomainError("sums of a pool are missing", at="streamed", got=sorted(streamed))
    run = _Run(played, told, code, powers, rent_usd_per_chip_s, confidence, growth, grows, streamed)
    removed = warm_up_of(played, warm_up)
    arrived = played.arrival_s[np.isfinite(played.arrival_s)]
    last = float(arrived.max()) if arrived.size else played.end_s
    end = last if last > removed.until_s else played.end_s
    host = {"host_step_s": host_step_s, "host_sequence_s": host_sequence_s}
    return Answers(
        whole=run.stretch(0.0, played.end_s),
        steady=run.stretch(removed.until_s, end),
        warm_up=removed,
        bound=bound_of(played, removed.until_s, end, **host) if streamed is None else UNKNOWN,
        objectives=told,
        notes=run.notes(removed),
        adapter_loads=sum(lane.adapter_loads for lane in played.lanes),
        model_switches=(switches := sum(lane.model_switches for lane in played.lanes)),
        model_loads=(loads := sum(lane.model_loads for lane in played.lanes)),
        model_hit_frac=_ratio(switches - loads, switches),
    )


def _by_arrival(played: Played, code: NDArray[np.integer]) -> tuple[Played, NDArray[np.integer]]:
    """Requests in order of arrival, which a batch of neighbours needs; turns of a session come out of it."""
    if (np.diff(played.arrival_s) >= 0).all():
        return played, code
    order = np.argsort(played.arrival_s, kind="stable")
    columns: dict[str, Any] = {f.name: getattr(played, f.name) for f in fields(Played)}
    columns |= {name: value[order] for name, value in columns.items() if isinstance(value, np.ndarray)}
    return Played(**columns), code[order]


class _Run:
    """A run and what is asked of it; gaps and bills are found once."""

    def __init__(
        self,
        played: Played,
        classes: tuple[Objectives, ...],
        code: NDArray[np.integer],
        powers: Mapping[str, PowerTable] | None,
        rent: float | Mapping[str, float],
        confidence: float,
        growth: float,
        grows: bool,
        streamed: Streamed | None,
    ) -> None:
        self.played, self.classes, self.code, self.powers = played, classes, code, powers
        self.confidence, self.growth, self.grows = confidence, growth, grows
        self.rents = [rent.get(each.pool, math.nan) if isinstance(rent, Mapping) else rent for each in played.lanes]
        self.streamed = streamed
        self.good = kept(played, classes, code)
        self.tpot_s = tpot_of(played)
        # Power of runs is asked for several times, and is as costly as the rest.
        self.watts = watts_of(played, powers) if powers else []
        self.bills_j = attributed(played, powers, self.watts).per_request_j if powers and streamed is None else None
        everybody = np.ones(code.size, dtype=np.bool_)
        self.groups: list[tuple[str, Mask]] = [(ALL, everybody)]
        self.groups += [(each.name, code == i) for i, each in enumerate(classes)] if len(classes) > 1 else []
        self.gaps = [self._gaps(None if i == 0 else mask) for i, (_, mask) in enumerate(self.groups)]

    def _gaps(self, mask: Mask | None) -> Gaps:
        """Times between tokens of the requests chosen, all lanes together."""
        p = self.played
        order = np.argsort(p.lane, kind="stable")
        edges = np.searchsorted(p.lane[order], np.arange(len(p.lanes) + 1))
        parts = []
        for i, lane in enumerate(p.lanes):
            where = order[edges[i] : edges[i + 1]]
            where = where[(p.output_tokens[where] > 1) & np.isfinite(p.first_s[where])]
            runs = lane.runs
            if mask is not None:
                where = where[mask[where]]
                last = np.where(np.isfinite(p.last_s[where]), p.last_s[where], np.inf)
                there = present(runs["start_s"], p.first_s[where], np.maximum(last, p.first_s[where]))
                runs = runs.copy()
                runs["sequences"] = np.minimum(runs["sequences"], there)
            parts.append(gaps_of(runs, p.first_s[where], handed_over=lane.role == DECODE))
        return join(parts)

    def stretch(self, start_s: float, end_s: float) -> Stretch:
        """All answers of a stretch."""
        p, lasting = self.played, max(end_s - start_s, math.ulp(end_s))
        groups = [self._class(*group, gaps, start_s, end_s) for group, gaps in zip(self.groups, self.gaps, strict=True)]
        overall = groups[0]
        up = [float(np.diff(alive_of(lane).until(np.array([start_s, end_s])))[0]) for lane in p.lanes]
        chip_s = sum(lane.chips * time for lane, time in zip(p.lanes, up, strict=True))
        energy = self._energy_j(start_s, end_s)
        paid = sum(rent * lane.chips * t for rent, lane, t in zip(self.rents, p.lanes, up, strict=True) if t > 0)
        tokens = overall.output_tokens_per_s * lasting
        return Stretch(
            start_s=start_s,
            end_s=end_s,
            overall=overall,
            classes=tuple(groups[1:]),
            chips=chip_s / lasting,
            output_tokens_per_s_per_chip=_ratio(tokens, chip_s),
            **self._waiting(start_s, end_s),
            **self._fleet(start_s, end_s, up),
            power_w=energy / lasting,
            power_w_per_chip=_ratio(energy, chip_s),
            power_peak_w_per_chip=self._peak_w(start_s, end_s),
            energy_j=energy,
            energy_j_per_request=_ratio(energy, overall.request_per_s * lasting),
            energy_j_per_output_token=_ratio(energy, tokens),
            cost_usd_per_1m_output_tokens=_ratio(paid, tokens) * 1e6,
        )

    def _class(self, name: str, mask: Mask, gaps: Gaps, start_s: float, end_s: float) -> ClassAnswer:
        p, lasting = self.played, max(end_s - start_s, math.ulp(end_s))
        there = mask & (p.arrival_s >= start_s) & (p.arrival_s <= end_s)
        done = there & (p.end == DONE)
        ended = mask & (p.end == DONE) & (p.last_s > start_s) & (p.last_s <= end_s)
        tokens, prompts = self._tokens(mask, start_s, end_s)
        within = gaps.rows((gaps.at_s >= start_s) & (gaps.at_s < end_s))
        found, asked = int(p.found_tokens[there].sum()), int(p.prompt_tokens[there].sum())
        ends = {name: int(np.count_nonzero(there & (p.end == end))) for name, end in ENDS.items()}
        requests = int(np.count_nonzero(there))
        return ClassAnswer(
            name=name,
            requests=requests,
            **ends,
            ttft_s=self._latency(p.first_s - p.arrival_s, done),
            tpot_s=self._latency(self.tpot_s, done),
            itl_s=self._gap_latency(name, within, ends["done"]),
            e2e_s=self._latency(p.last_s - p.arrival_s, done),
            queue_s=self._latency(p.admitted_s - p.arrival_s, there),
            request_per_s=np.count_nonzero(ended) / lasting,
            output_tokens_per_s=tokens / lasting,
            total_tokens_per_s=(tokens + prompts) / lasting,
            goodput_request_per_s=np.count_nonzero(ended & self.good) / lasting,
            slo_met_frac=_ratio(np.count_nonzero(there & self.good), requests),
            preemptions=int(p.preemptions[there].sum()),
            prefix_hit_frac=_ratio(found, asked),
            energy_j_per_request=math.nan if self.bills_j is None else _ratio(self.bills_j[there].sum(), requests),
        )

    def _energy_j(self, start_s: float, end_s: float) -> float:
        if not self.powers:
            return math.nan
        if self.streamed is not None:
            return streamed_energy_j(self.played, self.powers, self.streamed, start_s, end_s)
        return energy_j(self.played, self.powers, start_s, end_s, self.watts)

    def _gap_latency(self, name: str, gaps: Gaps, requests: int) -> Latency | None:
        if self.streamed is not None:
            return streamed_gaps(self.streamed, requests, self.confidence) if name == ALL else None
        return gap_latency(gaps, requests, self.confidence)

    def _latency(self, values: Column, mask: Mask) -> Latency | None:
        chosen = values[mask]
        return latency_of(chosen[np.isfinite(chosen)], self.confidence)

    def _tokens(self, mask: Mask, start_s: float, end_s: float) -> tuple[float, float]:
        """Tokens of complete requests emitted in a stretch, and prompt tokens of those whose first token lies in it."""
        p = self.played
        chosen = mask & (p.end == DONE)
        first, last = p.first_s[chosen], p.last_s[chosen]
        begun = (first > start_s) & (first <= end_s)
        lasting = last - first
        inside = np.clip(np.minimum(last, end_s) - np.maximum(first, start_s), 0.0, None)
        share = np.divide(inside, lasting, out=np.zeros_like(lasting), where=lasting > 0)
        output, prompts = p.output_tokens[chosen], p.prompt_tokens[chosen]
        return float(begun.sum() + share @ (output - 1.0)), float(prompts[begun].sum())

    def _waiting(self, start_s: float, end_s: float) -> dict[str, Any]:
        """Queue and requests in flight."""
        if end_s <= start_s:
            return {"queue": math.nan, "queue_peak": math.nan, "in_flight": math.nan}
        queue, flight = queue_of(self.played), flight_of(self.played)
        edges = np.array([start_s, end_s])
        within = (queue[0] >= start_s) & (queue[0] <= end_s)
        at_start = queue[1][max(int(np.searchsorted(queue[0], start_s, side="right")) - 1, 0)]
        # Of several changes at one instant the last counts: who is admitted on arrival never waited.
        lasts = np.concatenate([np.diff(queue[0]) > 0, [True]])
        peak = float(np.max(queue[1][within & lasts], initial=at_start))
        return {
            "queue": float(window_means(*queue, edges)[0]),
            "queue_peak": peak,
            "in_flight": float(window_means(*flight, edges)[0]),
        }

    def _fleet(self, start_s: float, end_s: float, up_s: list[float]) -> dict[str, Any]:
        """Batch, cache and utilisation."""
        if self.streamed is not None:
            return self._streamed_fleet(self.streamed, start_s, end_s, up_s)
        sequences = cached = peak = total = 0.0
        busy: dict[str, list[float]] = {}
        for lane, up in zip(self.played.lanes, up_s, strict=True):
            time_s = time_in(lane.runs, start_s, end_s)
            used, rise = _cache(lane, self.growth, self.grows)
            grown = rise * np.maximum(lane.runs["iterations"] - 1.0, 0.0)
            total += float(time_s.sum())
            sequences += float(time_s @ lane.runs["sequences"])
            cached += float(time_s @ (used + grown / 2.0))
            peak = max(peak, float(np.max((used + grown)[time_s > 0], initial=0.0)))
            sums = busy.setdefault(lane.pool, [0.0, 0.0])
            sums[0] += float(time_s.sum())
            sums[1] += up
        return {
            "batch": _ratio(sequences, total),
            "kv_use_frac": _ratio(cached, total),
            "kv_use_peak_frac": peak,
            "busy_frac": {pool: _ratio(*sums) for pool, sums in busy.items()},
        }

    def _streamed_fleet(self, streamed: Streamed, start_s: float, end_s: float, up_s: list[float]) -> dict[str, Any]:
        """The same from sums."""
        up: dict[str, float] = {}
        for lane, time in zip(self.played.lanes, up_s, strict=True):
            up[lane.pool] = up.get(lane.pool, 0.0) + time
        sums = {pool: sums_between(each, start_s, end_s) for pool, each in streamed.items()}
        busy = sum(each["busy_s"] for each in sums.values())
        return {
            "batch": _ratio(sum(each["sequence_s"] for each in sums.values()), busy),
            "kv_use_frac": _ratio(sum(each["cache_s"] for each in sums.values()), busy),
            "kv_use_peak_frac": max(each.cache_peak_frac for each in streamed.values()),
            "busy_frac": {pool: _ratio(each["busy_s"], up[pool]) for pool, each in sums.items()},
        }

    def _peak_w(self, start_s: float, end_s: float) -> float:
        if not self.powers or self.streamed is not None:
            return math.nan
        peaks = []
        for lane, watts in zip(self.played.lanes, self.watts, strict=True):
            within = time_in(lane.runs, start_s, end_s) > 0
            peaks.append(float(np.max(watts[within], initial=table_of(self.powers, lane).idle_w)))
        return max(peaks, default=math.nan)

    def notes(self, removed: WarmUp) -> tuple[str, ...]:
        """What a reader has to know beside the numbers."""
        p, notes = self.played, []
        if not removed.settled:
            notes.append("the run is too short to tell where warm-up ends; simulate more requests")
        if lost := int(np.count_nonzero(p.end == UNFINISHED)):
            notes.append(f"{lost:,} requests were still there when the run ended; latencies leave them out")
        if loads := sum(lane.adapter_loads for lane in p.lanes):
            each = loads / max(int(np.count_nonzero(np.isfinite(p.admitted_s))), 1)
            notes.append(f"adapters were loaded {loads:,} times, {each:.2g} per request that was admitted")
        if switches := sum(lane.model_switches for lane in p.lanes):
            loads, fetches = (sum(getattr(lane, f"model_{what}") for lane in p.lanes) for what in ("loads", "fetches"))
            below = f", {fetches:,} of them from below host memory" if fetches else ""
            notes.append(f"{switches:,} switches between models, {loads:,} of which loaded weights{below}")
        if self.powers:
            notes.append("power and energy are of boards alone: hosts, fans and supplies are not known")
        if self.streamed is not None:
            notes.append(
                "runs of iterations were not kept: times between tokens are of the whole run, without intervals"
            )
        if hidden := self._hidden_frac():
            notes.append(
                f"{hidden:.1%} of the time between tokens is waits of preempted or moved requests: in TPOT, not in ITL"
            )
        return tuple(notes)

    def _hidden_frac(self) -> float:
        """Share of the time between first and last tokens that no iteration holds, if notable."""
        p = self.played
        if (p.end != DONE).any() or self.growth != 1.0 or self.streamed is not None:
            return 0.0
        total = float((p.last_s - p.first_s).sum())
        hidden = _ratio(total - self.gaps[0].total_s, total)
        return hidden if hidden > NOTABLE else 0.0


ENDS = {"done": DONE, "rejected": REJECTED, "unfinished": UNFINISHED, "failed": FAILED}


def _cache(lane: Lane, growth: float, grows: bool) -> tuple[Column, Column]:
    return cache_shares(lane.runs, blocks=lane.blocks, block_tokens=lane.block_tokens, growth=growth, grows=grows)


def _ratio(part: Any, whole: float) -> float:
    return float(part / whole) if whole else math.nan
