"""`ridgeline plan --train`: the same as from Python, and flags that do not go together."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import ridgeline as rl
from ridgeline.apps.cli import app

ASKED = ["plan", "--train", "--model", "meta-llama/Llama-3.1-8B", "--on", "16x h100-sxm", "--seq", "4096"]


def test_the_command_says_what_python_says() -> None:
    told = CliRunner().invoke(app, [*ASKED, "--global-batch", "64", "--tokens", "1T", "--chips", "8", "--json"])
    assert told.exit_code == 0, told.output
    ours = rl.plan_training(
        "meta-llama/Llama-3.1-8B", on="16x h100-sxm", seq=4096, global_batch=64, tokens="1T", chips=(8,)
    )
    assert json.loads(told.stdout) == json.loads(json.dumps(ours.to_dict()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*ASKED, "--isl", "4"], "--isl"),
        (ASKED, "--global-batch"),
        ([*ASKED, "--global-batch", "64", "--explain"], "--explain"),
        ([*ASKED, "--global-batch", "64", "--choices", "few"], "--choices"),
        (["plan", "--model", "meta-llama/Llama-3.1-8B", "--on", "h100-sxm", "--seq", "5"], "--train"),
    ],
)
def test_flags_of_the_other_question_are_refused(arguments: list[str], words: str) -> None:
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2 and words in told.output
