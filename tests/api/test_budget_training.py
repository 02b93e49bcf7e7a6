"""What a budget of money or time trains."""

from __future__ import annotations

from typing import Any

import pytest

import ridgeline as rl
from ridgeline.core.errors import DomainError

SIZES = ["meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-405B"]
ASK: dict[str, Any] = {"on": "64x h100-sxm", "seq": 4096, "global_batch": 512}


def test_little_money_trains_the_small_model_and_what_does_not_fit_is_last() -> None:
    little = rl.budget_training(SIZES, money=2_000, **ASK)
    assert little[0].model == "meta-llama/Llama-3.1-8B"
    assert little[-1].choice is None and little[-1].to_dict()["loss"] is None
    best = little[0]
    assert best.choice is not None
    assert best.cost_usd == pytest.approx(2_000)
    assert best.tokens == pytest.approx(best.time_s * best.choice.tokens_per_s)
    losses = [one.loss for one in little if one.choice]
    assert losses == sorted(losses)
    more = rl.budget_training(SIZES, money=10_000_000, **ASK)
    assert more[0].loss < best.loss and more[0].parameters >= best.parameters


def test_time_and_money_end_with_the_first_and_goodput_costs_tokens() -> None:
    both = rl.budget_training(SIZES[1:2], money=100_000, time="1 d", **ASK)[0]
    day = rl.budget_training(SIZES[1:2], time="1 d", goodput=0.9, **ASK)[0]
    assert both.time_s == day.time_s == 86400.0
    assert day.tokens == pytest.approx(0.9 * both.tokens)


@pytest.mark.parametrize("budget", [{}, {"time": "-1 d"}, {"time": "1 d", "goodput": 0.0}, {"money": -5}])
def test_no_budget_is_said(budget: dict[str, Any]) -> None:
    with pytest.raises(DomainError):
        rl.budget_training(SIZES[:1], **ASK, **budget)
