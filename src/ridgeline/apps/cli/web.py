"""`ridgeline web`: the page."""

from __future__ import annotations

import ipaddress
import secrets
from typing import Annotated

import typer

EXAMPLES = """Examples:

  ridgeline web

  ridgeline web --port 9000

  ridgeline web --host 0.0.0.0 --token "$(openssl rand -hex 16)"
"""


def web(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="where it listens")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535)] = 8080,
    token: Annotated[
        str, typer.Option("--token", metavar="TEXT", help="what visitors bring; drawn if others can reach it")
    ] = "",
) -> None:
    """Serve the web page: predict, plan, simulate, train, account, studies. Works offline; binds this machine alone."""
    from ridgeline.core.errors import MissingExtraError

    try:
        from ridgeline.apps.web.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette"):
            raise
        what = "the page needs fastapi and uvicorn"
        raise MissingExtraError(what, at="web", fix="pip install ridgeline[web]") from error
    token = token or ("" if _local(host) else secrets.token_urlsafe(24))
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"http://{shown}:{port}/{f'?token={token}' if token else ''}", err=True)
    serve(host=host, port=port, token=token)


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
