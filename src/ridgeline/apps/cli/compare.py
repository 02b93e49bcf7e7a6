"""`ridgeline compare`: deployments side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from ridgeline.apps.cli.flags import Request, task_command, tell

EXAMPLES = """Examples:

  ridgeline compare a.yaml b.yaml

  ridgeline compare serve.sh "vllm serve Qwen/Qwen3-32B -tp 8" --on "8x h100-sxm" --isl 2000 --osl 500 --concurrency 64
"""

FilesArgument = Annotated[
    list[str], typer.Argument(metavar="A B [C...]", help="case files, launch files or folders, or command lines")
]


@task_command("serving", tables=False)
def compare(request: Request, *, deployments: FilesArgument) -> None:
    """Deployments side by side: what differs between them, and what follows; flags hold for those that lack them."""
    from ridgeline.api.predictions.compare import compare as side_by_side

    compared = side_by_side(*deployments, **request.arguments())
    tell(compared, json=request.json)
