"""`ridgeline plan`: from a question to a deployment."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.api.planning.plan_columns import ASKED
from ridgeline.api.tables.columns import NUMBER, TEXT, Column
from ridgeline.apps.cli.flags import JsonOption, parameter, show, tell
from ridgeline.apps.cli.progress import progress

EXAMPLES = """Examples:

  ridgeline plan --model Qwen/Qwen3-32B-FP8 --on "32x h200-sxm" --isl 4000 --osl 1000 --ttft 1s --tpot 40ms

  ridgeline plan --model meta-llama/Llama-3.1-70B --on "32x h100-sxm, 32x mi300x" --isl 2000 --osl 500 --rate 20/s \\
    --ttft 2s --tpot 50ms --objective cost,latency --explain

  ridgeline plan --question question.yaml --json

  ridgeline plan --train --model meta-llama/Llama-3.1-70B --on "256x h100-sxm" --seq 8192 --global-batch 1024 \\
    --tokens 1T --chips 64,128,256

  ridgeline plan --train --model mbv2_w035 --on "1x stm32f746"
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
TrainOption = Annotated[bool, typer.Option("--train", help="layouts of a training run instead")]

TRAINED: tuple[Column, ...] = (
    Column(name="seq", kind=NUMBER, doc="--train: tokens per sequence", default=0.0, whole=True),
    Column(name="global_batch", kind=NUMBER, doc="--train: sequences, or images, per step", default=0.0, whole=True),
    Column(name="resolution", kind=NUMBER, doc="--train: pixels along one side of images", default=0.0, whole=True),
    Column(name="tokens", kind=TEXT, doc='--train: of the whole run ("15T"), for its days and its money', default=""),
    Column(name="precision", kind=TEXT, doc="--train: bf16, fp8, mxfp8, nvfp4, ...; bf16 unless said", default=""),
    Column(name="framework", kind=TEXT, doc="--train: whose training stack", default=""),
    Column(name="network", kind=TEXT, doc='--train: between nodes: "fat-tree 2:1"; in full unless said', default=""),
    Column(name="chips", kind=TEXT, doc='--train: numbers of chips to try besides all: "64, 128"', default=""),
    Column(name="choices", kind=TEXT, doc="--train: usual layouts, or all", choices=("usual", "all"), default=""),
)
"""What a training run is asked, beside model and machines."""


def _own(
    *,
    question: QuestionOption = None,
    explain: ExplainOption = False,
    top: TopOption = 10,
    simulate: SimulateOption = None,
    out: OutOption = "",
    report: ReportOption = None,
    train: TrainOption = False,
    json: JsonOption = False,
) -> None:
    """The options beside what is asked; only the signature is used."""


def plan(**given: Any) -> None:
    """Search every legal deployment at once: which serves this load best, and why."""
    own = {name: given.pop(name) for name in inspect.signature(_own).parameters}
    asked = {name: value for name, value in given.items() if value is not None}
    if own["train"]:
        _train(asked, own)
        return
    lost = sorted(column.name for column in TRAINED if column.name in asked)
    if lost:
        raise typer.BadParameter("these belong to a training run: add --train", param_hint=", ".join(map(_flag, lost)))
    names = [name.strip() for name in str(asked.pop("model", "")).split(",") if name.strip()]
    if len(names) > 1 and (own["out"] or own["report"]):
        raise typer.BadParameter("one model at a time with --out or --report", param_hint="--model")
    for model in names or [""]:
        _one({**asked, **({"model": model} if model else {})}, own)


def _train(asked: dict[str, Any], own: dict[str, Any]) -> None:
    """The best layouts of a training run, and the front of time and money."""
    from ridgeline.api.training.plan_training import plan_training
    from ridgeline.core import units
    from ridgeline.search.layouts import Space
    from ridgeline.training.images import is_network

    known = {"model", "on", *(column.name for column in TRAINED)}
    lost = [_flag(name) for name in sorted(asked.keys() - known)]
    lost += [f"--{name}" for name in ("question", "explain", "simulate", "out", "report") if own[name]]
    if lost:
        raise typer.BadParameter("these do not belong to a training run", param_hint=", ".join(lost))
    if "model" in asked and "seq" not in asked and is_network(str(asked["model"])):
        _update(asked, own)
        return
    needed = [_flag(name) for name in ("model", "on", "seq", "global_batch") if name not in asked]
    if needed:
        raise typer.BadParameter("a training run needs them", param_hint=", ".join(needed))
    sizes = [units.parse(str(asked[name]), "count", at=_flag(name), bare_ok=True) for name in ("seq", "global_batch")]
    counts = [word.strip() for word in str(asked.get("chips", "")).split(",") if word.strip()]
    chosen = str(asked.get("choices", "usual"))
    if chosen not in ("usual", "all"):
        raise typer.BadParameter("usual or all", param_hint="--choices")
    start = time.perf_counter()
    planned = plan_training(
        str(asked["model"]),
        on=str(asked["on"]),
        seq=int(sizes[0]),
        global_batch=int(sizes[1]),
        precision=str(asked.get("precision", "bf16")),
        framework=str(asked.get("framework", "")),
        tokens=str(asked.get("tokens", "")),
        chips=[int(units.parse(word, "count", at="--chips", bare_ok=True)) for word in counts],
        space=Space.everything() if chosen == "all" else None,
        shown=own["top"],
        network=str(asked.get("network", "")),
    )
    took_s = time.perf_counter() - start
    tell(planned, json=own["json"])
    typer.echo(f"{planned.legal:,} layouts, {planned.fitting:,} fit, in {took_s:.2f} s", err=True)


def _update(asked: dict[str, Any], own: dict[str, Any]) -> None:
    """What of a network over images the device can train."""
    from ridgeline.api.training.plan_update import plan_update
    from ridgeline.core import units

    lost = [_flag(name) for name in ("tokens", "chips", "choices", "network") if name in asked]
    if lost:
        raise typer.BadParameter("these do not belong to a network over images", param_hint=", ".join(lost))
    if "on" not in asked:
        raise typer.BadParameter("name the device", param_hint="--on")
    sizes = [
        int(units.parse(str(asked.get(name, least)), "count", at=_flag(name), bare_ok=True))
        for name, least in (("resolution", 0), ("global_batch", 1))
    ]
    planned = plan_update(
        str(asked["model"]),
        on=str(asked["on"]),
        resolution=sizes[0],
        batch=sizes[1],
        precision=str(asked.get("precision", "")),
        framework=str(asked.get("framework", "")),
    )
    tell(planned, json=own["json"])


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _one(asked: dict[str, Any], own: dict[str, Any]) -> None:
    from ridgeline.api.planning.plan import plan as search

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
        from ridgeline.api.planning.plan_view import planned_view

        show(planned_view(planned, explain=explain))
    typer.echo(f"{planned.seen:,} candidates in {took_s:.2f} s", err=True)


plan.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*inspect.signature(_own, eval_str=True).parameters.values(), *(parameter(column) for column in (*ASKED, *TRAINED))]
)
