"""Checkpoints: how long they hold a job up, when they are safe, and how often they should be made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ridgeline.core.errors import DomainError
from ridgeline.core.names import Names

POLICIES = Names(
    "checkpoint policy",
    {"sync": ("synchronous", "blocking"), "async": ("asynchronous", "lazy", "datastates"), "none": ("off", "no")},
    listing="sync, async or none",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one checkpoint costs.

    Attributes:
        interval_s: work between two checkpoints (infinity: never).
        stall_s: time in which the job stands still for one.
        flush_s: after the stall, until it is safe in storage.
        load_s: to read one back.
        reshape_s: to make one over for another layout before it is read: a universal checkpoint.
    """

    interval_s: float
    stall_s: float = 0.0
    flush_s: float = 0.0
    load_s: float = 0.0
    reshape_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse times that cannot be."""
        rest = (self.stall_s, self.flush_s, self.load_s, self.reshape_s)
        if not self.interval_s > 0 or not all(0 <= time < math.inf for time in rest):
            raise DomainError("times of a checkpoint are from 0, its interval above", at="checkpoint", got=self)


def checkpoint_of(
    policy: str,
    *,
    state_bytes: float,
    chips: int,
    storage_bytes_per_s: float,
    host_bytes_per_s: float,
    window_s: float,
    mtbf_s: float,
    interval_s: float = 0.0,
) -> Checkpoint:
    """The checkpoint of a policy: written while the job waits, or copied to the host behind the compute.

    A lazy copy has the forward and backward pass of a step, `window_s`, in which state does not change; what is left
    over stalls. A flush to storage follows in the background, and the next copy waits for it (DataStates-LLM, arXiv
    2406.10707, section 4). Without `interval_s`, the interval is Young's optimum, but no less than a flush. For another
    layout all shards are read, and written again parameter by parameter (Universal Checkpointing, arXiv 2406.18820).

    Args:
        policy:      sync, async or none.
        state_bytes: of the whole job.
        chips:       that share it.
        storage_bytes_per_s: of the store, all together.
        host_bytes_per_s: from a chip to its host; 0: not known.
        window_s:    as above.
        mtbf_s:      mean time between failures of the job.
        interval_s:  work between two; 0: the optimum.
    Raises: UnknownNameError: no such policy. DomainError: a size or rate that cannot be.
    """
    kind = POLICIES.resolve(policy, at="checkpoint")
    if kind == "none":
        return Checkpoint(interval_s=math.inf)
    if not (state_bytes > 0 and storage_bytes_per_s > 0 and chips >= 1 and mtbf_s > 0):
        got = (state_bytes, storage_bytes_per_s, chips, mtbf_s)
        raise DomainError("sizes, rates and chips of checkpoints are above 0", at="checkpoint", got=got)
    write_s = state_bytes / storage_bytes_per_s
    if kind == "sync":
        return Checkpoint(
            interval_s=interval_s or young_s(write_s, mtbf_s), stall_s=write_s, load_s=write_s, reshape_s=2.0 * write_s
        )
    if not host_bytes_per_s > 0:
        fix = "give the rate of the host's link, or checkpoint sync"
        raise DomainError(
            "lazy checkpoints cross the host's link", at="host_bytes_per_s", got=host_bytes_per_s, fix=fix
        )
    stall_s = max(state_bytes / chips / host_bytes_per_s - window_s, 0.0)
    # A stall of nothing has no optimum: as often as the store takes them.
    best = max(young_s(stall_s, mtbf_s), write_s, window_s)
    return Checkpoint(
        interval_s=interval_s or best, stall_s=stall_s, flush_s=write_s, load_s=write_s, reshape_s=2.0 * write_s
    )


def young_s(stall_s: float, mtbf_s: float) -> float:
    """Work between checkpoints of least loss, first order: sqrt(2 stall mtbf) (Young, CACM 17(9), 1974)."""
    return math.sqrt(2.0 * stall_s * mtbf_s)


def expected_s(work_s: float, checkpoint: Checkpoint, mtbf_s: float, restart_s: float) -> float:
    """Mean wall time of `work_s` of work under exponential failures, which may also hit a restart.

    Exact for checkpoints that are safe when their stall ends. Source: Daly, Future Generation Computer Systems 22,
    2006, equation 13: M e^(R/M) (e^((tau + delta)/M) - 1) work / tau.
    """
    if math.isinf(mtbf_s):
        segments = 0.0 if math.isinf(checkpoint.interval_s) else work_s / checkpoint.interval_s
        return work_s + segments * checkpoint.stall_s
    interval = min(checkpoint.interval_s, work_s)
    grown = math.expm1((interval + checkpoint.stall_s) / mtbf_s)
    return mtbf_s * math.exp((restart_s + checkpoint.load_s) / mtbf_s) * grown * work_s / interval
