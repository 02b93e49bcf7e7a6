"""`ridgeline row`: servers under one breaker: caps by priority, the brake, a battery, and how many more would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgeline.apps.cli.flags import JsonOption, tell

EXAMPLES = """Examples:

  ridgeline row row.yaml

  ridgeline row row.yaml --times 1,1.1,1.2,1.3 --limit 120kW

  ridgeline row row.yaml --no-caps --out series.csv --json
"""

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="the row as YAML: limit, servers, policy, battery")]
LimitOption = Annotated[str, typer.Option("--limit", metavar="POWER", help="instead of the file's")]
TimesOption = Annotated[
    str, typer.Option("--times", metavar="N,N,...", help="as many servers as the file's, each tried")
]
CapsOption = Annotated[bool, typer.Option("--caps/--no-caps", help="whether anybody caps servers")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="write the last one's series as CSV")]


def row(
    file: FileArgument,
    *,
    limit: LimitOption = "",
    times: TimesOption = "1",
    caps: CapsOption = True,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Play a row of servers under one power limit, with as many servers as it has, or more."""
    from ridgeline.api.impacts.power_row import power_row
    from ridgeline.core import units
    from ridgeline.core.files import writable_target, write_atomic

    if out is not None:
        writable_target(out)
    factors = [units.parse(word, "1", at="--times", bare_ok=True) for word in times.split(",") if word.strip()]
    found = power_row(file, limit=limit, times=factors or [1.0], capped=caps)
    if out is not None:
        write_atomic(out, found.to_csv())
    tell(found, json=json)
