"""Board power of runs of iterations: what a lane moves and computes, sampled once, under `costs.serving_power`.

FLOPs and weight bytes depend on the tokens that pass through an iteration (a mixture of experts reads more experts with
more tokens), bytes of the KV cache on sequences and their total context. As `ridgeline predict` does, prompt tokens are
charged the FLOPs of as many decoding tokens without a past. Boards alone: no host, no fans, no losses of the supply.
Under a power limit a run has the clock at which its iterations keep it (`serving.clocks.Governor`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ridgeline.costs.serving_power import ServingLoad, gap_power_w, serving_power_w
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.plans import AWAY, LINK
from ridgeline.serving.clocks import Governor, at_clocks, refuse_excess
from ridgeline.serving.deployment import away_share
from ridgeline.serving.engine.step_table import TOKENS
from ridgeline.serving.record.played import Column, Runs
from ridgeline.serving.record.run_windows import run_times_s
from ridgeline.serving.step_work import work_of
from ridgeline.serving.stepper import Stepper
from ridgeline.steps import Step
from ridgeline.workloads.model import Batch
from ridgeline.workloads.ops import Op

Mean = TypeVar("Mean", float, Column)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerTable:
    """What the iterations of one kind of lane move and compute, per chip. Lists are parallel to `tokens`.

    Attributes:
        tokens: merged tokens of an iteration.
        weight_bytes, flops: of an iteration in which so many sequences without a past decode a token.
        kv_bytes: the same, of KV cache and recurrent state.
        flops_per_context, kv_bytes_per_context: what each token of total context adds.
        tiled_bytes, tiled_flops: parts of weights and FLOPs in experts whose kernels compute whole tiles.
        width: tokens that a decoding sequence brings to an iteration.
        narrow: whether feed-forward weights have at most 8 bits.
        mixture: whether tokens are routed to experts.
        chips: that share the model.
        chip: of the lane.
        beside: the same of another kind of chip of the lane, with its share of the lane's chips; powers are then means.
        cap_w: power limit of a chip.
        clocks: under a limit, the share of the full clock at each of `tokens`; two rows, for the mean contexts of a
            token in `contexts`.
    """

    tokens: Column
    weight_bytes: Column
    flops: Column
    kv_bytes: Column
    tiled_bytes: Column
    tiled_flops: Column
    flops_per_context: float
    kv_bytes_per_context: float
    width: float
    narrow: float
    mixture: bool
    chips: float
    chip: Chip
    beside: tuple[float, PowerTable] | None = None
    cap_w: float = math.inf
    clocks: Column | None = None
    contexts: tuple[float, float] = (0.0, 1.0)

    @property
    def idle_w(self) -> float:
        """Power of a chip on which nothing is resident, W."""
        return self._mean(self.chip.idle_w, lambda other: other.idle_w)

    @property
    def static_w(self) -> float:
        """Power of a chip whose kernels are resident and have nothing to do: requests wait for the host, W."""
        own = max(float(gap_power_w(ChipColumns((self.chip,)))), self.chip.idle_w)
        return self._mean(own, lambda other: other.static_w)

    def power_w(self, runs: Runs) -> Column:
        """Mean power of a chip during each run, W: the law at the mean iteration of the run."""
        return self._mean(self._own_w(runs), lambda other: other.power_w(runs))

    def _mean(self, own: Mean, of: Callable[[PowerTable], Mean]) -> Mean:
        if self.beside is None:
            return own
        share, other = self.beside
        return own * (1.0 - share) + of(other) * share

    def _own_w(self, runs: Runs) -> Column:
        k, n = runs["iterations"], runs["sequences"]
        iteration_s = run_times_s(runs) / np.maximum(k, 1.0)
        tokens = n * self.width + runs["prompt_tokens"]
        context = runs["context_tokens"] + n * (k - 1.0) / 2.0
        weights, flops = (self._at(column, tokens) for column in (self.weight_bytes, self.flops))
        cached = self._at(self.kv_bytes, tokens) + self.kv_bytes_per_context * context
        computed = flops + self.flops_per_context * context
        load = ServingLoad(
            weight_bytes_per_s=weights / iteration_s,
            kv_bytes_per_s=cached / iteration_s,
            flops_per_s=computed / iteration_s,
            tiled_bytes_per_s=self._at(self.tiled_bytes, tokens) / iteration_s,
            tiled_flops_per_s=self._at(self.tiled_flops, tokens) / iteration_s,
            mixture=float(self.mixture),
            narrow=self.narrow,
            chips=self.chips,
            context_tokens=context / np.maximum(n, 1.0),
        )
        chips = self._chips(tokens, context)
        power = np.broadcast_to(serving_power_w(load, chips), runs.shape)
        if chips.index is not None:
            clocks = np.asarray(chips.gather(lambda chip: chip.clock_frac))
            refuse_excess(power, clocks, full=self.chip.clock_frac, cap_w=self.cap_w)
        most = min(self.cap_w, self.chip.tdp_w)
        watts: Column = np.clip(power, self.chip.idle_w, most)
        return watts

    def _chips(self, tokens: Column, context: Column) -> ChipColumns:
        """The chip at the clock of iterations of so many merged tokens with that total context."""
        if self.clocks is None or not tokens.size:
            return ChipColumns((self.chip,))
        low, high = self.contexts
        share = np.clip((context / np.maximum(tokens, 1.0) - low) / (high - low), 0.0, 1.0)
        short, long = (np.interp(tokens, self.tokens, row) for row in self.clocks)
        return at_clocks(self.chip, (1.0 - share) * short + share * long)

    def _at(self, column: Column, tokens: Column) -> Column:
        """Between the points of the grid; beyond it the last slope goes on."""
        inside: Column = np.interp(tokens, self.tokens, column)
        slope = (column[-1] - column[-2]) / (self.tokens[-1] - self.tokens[-2])
        beyond: Column = np.maximum(tokens - self.tokens[-1], 0.0) * slope
        return inside + beyond


def sample_power(stepper: Stepper, *, low: float, high: float, tokens: float) -> PowerTable:
    """Count bytes and FLOPs of a lane on the grid, all at once.

    Args:
        stepper: of one deployment.
        low: shortest context of a sequence, tokens; between it and `high` bytes and FLOPs are affine.
        high: longest context.
        tokens: most tokens of an iteration.
    """
    grid = _grid(tokens)
    high = max(high, low + 1.0)
    points = grid.size
    context = np.repeat([max(low, 1.0), high], points)
    many, batch = stepper.repeated(2 * points), Batch(decode_seqs=np.tile(grid, 2), decode_context=context)
    index = stepper.machines.index
    chip = stepper.machines.machines[0 if index is None else int(index[0])].chip
    if isinstance(stepper.pace, Governor):
        many = stepper.pace(many, batch)
        clocks = np.asarray(many.machines.gather(lambda machine: machine.chip.clock_frac)).reshape(2, points)
        table = _counted(stepper, many.step(batch), grid, low, high, chip)
        return replace(table, cap_w=stepper.pace.cap_w, clocks=clocks, contexts=(max(low, 1.0), high))
    step = many.step(batch)
    if stepper.away is None:
        return _counted(stepper, step, grid, low, high, chip)
    there = stepper.away.machines.machines[0].chip
    own, other = (
        _counted(stepper, step.only(lambda op, far=far: _is_of(op, far)), grid, low, high, of)  # type: ignore[misc]
        for far, of in ((False, chip), (True, there))
    )
    return replace(own, beside=(float(np.ravel(away_share(stepper.plan))[0]), other))


def _is_of(op: Op, far: bool) -> bool:
    """Whether the chips of the cache run an op, or those of the weights."""
    return op.part == AWAY if far else op.part not in (AWAY, LINK)


def _counted(stepper: Stepper, step: Step, grid: Column, low: float, high: float, chip: Chip) -> PowerTable:
    """What a step counts on one kind of chip; its rows are the grid at both contexts."""
    points = grid.size
    work = work_of(step, stepper.model)
    counted = (work.weight_bytes, work.flops, work.kv_bytes, work.tiled_bytes, work.tiled_flops)
    weights, flops, cached, tiled_bytes, tiled_flops = (
        np.broadcast_to(np.asarray(value, np.float64), (2 * points,)).reshape(2, points) for value in counted
    )
    more = grid[-1] * (high - max(low, 1.0))
    slopes = [max(float(column[1, -1] - column[0, -1]) / more, 0.0) for column in (flops, cached)]
    return PowerTable(
        tokens=grid,
        weight_bytes=weights[0],
        flops=np.maximum(flops[0] - slopes[0] * grid * max(low, 1.0), 0.0),
        kv_bytes=np.maximum(cached[0] - slopes[1] * grid * max(low, 1.0), 0.0),
        tiled_bytes=tiled_bytes[0],
        tiled_flops=tiled_flops[0],
        flops_per_context=slopes[0],
        kv_bytes_per_context=slopes[1],
        width=1.0 + float(np.asarray(stepper.drafts).flat[0]),
        narrow=float(np.asarray(work.narrow).flat[0]),
        mixture=work.mixture,
        chips=float(np.asarray(stepper.plan.chips).flat[0]),
        chip=chip,
    )


def _grid(tokens: float) -> Column:
    """The grid of step times up to the first point that is not below `tokens`, doubled on if need be."""
    grid = [float(t) for t in TOKENS]
    while grid[-1] < tokens:
        grid.append(grid[-1] * 2.0)
    return np.array([t for i, t in enumerate(grid) if i < 2 or grid[i - 1] < tokens])
