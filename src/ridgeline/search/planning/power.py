"""Energy of two pools for columns of products, as `predict` has it: board power from the loads of the decode step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ridgeline.costs.power import serving_power_w
from ridgeline.hardware.chip import ChipColumns
from ridgeline.search.planning.question import Column
from ridgeline.serving.deployment import NARROW_BITS, Deployment, Pool
from ridgeline.serving.disaggregated import Pair
from ridgeline.serving.load import Load
from ridgeline.serving.steady import Curve
from ridgeline.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePower:
    """What a decode step reads and computes, [decode, workers] at three batches each; linear between."""

    chips: ChipColumns
    weights: Curve
    kv: Curve
    flops: Curve
    mixture: bool
    narrow: float
    prompt: float

    def energy_j(
        self, of_decode: Callable[[Column], Column], n: Column, tpot_s: Column, rate: Column, pair: Pair, chips: Column
    ) -> Column:
        """Joules per output token of products; `of_decode` gives their columns from those of the decode engines."""
        chip = self.chips.chips[0]
        bandwidth, peak = chip.dram.bandwidth_bytes_per_s, chip.peak_flops_per_s("bf16")
        batch = np.maximum(n, 1.0)
        weights, kv, flops = (_chosen(curve, of_decode)(batch) for curve in (self.weights, self.kv, self.flops))
        iteration_s = np.where(tpot_s > 0, tpot_s * pair.tokens_per_step, np.inf)
        prompts = rate / pair.decode_lanes * self.prompt * flops / batch
        power_w = serving_power_w(
            weight_load=weights / (iteration_s * bandwidth),
            kv_load=kv / (iteration_s * bandwidth),
            flop_load=self.narrow * (flops / iteration_s + prompts) / peak,
            mixture=self.mixture,
            chips=self.chips,
        )
        return np.asarray(power_w * chips / (rate * pair.osl))


def _chosen(curve: Curve, of_decode: Callable[[Column], Column]) -> Curve:
    (k0, k1, k2), (v0, v1, v2) = (tuple(map(of_decode, part)) for part in (curve.knots, curve.times_s))
    return Curve(knots=(k0, k1, k2), times_s=(v0, v1, v2))


def decode_power(d: Deployment, pool: Pool, load: Load, curve: Curve, shape: tuple[int, int]) -> DecodePower:
    """Priced at the knots of the curve of step times; all rows stand on one kind of chip."""
    context = load.isl + load.osl / 2.0
    steps = [pool.stepper.step(pool.stepper.decode(n, context)) for n in curve.knots]
    k0, k1, k2 = (np.reshape(knot, shape) for knot in curve.knots)

    def at_knots(of: Callable[[Step], object]) -> Curve:
        values = (np.broadcast_to(np.asarray(of(step), np.float64), curve.knots[0].shape) for step in steps)
        v0, v1, v2 = (np.reshape(value, shape) for value in values)
        return Curve(knots=(k0, k1, k2), times_s=(v0, v1, v2))

    return DecodePower(
        chips=ChipColumns((d.machines.chips.chips[0],), None),
        weights=at_knots(lambda step: step.role_bytes("weights")),
        kv=at_knots(lambda step: step.role_bytes("kv")),
        flops=at_knots(lambda step: step.flops),
        mixture=steps[0].has_experts,
        narrow=0.5 if d.model.precision.ffn.weight.bits <= NARROW_BITS else 1.0,
        prompt=float(np.max(np.asarray(load.prompt))),
    )
