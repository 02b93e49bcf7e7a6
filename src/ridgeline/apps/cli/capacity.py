"""`ridgeline capacity`: the highest rate of a load that keeps its objectives."""

from __future__ import annotations

from typing import Annotated

import typer

from ridgeline.api.tables.columns import FLEETS, LOADS
from ridgeline.apps.cli.flags import Request, task_command
from ridgeline.apps.cli.predict import PlanOption
from ridgeline.apps.cli.progress import progress
from ridgeline.apps.cli.simulate import PluginsOption

EXAMPLES = """Examples:

  ridgeline capacity --model meta-llama/Llama-3.1-8B --on h100-sxm --trace conv.parquet --ttft 1s --tpot 40ms

  ridgeline capacity --model Qwen/Qwen3-32B --on "4x h200-sxm" --tp 4 --arrivals "poisson(1/s)" --isl 2000 --osl 300 \\
    --ttft 2s --tpot 50ms --target 0.95
"""

TargetOption = Annotated[float, typer.Option("--target", metavar="SHARE", help="of requests that keep all objectives")]
ToleranceOption = Annotated[float, typer.Option("--tolerance", metavar="SHARE", help="relative width at which to end")]


@task_command("serving", tables=False, more=(*LOADS, *FLEETS))
def capacity(
    request: Request,
    *,
    plan: PlanOption = "",
    target: TargetOption = 0.99,
    tolerance: ToleranceOption = 0.02,
    plugins: PluginsOption = True,
) -> None:
    """Search the highest rate at which the load keeps its objectives: same requests, faster or slower."""
    from ridgeline.api.simulations.capacity import capacity as search

    with progress("capacity", request.json) as told:
        found = search(target=target, tolerance=tolerance, plugins=plugins, progress=told, **request.arguments(plan))
    request.tell(found)
