"""`ridgeline query`: SQL over a file of results, as a table, JSON, a file or a plot."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """Examples:

  ridgeline query results.parquet "SELECT chip, max(output_tokens_per_s_per_chip) FROM results GROUP BY chip"

  ridgeline query results.parquet "SELECT * FROM results WHERE error IS NULL" --out good.csv

  ridgeline query results.parquet "FROM results" --plot curve.html --x concurrency --y tpot_s --color chip
"""


def query(
    results: Annotated[str, typer.Argument(metavar="RESULTS", help="a .parquet, .csv or .duckdb file")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="one SELECT over the table `results`")],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="write it: .csv, .parquet, - (stdout)")] = "",
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    plot: Annotated[str, typer.Option("--plot", metavar="FILE", help="draw it: .html, .svg or .png")] = "",
    x: Annotated[str, typer.Option("--x", metavar="COLUMN", help="across")] = "",
    y: Annotated[str, typer.Option("--y", metavar="COLUMN", help="up")] = "",
    color: Annotated[str, typer.Option("--color", metavar="COLUMN", help="one colour per value")] = "",
    log: Annotated[str, typer.Option("--log", metavar="x|y|xy", help="logarithmic axes of the plot")] = "",
) -> None:
    """Ask a file of results in SQL; nothing but that file is in reach."""
    from ridgeline.api.tables.query import check_answer_out
    from ridgeline.api.tables.query import query as ask
    from ridgeline.api.tables.query_plot import check_plot
    from ridgeline.api.tables.query_plot import plot as draw
    from ridgeline.apps.cli.flags import show
    from ridgeline.core.errors import SpecError

    if out:
        check_answer_out(out)
    if plot:
        check_plot(plot)
        if not (x and y):
            raise SpecError("a plot needs two columns", at="plot", fix="give --x COLUMN and --y COLUMN")
    answer = ask(results, sql)
    if plot:
        draw(answer, plot, x=x, y=y, color=color, log=log)
        typer.echo(f"wrote {plot}", err=True)
    if out:
        answer.write(out)
        typer.echo(f"{answer.rows:,} rows", err=True)
    if json:
        import json as encoder

        typer.echo(encoder.dumps(answer.to_dict(), indent=2))
    elif not (out or plot):
        show(answer)
