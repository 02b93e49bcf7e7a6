"""Pipeline schedules as tasks on ranks, and their closed forms beside them.

GPipe (arXiv 1811.06965), 1F1B (PipeDream-Flush, arXiv 2006.09503), interleaved 1F1B (arXiv 2104.04473), zero bubble
(ZB-H1, arXiv 2401.10241) and DualPipe (DeepSeek-V3, arXiv 2412.19437, section 3.2.1). A backward pass is two parts:
gradients of inputs, which the stage before waits for, and gradients of weights, which nobody does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.names import Names
from ridgeline.training.graph import Schedule, Task, play
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

SCHEDULES = ("1f1b", "gpipe", "zero-bubble", "dualpipe")
"""What a pipeline rank does in which order; with virtual stages, 1f1b is interleaved."""

SCHEDULE_NAMES = Names(
    "pipeline schedule",
    {
        "1f1b": ("interleaved", "interleaved 1f1b", "pipedream-flush"),
        "gpipe": ("all forward all backward", "afab"),
        "zero-bubble": ("zb", "zb-h1", "zb1p", "zero bubble"),
        "dualpipe": ("dual pipe", "dual"),
    },
    listing=", ".join(SCHEDULES),
)

ONE_F_ONE_B, GPIPE, ZERO_BUBBLE, DUALPIPE = range(4)

FORWARD, BACKWARD, WEIGHTS = "forward", "backward", "weights"


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work of a rank: what, on which micro-batch, in which stage of the whole pipeline."""

    kind: str
    micro: int
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds per stage and micro-batch; `transfer_s` between stages on different ranks.

    `weights_s` is the part of the backward pass that nobody waits for; 0 where it is not split off. `hops`, if given,
    are of ranks 0 and 1, 1 and 2, ...: seconds that a transfer holds the link, and that it is under way besides.
    """

    forward_s: Sequence[float]
    backward_s: Sequence[float]
    weights_s: Sequence[float]
    transfer_s: float = 0.0
    hops: Sequence[tuple[float, float]] = ()

    def hop(self, one: int, other: int) -> tuple[float, float]:
        """Seconds on the link between two ranks, and under way."""
        return self.hops[min(one, other)] if self.hops else (self.transfer_s, 0.0)

    def of(self, step: Step) -> float:
        """Seconds of one piece of work."""
        table = {FORWARD: self.forward_s, BACKWARD: self.backward_s, WEIGHTS: self.weights_s}
        return table[step.kind][step.stage]


def pipeline(name: str, ranks: int, micro_batches: int, times: Times) -> Schedule:
    """The schedule of that name over `ranks`, laid out in time.

    The number of stages is that of `times`: ranks, or ranks times virtual stages (1f1b), or twice the stages of one
    direction (dualpipe, where stage `ranks + i` is stage i of the micro-batches that run the other way).

    Raises: UnknownNameError: no such schedule. DomainError: stages, ranks and micro-batches that do not go together.
    """
    kind = SCHEDULE_NAMES.resolve(name, at="schedule")
    stages = len(times.forward_s)
    _check(kind, ranks, stages, micro_batches)
    if kind in ("gpipe", "1f1b"):
        times = _whole_backward(times)
    if kind == "gpipe":
        orders = [_gpipe(rank, micro_batches) for rank in range(ranks)]
    elif kind == "1f1b" and stages == ranks:
        orders = [_one_f_one_b(rank, ranks, micro_batches) for rank in range(ranks)]
    elif kind == "1f1b":
        orders = [_interleaved(rank, ranks, stages // ranks, micro_batches) for rank in range(ranks)]
    elif kind == "zero-bubble":
        orders = [_zero_bubble(rank, ranks, micro_batches) for rank in range(ranks)]
    else:
        orders = _greedy(_Greedy(kind, ranks, stages, micro_batches, times))
    return play(list(_tasks(kind, ranks, stages, orders, times)))


def _whole_backward(times: Times) -> Times:
    """Backward passes in one piece: a stage passes gradients on when both parts are done."""
    backward = [inputs + weights for inputs, weights in zip(times.backward_s, times.weights_s, strict=True)]
    return replace(times, backward_s=backward, weights_s=[0.0] * len(backward))


def _check(kind: str, ranks: int, stages: int, micro_batches: int) -> None:
    if ranks < 1 or micro_batches < 1 or stages % ranks:
        fix = f"give a multiple of {max(ranks, 1)} stages"
        raise DomainError("stages go round ranks evenly", at="stages", got=stages, fix=fix)
    if kind == "1f1b" and stages > ranks and micro_batches % ranks:
        fix = f"{max(ranks, micro_batches // ranks * ranks)} micro-batches, or one stage per rank"
        raise DomainError("interleaving needs whole rounds", at="micro_batches", got=micro_batches, fix=fix)
    if kind in ("gpipe", "zero-bubble") and stages != ranks:
        raise DomainError(f"{kind} has one stage per rank", at="stages", got=stages, fix=f"{ranks} stages")
    if kind == "dualpipe" and (stages != 2 * ranks or micro_batches % 2 or ranks % 2):
        fix = f"{2 * ranks} stages, and even numbers of ranks and micro-batches"
        raise DomainError("dualpipe runs both ways", at="stages", got=(ranks, stages, micro_batches), fix=fix)


def _gpipe(rank: int, micro_batches: int) -> list[Step]:
    forward = [Step(FORWARD, m, rank) for m in range(micro_batches)]
    return forward + [step for m in reversed(range(micro_batches)) for step in _back(m, rank)]


def _back(micro: int, stage: int) -> tuple[Step, Step]:
    return Step(BACKWARD, micro, stage), Step(WEIGHTS, micro, stage)


def _one_f_one_b(rank: int, ranks: int, micro_batches: int) -> list[Step]:
    warm = min(ranks - rank - 1, micro_batches)
    order = [Step(FORWARD, m, rank) for m in range(warm)]
    for m in range(warm, micro_batches):
        order += [Step(FORWARD, m, rank), *_back(m - warm, rank)]
    return order + [step for m in range(micro_batches - warm, micro_batches) for step in _back(m, rank)]


def _interleaved(rank: int, ranks: int, chunks: int, micro_batches: int) -> list[Step]:
    """Rounds of `ranks` micro-batches go through a rank's chunks in turn (arXiv 2104.04473, figure 4)."""
    total = micro_batches * chunks

    def step(k: int, *, backward: bool) -> tuple[int, int]:
        around, within = divmod(k, ranks * chunks)
        chunk = within // ranks
        micro = around * ranks + within % ranks
        return micro, (chunks - 1 - chunk if backward else chunk) * ranks + rank

    warm = min((ranks - rank - 1) * 2 + (chunks - 1) * ranks, total)
    order = [Step(FORWARD, *step(k, backward=False)) for k in range(warm)]
    for k in range(warm, total):
        order += [Step(FORWARD, *step(k, backward=False)), *_back(*step(k - warm, backward=True))]
    return order + [one for k in range(total - warm, total) for one in _back(*step(k, backward=True))]


def _zero_bubble(rank: int, ranks: int, micro_batches: int) -> list[Step]:
    """ZB-H1: gradients of weights lag behind by as many micro-batches as the rank has fewer in flight than the first
    (arXiv 2401.10241, section 2.2).
    """
    warm = min(ranks - rank - 1, micro_batches)
    order = [Step(FORWARD, m, rank) for m in range(warm)]
    for m in range(micro_batches):
        if m + warm < micro_batches:
            order.append(Step(FORWARD, m + warm, rank))
        order.append(Step(BACKWARD, m, rank))
        if m >= rank:
            order.append(Step(WEIGHTS, m - rank, rank))
    return order + [Step(WEIGHTS, m, rank) for m in range(max(micro_batches - rank, 0), micro_batches)]


@dataclass(frozen=True, slots=True)
class _Greedy:
    """DualPipe, whose order is found: each rank takes what can start first; backward before forward before weights."""

    kind: str
    ranks: int
    stages: int
    micro_batches: int
    times: Times

    @property
    def in_flight(self) -> int:
        """Micro-batches that a rank may hold: as in 1F1B; DualPipe holds one more (DeepSeek-V3, table 2)."""
        return self.ranks + (1 if self.kind == "dualpipe" else 0)

    def micros(self, stage: int) -> range:
        """Micro-batches of a stage: half of them in each direction of DualPipe."""
        half = self.micro_batches // 2
        if self.kind != "dualpipe":
            return range(self.micro_batches)
        return range(half) if stage < self.ranks else range(half, self.micro_batches)


def _rank_of(kind: str, stage: int, ranks: int) -> int:
    if kind == "dualpipe" and stage >= ranks:
        return 2 * ranks - 1 - stage
    return stage % ranks


def _before(kind: str, stage: int, ranks: int) -> int | None:
    """The stage that a micro-batch passes before this one."""
    first = stage == 0 or (kind == "dualpipe" and stage == ranks)
    return None if first else stage - 1


def _after(kind: str, stage: int, ranks: int, stages: int) -> int | None:
    last = stage == stages - 1 or (kind == "dualpipe" and stage == ranks - 1)
    return None if last else stage + 1


PRIORITY = {BACKWARD: 0, FORWARD: 1, WEIGHTS: 2}


def _greedy(job: _Greedy) -> list[list[Step]]:
    """Orders of all ranks: always the piece that can start earliest, among all ranks."""
    orders: list[list[Step]] = [[] for _ in range(job.ranks)]
    ends: dict[Step, float] = {}
    free, held = [0.0] * job.ranks, [0] * job.ranks
    mine = [[s for s in range(job.stages) if _rank_of(job.kind, s, job.ranks) == rank] for rank in range(job.ranks)]
    next_of = {(kind, stage): 0 for kind in PRIORITY for stage in range(job.stages)}
    for _ in range(3 * sum(len(job.micros(stage)) for stage in range(job.stages))):
        options = [
            (max(free[rank], ready), PRIORITY[step.kind], step.micro, rank, step)
            for rank in range(job.ranks)
            for step, ready in _candidates(job, mine[rank], next_of, ends, room=held[rank] < job.in_flight)
        ]
        start, _, _, rank, step = min(options, key=lambda option: option[:4])
        ends[step] = free[rank] = start + job.times.of(step)
        orders[rank].append(step)
        next_of[step.kind, step.stage] += 1
        held[rank] += {FORWARD: 1, BACKWARD: 0, WEIGHTS: -1}[step.kind]
    return orders


def _candidates(
    job: _Greedy, stages: Sequence[int], next_of: dict[tuple[str, int], int], ends: dict[Step, float], *, room: bool
) -> Iterator[tuple[Step, float]]:
    """The next piece of each kind in each stage whose inputs exist, and when they arrive."""
    for stage in stages:
        for kind in PRIORITY:
            index, micros = next_of[kind, stage], job.micros(stage)
            if index >= len(micros) or (kind == FORWARD and not room):
                continue
            step = Step(kind, micros[index], stage)
            needs = _needs(job.kind, step, job.ranks, job.stages)
            if all(need in ends for need in needs):
                yield step, max((ends[n] + _hop(job.kind, n, step, job) for n in needs), default=0.0)


def _hop(kind: str, one: Step, other: Step, job: _Greedy) -> float:
    ranks = _rank_of(kind, one.stage, job.ranks), _rank_of(kind, other.stage, job.ranks)
    return sum(job.times.hop(*ranks)) if ranks[0] != ranks[1] else 0.0


def _needs(kind: str, step: Step, ranks: int, stages: int) -> list[Step]:
    """What must be done before a piece of work can start."""
    if step.kind == WEIGHTS:
        return [Step(BACKWARD, step.micro, step.stage)]
    if step.kind == FORWARD:
        before = _before(kind, step.stage, ranks)
        return [] if before is None else [Step(FORWARD, step.micro, before)]
    after = _after(kind, step.stage, ranks, stages)
    own = [Step(FORWARD, step.micro, step.stage)]
    return own if after is None else [*own, Step(BACKWARD, step.micro, after)]


def _tasks(kind: str, ranks: int, stages: int, orders: Sequence[Sequence[Step]], times: Times) -> Iterator[Task]:
    """Tasks on ranks, with a task on a link of its own for each value that crosses."""
    index: dict[Step, int] = {}
    place = 0
    for order in orders:
        for step in order:
            needs = _needs(kind, step, ranks, stages)
            index[step] = place + sum(len(_transfer(kind, need, step, ranks, times)) for need in needs)
            place = index[step] + 1
    for rank, order in enumerate(orders):
        for step in order:
            after = []
            for need in _needs(kind, step, ranks, stages):
                at, parts = index[need], _transfer(kind, need, step, ranks, times)
                for place, (resource, time_s) in enumerate(parts, index[step] - len(parts)):
                    yield Task(f"{need.kind} {need.micro}", resource, time_s, (at,), "transfer")
                    at = place
                after.append(at)
            name = f"{step.kind} {step.micro}" + (f" stage {step.stage}" if stages > ranks else "")
            yield Task(name, f"rank {rank}", times.of(step), tuple(after), step.kind)


def _transfer(kind: str, one: Step, other: Step, ranks: int, times: Times) -> list[tuple[str, float]]:
    """Resource and seconds of each part of a transfer; what is under way holds nothing up."""
    here, there = _rank_of(kind, one.stage, ranks), _rank_of(kind, other.stage, ranks)
    held, delay = times.hop(here, there) if here != there else (0.0, 0.0)
    return [part for part in ((f"link {here} to {there}", held), ("", delay)) if part[1] > 0]


def bubble_of(schedule: Dim, forward_s: Dim, backward_s: Dim, weights_s: Dim, pp: Dim, vp: Dim) -> Column:
    """Seconds per step that a rank of a uniform pipeline waits, in closed form.

    `schedule` is an index into SCHEDULES; `forward_s`, `backward_s` and `weights_s` are of one micro-batch on one rank,
    gradients of inputs and of weights apart; `pp` and `vp` are ranks and virtual stages per rank.

    Source: DeepSeek-V3, arXiv 2412.19437, table 2, for 1F1B, zero bubble and DualPipe (where a forward and a backward
    chunk together take the sum of both); interleaving divides by the virtual stages (arXiv 2104.04473, section 2.2).
    """
    kind, ranks = np.asarray(schedule), np.asarray(pp, float)
    whole = np.asarray(backward_s) + weights_s
    plain = (ranks - 1.0) * (forward_s + whole) / vp
    zero = (ranks - 1.0) * (forward_s + np.maximum(np.asarray(backward_s) - weights_s, 0.0)) / vp
    dual = np.maximum(ranks / 2.0 - 1.0, 0.0) * np.maximum(forward_s + 2.0 * whole - 3.0 * np.asarray(weights_s), 0.0)
    chosen = np.where(kind == DUALPIPE, dual, np.where(kind == ZERO_BUBBLE, zero, plain))
    return np.asarray(np.where(ranks > 1, chosen, 0.0))


def in_flight_of(schedule: Dim, pp: Dim, vp: Dim, micro_batches: Dim) -> Column:
    """Micro-batches whose activations the fullest rank holds at once, in units of a whole rank's layers."""
    kind, ranks = np.asarray(schedule), np.asarray(pp, float)
    # Interleaving keeps a little more in flight (arXiv 2104.04473, section 2.2).
    held = ranks + np.where(np.asarray(vp) > 1, (ranks - 1.0) / vp, 0.0)
    held = np.where(kind == DUALPIPE, ranks + 1.0, held)
    held = np.where(kind == GPIPE, micro_batches, held)
    return np.asarray(np.maximum(np.where(ranks > 1, np.minimum(held, micro_batches), 1.0), 1.0))
