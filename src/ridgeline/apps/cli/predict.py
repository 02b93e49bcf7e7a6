"""`ridgeline predict`: one case by flags or file, or a table of cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.apps.cli.flags import with_columns

app = typer.Typer(
    help="What will this workload do on this machine under this plan?",
    no_args_is_help=True,
    rich_markup_mode=None,
    invoke_without_command=True,
)

OnOption = Annotated[str, typer.Option("--on", metavar="MACHINE", help='machines: "8x h100-sxm", "4x dgx-h100"')]
PlanOption = Annotated[str, typer.Option("--plan", metavar="WORDS", help='the plan in words: "tp8 pp2 w=fp8 kv=fp8"')]
CaseOption = Annotated[Path | None, typer.Option("--case", metavar="FILE", help="one case as YAML or JSON; flags win")]
CasesOption = Annotated[
    str, typer.Option("--cases", metavar="FILE", help="a table of cases: CSV or Parquet, - for stdin")
]
OutOption = Annotated[
    str, typer.Option("--out", metavar="FILE", help="where its results go: CSV or Parquet, - for stdout")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
RooflineOption = Annotated[
    list[Path] | None, typer.Option("--roofline", metavar="FILE", help="draw the step's roofline: .html, .png or .svg")
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="show the candidate bounds and the kernel's choices")]

SERVING_EXAMPLES = """Examples:

  ridgeline predict serving --model meta-llama/Llama-3.1-70B --on "8x h100-sxm" --tp 8 --isl 1024 --osl 1024 \\
    --concurrency 64

  ridgeline predict serving --model Qwen/Qwen3-32B --on h200-sxm --weights fp8 --isl 4000 --osl 1000 --rate 2/s --json

  ridgeline predict serving --cases cases.csv --out results.parquet
"""
STEP_EXAMPLES = """Examples:

  ridgeline predict step --model Qwen/Qwen3-32B --on "4x h200-sxm" --tp 4 --phase prefill --batch 2 --tokens 4096

  ridgeline predict step --model Qwen/Qwen3-32B --chip h200-sxm --phase decode --batch 64 --context 2000
"""
OPS_EXAMPLES = """Examples:

  ridgeline predict ops --kind gemm --chip h100-sxm --m 4096 --n 8192 --k 8192 --dtype bf16 --explain

  ridgeline predict ops --cases kernels.parquet --out prices.parquet
"""
TRAINING_EXAMPLES = """Examples:

  ridgeline predict training --model meta-llama/Llama-3.1-8B --on "64x h100-sxm" --seq 8192 --global-batch 128 --tp 2
"""
VISION_EXAMPLES = """Examples:

  ridgeline predict vision --model resnet50 --chip a100-80gb-sxm --batch 64 --precision fp16
"""


@app.callback()
def predict(context: typer.Context, cases: CasesOption = "", out: OutOption = "", task: str = "") -> None:
    """Evaluate a table whose columns say which task it is, or run one of the tasks below."""
    if context.invoked_subcommand is None:
        if not cases:
            typer.echo(context.get_help())
            raise typer.Exit
        from ridgeline.api.tasks import task_of_file

        _bulk(task or task_of_file(cases), cases, out)


@app.command("serving", epilog=SERVING_EXAMPLES)
@with_columns("serving")
def serving(
    *,
    on: OnOption = "",
    plan: PlanOption = "",
    case_file: CaseOption = None,
    cases: CasesOption = "",
    out: OutOption = "",
    json: JsonOption = False,
    roofline: RooflineOption = None,
    case: dict[str, Any],
) -> None:
    """An LLM deployment under load: TTFT, TPOT, throughput, memory, power, cost, and what bounds it."""
    if cases:
        _bulk("serving", cases, out)
        return
    prediction = _one("serving", on, plan, case_file, case, json=json)
    for path in roofline or []:
        from ridgeline.api.roofline import draw_roofline

        draw_roofline(prediction, path)
        typer.echo(f"wrote {path}", err=True)


@app.command("step", epilog=STEP_EXAMPLES)
@with_columns("step")
def step(
    *,
    on: OnOption = "",
    plan: PlanOption = "",
    case_file: CaseOption = None,
    cases: CasesOption = "",
    out: OutOption = "",
    json: JsonOption = False,
    case: dict[str, Any],
) -> None:
    """One forward step, prefill or decode, without a load around it."""
    if cases:
        _bulk("step", cases, out)
        return
    _one("step", on, plan, case_file, case, json=json)


@app.command("ops", epilog=OPS_EXAMPLES)
@with_columns("ops")
def ops(
    *,
    on: OnOption = "",
    case_file: CaseOption = None,
    cases: CasesOption = "",
    out: OutOption = "",
    json: JsonOption = False,
    explain: ExplainOption = False,
    case: dict[str, Any],
) -> None:
    """One kernel: time, energy, bytes, FLOPs, and which bound holds it."""
    if cases:
        _bulk("ops", cases, out)
        return
    _one("ops", on, "", case_file, case, json=json, explain=explain)


@app.command("training", epilog=TRAINING_EXAMPLES)
@with_columns("training")
def training(
    *,
    on: OnOption = "",
    plan: PlanOption = "",
    case_file: CaseOption = None,
    cases: CasesOption = "",
    out: OutOption = "",
    json: JsonOption = False,
    case: dict[str, Any],
) -> None:
    """A training step: time, tokens/s, utilisation, memory by kind, and whether it fits."""
    if cases:
        _bulk("training", cases, out)
        return
    _one("training", on, plan, case_file, case, json=json)


@app.command("vision", epilog=VISION_EXAMPLES)
@with_columns("vision")
def vision(
    *,
    on: OnOption = "",
    case_file: CaseOption = None,
    cases: CasesOption = "",
    out: OutOption = "",
    json: JsonOption = False,
    case: dict[str, Any],
) -> None:
    """A vision network: latency, images/s, memory and energy."""
    if cases:
        _bulk("vision", cases, out)
        return
    _one("vision", on, "", case_file, case, json=json)


def _one(
    task: str,
    on: str,
    plan: str,
    case_file: Path | None,
    case: dict[str, Any],
    *,
    json: bool,
    explain: bool = False,
) -> Any:
    """Predict and print one case; the prediction itself for what follows."""
    from ridgeline.api.predict import predict as predict_case

    written = _case_of(case_file) if case_file else {}
    everything = {**written, **case}
    on = on or str(everything.pop("on", ""))
    plan = plan or str(everything.pop("plan", ""))
    prediction = predict_case(task, on=on, plan=plan, **everything)
    if json:
        import json as encoder

        shown = prediction.to_dict()
        if explain:
            from ridgeline.api.explain import explain_kernel

            shown["explain"] = explain_kernel(prediction)
        typer.echo(encoder.dumps(shown, indent=2))
    else:
        _print(prediction)
        if explain:
            from ridgeline.api.explain import explanation_view

            _print(explanation_view(prediction))
    return prediction


def _case_of(path: Path) -> dict[str, Any]:
    from ridgeline.core.errors import FileFormatError
    from ridgeline.core.files import load_json, load_yaml

    document = load_json(path) if path.suffix == ".json" else load_yaml(path)
    if not isinstance(document.data, dict):
        raise FileFormatError("a case is a mapping of columns to values", at=document.where(), fix="write `isl: 1024`")
    return dict(document.data)


def _bulk(task: str, cases: str, out: str) -> None:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ridgeline.api.tasks import predict_file

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(f"predict {task}: {cases}", total=None)
        good, bad = predict_file(task, cases, out or "-")
    console.print(f"{good:,} rows evaluated, {bad:,} with an error", highlight=False)
    if good == 0:
        raise typer.Exit(3)


def _print(view: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(view)
