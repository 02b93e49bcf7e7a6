"""`ridgeline audit`: could a published number be?"""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """Examples:

  ridgeline audit --on "4x a100-sxm" --parameters 1.01e9 --tokens 300e9 --time 17.57d

  ridgeline audit --on h100-sxm --model meta-llama/Llama-3.1-8B --what inference --tokens-per-s 12000 \\
    --sequences 64 --context 1000

  ridgeline audit --on "16x h100-sxm" --model meta-llama/Llama-3.1-70B --tokens 1e9 --time 5h --energy 50kWh
"""


def audit(
    on: Annotated[str, typer.Option("--on", metavar="MACHINES", help='machines, as "4x a100-sxm"')],
    model: Annotated[str, typer.Option("--model", help="bundled name, or path to a config.json")] = "",
    parameters: Annotated[str, typer.Option("--parameters", help="that a token meets, instead of a model")] = "",
    what: Annotated[str, typer.Option("--what", help="training or inference")] = "training",
    precision: Annotated[str, typer.Option("--precision", help="of matmuls and weights")] = "bf16",
    tokens: Annotated[str, typer.Option("--tokens", help="of the run")] = "",
    time: Annotated[str, typer.Option("--time", help="that they took")] = "",
    tokens_per_s: Annotated[str, typer.Option("--tokens-per-s", help="of the machine, instead of both")] = "",
    sequences: Annotated[str, typer.Option("--sequences", help="in flight; tokens are then outputs")] = "",
    context: Annotated[str, typer.Option("--context", help="mean tokens of a sequence")] = "",
    energy: Annotated[str, typer.Option("--energy", help="of the boards over that time")] = "",
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Hold a claim against peak rates, memory, capacity and power of its machine, and say how close it comes."""
    from ridgeline.api.predictions.audit import audit as hold
    from ridgeline.apps.cli.flags import tell
    from ridgeline.core.units import parse

    def number(text: str, unit: str, at: str) -> float:
        return parse(text, unit, at=at, bare_ok=True) if text else 0.0

    found = hold(
        on=on,
        model=model,
        parameters=number(parameters, "count", "parameters"),
        what=what,
        precision=precision,
        tokens=number(tokens, "count", "tokens"),
        time_s=number(time, "s", "time"),
        tokens_per_s=number(tokens_per_s, "count", "tokens_per_s"),
        sequences=number(sequences, "count", "sequences"),
        context=number(context, "count", "context"),
        energy_j=number(energy, "j", "energy"),
    )
    tell(found, json=json)
