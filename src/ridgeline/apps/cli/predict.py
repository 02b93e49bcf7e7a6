"""`ridgeline predict`: one case by flags or file, or a table of cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.apps.cli.flags import CasesOption, OutOption, Request, bulk, show, task_command

app = typer.Typer(
    help="What will this workload do on this machine under this plan?",
    no_args_is_help=True,
    rich_markup_mode=None,
    invoke_without_command=True,
)

PlanOption = Annotated[str, typer.Option("--plan", metavar="WORDS", help='the plan in words: "tp8 pp2 w=fp8 kv=fp8"')]
RooflineOption = Annotated[
    list[Path] | None, typer.Option("--roofline", metavar="FILE", help="draw the step's roofline: .html, .png or .svg")
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="show the candidate bounds and the kernel's choices")]

LaunchOption = Annotated[
    str,
    typer.Option(
        "--from-launch",
        metavar="FILE|LINE",
        help="columns of a launch: a shell file, a manifest, a folder, or a command line; flags win",
    ),
]

SERVING_EXAMPLES = """Examples:

  ridgeline predict serving --model meta-llama/Llama-3.1-70B --on "8x h100-sxm" --tp 8 --isl 1024 --osl 1024 \\
    --concurrency 64

  ridgeline predict serving --model Qwen/Qwen3-32B --on h200-sxm --weights fp8 --isl 4000 --osl 1000 --rate 2/s --json

  ridgeline predict serving --from-launch "vllm serve Qwen/Qwen3-32B -tp 4" --on "8x h200-sxm" --isl 4000 --osl 1000

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

  ridgeline predict training --model mbv2_w035 --on "1x stm32f746" --precision int8 \\
    --trained "biases 16, 36 39 42:0.125"

  ridgeline predict training --model Qwen/Qwen3-30B-A3B --on "128x h100-sxm" --seq 4096 --global-batch 512 --ep 32 \\
    --network "fat-tree 2:1 hashed scattered"

  ridgeline predict training --model meta-llama/Llama-3.1-8B --on "8x h100-sxm + 8x a100-80gb-sxm" \\
    --between "25 GB/s" --seq 4096 --global-batch 256 --micro-batch 1
"""
VISION_EXAMPLES = """Examples:

  ridgeline predict vision --model resnet50 --chip a100-80gb-sxm --batch 64 --precision fp16
"""


PipelineOption = Annotated[
    Path | None,
    typer.Option("--perfetto", metavar="FILE", help="write the pipeline as a trace for ui.perfetto.dev: .json"),
]


@app.callback()
def predict(context: typer.Context, cases: CasesOption = "", out: OutOption = "") -> None:
    """Evaluate a table whose columns say which task it is, or run one of the tasks below."""
    if context.invoked_subcommand is None:
        if not cases:
            typer.echo(context.get_help())
            raise typer.Exit
        from ridgeline.api.tables.tasks import task_of_file

        bulk(task_of_file(cases), cases, out)


@app.command("serving", epilog=SERVING_EXAMPLES)
@task_command("serving")
def serving(
    request: Request, *, plan: PlanOption = "", roofline: RooflineOption = None, launch: LaunchOption = ""
) -> None:
    """An LLM deployment under load: TTFT, TPOT, throughput, memory, power, cost, and what bounds it."""
    prediction = _launched(request, plan, launch) if launch else request.answer(plan)
    for path in roofline or []:
        from ridgeline.api.predictions.roofline import draw_roofline

        draw_roofline(prediction, path)
        typer.echo(f"wrote {path}", err=True)


def _launched(request: Request, plan: str, launch: str) -> Any:
    """The prediction of a launch; its notes go beside it."""
    from ridgeline.api.planning.launch import launch_case, read_launch

    reading = read_launch(launch)
    on = request.on or str(request.case.get("on", ""))
    case = launch_case(reading, on=on, given=request.case)
    told = replace(request, case=case)
    if not request.json:
        for note in reading.notes:
            typer.echo(f"note: {note.line()}", err=True)
        if reading.ignored:
            typer.echo(f"ignored: {' '.join(reading.ignored)}", err=True)
    prediction = told.predict(plan)
    notes = [{"column": note.column, "text": note.text} for note in reading.notes]
    told.tell(prediction, launch={"source": reading.source, "notes": notes, "ignored": list(reading.ignored)})
    return prediction


@app.command("step", epilog=STEP_EXAMPLES)
@task_command("step")
def step(request: Request, *, plan: PlanOption = "") -> None:
    """One forward step, prefill or decode, without a load around it."""
    request.answer(plan)


@app.command("ops", epilog=OPS_EXAMPLES)
@task_command("ops")
def ops(request: Request, *, explain: ExplainOption = False) -> None:
    """One kernel: time, energy, bytes, FLOPs, and which bound holds it."""
    if not explain:
        request.answer()
        return
    from ridgeline.api.predictions.explain import explain_kernel, explanation_view

    prediction = request.predict()
    request.tell(prediction, explain=explain_kernel(prediction))
    if not request.json:
        show(explanation_view(prediction))


@app.command("training", epilog=TRAINING_EXAMPLES)
@task_command("training")
def training(request: Request, *, plan: PlanOption = "", perfetto: PipelineOption = None) -> None:
    """A training step: time, tokens/s, utilisation, memory by kind, and whether it fits."""
    prediction = request.answer(plan)
    if perfetto is not None:
        from ridgeline.api.training.training_trace import write_pipeline

        typer.echo(f"wrote {write_pipeline(prediction, perfetto)}", err=True)


@app.command("vision", epilog=VISION_EXAMPLES)
@task_command("vision")
def vision(request: Request) -> None:
    """A vision network: latency, images/s, memory and energy."""
    request.answer()
