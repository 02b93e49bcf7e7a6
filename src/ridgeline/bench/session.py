"""One run: cases in order, each as long as there is time for it; what was measured survives an interruption."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from ridgeline.bench.backends import Backend, Buffers, Unsupported, WrongResult, checked
from ridgeline.bench.grid import KINDS, Case
from ridgeline.bench.table import Row
from ridgeline.bench.timing import Effort, Meter, time_kernel
from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware import Chip

HOT = Buffers(weights=6, outputs=2)
"""Of a GEMM in a hot loop: as in the loop of the bundled tables, so that calibration reads rows of one kind."""
COLD_BUFFERS = 256
"""Sets of buffers at most; more would only cost memory and time."""
CASE_SHARE = 0.02
"""A case may take this share of the time that is left; others wait until faster cases have shown that it takes less."""
LAST_SHARE = 0.5
"""The share that a case may take when none is cheaper."""
SUSTAINED_SHARE = 0.25
"""Share of a run's time that loops of a second or more may take together."""
MEMORY_SHARE = 0.6
WAKE_S = 1.0
"""Warm-up of the first kernel, in which an idle device raises its clocks."""
LAPS = 6
"""Laps that a case runs at least: to be checked, captured, warmed up, and repeated three times."""
NO_TIME = "no time left"
NO_MEMORY = "does not fit the free memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long a run may take, how hard it tries, and whether weights come from cache ("hot") or memory ("cold")."""

    budget_s: float
    effort: Effort
    weights: str = "hot"

    def __post_init__(self) -> None:
        """Refuse times and words that cannot be."""
        if not (math.isfinite(self.budget_s) and self.budget_s > 0):
            raise DomainError(
                "the time for a run must be positive", at="--budget", got=self.budget_s, fix="such as 60s"
            )
        if self.weights not in ("hot", "cold"):
            raise SpecError("weights are hot or cold", at="--weights", got=self.weights, fix="hot, or cold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave: rows, how many cases were left out and why, whether it was interrupted, seconds it took."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]
    interrupted: bool
    elapsed_s: float


@dataclass(slots=True)
class _Pace:
    """What the cases so far say about how long the next one takes."""

    flops_per_s: float = 0.0
    bytes_per_s: float = 0.0
    setup_bytes_per_s: float = 0.0

    def learn(self, case: Case, latency_s: float, setup_s: float, setup_bytes: float) -> None:
        self.flops_per_s = max(self.flops_per_s, case.flops / latency_s)
        self.bytes_per_s = max(self.bytes_per_s, case.moved_bytes / latency_s)
        self.setup_bytes_per_s = max(self.setup_bytes_per_s, setup_bytes / setup_s)

    def expected_s(self, case: Case, buffers: Buffers, calls: int) -> float:
        """Seconds that the case takes in all, with that many calls; zero in a group without a measurement."""
        if not self.bytes_per_s:
            return 0.0
        call_s = max(case.flops / self.flops_per_s if case.flops else 0.0, case.moved_bytes / self.bytes_per_s)
        return calls * call_s + case.moved_bytes * buffers.weights / self.setup_bytes_per_s


@dataclass(slots=True)
class _State:
    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    paces: dict[tuple[str, str, str], _Pace] = field(default_factory=dict)
    sustained_s: float = 0.0


def run(
    backend: Backend,
    chip: Chip,
    todo: Sequence[Case],
    plan: Plan,
    *,
    progress: Callable[[float, Case], None] = lambda *_: None,
    clock: Callable[[], float] = perf_counter,
) -> Outcome:
    """Measure cases until they or the time run out.

    Args:
        backend: what measures.
        chip: what it measures on, as the catalogue describes it.
        todo: the cases, in order of preference.
        plan: how long and how hard.
        progress: told the share of the time that has passed, and the next case.
        clock: seconds; for tests.
    Returns: the rows, also if Ctrl-C came: then those that were whole by then.
    Raises:
        SpecError: cold weights on a chip whose last-level cache is not known.
    """
    sets = {_key(case): buffers_for(case, chip, plan.weights) for case in todo}
    state, pending, start = _State(), list(todo), clock()
    meter, interrupted = backend.meter(), False
    try:
        while pending and (left_s := plan.budget_s - (clock() - start)) > 0:
            place = _next(pending, sets, state, left_s, graphs=backend.device.kind == "gpu")
            if place is None:
                break
            case = pending.pop(place)
            progress(1.0 - left_s / plan.budget_s, case)
            _measure(backend, chip, case, sets[_key(case)], plan, state, meter, left_s)
    except KeyboardInterrupt:
        interrupted = True
    if pending:
        state.left_out[NO_TIME] += len(pending)
    return Outcome(
        rows=tuple(state.rows), left_out=dict(state.left_out), interrupted=interrupted, elapsed_s=clock() - start
    )


def buffers_for(case: Case, chip: Chip, weights: str) -> Buffers:
    """How many sets of buffers a loop rotates. Raises SpecError for cold ones without a known cache."""
    if weights == "hot":
        return HOT if case.table == "gemm" else Buffers(weights=1, outputs=1)
    cache = chip.tier("l2")
    if cache is None:
        fix = "add its l2 tier to the chip's file, or leave --weights out"
        raise SpecError("cold weights need the size of the last-level cache", at="--weights", got=chip.name, fix=fix)
    enough = math.ceil(2.0 * cache.capacity_bytes / case.moved_bytes) + 1
    several = min(COLD_BUFFERS, enough + enough % 2)
    return Buffers(weights=several, outputs=HOT.outputs if case.table == "gemm" else several)


def _key(case: Case) -> tuple[str | int, ...]:
    return case.group + tuple(case.sizes.values())


def _next(
    pending: Sequence[Case],
    sets: Mapping[tuple[str | int, ...], Buffers],
    state: _State,
    left_s: float,
    *,
    graphs: bool,
) -> int | None:
    """The first case that is expected to take a small share of the time left, else the cheapest if there is time."""
    expected = []
    for place, case in enumerate(pending):
        buffers, pace = sets[_key(case)], state.paces.setdefault(case.group, _Pace())
        # Where laps are graphs, each takes a turn through all the buffers.
        expected.append(pace.expected_s(case, buffers, LAPS * (buffers.weights if graphs else 1)))
        if expected[-1] <= CASE_SHARE * left_s:
            return place
    cheapest = min(range(len(pending)), key=expected.__getitem__)
    return cheapest if expected[cheapest] <= LAST_SHARE * left_s else None


def _measure(
    backend: Backend,
    chip: Chip,
    case: Case,
    buffers: Buffers,
    plan: Plan,
    state: _State,
    meter: Meter | None,
    left_s: float,
) -> None:
    """Measure one case and keep its row, or the reason why there is none."""
    size_bytes = case.moved_bytes * buffers.weights
    if size_bytes > MEMORY_SHARE * backend.device.free_bytes:
        state.left_out[NO_MEMORY] += 1
        return
    sustain = case.sustained and state.sustained_s + plan.effort.sustain_s <= SUSTAINED_SHARE * plan.budget_s
    sustain = sustain and plan.effort.sustain_s < left_s
    effort = plan.effort
    if not state.rows:
        effort = replace(effort, warm_s=max(effort.warm_s, min(WAKE_S, CASE_SHARE * left_s)))
    start = perf_counter()
    try:
        kernel = checked(backend.prepare(case, buffers), case.dtype)
        setup_s = perf_counter() - start
        timing = time_kernel(kernel, effort, meter=meter, sustain=sustain)
    except Unsupported as reason:
        state.left_out[f"not supported: {case.table} {case.dtype}: {reason}"] += 1
        return
    except WrongResult as reason:
        state.left_out[f"wrong result, not timed: {reason}"] += 1
        return
    state.sustained_s += plan.effort.sustain_s if sustain else 0.0
    state.paces[case.group].learn(case, timing.latency_s, setup_s, size_bytes)
    state.rows.append(Row(case=case, kernel=kernel.name, captured=kernel.captured, timing=timing, weights=plan.weights))


def offered(
    backend: Backend, chip: Chip, kinds: Sequence[str], *, all_needed: bool
) -> tuple[tuple[str, str, str], ...]:
    """The groups (table, op, dtype) of these kinds that the backend measures and the chip has engines for.

    Raises SpecError: none at all; or, if `all_needed`, a kind without any.
    """
    engines = {*chip.matrix_flops_per_s, *chip.vector_flops_per_s}
    found: list[tuple[str, str, str]] = []
    for kind in kinds:
        groups = [
            (table, op, dtype)
            for table in KINDS[kind]
            for op, dtype in backend.offers(table)
            if table == "copy" or SCHEMES[dtype].compute in engines
        ]
        if all_needed and not groups:
            raise _nothing_for(kind, backend)
        found += groups
    if not found:
        raise _nothing_for(", ".join(kinds), backend)
    return tuple(found)


def _nothing_for(kinds: str, backend: Backend) -> SpecError:
    able = [kind for kind, tables in KINDS.items() if any(backend.offers(table) for table in tables)]
    on = f"{backend.name} on {backend.device.count} x {backend.device.name}"
    return SpecError(f"{on} does not measure {kinds}", at="--kinds", got=kinds, fix=f"it measures {', '.join(able)}")
