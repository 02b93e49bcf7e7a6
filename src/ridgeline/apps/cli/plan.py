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
OutOption = Annotated[str, typer.Option("--out", metavar="FILE", help="best plans and front: CSV, Parquet, or -")]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="a page with plots: .html")]
TopOption = Annotated[int, typer.Option("--top", metavar="N", help="plans that are ranked")]


def _own(
    *,
    question: QuestionOption = None,
    explain: ExplainOption = False,
    top: TopOption = 10,
    simulate: SimulateOption = None,
    out: OutOption = "",
    report: ReportOption = None,
    json: JsonOption = False,
) -> None:
    """The options beside what is asked; only the signature is used."""


def plan(**given: Any) -> None:
    """Search every legal deployment at once: which serves this load best, and why."""
    own = {name: given.pop(name) for name in inspect.signature(_own).parameters}
    asked = {name: value for name, value in given.items() if value is not None}
    names = [name.strip() for name in str(asked.pop("model", "")).split(",") if name.strip()]
    if len(names) > 1 and (own["out"] or own["report"]):
        raise typer.BadParameter("one model at a time with --out or --report", param_hint="--model")
    for model in names or [""]:
        _one({**asked, **({"model": model} if model else {})}, own)


def _one(asked: dict[str, Any], own: dict[str, Any]) -> None:
    from ridgeline.api.plan import plan as search

    start, json, explain = time.perf_counter(), own["json"], own["explain"]
    simulates = own["simulate"] or any("p" in str(asked.get(name, "")) for name in ("ttft", "tpot", "e2e"))
    with progress("simulate", json or not simulates) as told:
        file = str(own["question"]) if own["question"] else ""
        planned = search(file, top=own["top"], explain=explain, simulate=own["simulate"], progress=told, **asked)
    took_s = time.perf_counter() - start
    if own["out"]:
        typer.echo(f"wrote {planned.write_table(own['out'])} candidates", err=True)
    if own["report"]:
        typer.echo(f"wrote {planned.write_page(own['report'])}", err=True)
    if json:
        from json import dumps

        typer.echo(dumps(planned.to_dict(), indent=2))
    elif own["out"] != "-":
        from ridgeline.api.plan_view import planned_view

        show(planned_view(planned, explain=explain))
    typer.echo(f"{planned.seen:,} candidates in {took_s:.2f} s", err=True)


plan.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*inspect.signature(_own, eval_str=True).parameters.values(), *(parameter(column) for column in ASKED)]
)
