"""`ridgeline study`: published systems, each its claim beside our number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

  ridgeline study

  ridgeline study deepseek-v3-insights --figure deepseek.svg

  ridgeline study --area serving

  ridgeline study --all --json
"""


def study(
    name: Annotated[str, typer.Argument(help="a study; without one, the list of all")] = "",
    area: Annotated[str, typer.Option("--area", help="run all studies of an area")] = "",
    every: Annotated[bool, typer.Option("--all", help="run all studies")] = False,
    figure: Annotated[Path | None, typer.Option("--figure", metavar="FILE.svg", help="draw the study's figure")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE.md", help="the coverage page")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Run a study, or many: what the paper claims, what we get, and whether that reproduces it."""
    from rich.console import Console
    from rich.progress import track

    from ridgeline.core.errors import RidgelineError
    from ridgeline.core.files import write_atomic
    from ridgeline.studies.frame import coverage, view
    from ridgeline.studies.frame.shelf import find
    from ridgeline.studies.frame.trial import trial

    if name and (every or area):
        raise RidgelineError("one study or many, not both", at="study", got=name, fix="leave out the name, or --all")
    if figure and not name:
        raise RidgelineError("a figure is of one study", at="--figure", fix="give the name of a study too")
    console = Console(highlight=False)
    studies = (find(name),) if name else coverage.chosen(area)
    if area and not studies:
        areas = sorted({each.area for each in coverage.chosen()})
        raise RidgelineError("no study is of this area", at="--area", got=area, fix=f"areas: {', '.join(areas)}")
    if not (name or area or every or markdown):
        if json:
            _print_json([{"name": s.name, "n": s.n, "area": s.area, "paper": s.paper} for s in studies])
        else:
            console.print(view.listing(studies))
        return
    bar = Console(stderr=True, quiet=json)
    trials = [trial(each) for each in track(studies, "studies", console=bar, transient=True)]
    if figure:
        drawn = view.figure_svg(trials[0])
        if not drawn:
            raise RidgelineError("this study has no figure", at="--figure", got=name)
        write_atomic(figure, drawn)
    if markdown:
        write_atomic(markdown, coverage.page(trials))
    if json:
        _print_json([each.to_dict() for each in trials])
    else:
        console.print(view.detail(trials[0]) if name else view.summary(trials))


def _print_json(value: object) -> None:
    import json as encoder

    typer.echo(encoder.dumps(value, indent=2))
