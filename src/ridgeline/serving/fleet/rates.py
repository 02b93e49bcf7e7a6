"""What a lane can serve at saturation, by the closed form: weights of pools that share the arrivals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgeline.serving.deployment import Deployment, Pool, lane_load
from ridgeline.serving.disaggregated import decode_rate, prefill_rate
from ridgeline.serving.steady import solve


def lane_rate(d: Deployment, lanes: Pool, *, decode: Pool | None = None) -> float:
    """Requests per second of all lanes of a pool, with as many in flight as memory and runtime allow.

    Args:
        d: one deployment.
        lanes: of the pool.
        decode: the lanes that it hands on to (None: it decodes itself). The slower of the two counts.
    """
    zero = np.zeros_like(d.cases["concurrency"])
    cases = {**d.cases, "concurrency": zero, "request_rate_per_s": zero}
    full = replace(d, cases=cases, saturated=np.ones_like(d.saturated))
    load = lane_load(full, lanes.lanes)
    if decode is not None:
        rates = prefill_rate(lanes, load, d.cases["prefill_batch"]), decode_rate(decode, load)
        return float(np.ravel(np.minimum(*rates))[0])
    state = solve(lanes.stepper, load, lanes.limits, d.procedure)
    return float(np.ravel(state.request_per_s * np.asarray(lanes.lanes))[0])
