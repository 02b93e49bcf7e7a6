"""What a fleet is made of and how it is run: its pools, and the choices that all of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ridgeline.serving.deployment import Deployment
from ridgeline.serving.fleet.lora import Lora
from ridgeline.serving.fleet.models import Residence
from ridgeline.serving.fleet.slices import Split
from ridgeline.serving.fleet.upkeep import Failures
from ridgeline.serving.record.played import DECODE, MIXED, PREFILL


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """One pool as it is asked for.

    Attributes:
        name: of the pool, in answers and timelines.
        deployment: the model on the pool's machines; its isl and osl are the means of the traffic.
        role: mixed, prefill or decode.
        to: name of the pool that decodes what this one prefills.
        split: how lanes share their chips between prefill and decode, in a mixed pool (None: they merge them).
        router: among the lanes of the pool; "" as the fleet's.
        prefix: of the columns that hold its plan ("": tp, replicas; "prefill_": prefill_tp, prefill_workers).
    """

    name: str
    deployment: Deployment
    role: str = MIXED
    to: str = ""
    split: Split | None = None
    router: object = ""
    prefix: str = ""


def usual_pools(d: Deployment, *, disaggregated: bool = False, split: Split | None = None) -> tuple[PoolPlan, ...]:
    """The pools of one case: one for everything, or one for each phase."""
    if not disaggregated:
        return (PoolPlan(name="serving", deployment=d, split=split),)
    return (
        PoolPlan(name=PREFILL, deployment=d, role=PREFILL, to=DECODE, prefix="prefill_"),
        PoolPlan(name=DECODE, deployment=d, role=DECODE, prefix="decode_"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How the fleet is run, beyond what the case says; policies as `policies.policy` takes them.

    Attributes:
        scheduler: order of each engine's queue. router: which lane takes a request.
        entry: which lane of several pools takes an arrival ("": shares by the rates of the closed form).
        kv: what a sequence keeps of its cache. eviction: order in which prefixes leave. tiers: where they go to.
        preemption: recompute or swap. batching: continuous or static.
        watermark_frac: share of the cache that admission keeps free.
        longest_chunk: most tokens of one prompt in an iteration.
        longest: most tokens of prompt and output that are served.
        lora: adapters, where the traffic names any.
        residence: models that take turns, where the traffic names any.
        autoscaler: how many of the case's replicas are up (""; all of them).
        cold_start_s: from the decision to start a replica until it serves (None: its weights from `load_from`).
        load_from: where weights come from: host, nvme, network, or a rate per chip such as "10 GB/s".
        roles: whether replicas change between prefill and decode ("": they do not).
        switch_s: time of such a change (None: nothing where both roles have one plan, else its weights anew).
        rebalance: which lanes of a pool hand running requests to which others ("": none).
        failures: how replicas fail.
        plugins: whether policies of installed distributions count.
        seed: of policies and failures.
        keep_runs: keep each lane's runs, for timelines and per-token times.
    """

    scheduler: object = "fcfs"
    router: object = "least-loaded"
    entry: object = ""
    kv: object = "full"
    eviction: object = "lru"
    tiers: Sequence[object] = ()
    preemption: str = "recompute"
    batching: str = "continuous"
    watermark_frac: float = 0.0
    longest_chunk: float = math.inf
    longest: float = math.inf
    lora: Lora = field(default_factory=Lora)
    residence: Residence = field(default_factory=Residence)
    autoscaler: object = ""
    cold_start_s: float | None = None
    load_from: str = "host"
    roles: object = ""
    switch_s: float | None = None
    rebalance: object = ""
    failures: Failures | None = None
    plugins: bool = True
    seed: int = 0
    keep_runs: bool = True
