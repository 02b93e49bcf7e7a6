"""The search over layouts against brute force through the case table, which checks each row by itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.training.plan_training import NothingFitsError, Space, plan_training
from ridgeline.core.errors import DomainError, UnitError, UnknownNameError
from ridgeline.search.layouts import divisors, legal_layouts
from ridgeline.training import work_of
from ridgeline.workloads.catalogue import model

EXACT = 1e-9
"""The same arithmetic on columns of another length."""

MODEL = "meta-llama/Llama-3.1-8B"
SMALL: dict[str, Any] = {"seq": 4096, "global_batch": 64}


def brute(chips: int, space: Space, name: str) -> dict[str, Any]:
    """Every combination of the space as a case table, priced; errors say which are illegal."""
    words = {"none": "none", "norms": "norm, act, moe_act", "full": "full"}
    rows = [
        {"tp": tp, "pp": pp, "cp": cp, "ep": ep, "vp": vp, "micro_batch": mb, "zero": str(zero), "recompute": words[r]}
        for tp, pp, cp, ep, vp, mb, zero, r in itertools.product(
            divisors(chips),
            divisors(chips),
            space.cp,
            space.ep or divisors(chips),
            space.vp,
            space.micro_batch,
            space.zero,
            space.recompute,
        )
        if chips % (tp * pp * cp) == 0
        and (vp == 1 or (pp > 1 and (SMALL["global_batch"] * tp * pp * cp / (mb * chips)) % pp == 0))
        and (zero < 3 or pp == 1)
        and (zero == 0 or tp * pp < chips)
    ]
    table = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    fixed = {"model": name, "chip": "h100-sxm", "chips": chips, **SMALL}
    return rl.predict_table("training", table | {k: np.full(len(rows), v) for k, v in fixed.items()})


@pytest.mark.parametrize(("name", "ep"), [(MODEL, (1,)), ("Qwen/Qwen3-30B-A3B", ())])
def test_the_search_finds_what_brute_force_finds(name: str, ep: tuple[int, ...]) -> None:
    space = Space(ep=ep, vp=(1, 2), micro_batch=(1, 2, 64), cp=(1, 2))
    priced = brute(16, space, name)
    legal = np.array([not error for error in priced["error"]])
    room = np.array(priced["memory_bytes_per_chip"], float) <= 0.95 * model_room()
    best = np.min(np.array(priced["step_s"], float)[legal & room])
    found = plan_training(name, on="16x h100-sxm", space=space, **SMALL)
    assert found.legal == legal.sum()
    assert found.fitting == (legal & room).sum()
    assert found.best[0].step_s == pytest.approx(best, rel=EXACT)


def model_room() -> float:
    """Bytes of the chip."""
    return rl.chip("h100-sxm").dram.capacity_bytes


def test_a_choice_predicted_again_is_the_same() -> None:
    plan = plan_training(MODEL, on="32x h100-sxm", tokens="1e12", chips=(8, 16), **SMALL)
    for choice in plan.best[:3]:
        again = rl.predict("training", **choice.columns)
        assert again.step_s == pytest.approx(choice.step_s, rel=EXACT)
        assert again.memory_bytes_per_chip == pytest.approx(choice.memory_bytes_per_chip, rel=EXACT)
        assert again.power_w_per_chip == pytest.approx(choice.power_w_per_chip, rel=EXACT)
    steps = [choice.step_s for choice in plan.best]
    assert steps == sorted(steps)


def test_nothing_on_the_front_is_beaten_and_money_is_time_times_rent() -> None:
    plan = plan_training(MODEL, on="64x h100-sxm", tokens="1e12", chips=(8, 16, 32), **SMALL)
    rent = rl.chip("h100-sxm").rent_usd_per_s
    assert rent is not None
    for one in plan.pareto:
        assert one.cost_usd == pytest.approx(one.run_s * one.chips * rent)
        assert one.run_s == pytest.approx(1e12 / one.tokens_per_s)
        assert one.energy_j == pytest.approx(one.run_s * one.chips * one.power_w_per_chip)
        assert not any(o.run_s < one.run_s and o.cost_usd <= one.cost_usd for o in plan.pareto)
    assert {one.chips for one in plan.pareto} > {64}


def test_what_leaves_the_chip_must_find_room_in_its_host() -> None:
    # 12 bytes per parameter of Adam's state: 105 GB a chip for 70B on 8, 608 GB for 405B; a DGX has 275 GB for each.
    space = Space(offload=(1, 2))
    plan = plan_training("meta-llama/Llama-3.1-70B", on="8x h100-sxm", space=space, **SMALL)
    assert plan.best[0].columns["offload"] in ("optimizer", "params")
    with pytest.raises(NothingFitsError):
        plan_training("meta-llama/Llama-3.1-405B", on="8x h100-sxm", space=space, **SMALL)
    drives = plan_training("meta-llama/Llama-3.1-405B", on="8x h100-sxm", space=Space(offload=(3,)), **SMALL)
    assert drives.best[0].columns["offload"] == "nvme"


def test_every_legal_layout_multiplies_to_the_chips() -> None:
    work = work_of(model(MODEL), 4096.0)
    found = legal_layouts(work, chips=48, seq=4096, global_batch=96, space=Space.everything())
    product = np.asarray(found.tp * found.pp * found.cp * found.dp)
    assert np.all(product == 48)
    assert np.all(32 % np.asarray(found.tp) == 0)
    rows = np.stack([np.asarray(getattr(found, n)) for n in found.__dataclass_fields__ if np.ndim(getattr(found, n))])
    assert len(np.unique(rows, axis=1).T) == rows.shape[1]


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"on": "2x h100-sxm", "model": "meta-llama/Llama-3.1-405B"}, NothingFitsError, "the smallest needs"),
        ({"on": "7x h100-sxm", "global_batch": 64, "space": Space(pp=(1,), tp=(1,))}, NothingFitsError, "no layout"),
        ({"on": "8x h10"}, UnknownNameError, "did you mean"),
        ({"model": "llama-3.1-7b"}, UnknownNameError, "did you mean"),
        ({"seq": 0}, DomainError, "whole number"),
        ({"global_batch": 1.5}, DomainError, "whole number"),
        ({"chips": (99,)}, DomainError, "give 1 to 8"),
        ({"tokens": "many"}, UnitError, "many"),
        ({"framework": "megatro"}, UnknownNameError, "did you mean"),
    ],
)
def test_what_cannot_be_planned_is_said(change: dict[str, Any], error: type[Exception], told: str) -> None:
    given: dict[str, Any] = {"model": MODEL, "on": "8x h100-sxm", **SMALL} | change
    with pytest.raises(error, match=told):
        plan_training(given.pop("model"), **given)


@pytest.mark.parametrize("choice", [{"tp": (0,)}, {"recompute": ("some",)}, {"zero": (-1,)}, {"vp": (1.5,)}])
def test_a_space_of_impossible_choices_is_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(DomainError):
        Space(**choice)


def test_the_screen_names_layouts_and_counts() -> None:
    plan = plan_training(MODEL, on="16x h100-sxm", **SMALL)
    text = str(plan)
    assert f"{plan.legal:,} layouts" in text and "pp4" in text and "megatron-bridge" in text
    assert plan.to_dict()["results"]["best"][0]["cost_usd"] is None
