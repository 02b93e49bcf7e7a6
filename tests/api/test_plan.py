"""`rl.plan` and `rl.size`: what is understood, what is refused and how, and what comes out."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.planning.plan import Planned, Unsatisfiable
from ridgeline.api.planning.plan_columns import ASKED, RANKED
from ridgeline.api.planning.plan_form import QuestionFile
from ridgeline.api.planning.plan_question import asked_of, read_question
from ridgeline.apps.cli import main
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import read_table
from ridgeline.search.planning import OBJECTIVES

USUAL: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "on": "4x h100-sxm",
    "isl": 1000,
    "osl": 200,
    "ttft": "500ms",
    "tpot": "30ms",
    "runtime": "vllm",
}


@pytest.fixture(scope="module")
def planned() -> Planned:
    return rl.plan(**USUAL, rate="10/s", explain=True)


def test_flags_keys_and_objectives_are_declared_once() -> None:
    assert set(QuestionFile.model_fields) == {column.name for column in ASKED}
    assert tuple(OBJECTIVES) == RANKED


# ---- what is understood


def test_question_is_understood_in_si_units() -> None:
    asked = asked_of({**USUAL, "rate": "600/min", "power": "2 kW", "budget": "10 USD/h", "price": "2.5"})
    q = asked.question
    assert (q.rate_per_s, q.power_w) == (10.0, 2000.0)
    assert q.usd_per_s == pytest.approx(10.0 / 3600.0)
    assert q.machines[0].usd_per_s == pytest.approx(2.5 / 3600.0)
    assert (q.slo.ttft_s, q.slo.tpot_s, q.slo.e2e_s) == (0.5, 0.03, math.inf)
    assert q.objectives == ("cost", "latency")


def test_file_and_flags_ask_the_same(tmp_path: Path) -> None:
    path = tmp_path / "question.yaml"
    lines = ["model: meta-llama/Llama-3.1-8B", "on: [4x h100-sxm]", "isl: 1000", "osl: 200", "ttft: 500ms"]
    path.write_text("\n".join([*lines, "tpot: 30ms", "runtime: [vllm]", "price: {h100-sxm: 2 USD/h}"]))
    from_file = asked_of(read_question(path)).question
    assert from_file == asked_of({**USUAL, "price": "h100-sxm=2 USD/h"}).question


def test_traffic_gives_its_means(tmp_path: Path) -> None:
    words = {"arrivals": "poisson(5/s)", "prompt": "lognormal(mean=1000, sigma=0.5)", "output": "uniform(100, 300)"}
    rest = {name: value for name, value in USUAL.items() if name not in ("isl", "osl")}
    q = asked_of({**rest, **words}).question
    assert q.rate_per_s == pytest.approx(5.0, rel=0.05)
    assert q.isl == pytest.approx(1000.0, rel=0.05)
    assert q.osl == pytest.approx(200.0, rel=0.05)
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "\n".join(f"2023-11-16 18:15:{second:02d}.0,{500 + second},{20}" for second in range(50))
    )
    q = asked_of({**rest, "trace": str(trace)}).question
    assert (q.isl, q.osl) == (round(500 + 24.5), 20.0)
    assert q.rate_per_s == pytest.approx(1.0, rel=0.05)
    assert asked_of({**rest, "isl": 10, "osl": 10, "arrivals": "closed(64)"}).question.concurrency == 64


def test_limit_on_a_percentile_is_kept_for_the_simulation() -> None:
    asked = asked_of({**USUAL, "ttft": "p99=1s", "tpot": "mean=20ms"})
    assert asked.percentiles == {"ttft": 0.99}
    assert (asked.question.slo.ttft_s, asked.question.slo.tpot_s) == (1.0, 0.02)
    assert any("p99 of ttft" in note for note in asked.notes)


BAD = [
    ({"model": None}, "which model"),
    ({"model": "no/such-model"}, "unknown model"),
    ({"on": None}, "which machines"),
    ({"on": "8x h10"}, "did you mean .H100"),
    ({"on": "0x h100-sxm"}, "1 to"),
    ({"on": ","}, "names nothing"),
    ({"on": "2x h100-sxm, 4x h100-sxm"}, "allowed twice"),
    ({"isl": None}, "how long"),
    ({"isl": -5}, "not negative"),
    ({"osl": 0}, "positive"),
    ({"isl": "nan"}, "not a number"),
    ({"isl": 10**400}, "finite"),
    ({"isl": True}, "not a quantity"),
    ({"rate": "10/s", "concurrency": 5}, "not both"),
    ({"rate": "ten"}, "not a"),
    ({"rate": "0/s"}, "positive"),
    ({"ttft": "2 furlongs"}, "furlongs"),
    ({"ttft": "p0=1s"}, "percentile"),
    ({"ttft": "0s"}, "positive"),
    ({"ttft": ""}, ""),
    ({"ttft": "2s", "e2e": "1s"}, "later than the last"),
    ({"objective": "cheapest"}, "did you mean|objectives:"),
    ({"objective": "cost,cost,cost,cost,cost"}, ""),
    ({"objective": "cost,latency,chips,energy"}, "one to three"),
    ({"objective": "carbon"}, "grid"),
    ({"mode": "both"}, "unknown mode"),
    ({"runtime": "vlm"}, "vllm"),
    ({"kv": "fp9"}, "fp8"),
    ({"weights": "fp9"}, "fp8"),
    ({"max_batch": "1.5"}, "whole numbers"),
    ({"prefix_hit_frac": 1.5}, "share"),
    ({"draft_tokens": 3}, "acceptance"),
    ({"power": "5 kg"}, "kg"),
    ({"power": "1 W"}, "power budget"),
    ({"budget": "0.01 USD/h"}, "does not pay"),
    ({"price": "h200-sxm=2 USD/h"}, "may not be used"),
    ({"price": "-2 USD/h"}, "positive"),
    ({"on": "1x v100-sxm2-16gb", "objective": "cost"}, "no rent|USD|fits on none"),
    ({"site": "atlantis"}, "unknown site"),
    ({"trace": "no-such-file.csv"}, "no-such-file|not found|cannot"),
    ({"arrivals": "poison(5/s)"}, "poisson"),
    ({"model": "deepseek-ai/DeepSeek-V3"}, "fits on none"),
    ({"colour": "red"}, "unknown argument"),
]


@pytest.mark.parametrize(("change", "told"), BAD, ids=lambda value: json.dumps(value, default=str)[:40])
def test_what_cannot_be_is_refused_in_words(change: dict[str, Any], told: str) -> None:
    given = {name: value for name, value in {**USUAL, **change}.items() if value is not None}
    if change in ({"ttft": ""}, {"objective": "cost,cost,cost,cost,cost"}):
        asked_of(given)  # an empty limit is none; a list without its repeats is fine
        return
    with pytest.raises(RidgelineError) as raised:
        rl.plan(**given)
    assert re.search(told, raised.value.screen()), raised.value.screen()


FILES = {
    "misspelt.yaml": ("model: m\non: 1x h100-sxm\nils: 5\n", "did you mean 'isl'"),
    "kinds.yaml": ("model: [1, 2]\n", "model"),
    "list.yaml": ("- a\n", "not a mapping"),
    "twice.yaml": ("model: a\nmodel: b\n", "twice|duplicate"),
    "broken.yaml": ("model: [a\n", ""),
    "deep.json": ("[" * 5000, ""),
    "bool.yaml": ("model: a\non: 1x h100-sxm\nisl: true\n", "isl"),
    "empty.yaml": ("", ""),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_question_file_is_told_where_it_is_wrong(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, told = FILES[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--question", str(path)])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error RL") and "Traceback" not in printed
    assert re.search(told, printed), printed


# ---- limits that nothing keeps


def test_missed_limits_are_told_with_the_nearest_that_can_be_done() -> None:
    with pytest.raises(Unsatisfiable, match=r"ttft .* is \d+% above") as raised:
        rl.plan(**{**USUAL, "ttft": "5ms"})
    allow = re.search(r"allow ttft ([\d.]+) ms", raised.value.fix)
    assert allow is not None
    nearest = float(allow[1])
    assert rl.plan(**{**USUAL, "ttft": f"{nearest * 1.01} ms"}).best


def test_rate_that_is_too_high_is_told_with_the_highest_that_is_not() -> None:
    with pytest.raises(Unsatisfiable, match=r"more than the machines carry|none of") as raised:
        rl.plan(**USUAL, rate="100000/s")
    carried = re.search(r"carries ([\d.]+)/s", raised.value.fix)
    assert carried is not None
    assert rl.plan(**USUAL, rate=f"{float(carried[1]) * 0.99}/s").best


# ---- what comes out


def test_shown_numbers_are_those_of_predict(planned: Planned) -> None:
    for one in (*planned.best[:3], *planned.families.values()):
        prediction = one.predict()
        for name in ("ttft_s", "tpot_s", "request_per_s", "energy_j_per_output_token", "memory_bytes_per_chip"):
            assert one.values[name] == pytest.approx(prediction.values[name], rel=1e-9), name
        assert one.values["usd_per_h"] == pytest.approx(
            one.values["chips"] * planned.question.machines[0].usd_per_s * 3600  # type: ignore[operator]
        )


def test_winner_is_the_best_and_keeps_the_limits(planned: Planned) -> None:
    slo = planned.question.slo
    costs = [float(one.values["cost_usd_per_1m_output_tokens"]) for one in planned.best]
    assert costs == sorted(costs)
    for one in (*planned.best, *planned.front):
        assert float(one.values["ttft_s"]) <= slo.ttft_s
        assert float(one.values["tpot_s"]) <= slo.tpot_s
        assert float(one.values["request_per_s"]) == pytest.approx(10.0)


def test_winner_is_a_plain_case(planned: Planned) -> None:
    again = rl.predict("serving", **planned.winner.case)
    assert again.values["ttft_s"] == pytest.approx(planned.winner.values["ttft_s"])


def test_everything_is_plain_json(planned: Planned) -> None:
    told = json.loads(json.dumps(planned.to_dict(), allow_nan=False))
    assert told["winner"]["case"]["model"] == USUAL["model"]
    assert {"best", "front", "families", "sensitivity", "search", "objectives"} <= set(told)
    assert any(row["plan_changes"] is False for row in told["sensitivity"])


def test_screen_says_why_and_what_would_change_it(planned: Planned) -> None:
    text = str(planned)
    for words in (
        "best plans",
        "Pareto front",
        "winner:",
        "is bound by",
        "of its limit",
        "the runner-up",
        "candidates",
    ):
        assert words in text, words
    assert "limit on TTFT" in text


def test_table_and_page_are_written(planned: Planned, tmp_path: Path) -> None:
    rows = planned.write_table(tmp_path / "plan.csv")
    table = read_table(tmp_path / "plan.csv", columns={"rank": "number", "ttft_s": "number", "front": "number"})
    assert table.rows == rows
    ranks = table.number("rank")
    assert np.nanmin(ranks) == 1.0
    assert table.number("front").sum() == len(planned.front)
    planned.write_page(tmp_path / "plan.html")
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<svg") == 5
    assert "<script" not in page and "default-src 'none'" in page
    assert "What would change the winner" in page


def test_names_from_the_question_are_escaped(tmp_path: Path) -> None:
    asked = rl.plan(**USUAL, rate="5/s")
    object.__setattr__(asked.asked, "values", {"model": "<img src=x onerror=alert(1)>"})
    page = tmp_path / "plan.html"
    asked.write_page(page)
    assert "<img" not in page.read_text()


def test_simulation_stands_beside_the_prediction() -> None:
    planned = rl.plan(**{**USUAL, "on": "1x h100-sxm", "tpot": "p90=30ms"}, rate="4/s", simulate=1)
    ((one, found),) = planned.checks
    assert found.mean_s["tpot"] == pytest.approx(float(one.values["tpot_s"]), rel=0.15)
    assert found.tail_s["tpot"] > found.mean_s["tpot"]
    assert found.keeps == (found.limited_s["tpot"] <= 0.03 and found.limited_s["ttft"] <= 0.5)
    assert "simulated" in str(planned)


def test_limit_on_a_percentile_tightens_the_means_until_it_is_kept() -> None:
    loose = rl.plan(**{**USUAL, "on": "4x h100-sxm", "ttft": "p99=1s", "mode": "agg"}, rate="12/s", simulate=1)
    ((_, played),) = loose.checks
    limit_s = 0.8 * played.limited_s["ttft"]
    tight = rl.plan(**{**USUAL, "on": "4x h100-sxm", "ttft": f"p99={limit_s}s", "mode": "agg"}, rate="12/s", simulate=1)
    ((winner, found),) = tight.checks
    assert found.keeps and found.limited_s["ttft"] <= limit_s
    assert winner is tight.winner
    assert any("held tighter" in note for note in tight.notes)
    assert float(winner.values["chips"]) >= float(loose.winner.values["chips"])


# ---- size


def test_size_is_the_least_that_the_plan_finds() -> None:
    given = {**USUAL, "rate": "30/s"}
    sized = rl.size(**{**given, "on": "h100-sxm"})
    chips = int(sized.needs["chips"])
    assert rl.plan(**{**given, "on": f"{chips}x h100-sxm", "objective": "chips"}).winner.values["chips"] == chips
    if chips > 1:
        with pytest.raises(RidgelineError):
            rl.plan(**{**given, "on": f"{chips - 1}x h100-sxm"})
    assert sized.needs["power_w"] > 0
    assert str(sized).startswith(f"least chips: {chips} chips")


def test_least_money_is_not_always_least_chips() -> None:
    given = {
        **USUAL,
        "rate": "30/s",
        "on": "h100-sxm, a100-80gb-sxm",
        "price": "h100-sxm=9 USD/h,a100-80gb-sxm=1 USD/h",
    }
    chips, money, watts = (rl.size(**given, least=least) for least in ("chips", "money", "watts"))
    assert money.needs["usd_per_h"] <= min(chips.needs["usd_per_h"], watts.needs["usd_per_h"])
    assert chips.needs["chips"] <= min(money.needs["chips"], watts.needs["chips"])
    assert money.winner.case["chip"] == "a100-80gb-sxm"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"least": "effort"}, "unknown measure"),
        ({"objective": "cost"}, "objective of a size"),
        ({"on": "h100-sxm"}, "how much is to be served"),
        ({"rate": "5/s", "ttft": "1us"}, "none of|more than"),
    ],
)
def test_size_refuses_what_it_cannot_answer(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RidgelineError, match=told):
        rl.size(**{**USUAL, **change})


# ---- command line


def test_command_prints_what_is_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = [word for name, value in USUAL.items() for word in (f"--{name}", str(value))]
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *flags, "--rate", "5/s", "--json"])
    assert stopped.value.code in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert told["verb"] == "plan" and told["question"]["rate"] == "5/s"
    with pytest.raises(SystemExit):
        main(["size", *flags, "--rate", "5/s", "--json"])
    assert json.loads(capsys.readouterr().out)["needs"]["chips"] >= 1
