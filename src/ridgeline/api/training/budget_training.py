"""`rl.budget_training`: which of some models is best trained with so much money or time on a machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.api.training.plan_training import Choice, NothingFitsError, plan_training
from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.hardware.machine import machine
from ridgeline.search.layouts import Space
from ridgeline.training.scaling import law as law_of
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model as model_of
from ridgeline.workloads.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeted:
    """One model within the budget.

    Attributes:
        model, parameters: what is trained. `choice`: the fastest layout; None where none fits.
        time_s, tokens, cost_usd: of the run that the budget buys (cost NaN without a rental rate).
        tokens_per_parameter: about 20 is compute-optimal by Chinchilla.
        loss: after so many tokens, by the scaling law; NaN where nothing fits.
    """

    model: str
    parameters: float
    choice: Choice | None
    time_s: float
    tokens: float
    cost_usd: float
    tokens_per_parameter: float
    loss: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not finite becomes None."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "choice"}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        return {**plain, "choice": None if self.choice is None else self.choice.to_dict()}


def budget_training(
    models: Sequence[str | Model],
    *,
    on: str,
    seq: int,
    global_batch: int,
    money: float | str = 0.0,
    time: float | str = 0.0,
    goodput: float = 1.0,
    precision: str = "bf16",
    framework: str = "",
    law: str = "",
    space: Space | None = None,
) -> list[Budgeted]:
    """Rank models by the loss that a budget buys; those that do not fit come last.

    Args:
        models:       names of the catalogue, paths, or `Model`s.
        on:           machines, as "8x rtx-4090".
        seq:          tokens per sequence.
        global_batch: sequences per step.
        money:        in USD, at the chip's rental rate; or
        time:         on the machine ("100 d"). With both, the one that ends first.
        goodput:      share of the time that is new work (`rl.simulate_training` says it).
        precision:    as of `predict training`.
        framework:    the same.
        law:          epoch or chinchilla.
        space:        what a layout may choose.
    Raises: as `plan_training`; DomainError: no budget, or money for a chip without a rental rate.

    Example: `rl.budget_training(["meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B"], on="8x rtx-4090", seq=2048,
    global_batch=256, time="100 d")`
    """
    if not 0.0 < goodput <= 1.0:
        raise DomainError("goodput is a share", at="goodput", got=goodput, fix="give a number in 0 to 1")
    whole = machine(on, at="on")
    rent = whole.chip.rent_usd_per_s
    time_s = _time_s(money, time, rent, whole.count)
    cost = time_s * whole.count * rent if rent is not None else math.nan
    chosen = law_of(law)
    found = []
    for model in models:
        value = model_of(model) if isinstance(model, str) else model
        parameters = float(np.max(work_of(value, float(seq)).weights))
        try:
            plan = plan_training(
                model,
                on=on,
                seq=seq,
                global_batch=global_batch,
                precision=precision,
                framework=framework,
                space=space,
                shown=1,
            )
            choice: Choice | None = plan.best[0]
        except NothingFitsError:
            choice = None
        tokens = time_s * goodput * choice.tokens_per_s if choice else 0.0
        found.append(
            Budgeted(
                model=model if isinstance(model, str) else model.name,
                parameters=parameters,
                choice=choice,
                time_s=time_s,
                tokens=tokens,
                cost_usd=cost,
                tokens_per_parameter=tokens / parameters,
                loss=float(chosen.loss(parameters, tokens)) if choice else math.nan,
            )
        )
    return sorted(found, key=lambda one: one.loss if one.choice else math.inf)


def _time_s(money: float | str, time: float | str, rent: float | None, chips: int) -> float:
    limits = []
    if money:
        usd = units.parse(money, "usd", at="money", bare_ok=True)
        if rent is None:
            raise DomainError("this chip has no rental rate", at="money", got=money, fix='give time="100 d" instead')
        limits.append(usd / (rent * chips))
    if time:
        limits.append(units.parse(time, "s", at="time", bare_ok=True))
    if not limits or not 0.0 < min(limits) < math.inf:
        fix = 'give money=100_000, time="100 d", or both'
        raise DomainError("a budget is money or time above 0", at="money", got=(money, time), fix=fix)
    return min(limits)
