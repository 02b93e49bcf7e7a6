"""`ridgeline emulate`: an OpenAI-compatible endpoint that is as fast as a deployment would be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgeline.api.tables.columns import FLEETS
from ridgeline.apps.cli.flags import Request, task_command
from ridgeline.apps.cli.predict import PlanOption
from ridgeline.apps.cli.simulate import PluginsOption

EXAMPLES = """Examples:

  ridgeline emulate --model meta-llama/Llama-3.1-8B --on h100-sxm --port 8000

  ridgeline emulate --model Qwen/Qwen3-32B --on "8x h200-sxm" --tp 4 --router prefix \\
    --answers "lognormal(mean=300, sigma=0.6)"

  ridgeline emulate --model meta-llama/Llama-3.1-70B --on "8x h100-sxm" --tp 8 --speed 10 --scenario outage.yaml
"""

# Flags of a measured load have no meaning here: requests come from outside.
_LEFT_OUT = frozenset({"prefix_hit_frac", "procedure", "load", "concurrency", "request_rate_per_s", "trace"})

HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="where it listens; others need --api-key")]
PortOption = Annotated[int, typer.Option("--port", metavar="N", help="0 takes a free one")]
KeyOption = Annotated[str, typer.Option("--api-key", metavar="KEY", help="what clients send as bearer token")]
WorkersOption = Annotated[int, typer.Option("--workers", metavar="N", min=1, help="processes; replicas are shared out")]
SpeedOption = Annotated[float, typer.Option("--speed", metavar="X", help="simulated seconds per second")]
AnswersOption = Annotated[
    str,
    typer.Option("--answers", metavar="LAW", help='law of the answers\' tokens: "lognormal(300, 0.6)"; limits cut it'),
]
NameOption = Annotated[str, typer.Option("--served-model-name", metavar="NAME", help="how clients name the model")]
TokenizerOption = Annotated[
    Path | None, typer.Option("--tokenizer", metavar="FILE", help="tokenizer.json; else four bytes are a token")
]
ScenarioOption = Annotated[
    Path | None, typer.Option("--scenario", metavar="FILE", help="failures, slow replicas, changes of number: .yaml")
]
WaitingOption = Annotated[int, typer.Option("--max-waiting", metavar="N", help="turn away beyond; 0: never")]
LimitOption = Annotated[float, typer.Option("--rate-limit", metavar="N", help="requests per second; 0: any")]
OverloadOption = Annotated[int, typer.Option("--overload", metavar="429|503", help="what is said when turned away")]
EchoOption = Annotated[bool, typer.Option("--echo", help="answer with the words of the prompt")]
CacheOption = Annotated[bool, typer.Option("--prefix-cache/--no-prefix-cache", help="prompts share beginnings")]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="of words, lengths and failures")]


@task_command("serving", tables=False, more=FLEETS)
def emulate(
    request: Request,
    *,
    plan: PlanOption = "",
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    api_key: KeyOption = "",
    workers: WorkersOption = 1,
    speed: SpeedOption = 1.0,
    answers: AnswersOption = "",
    served_model_name: NameOption = "",
    tokenizer: TokenizerOption = None,
    scenario: ScenarioOption = None,
    max_waiting: WaitingOption = 0,
    rate_limit: LimitOption = 0.0,
    overload: OverloadOption = 429,
    echo: EchoOption = False,
    prefix_cache: CacheOption = True,
    seed: SeedOption = 0,
    plugins: PluginsOption = True,
) -> None:
    """Serve an OpenAI-compatible API in which tokens appear when a deployment would emit them; no model runs."""
    from ridgeline.core.errors import MissingExtraError, SpecError

    try:
        from ridgeline.apps.emulator.run import Options, emulate, stderr
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise MissingExtraError("the emulator needs h11", at="emulate", fix="pip install ridgeline[web]") from error
    from ridgeline.apps.emulator.service import Limits

    arguments = request.arguments(plan)
    wrong = sorted(_LEFT_OUT & arguments.keys())
    if wrong:
        fix = "leave it out: requests come from clients; --isl and --osl say what is usual"
        raise SpecError("an emulator has no load of its own", at=", ".join(wrong), fix=fix)
    options = Options(
        arguments={**arguments, "seed": seed},
        host=host,
        port=port,
        workers=workers,
        speed=speed,
        output=answers,
        served=served_model_name,
        tokenizer=tokenizer,
        scenario=scenario,
        prefix_cache=prefix_cache,
        echo=echo,
        plugins=plugins,
        seed=seed,
        limits=Limits(waiting=max_waiting, rate_per_s=rate_limit, status=overload, key=api_key),
    )
    if not emulate(options, told=stderr):
        raise typer.Exit(4)
