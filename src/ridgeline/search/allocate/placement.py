"""Several models on one fleet: which server holds which, and for what share of its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.search.allocate.program import Program, helpless, named, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Who is where.

    Attributes:
        status: optimal, infeasible or unfinished.
        placed: 1 where a server holds a model, [models, servers]; NaN without a solution.
        shares: share of a server's time that a model takes, [models, servers].
        used: 1 where a server is needed, [servers].
        cost: of the servers needed.
        reason: which limits must give way, and by how much.
    """

    status: str
    placed: NDArray[np.float64]
    shares: NDArray[np.float64]
    used: NDArray[np.float64]
    cost: float
    reason: str = ""


def place_models(
    rates: ArrayLike,
    demand: ArrayLike,
    needs_bytes: ArrayLike,
    memory_bytes: ArrayLike,
    *,
    cost: ArrayLike | None = None,
    models: Sequence[str] | None = None,
    servers: Sequence[str] | None = None,
    time_limit_s: float = 60.0,
) -> Placement:
    """The cheapest servers of a fleet that together serve every model, each holding what fits its memory.

    Args:
        rates: requests/s of a model that a server serves if it serves nothing else, [models, servers]; 0: it cannot.
        demand: requests/s, [models].
        needs_bytes: what a model takes in a server that holds it, weights and the cache it is given, [models, servers].
        memory_bytes: of each server, [servers].
        cost: of using a server, [servers]; by default 1 each: the fewest servers.
        models: names, for the reason.
        servers: names, for the reason.
        time_limit_s: of the solver.
    Raises: DomainError: shapes that do not agree. MissingExtraError: no scipy.
    Source: colocation by time share as in AlpaServe, Li et al., OSDI 2023 (arXiv 2302.11665), placement solved exactly.
    """
    speed = table(rates, "rates", (None, None))
    count, fleet = speed.shape
    wanted = table(demand, "demand", (count,))
    needs = table(needs_bytes, "needs_bytes", (count, fleet))
    room = table(memory_bytes, "memory_bytes", (fleet,))
    price = table(np.ones(fleet) if cost is None else cost, "cost", (fleet,))
    names = named(models, count, "model"), named(servers, fleet, "server")
    program = Program()
    able = (speed > 0) & (needs <= room)
    placed = program.variables((count, fleet), high=able, whole=True)
    shares = program.variables((count, fleet), high=able)
    used = program.variables(fleet, cost=price, high=1.0, whole=True)
    for server in range(fleet):
        for model in range(count):
            program.constrain((shares[model, server], 1.0), (placed[model, server], -1.0), high=0.0)
            program.constrain((placed[model, server], 1.0), (used[server], -1.0), high=0.0)
        program.constrain(
            (placed[:, server], needs[:, server]),
            high=room[server], name=f"memory of {names[1][server]}", unit="bytes", gives=1,
        )  # fmt: skip
        program.constrain((shares[:, server], 1.0), high=1.0, name=f"time of {names[1][server]}", gives=1)
    for model in range(count):
        program.constrain(
            (shares[model], speed[model]),
            low=wanted[model], name=f"requests of {names[0][model]}", unit="per s", gives=2,
        )  # fmt: skip
    found = program.solve(time_limit_s=time_limit_s)
    return Placement(
        status=found.status,
        placed=found.x[placed],
        shares=found.x[shares],
        used=found.x[used],
        cost=float(found.x[used] @ price),
        reason=""
        if np.isfinite(found.objective)
        else helpless("no server holds and serves", able, wanted, names[0]) or found.reason,
    )
