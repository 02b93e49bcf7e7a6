"""`ridgeline plan`: from a question to a deployment."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.api.plan_columns import ASKED
from ridgeline.apps.cli.flags import JsonOption, parameter, show
from ridgeline.apps.cli.progress import progress

EXAMPLES = """Examples:

  ridgeline plan --model Qwen/Qwen3-32B-FP8 --on "32x h200-sxm" --isl 4000 --osl 1000 --ttft 1s --tpot 40ms

  ridgeline plan --model meta-llama/Llama-3.1-70B --on "32x h100-sxm, 32x mi300x" --isl 2000 --osl 500 --rate 20/s \\
    --ttft 2s --tpot 50ms --objective cost,latency --explain

  ridgeline plan --question question.yaml --json
"""

QuestionOption = Annotated[
    Path | None, typer.Option("--question", metavar="FILE", help="the question as YAML or JSON; flags win")
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="add what would change the winner, and its prediction")]
SimulateOption = Annotated[
    int | None, typer.Option("--simulate", metavar="N", help="simulate the best N too [default: 3 with percentiles]")
]
TopOption = Annotated[int, typer.Option("--top", metavar="N", help="plans that are ranked")]


def _own(
    *,
    question: QuestionOption = None,
    explain: ExplainOption = False,
    top: TopOption = 10,
    simulate: SimulateOption = None,
    json: JsonOption = False,
) -> None:
    """The options beside what is asked; only the signature is used."""


def plan(**given: Any) -> None:
    """Search every legal deployment at once: which serves this load best, and why."""
    own = {name: given.pop(name) for name in inspect.signature(_own).parameters}
    asked = {name: value for name, value in given.items() if value is not None}
    for model in str(asked.pop("model", "")).split(",") or [""]:
        _one({**asked, **({"model": model.strip()} if model.strip() else {})}, **own)


def _one(
    asked: dict[str, Any], *, question: Path | None, explain: bool, top: int, simulate: int | None, json: bool
) -> None:
    from ridgeline.api.plan import plan as search

    start = time.perf_counter()
    with progress("simulate", json) as told:
        file = str(question) if question else ""
        planned = search(file, top=top, explain=explain, simulate=simulate, progress=told, **asked)
    if json:
        from json import dumps

        typer.echo(dumps(planned.to_dict(), indent=2))
        return
    from ridgeline.api.plan_view import planned_view

    show(planned_view(planned, explain=explain))
    typer.echo(f"{planned.seen:,} candidates in {time.perf_counter() - start:.2f} s", err=True)


plan.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*inspect.signature(_own, eval_str=True).parameters.values(), *(parameter(column) for column in ASKED)]
)
