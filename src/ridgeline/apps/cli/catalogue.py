"""`ridgeline catalogue`: what is known, and where each fact comes from."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """Examples:

  ridgeline catalogue chips

  ridgeline catalogue chips h100-sxm --json

  ridgeline catalogue models
"""


def catalogue(
    kind: Annotated[str, typer.Argument(help="chips, nodes, models, runtimes or sites")],
    name: Annotated[str, typer.Argument(help="one of them, with all its facts and their sources")] = "",
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """List the catalogue, or show one entry with every fact's source."""
    from rich.console import Console

    from ridgeline.api import catalogue as shelves

    if json:
        import json as encoder

        typer.echo(encoder.dumps(shelves.entries(kind, name), indent=2))
    else:
        Console(highlight=False).print(shelves.view(kind, name))
