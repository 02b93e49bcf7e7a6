"""How many replicas of which engine: heterogeneous pools for a mix of requests, prompt and token pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.search.allocate.program import Program, helpless, named, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Replicas of each kind, and how their time is shared.

    Attributes:
        status: optimal, infeasible or unfinished.
        counts: whole replicas, [kinds]; NaN without a solution.
        shares: replicas' worth of time that a kind gives to a class of requests, [kinds, classes].
        cost: of all replicas, in the unit of the costs given.
        scale: how much of the demand is served (1 unless the rate was maximised).
        reason: which limits must give way, and by how much; "" when there is a solution.
    """

    status: str
    counts: NDArray[np.float64]
    shares: NDArray[np.float64]
    cost: float
    scale: float
    reason: str = ""
    gap: float = 0.0


def replicas(
    rates: ArrayLike,
    demand: ArrayLike,
    cost: ArrayLike,
    *,
    uses: ArrayLike | None = None,
    limits: ArrayLike | None = None,
    most: ArrayLike = np.inf,
    maximise: bool = False,
    classes: Sequence[str] | None = None,
    resources: Sequence[str] | None = None,
    time_limit_s: float = 60.0,
) -> Replicas:
    """The cheapest replicas that serve a mix of classes of requests under limits, or the most of it they can serve.

    Args:
        rates: requests/s of a class that one replica of a kind serves if it does nothing else, [kinds, classes];
            0: it cannot.
        demand: requests/s, [classes].
        cost: of one replica, [kinds], in any unit (USD/h, W, kg/h).
        uses: what one replica takes of each resource, [kinds, resources]: chips of a type, watts, rack units.
        limits: of the resources, [resources].
        most: replicas of each kind at most.
        maximise: serve as large a multiple of the mix as the limits let (then at any cost), instead of all of it.
        classes: names, for the reason.
        resources: names, for the reason.
        time_limit_s: of the solver.
    Raises: DomainError: shapes that do not agree, numbers that cannot be. MissingExtraError: no scipy.
    Source: shared replicas as in Mélange, Griggs et al., arXiv 2404.14527, section 5, without its slices of load.
    """
    speed = table(rates, "rates", (None, None))
    wanted = table(demand, "demand", (speed.shape[1],))
    price = table(cost, "cost", (speed.shape[0],))
    taken = table(np.empty((len(price), 0)) if uses is None else uses, "uses", (len(price), None))
    have = table(np.empty(0) if limits is None else limits, "limits", (taken.shape[1],))
    if maximise and not (np.isfinite(have).any() or np.isfinite(np.asarray(most)).any()):
        raise DomainError("the most that can be served needs a limit", at="limits", fix="give limits or most")
    names = named(classes, len(wanted), "class"), named(resources, len(have), "resource")
    program = Program()
    counts = program.variables(len(price), cost=0.0 if maximise else price, high=most, whole=True)
    able = (speed > 0) & (wanted > 0)
    shares = program.variables(speed.shape, high=np.where(able, np.inf, 0.0))
    low, high, gain = (0.0, np.inf, -1.0) if maximise else (1.0, 1.0, 0.0)
    scale = program.variables(1, cost=gain, low=low, high=high)
    for kind in range(len(price)):
        program.constrain((shares[kind], 1.0), (counts[kind], -1.0), high=0.0)
    for place, name in enumerate(names[0]):
        if maximise:
            program.constrain((shares[:, place], speed[:, place]), (scale, -wanted[place]), low=0.0)
        else:
            served = (shares[:, place], speed[:, place])
            program.constrain(served, low=wanted[place], name=f"requests of {name}", unit="per s", gives=2)
    for place, name in enumerate(names[1]):
        if np.isfinite(have[place]):
            program.constrain((counts, taken[:, place]), high=have[place], name=name, gives=1)
    found = program.solve(time_limit_s=time_limit_s)
    reason = (
        "" if np.isfinite(found.objective) else helpless("no kind serves", able.T, wanted, names[0]) or found.reason
    )
    return Replicas(
        status=found.status,
        counts=found.x[counts],
        shares=found.x[shares],
        cost=float(found.x[counts] @ price),
        scale=float(found.x[scale][0]),
        reason=reason,
        gap=found.gap,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Workers of each kind in the prompt and in the token pool, [kinds] each; other fields as of `Replicas`."""

    status: str
    prompt: NDArray[np.float64]
    token: NDArray[np.float64]
    cost: float
    request_per_s: float
    reason: str = ""


def pool_sizes(
    prompt_rate: ArrayLike,
    token_rate: ArrayLike,
    demand: float,
    cost: ArrayLike,
    *,
    uses: ArrayLike | None = None,
    limits: ArrayLike | None = None,
    maximise: bool = False,
    resources: Sequence[str] | None = None,
    time_limit_s: float = 60.0,
) -> Pools:
    """Prompt and token pools of phase splitting: the cheapest that keep up with a rate, or the highest rate.

    Args:
        prompt_rate: prompts/s that one worker of a kind prefills, [kinds]; 0: it does not prefill.
        token_rate: requests/s that one worker decodes, [kinds]; 0: it does not decode.
        demand: requests/s; with `maximise`, what `request_per_s` may not exceed is the limits' only.
        cost: of one worker, [kinds].
        uses: of resources, [kinds, resources].
        limits: of them, [resources].
        maximise: the highest rate within the limits.
        resources: names, for the reason.
        time_limit_s: of the solver.
    Raises: as `replicas`.
    Source: provisioning of Splitwise, Patel et al., ISCA 2024 (arXiv 2311.18677), section IV-D, here solved exactly.
    """
    prompts = table(prompt_rate, "prompt_rate", (None,))
    tokens = table(token_rate, "token_rate", prompts.shape)
    if not 0 < demand < np.inf:
        raise DomainError("the demand is a positive rate", at="demand", got=demand, fix="give requests/s")
    nothing = np.zeros_like(prompts)
    rates = np.concatenate([np.stack([prompts, nothing], axis=1), np.stack([nothing, tokens], axis=1)])
    price = table(cost, "cost", prompts.shape)
    taken = None if uses is None else np.tile(table(uses, "uses", (len(price), None)), (2, 1))
    found = replicas(
        rates,
        [demand, demand],
        np.tile(price, 2),
        uses=taken,
        limits=limits,
        maximise=maximise,
        classes=("prompts", "tokens"),
        resources=resources,
        time_limit_s=time_limit_s,
    )
    return Pools(
        status=found.status,
        prompt=found.counts[: len(price)],
        token=found.counts[len(price) :],
        cost=found.cost,
        request_per_s=found.scale * demand,
        reason=found.reason,
    )
