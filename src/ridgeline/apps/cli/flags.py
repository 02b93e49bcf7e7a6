"""Commands of the prediction tasks: their flags are the columns of the task, so that line, table and docs agree."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.api.tables.columns import NUMBER, TASKS, Column

SHORT = {
    "request_rate_per_s": "--rate",
    "duration_s": "--duration",
    "ttft_slo_s": "--ttft",
    "tpot_slo_s": "--tpot",
    "e2e_slo_s": "--e2e",
    "cold_start_s": "--cold-start",
    "switch_s": "--switch",
    "swap_call_s": "--swap-call",
}

OnOption = Annotated[str, typer.Option("--on", metavar="MACHINE", help='machines: "8x h100-sxm", "4x dgx-h100"')]
CaseOption = Annotated[Path | None, typer.Option("--case", metavar="FILE", help="one case as YAML or JSON; flags win")]
CasesOption = Annotated[str, typer.Option("--cases", metavar="FILE", help="a table: CSV, Parquet, or - (stdin)")]
OutOption = Annotated[str, typer.Option("--out", metavar="FILE", help="its results: CSV, Parquet, or - (stdout)")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One case as it was asked for: machines, columns by name, and whether the answer is JSON."""

    task: str
    on: str
    case: Mapping[str, Any]
    json: bool

    def arguments(self, plan: str = "") -> dict[str, Any]:
        """The case with its machines and plan, as the verbs of `api` take them."""
        case = dict(self.case)
        on, plan = self.on or str(case.pop("on", "")), plan or str(case.pop("plan", ""))
        return {**case, "on": on, "plan": plan}

    def predict(self, plan: str = "") -> Any:
        """The prediction of the case."""
        from ridgeline.api.predictions.predict import predict

        return predict(self.task, **self.arguments(plan))

    def tell(self, prediction: Any, **more: Any) -> None:
        """Print it, as a table or as JSON with `more` beside its own keys."""
        if self.json:
            import json

            typer.echo(json.dumps({**prediction.to_dict(), **more}, indent=2))
        else:
            show(prediction)

    def answer(self, plan: str = "") -> Any:
        """Predict and print; the prediction, for what follows."""
        prediction = self.predict(plan)
        self.tell(prediction)
        return prediction


def task_command(
    task: str,
    *,
    tables: bool = True,
    more: Sequence[Column] = (),
    table: Callable[[str, str, Mapping[str, Any]], None] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of `function(request, *, ...)`: it gets an option per column of the task and those of all tasks.

    With `--cases` (where there are `tables`) the table is evaluated and the function is not called: by `bulk`, or by
    `table`, which takes both files and the command's own options. Columns of `more` have options too, and join the
    case.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = list(inspect.signature(_shared, eval_str=True).parameters.values())
        shared = [parameter for parameter in shared if tables or parameter.name not in ("cases", "out")]
        declared = (*more, *(column for column in TASKS[task] if column.name not in {one.name for one in more}))
        columns = [parameter(column) for column in declared]

        def run(**given: Any) -> None:
            common = {parameter.name: given.pop(parameter.name) for parameter in shared}
            on, case_file, json = common["on"], common["case_file"], common["json"]
            named = {column.name: given.pop(column.name) for column in declared}
            if common.get("cases"):
                if table is None:
                    bulk(task, common["cases"], common["out"])
                else:
                    table(common["cases"], common["out"], given)
                return
            case = {**(_case_of(case_file) if case_file else {}), **{k: v for k, v in named.items() if v is not None}}
            function(Request(task=task, on=on, case=case, json=json), **given)

        run.__doc__, run.__name__ = function.__doc__, function.__name__
        run.__signature__ = inspect.Signature([*shared, *own, *columns])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*shared, *own, *columns)}
        return run

    return decorate


def bulk(task: str, cases: str, out: str) -> None:
    """Evaluate a table, with a sign of life on the screen. Exit code 3 if no row could be evaluated."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ridgeline.api.tables.tasks import predict_file

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(f"predict {task}: {cases}", total=None)
        good, bad = predict_file(task, cases, out or "-")
    console.print(f"{good:,} rows evaluated, {bad:,} with an error", highlight=False)
    if good == 0:
        raise typer.Exit(3)


def show(view: Any) -> None:
    """Print what rich can print."""
    from rich.console import Console

    Console(highlight=False).print(view)


def tell(found: Any, *, json: bool) -> None:
    """Print a result: as JSON, or as people read it."""
    if json:
        from json import dumps

        typer.echo(dumps(found.to_dict(), indent=2))
    else:
        show(found)


def _shared(
    *,
    on: OnOption = "",
    case_file: CaseOption = None,
    cases: CasesOption = "",
    out: OutOption = "",
    json: JsonOption = False,
) -> None:
    """The options of every task; only the signature is used."""


def _case_of(path: Path) -> dict[str, Any]:
    from ridgeline.api.predictions.compare import read_case

    return read_case(path)


def parameter(column: Column) -> inspect.Parameter:
    """The option of a column."""
    flags = [f"--{column.name.replace('_', '-')}"]
    if column.name in SHORT:
        flags.append(SHORT[column.name])
    option = typer.Option(
        None, *flags, help=f"{column.doc}{_default(column)}", metavar=_metavar(column), show_default=False
    )
    return inspect.Parameter(column.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=str | None)


def _default(column: Column) -> str:
    if column.default in (None, ""):
        return ""
    return f" [default: {column.default:g}]" if column.kind == NUMBER else f" [default: {column.default}]"


def _metavar(column: Column) -> str:
    if column.choices:
        return "|".join(choice for choice in column.choices if choice)
    if column.kind != NUMBER:
        return "NAME"
    return {"1/s": "RATE", "s": "TIME"}.get(column.unit, "N")
