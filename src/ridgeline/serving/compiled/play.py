"""The compiled core of the serving simulator: the same results as `fleet.Fleet` in Python, many times faster.

It plays what most simulations are made of: equal lanes of one pool, first come first served, open arrivals or a closed
loop of clients, routers that name themselves (`compiled`), every rule of `Rules` but kept tokens and handing over. It
needs the extra `jit` (numba). The first run on a machine compiles for some 20 s and keeps the result in numba's cache.
"""

from __future__ import annotations

import importlib.util
import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, MissingExtraError
from ridgeline.serving.engine.batch import NEVER
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.queues import Fcfs
from ridgeline.serving.engine.rules import PROMPTS
from ridgeline.serving.record.played import RUN_COLUMNS, runs_of

if TYPE_CHECKING:
    from ridgeline.serving.compiled.state import World
    from ridgeline.serving.fleet.fleet import Fleet

ENGINES = ("auto", "python", "compiled")

WORTH_IT = 200_000
"""Requests from which `auto` compiles: below, Python is done before numba has been imported and its cache read."""

ROUTERS = ("alone", "round-robin", "two-choices", "least-loaded")
"""Values of a router's attribute `compiled`. `two-choices` has a method `uniforms` that gives the next draws in [0, 1)
in the order of their use: two per request, of which the first chooses among all lanes but the last, the second among
all; if they agree, the second is the last lane."""

SLICE = 1 << 18
"""Events between two looks at the progress and at Ctrl-C."""

ROWS = 1 << 16
"""Runs that are written before Python takes them."""

MOST_NODES = 1 << 24
"""Slots of all lanes together, at some 250 bytes each where they are used."""


def why_not(fleet: Fleet) -> str:
    """What keeps the compiled core from playing this fleet; empty if nothing does."""
    if not fleet.members:
        return "it has no lane"
    first = fleet.members[0].engine
    router = fleet.pools[0].router
    if len(fleet.pools) > 1 or fleet.pools[0].passes_to is not None:
        return "it has several pools"
    if fleet.control is not None or fleet.finished is not None:
        return "things happen to it besides its load"
    if (fleet.traffic.after >= 0).any():
        return "requests wait for others"
    blind = getattr(router, "blind", False) and not fleet.traffic.clients
    if len(fleet.members) > 1 and not blind and getattr(router, "compiled", "") not in ROUTERS:
        return f"its router {type(router).__name__} is written in Python"
    if first.rules.kept_tokens < NEVER or first.rules.prefill_only:
        return "its caches drop tokens" if not first.rules.prefill_only else "its lanes only prefill"
    if first.rules.longest_tokens < NEVER:
        return "its caches are in parts"
    if first.rules.batching != "continuous":
        return "its batches are static"
    if len(fleet.traffic) >= 1 << 31 or len(fleet.members) * _slots(first, len(fleet.traffic)) > MOST_NODES:
        return "it is too large"
    return next((reason for member in fleet.members if (reason := _odd(member.engine, first, member.up))), "")


def _odd(engine: Engine, first: Engine, up: bool) -> str:
    if engine.times is not first.times or engine.rules != first.rules or engine.longest_run != first.longest_run:
        return "its lanes differ"
    if engine.prefix is not None or engine.adapters is not None:
        return "a lane has a cache of prefixes" if engine.adapters is None else "a lane has adapters or models"
    if type(engine.queue) is not Fcfs:
        return "a queue is not first come first served"
    if not up or engine.end < NEVER or engine.queue or engine.iteration:
        return "a lane is down or has begun"
    return ""


def applies(fleet: Fleet) -> bool:
    """Whether the compiled core can play this fleet, numba or not."""
    return not why_not(fleet)


def installed() -> bool:
    """Whether numba is there; it is not imported."""
    return importlib.util.find_spec("numba") is not None


def chosen(fleet: Fleet, engine: str) -> bool:
    """Whether to play the fleet compiled.

    Args:    engine: python; compiled; auto: compiled where that is possible and large enough to be worth it.
    Raises:  MissingExtraError: compiled, without numba. DomainError: compiled, and the fleet has what it cannot play.
    """
    if engine not in ENGINES:
        raise DomainError(f"engine is one of {', '.join(ENGINES)}", at="engine", got=engine, fix="give auto")
    if engine == "python" or (engine == "auto" and len(fleet.traffic) < WORTH_IT):
        return False
    if engine == "auto":
        return installed() and applies(fleet)
    if not installed():
        what = "the compiled engine needs numba"
        raise MissingExtraError(what, at="engine", got=engine, fix="pip install ridgeline[jit], or engine='python'")
    if reason := why_not(fleet):
        raise DomainError(f"the compiled engine cannot play this: {reason}", at="engine", fix="give auto or python")
    return True


def play(fleet: Fleet, until_s: float = math.inf) -> None:
    """Serve until nothing is left to do, or that time, into the log and the engines of the fleet."""
    from ridgeline.serving.compiled import driver

    world = _world(fleet)
    f = world.fleet
    try:
        stopped = driver.MORE
        while stopped != driver.OVER:
            if stopped == driver.NO_DRAWS:
                world = world._replace(uniforms=_fixed(fleet.pools[0].router.uniforms(), np.float64))  # type: ignore[attr-defined]
                f["drawn"] = 0
            stopped = driver.advance(world, until_s, SLICE)
            _take_runs(fleet, world)
            if fleet.progress is not None:
                fleet.progress(float(f["now"][0]), int(f["ended"][0]))
    finally:
        _take_runs(fleet, world)
        fleet.now, fleet.ended = float(f["now"][0]), int(f["ended"][0])
        _write_back(fleet, world)


def _slots(engine: Engine, rows: int) -> int:
    return min(engine.rules.slots, max(rows, 1))


def _fixed(values: Sequence[Any] | NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
    """A read-only column that stands together: of one type for the compiler; copied only if it is not so."""
    column = np.ascontiguousarray(np.asarray(values, dtype=kind)).view()
    column.flags.writeable = False
    return column


def _world(fleet: Fleet) -> World:
    from ridgeline.serving.compiled import driver, state

    first, count, rows = fleet.members[0].engine, len(fleet.members), len(fleet.traffic)
    rules, slots, traffic, requests = first.rules, _slots(first, rows), fleet.traffic, fleet.requests
    lanes, leaves = _lanes(state.LANE, count, slots), 1 << (count - 1).bit_length()
    lanes["free"] = first.capacity
    ends, loads = np.full(2 * leaves, NEVER), np.full(2 * leaves, NEVER)
    loads[leaves : leaves + count] = 0
    for i in range(leaves - 1, 0, -1):
        loads[i] = min(loads[2 * i], loads[2 * i + 1])
    winners = np.concatenate([[0], *(np.arange(size) * (leaves // size) for size in _levels(leaves))]).astype(np.int64)
    router, uniforms, given = _router(fleet)
    facts = np.zeros(1, state.RULES)
    for name, value in _facts(fleet, router, slots).items():
        facts[name] = value
    clients = min(traffic.clients, rows)
    released = np.arange(max(clients, 1))
    now = np.zeros(1, driver.FLEET)
    now["sent"] = now["waiting"] = clients
    log = fleet.log
    return state.World(
        rules=facts,
        fleet=now,
        lanes=lanes,
        nodes=np.empty(count * slots, state.NODE),
        keys=np.empty(count * (2 * slots + 1), np.int64),
        places=np.empty(count * (2 * slots + 1), np.int64),
        residues=np.zeros(count * rules.block_tokens, np.int64),
        behind=np.empty(rows, np.int32),
        eligible=np.zeros(rows if rules.lag else 1, np.int64),
        prompts=_fixed(requests.prompts, np.int64),
        outputs=_fixed(requests.outputs, np.int64),
        hits=_fixed((0,) if requests.hits is None else requests.hits, np.int64),
        arrivals=_fixed(() if clients else traffic.arrival_s, np.float64),
        think_s=_fixed(traffic.think_s if clients else (), np.float64),
        given=_fixed(given, np.int32),
        uniforms=_fixed(uniforms, np.float64),
        **{name: np.frombuffer(getattr(log, name)) for name in ("sent", "admitted", "first", "last")},
        preempted=np.zeros(rows, np.int32),
        end=np.frombuffer(fleet.end, np.int8),
        lane=np.frombuffer(fleet.lane, np.int32),
        runs=np.empty((ROWS if first.runs is not None else 1, 1 + len(RUN_COLUMNS))),
        done=np.empty(2 * slots, np.int64),
        ends=ends,
        ends_lane=winners,
        loads=loads,
        loads_lane=winners.copy(),
        released_s=np.zeros(max(clients, 1)),
        released=released,
        **_times(first, slots),
    )


def _levels(leaves: int) -> list[int]:
    return [1 << level for level in range(leaves.bit_length())]


def _lanes(kind: np.dtype[np.void], count: int, slots: int) -> NDArray[np.void]:
    lanes = np.zeros(count, kind)
    lanes["end"] = NEVER
    for name in ("spare", "oldest", "youngest", "first_prompt", "last_prompt", "stack", "head", "tail"):
        lanes[name] = -1
    lanes["index"] = np.arange(count)
    lanes["nodes"], lanes["heap"] = lanes["index"] * slots, lanes["index"] * (2 * slots + 1)
    return lanes


def _router(fleet: Fleet) -> tuple[int, NDArray[np.float64], array[int]]:
    """Code of the router; its first draws, all of them for a closed loop, where several may go at once; and the lane of
    each request where the router is blind: it is asked beforehand.
    """
    router, traffic = fleet.pools[0].router, fleet.traffic
    kind, draws, given = getattr(router, "compiled", "given"), np.empty(0), array("i")
    if len(fleet.members) == 1:
        kind = "alone"
    elif kind == "two-choices" and traffic.clients:
        while draws.size < 2 * len(traffic):
            draws = np.concatenate([draws, router.uniforms()])  # type: ignore[attr-defined]
    elif kind == "given":
        given = array("i", [0]) * len(traffic)
        sizes = zip(fleet.requests.prompts, fleet.requests.outputs, fleet.arrivals, strict=True)
        for request, (prompt, output, time) in enumerate(sizes):
            if prompt + output <= fleet.longest:
                given[request] = fleet.choose(fleet.pools[0], request, time)
    return (*ROUTERS, "given").index(kind), draws, given


def _facts(fleet: Fleet, router: int, slots: int) -> dict[str, float]:
    """The record of rules."""
    engine = fleet.members[0].engine
    rules, times = engine.rules, engine.times
    same = ("block_tokens", "slots", "wait_steps", "token_budget", "longest_chunk", "copy_s", "lag", "wait_frac")
    facts = {name: getattr(rules, name) for name in (*same, "front_end_s", "growth")}
    facts["block"] = facts.pop("block_tokens")
    facts |= {name: getattr(times, name) for name in ("width", "host_sequence_s", "launch_s")}
    return facts | {
        "prompts": PROMPTS.index(rules.prompts),
        "grows": rules.cache != "reserve",
        "part": rules.cache == "reserve-part",
        "swap": rules.preemption == "swap",
        "longest_run": engine.longest_run,
        "keep_runs": engine.runs is not None,
        "hits": fleet.requests.hits is not None,
        "heap": 2 * slots + 1,
        "lanes": len(fleet.members),
        "router": router,
        "rows": len(fleet.traffic),
        "closed": fleet.traffic.clients > 0,
        "capacity": engine.capacity,
        "watermark": engine.watermark,
        "longest": fleet.longest,
    }


def _times(engine: Engine, slots: int) -> dict[str, NDArray[np.float64]]:
    """The step table: a row of pieces for every number of sequences."""
    times = engine.times
    return {
        "pieces": np.array(
            [times.pieces(n) if n else times.pieces(0) * (len(times.marks) + 1) for n in range(slots + 1)]
        ),
        "bodies": np.array([times.body(n * times.width) for n in range(slots + 1)]),
        "captured": np.array(times.captured, dtype=np.float64),
        "grid": np.array([times.tokens, times.body_s], dtype=np.float64),
        "chunk_grid": np.array([times.chunks, times.extra_s, times.prefix_s], dtype=np.float64),
    }


def _take_runs(fleet: Fleet, world: World) -> None:
    """Runs that were written go to their engines."""
    written, f = world.runs, world.fleet
    rows = written[: int(f["runs"][0])]
    f["runs"] = 0
    if not len(rows):
        return
    lanes = rows[:, 0].astype(np.int64)
    order = np.argsort(lanes, kind="stable")
    starts = np.searchsorted(lanes[order], np.arange(len(fleet.members) + 1))
    for index, member in enumerate(fleet.members):
        own = order[starts[index] : starts[index + 1]]
        runs = member.engine.runs
        if own.size and runs is not None:
            runs.frombytes(np.ascontiguousarray(rows[own, 1:]).tobytes())
            if fleet.on_runs is not None:
                fleet.on_runs(index, runs_of(runs))
                member.engine.runs = array("d")


def _write_back(fleet: Fleet, world: World) -> None:
    """What a fleet reports of its engines, and what is sparse in its log."""
    for member, lane in zip(fleet.members, world.lanes, strict=True):
        engine = member.engine
        for name in ("t", "area", "busy", "free"):
            setattr(engine, name, float(lane[name]))
        for name in ("n", "iteration", "step", "events", "preempted", "waited", "outstanding", "promised"):
            setattr(engine, name, int(lane[name]))
    again = np.flatnonzero(world.preempted)
    fleet.log.preempted.update(zip(again.tolist(), world.preempted[again].tolist(), strict=True))
    if fleet.requests.hits is not None:
        found = np.flatnonzero((world.hits > 0) & ~np.isnan(world.admitted))
        fleet.log.found.update(zip(found.tolist(), world.hits[found].tolist(), strict=True))
