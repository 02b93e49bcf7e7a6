"""`ridgeline deploy`: a deployment as launch files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgeline.apps.cli.flags import Request, task_command
from ridgeline.apps.cli.predict import PlanOption

EXAMPLES = """Examples:

  ridgeline deploy --model Qwen/Qwen3-32B --on "8x h200-sxm" --tp 4 --max-batch 256 --target vllm

  ridgeline deploy --case winner.yaml --target kubernetes --out manifests

  ridgeline deploy --model deepseek-ai/DeepSeek-V3 --on "16x h200-sxm" --tp 16 --ep 16 --target sglang --json
"""

TargetOption = Annotated[
    str,
    typer.Option("--target", metavar="NAME", help="vllm, sglang, trtllm, kubernetes, llm-d or dynamo [the runtime]"),
]
FolderOption = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="a new folder for the files, instead of the screen")
]
ContextOption = Annotated[
    int, typer.Option("--context-tokens", metavar="N", help="longest request; 0 leaves it to the model")
]
HostOption = Annotated[int, typer.Option("--host-chips", metavar="N", help="chips per host; 0 asks the catalogue")]


@task_command("serving", tables=False)
def deploy(
    request: Request,
    *,
    plan: PlanOption = "",
    target: TargetOption = "",
    out: FolderOption = None,
    context_tokens: ContextOption = 0,
    host_chips: HostOption = 0,
) -> None:
    """Write what launches a deployment: an engine's command lines, a manifest, or values of a chart."""
    from ridgeline.api.planning.launch import launch_files, write_files

    files = launch_files(request.arguments(plan), target, context_tokens=context_tokens, host_chips=host_chips)
    written = write_files(files, out) if out is not None else []
    if request.json:
        import json

        notes = [{"column": note.column, "text": note.text} for note in files.notes]
        typer.echo(json.dumps({"target": files.target, "files": dict(files), "notes": notes}, indent=2))
        return
    for path in written:
        typer.echo(f"wrote {path}")
    if out is None:
        for name, text in files.items():
            typer.echo(f"# ---- {name}\n{text}")
    for note in files.notes:
        typer.echo(f"note: {note.line()}", err=True)
