"""Step times of one engine lane: a merged batch, rewritten by the plan, priced on the machine, plus host time.

A lane is one attention-data-parallel rank group of one pipeline slot: `replicas * dp * pp` lanes share the load. Under
pipeline parallelism each lane's batch passes all stages one after another while other lanes fill them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.columns import map_columns
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware.chip import Value
from ridgeline.plans import Plan, parallelise
from ridgeline.serving.runtime import Runtime
from ridgeline.steps import Away, Step, alike, price_step, step_time_s
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.model import Batch, Model, is_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepper:
    """Prices the steps of one model under one plan on one machine; sizes may be columns.

    Attributes:
        drafts: speculated tokens per step (0: none): decoding sequences then bring 1 + drafts tokens each.
        nano_batches: 2: a step runs as two half batches at once where that is faster (`steps.nano_batches`).
        away: the chips that hold the cache and run its decode attention, if `plan` says so (None: the same chips).
        turns: batches that rotate between both kinds of chips where that is faster (`steps.away`).
        pace: gives the stepper at the clocks at which it runs a batch (None: at that of its chips).
    """

    model: Model
    plan: Plan
    machines: MachineColumns
    runtime: Runtime
    setting: Setting
    drafts: Value = 0.0
    nano_batches: Value = 1.0
    away: Away | None = None
    turns: Value = 1.0
    pace: Callable[[Stepper, Batch], Stepper] | None = None

    def repeated(self, times: int) -> Stepper:
        """The same rows `times` over, one after another, so that several batches of each are priced in one call."""
        return self._changed(lambda column: np.tile(column, times))

    def rows(self, rows: NDArray[np.intp]) -> Stepper:
        """Some rows, in any order and each as often as wanted."""
        return self._changed(lambda column: column[rows])

    def _changed(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Stepper:
        model, plan, drafts, nano, turns = map_columns(
            (self.model, self.plan, self.drafts, self.nano_batches, self.turns), change
        )
        away = self.away
        if away is not None:
            rate, latency = map_columns((away.bytes_per_s, away.latency_s), change)
            away = Away(machines=_changed(away.machines, change), bytes_per_s=rate, latency_s=latency)
        return replace(
            self,
            model=model,
            plan=plan,
            machines=_changed(self.machines, change),
            drafts=drafts,
            nano_batches=nano,
            away=away,
            turns=turns,
        )

    def decode(self, seqs: Value, context: Value) -> Batch:
        """A batch of decoding sequences."""
        return Batch(decode_seqs=seqs, decode_context=context, decode_tokens=1.0 + np.asarray(self.drafts))

    def step(self, batch: Batch) -> Step:
        """The priced step of one lane; context parallelism cuts each prompt into equal zigzag shares."""
        if self.pace is not None:
            return self.pace(self, batch).step(batch)
        whole = self._priced(batch)
        if self._rotates:
            turns = np.asarray(self.turns, float)
            return replace(whole, turn=self._priced(_share(batch, turns)).ops, turns=turns)
        if not self._splits:
            return whole
        return replace(whole, half=self._priced(_share(batch, 2.0)).ops, splits=np.asarray(self.nano_batches) > 1)

    def _priced(self, batch: Batch) -> Step:
        graph = self._graph(batch)
        return replace(price_step(graph, self.machines, self.setting, self.away), least_s=self._least_s(graph))

    def _least_s(self, graph: Graph) -> Value:
        """What the engine takes at least: its host issues the layers one after another."""
        layers = (np.asarray(item.count, float) for item in graph.items if isinstance(item, Repeat))
        return self.runtime.host_block_s * sum(layers, start=np.float64(0.0)) if self.runtime.host_block_s > 0 else 0.0

    @property
    def _rotates(self) -> bool:
        return self.away is not None and bool(np.any(np.asarray(self.turns) > 1))

    @property
    def _splits(self) -> bool:
        return bool(np.any(np.asarray(self.nano_batches) > 1))

    def _graph(self, batch: Batch) -> Graph:
        graph = forward(self.model, self._cut_prompts(batch), drafts=bool(np.any(np.asarray(self.drafts) > 0)))
        return parallelise(graph, self.plan)

    def host_s(self, batch: Batch) -> Value:
        """Host time that the device waits for: per iteration and per sequence in it."""
        step_s, sequence_s = self.host_rates_s
        return step_s + sequence_s * (batch.decode_seqs + batch.prefill_seqs)

    @property
    def host_rates_s(self) -> tuple[Value, Value]:
        """Host time of an iteration, and of each sequence in it; every stage of a pipeline may add its own."""
        r, pp = self.runtime, np.asarray(self.plan.pp, float)
        stages = np.where(pp > 1, pp, 0.0) if r.stage_host_s + r.stage_sequence_s > 0 else 0.0
        ranks = r.host_rank_s * (np.asarray(self.plan.tp) - 1.0) if r.host_rank_s > 0 else 0.0
        return r.host_step_s + ranks + stages * r.stage_host_s, r.host_sequence_s + stages * r.stage_sequence_s

    def time_s(self, batch: Batch) -> Value:
        """Seconds of one iteration. Rows share the prices of ops that see the same of their batches."""
        if self._splits or self.away is not None or self.pace is not None:
            return self.step(batch).time_s + self.host_s(batch)
        b = self._cut_prompts(batch)
        shared = alike(
            (self.model, self.plan, self.machines.index, self.drafts),
            b.tokens,
            b.logits_rows,
            (b.decode_seqs, b.decode_context),
            (b.prefill_seqs, b.prefill_tokens, b.prefill_prefix),
            (b.decode_seqs, b.prefill_seqs, b.prefill_tokens),
        )
        graph = self._graph(batch)
        device_s = step_time_s(graph, self.machines, self.setting, shared)
        return np.maximum(device_s, self._least_s(graph)) + self.host_s(batch)

    def _cut_prompts(self, batch: Batch) -> Batch:
        """One rank of `cp` computes 1/cp of a prompt's rows, spread so that all ranks see equally many keys: the share
        then stands in the middle of the prompt (zigzag ring attention, arXiv 2310.01889 and its striped variant).
        """
        cp = np.asarray(self.plan.cp, float)
        if not np.any(cp > 1):
            return batch
        share = batch.prefill_tokens / cp
        middle = batch.prefill_prefix + (batch.prefill_tokens - share) / 2.0
        return Batch(
            decode_seqs=batch.decode_seqs,
            decode_context=batch.decode_context,
            decode_tokens=batch.decode_tokens,
            prefill_seqs=batch.prefill_seqs,
            prefill_tokens=share,
            prefill_prefix=middle,
        )


def _share(batch: Batch, parts: Value) -> Batch:
    """The largest of equal parts: of the decoding sequences, and of the tokens of each prompt, in the middle of what is
    before.
    """
    tokens = np.ceil(np.asarray(batch.prefill_tokens, float) / parts)
    return replace(
        batch,
        decode_seqs=np.ceil(np.asarray(batch.decode_seqs, float) / parts) if not is_zero(batch.decode_seqs) else 0.0,
        prefill_tokens=tokens,
        prefill_prefix=batch.prefill_prefix + (batch.prefill_tokens - tokens) / 2.0,
    )


def _changed(machines: MachineColumns, change: Callable[[NDArray[Any]], NDArray[Any]]) -> MachineColumns:
    return machines if machines.index is None else replace(machines, index=change(machines.index))
