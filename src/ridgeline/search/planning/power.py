"""Energy of two pools for columns of products, as `predict` has it: board power from the loads of the decode step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.costs.power import serving_power_w
from ridgeline.search.planning.question import Column
from ridgeline.search.planning.rows import Index
from ridgeline.serving.deployment import NARROW_BITS, Deployment, Pool
from ridgeline.serving.disaggregated import Pair
from ridgeline.serving.load import Load
from ridgeline.serving.steady import Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePower:
    """What a decode step reads and computes, [decode] at three batches each; linear between."""

    deployment: Deployment
    weights: Curve
    kv: Curve
    flops: Curve
    mixture: bool
    narrow: float
    prompt: float

    def energy_j(self, decode: Index, n: Column, tpot_s: Column, rate: Column, pair: Pair, chips: Column) -> Column:
        """Joules per output token of products [prefill, decode, sizes]; `chips` is flat."""
        d = self.deployment
        columns = d.machines.chips
        bandwidth = columns.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
        peak = columns.gather(lambda chip: chip.peak_flops_per_s("bf16"))
        bandwidth, peak = (np.max(np.asarray(value)) for value in (bandwidth, peak))
        batch = np.maximum(n, 1.0)
        weights, kv, flops = (_chosen(curve, decode)(batch) for curve in (self.weights, self.kv, self.flops))
        iteration_s = np.where(tpot_s > 0, tpot_s * pair.tokens_per_step, np.inf)
        prompts = rate / pair.decode_lanes * self.prompt * flops / np.maximum(n, 1.0)
        power_w = serving_power_w(
            weight_load=weights / (iteration_s * bandwidth),
            kv_load=kv / (iteration_s * bandwidth),
            flop_load=self.narrow * (flops / iteration_s + prompts) / peak,
            mixture=self.mixture,
            chips=type(columns)((columns.chips[0],), None),
        )
        return np.asarray(power_w * chips.reshape(np.shape(power_w)) / (rate * pair.osl))


def _chosen(curve: Curve, decode: Index) -> Curve:
    knots, values = ([column[decode][None, :, None] for column in part] for part in (curve.knots, curve.times_s))
    return Curve(knots=(knots[0], knots[1], knots[2]), times_s=(values[0], values[1], values[2]))


def decode_power(d: Deployment, pool: Pool, load: Load, curve: Curve) -> DecodePower:
    """Priced at the knots of the curve of step times."""
    context = load.isl + load.osl / 2.0
    steps = [pool.stepper.step(pool.stepper.decode(n, context)) for n in curve.knots]

    def at_knots(values: list[object]) -> Curve:
        a, b, c = (np.broadcast_to(np.asarray(value, np.float64), curve.knots[0].shape) for value in values)
        return Curve(knots=curve.knots, times_s=(a, b, c))

    return DecodePower(
        deployment=d,
        weights=at_knots([step.role_bytes("weights") for step in steps]),
        kv=at_knots([step.role_bytes("kv") for step in steps]),
        flops=at_knots([step.flops for step in steps]),
        mixture=steps[0].has_experts,
        narrow=0.5 if d.model.precision.ffn.weight.bits <= NARROW_BITS else 1.0,
        prompt=float(np.max(np.asarray(load.prompt))),
    )
