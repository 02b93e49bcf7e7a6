"""Flags made from the columns of a task, so that the command line, the tables and the documentation say the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

from ridgeline.api.columns import NUMBER, TASKS, Column

SHORT = {"request_rate_per_s": "--rate"}


def with_columns(task: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per column of the task; they arrive in its keyword argument `case` as text."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "case"]
        columns = [_parameter(column) for column in TASKS[task]]

        def run(**everything: Any) -> None:
            named = {column.name: everything.pop(column.name) for column in TASKS[task]}
            command(**everything, case={name: value for name, value in named.items() if value is not None})

        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        run.__signature__ = inspect.Signature([*own, *columns])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *columns]}
        return run

    return decorate


def _parameter(column: Column) -> inspect.Parameter:
    flags = [f"--{column.name.replace('_', '-')}"]
    if column.name in SHORT:
        flags.append(SHORT[column.name])
    default = (
        ""
        if column.default in (None, "")
        else f" [default: {column.default:g}]"
        if column.kind == NUMBER
        else (f" [default: {column.default}]")
    )
    option = typer.Option(None, *flags, help=f"{column.doc}{default}", metavar=_metavar(column), show_default=False)
    return inspect.Parameter(column.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=str | None)


def _metavar(column: Column) -> str:
    if column.choices:
        return "|".join(choice for choice in column.choices if choice)
    if column.kind != NUMBER:
        return "NAME"
    return {"1/s": "RATE", "s": "TIME"}.get(column.unit, "N")
