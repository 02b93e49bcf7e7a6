"""Energy of two pools for columns of products, as `predict` has it: board power from the loads of the decode step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ridgeline.costs.serving_power import ServingLoad, serving_power_w
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.search.planning.question import Column
from ridgeline.serving.deployment import Deployment, Pool
from ridgeline.serving.disaggregated import Pair
from ridgeline.serving.load import Load
from ridgeline.serving.steady import Curve
from ridgeline.serving.step_work import StepWork, work_of

_COUNTED = ("weight_bytes", "kv_bytes", "flops", "tiled_bytes", "tiled_flops")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePower:
    """What a decode step reads and computes, [decode, workers] at three batches each; linear between.

    Attributes:
        counted: a curve per number of `StepWork`.
        sharing: chips that share the model, [decode, workers].
        prompt, context: tokens of a prompt that is computed, and of a decoding sequence.
    """

    chips: ChipColumns
    counted: dict[str, Curve]
    mixture: bool
    narrow: Value
    sharing: Column
    prompt: float
    context: float

    def energy_j(
        self, of_decode: Callable[[Column], Column], n: Column, tpot_s: Column, rate: Column, pair: Pair, chips: Column
    ) -> Column:
        """Joules per output token of products; `of_decode` gives their columns from those of the decode engines."""
        batch = np.maximum(n, 1.0)
        at = {name: _chosen(curve, of_decode)(batch) for name, curve in self.counted.items()}
        iteration_s = np.where(tpot_s > 0, tpot_s * pair.tokens_per_step, np.inf)
        prompts_per_s = rate / pair.decode_lanes * self.prompt * at["flops"] / batch
        work = StepWork(**at, mixture=self.mixture, narrow=self.narrow)
        load: ServingLoad = work.load(
            1.0 / iteration_s, prompts_per_s, chips=of_decode(self.sharing), context=self.context
        )
        return np.asarray(serving_power_w(load, self.chips) * chips / (rate * pair.osl))


def _chosen(curve: Curve, of_decode: Callable[[Column], Column]) -> Curve:
    (k0, k1, k2), (v0, v1, v2) = (tuple(map(of_decode, part)) for part in (curve.knots, curve.times_s))
    return Curve(knots=(k0, k1, k2), times_s=(v0, v1, v2))


def decode_power(d: Deployment, pool: Pool, load: Load, curve: Curve, shape: tuple[int, int]) -> DecodePower:
    """Priced at the knots of the curve of step times; all rows stand on one kind of chip."""
    context = load.isl + load.osl / 2.0
    works = [work_of(pool.stepper.step(pool.stepper.decode(n, context)), d.model) for n in curve.knots]
    k0, k1, k2 = (np.reshape(knot, shape) for knot in curve.knots)

    def shaped(value: Value) -> Column:
        return np.reshape(np.broadcast_to(np.asarray(value, np.float64), curve.knots[0].shape), shape)

    def at_knots(name: str) -> Curve:
        v0, v1, v2 = (shaped(getattr(work, name)) for work in works)
        return Curve(knots=(k0, k1, k2), times_s=(v0, v1, v2))

    return DecodePower(
        chips=ChipColumns((d.machines.chips.chips[0],), None),
        counted={name: at_knots(name) for name in _COUNTED},
        mixture=works[0].mixture,
        narrow=float(np.asarray(works[0].narrow).flat[0]),
        sharing=shaped(pool.stepper.plan.chips),
        prompt=float(np.max(np.asarray(load.prompt))),
        context=float(np.max(np.asarray(context))),
    )
