"""`ridgeline size`: the least chips, money or watts for a load."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from ridgeline.api.planning.plan_columns import ASKED
from ridgeline.apps.cli.flags import JsonOption, parameter, tell

EXAMPLES = """Examples:

  ridgeline size --model Qwen/Qwen3-32B-FP8 --on h200-sxm --rate 40/s --isl 4000 --osl 1000 --ttft 1s --tpot 40ms

  ridgeline size --model meta-llama/Llama-3.1-8B --on "h100-sxm, l40s" --rate 10/s --isl 1000 --osl 200 --least money
"""

LeastOption = Annotated[str, typer.Option("--least", metavar="chips|money|watts", help="what is to be least")]


def _own(*, least: LeastOption = "chips", json: JsonOption = False) -> None:
    """The options beside what is asked; only the signature is used."""


def size(**given: Any) -> None:
    """Find the smallest deployment for a load within its limits; of machines without a count, as many as needed."""
    from ridgeline.api.planning.size import size as search

    least, json = given.pop("least"), given.pop("json")
    sized = search(least=least, **{name: value for name, value in given.items() if value is not None})
    tell(sized, json=json)


size.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *inspect.signature(_own, eval_str=True).parameters.values(),
        *(parameter(column) for column in ASKED if column.name != "objective"),
    ]
)
