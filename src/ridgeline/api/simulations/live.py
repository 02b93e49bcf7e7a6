"""A deployment that runs now: the fleet of `rl.simulate`, fed with requests as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ridgeline.api.simulations.simulate_case import Asked, parted
from ridgeline.core.errors import SpecError
from ridgeline.serving.fleet.live import Ended, Live, Tokens, expected
from ridgeline.workloads.catalogue import model

PLACES = 8192
"""Requests that a running fleet may hold at once."""

PREFIX_TOKENS = 16
"""Tokens of a unit of the prefix cache: the cache block of vLLM."""


def live(
    *,
    on: str = "",
    plan: str = "",
    plugins: bool = True,
    prefix_cache: bool = True,
    places: int = PLACES,
    on_tokens: Tokens,
    on_end: Ended,
    lateness: Callable[[float], None] | None = None,
    **case: Any,
) -> tuple[Live, str]:
    """The fleet of a case, idle, at time 0; and the name of its model.

    Args:
        on: machines, as "8x h100-sxm".
        plan: the plan's notation.
        plugins: whether policies of installed distributions count.
        prefix_cache: whether prompts with equal beginnings share their cache.
        places: requests that it may hold at once.
        on_tokens: told new tokens.
        on_end: told the end of a request.
        lateness: told how late, once per iteration.
        case: columns as of `rl.simulate`; `isl` and `osl` are the lengths that are usual (1024 and 256 if not given).
    Raises: as `rl.simulate`.
    """
    asked = Asked.of(case)
    name = str(case.get("model") or (asked.spec.model if asked.spec is not None else ""))
    if not name:
        raise SpecError("nothing says which model is served", at="model", fix="give --model")
    given = {"isl": 1024.0, "osl": 256.0, **{k: v for k, v in case.items() if v is not None}}
    values = asked.values(parted(given, plugins=plugins, keep_runs=False)[0], on=on, plan=plan)
    longest = int(float(given.get("longest") or 0.0) or float(model(name).context))
    usual = expected(int(float(values["isl"])), int(float(values["osl"])), longest, places)
    rest, words, choices = parted({**given, "trace": usual, "longest": longest}, plugins=plugins, keep_runs=False)
    _, plans, _ = asked.pools(words, rest, on=on, plan=plan)
    with np.errstate(all="ignore"):
        running = Live(
            plans,
            usual,
            replace(choices, entry=asked.entry),
            hash_tokens=PREFIX_TOKENS if prefix_cache else 0,
            on_tokens=on_tokens,
            on_end=on_end,
            lateness=lateness,
        )
    return running, name
