"""Two half batches at once: while one computes, the other reads its cache or its weights, or sums over the links.

NanoFlow (arXiv 2408.12757) splits a batch into nano-batches and runs ops of different ones side by side where they are
bound by different resources; ISO (arXiv 2409.11155) and TokenWeave (arXiv 2505.11329) do so with the compute and the
collectives of two halves, T3 (arXiv 2401.16677) inside one op. Here each op keeps busy what bounds it for as long as it
takes at half the batch, and every other resource for as long as its own term says. The step then takes as long as the
busiest resource, and no less than one half needs by itself from layer to layer. What is short of work (launches, the
embedding, the head) overlaps with nothing, and the second half starts a layer behind the first. Weights are read once
per half: that is in the prices. That kernels slow each other down when they share a chip is not, so that this is a
bound from below: NanoFlow reaches 50 to 72 % of the throughput that its resources allow (its abstract).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline.hardware.chip import Value
from ridgeline.steps.priced import OpCost
from ridgeline.workloads.ops import Collective, Copy

HALVES = 2.0
APART = ("head", "embedding", "draft")
"""Parts of a model that run for the whole batch at once, before and after its layers."""
IDLE = frozenset({"launch", "latency", "host"})
"""Terms of an op that is bound by none of the resources that halves share."""
RESOURCES = ("compute", "memory", "link")


def split_time_s(whole: Sequence[OpCost], half: Sequence[OpCost]) -> Value:
    """Seconds of a step in two nano-batches.

    Args:
        whole: the ops of the whole batch, for what runs once.
        half: the ops of one half of it.
    """
    alone = sum((cost.time_s for cost in whole if cost.op.part in APART), start=np.float64(0.0))
    busy: dict[str, Value] = dict.fromkeys(RESOURCES, np.float64(0.0))
    chain: Value = np.float64(0.0)
    layer: Value = np.float64(0.0)
    idle: Value = np.float64(0.0)
    for cost in half:
        if cost.op.part in APART:
            continue
        chain, layer = chain + cost.time_s, layer + np.minimum(cost.times, 1.0) * cost.price.time_s
        used, unused = _uses(cost)
        idle = idle + HALVES * unused
        for name, seconds in used.items():
            busy[name] = busy[name] + HALVES * seconds
    busiest = np.maximum(np.maximum(busy["compute"], busy["memory"]), busy["link"])
    time_s: Value = alone + np.maximum(busiest + idle + layer, chain)
    return time_s


def _uses(cost: OpCost) -> tuple[dict[str, Value], Value]:
    """Seconds for which all runs of an op keep each resource busy, and those in which they use none."""
    time_s = cost.time_s
    if isinstance(cost.op, Collective | Copy):
        return {"link": time_s}, np.float64(0.0)
    terms = cost.price.terms
    largest = np.maximum.reduce(np.broadcast_arrays(*(np.asarray(term, float) for term in terms.values())))
    memory = np.asarray(terms.get("memory", 0.0), float)
    waits = np.zeros_like(largest, dtype=bool)
    for name in IDLE & terms.keys():
        waits = waits | (np.asarray(terms[name], float) >= largest)
    streams = ~waits & (memory >= largest)
    compute = np.asarray(terms.get("compute", 0.0), float)
    own = cost.times * np.minimum(compute, cost.price.time_s), cost.times * np.minimum(memory, cost.price.time_s)
    used: dict[str, Value] = {
        "compute": np.where(waits | streams, np.where(waits, 0.0, own[0]), time_s),
        "memory": np.where(streams, time_s, np.where(waits, 0.0, own[1])),
    }
    waited: Value = np.where(waits, time_s, 0.0)
    return used, waited
