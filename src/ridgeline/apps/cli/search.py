"""`ridgeline search`: designs that nothing beats, of a problem in a file, on a budget of evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgeline.apps.cli.progress import counted
from ridgeline.core.errors import SpecError
from ridgeline.core.units import parse

EXAMPLES = """Examples:

  ridgeline search examples/search_chips.yaml --budget 2000

  ridgeline search examples/search_serving.yaml --agent ga --budget 500 --option population=32 --json

  ridgeline search examples/search_chips.yaml --compare nsga2,annealing,ants --seeds 5 --budget 300
"""

AGENTS_WORDS = "nsga2, ga, annealing, ants, walk, tpe (extra search), ppo (extra ppo), random, exhaustive"


def search(
    question: Annotated[Path, typer.Argument(metavar="FILE", help="the problem (.yaml): axes, objectives, limits")],
    agent: Annotated[str, typer.Option("--agent", metavar="NAME", help=AGENTS_WORDS)] = "nsga2",
    budget: Annotated[int, typer.Option("--budget", metavar="N", min=1, help="designs evaluated at most")] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="of every random draw")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=N", help="of the agent: population, chains, levels"),
    ] = None,
    compare: Annotated[
        str, typer.Option("--compare", metavar="NAME,...", help="rank these agents and points at random instead")
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="of a comparison")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="every design evaluated, in order: CSV, Parquet")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Search a design space, with the same budget at random beside it."""
    import json as encoder

    from rich.console import Console

    from ridgeline.api.sweeps.design_file import ComparisonView, FoundView, problem_in, write_designs
    from ridgeline.core.files import writable_target
    from ridgeline.search import compare_agents
    from ridgeline.search import search as run

    options = dict(_option(text) for text in option or ())
    problem = problem_in(question)
    console = Console(highlight=False)
    if out is not None:
        if compare:
            raise SpecError(
                "a comparison writes no designs", at="--out", got=str(out), fix="leave out --compare or --out"
            )
        writable_target(out)
    with counted("designs", json) as told:
        if compare:
            names = [name.strip() for name in compare.split(",") if name.strip()]
            made = compare_agents(problem, names, budget=budget, seeds=range(seed, seed + seeds), progress=told)
        else:
            found = run(problem, agent=agent, budget=budget, seed=seed, options=options, progress=told)
    if compare:
        _print(console, encoder.dumps(made.to_dict(), indent=2) if json else ComparisonView(made), json=json)
        return
    if out is not None:
        write_designs(found, out)
    _print(console, encoder.dumps(found.to_dict(), indent=2) if json else FoundView(found), json=json)


def _print(console: object, what: object, *, json: bool) -> None:
    if json:
        typer.echo(what)
    else:
        console.print(what)  # type: ignore[attr-defined]


def _option(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SpecError("an option has a name and a number", at="--option", got=text, fix="write population=32")
    return name.strip(), int(parse(value, "count", at=name.strip()))
