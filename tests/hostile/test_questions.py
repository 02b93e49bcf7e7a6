"""Hostile questions to `plan` (quality B1 to B4): each is understood, or one clear error that says where, and soon."""

import math
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.test_mutation import FEWER, check

from ridgeline.api.planning.plan_columns import ASKED
from ridgeline.api.planning.plan_question import asked_of, read_question
from ridgeline.core.errors import RidgelineError

QUESTION = b"""model: meta-llama/Llama-3.1-8B
on: [8x h100-sxm, 4x hgx-a100-40]
isl: 1000
osl: 2e2
rate: 20/s
ttft: p99=2s
tpot: 50ms
objective: [cost, latency]
price: {h100-sxm: 2.2 USD/h}
max_batch: [0, 64]
power: 200 kW
site: sweden
"""
SOUND: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "on": "8x h100-sxm", "isl": 1000, "osl": 200}
EDGES = (
    *(0, -1, 1e308, 10**400, math.nan, math.inf, -math.inf, "", " ", "nan", "1e999", "٣", "ｘ", "\0", "a" * 5000),
    *(True, [], {}, [None], ["a", "b"], "p99=", "=", ",,,", "0x h100-sxm", "1/0", "--", "../..", "<b>"),
)


@pytest.mark.parametrize("name", [column.name for column in ASKED])
def test_every_argument_takes_or_refuses_every_odd_value(name: str) -> None:
    refused = 0
    for value in EDGES:
        try:
            asked_of({**SOUND, name: value})
        except RidgelineError as error:
            refused += 1
            assert error.what, value
            assert len(error.line()) < 2000, value
    assert refused > 0


def test_mutated_questions(tmp_path: Path) -> None:
    path = tmp_path / "question.yaml"

    def read(mutated: bytes) -> object:
        path.write_bytes(mutated)
        return asked_of(read_question(path))

    check(read, QUESTION, FEWER, 23)
