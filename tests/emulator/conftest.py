"""An emulator in this process, with a client that reads what comes over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ridgeline.apps.emulator.clock import Clock
from ridgeline.apps.emulator.http import Connection
from ridgeline.apps.emulator.run import Options, _emulator
from ridgeline.apps.emulator.service import Emulator

CASE = {"model": "meta-llama/Llama-3.1-8B", "on": "4x h100-sxm", "replicas": 1}


class Client:
    """Talks to an emulator on a port."""

    def __init__(self, emulator: Emulator, port: int) -> None:
        self.emulator, self.port = emulator, port

    async def raw(self, data: bytes, *, until: bytes | None = None, ends: bool = False) -> bytes:
        """Send bytes; what comes back, to the end of the connection or to these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if ends:
                writer.write_eof()
            if until is not None:
                return await asyncio.wait_for(reader.readuntil(until), 20)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, path: str, body: Any = None, method: str = "", **headers: str) -> tuple[int, bytes]:
        """(status, body) of a request on a connection of its own."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "host: here", "connection: close"]
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()] + [f"content-length: {len(data)}"]
        answer = await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            rest = _unchunked(rest)
        return int(head.split()[1]), rest

    async def json(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        status, answer = await self.ask(path, body, **headers)
        return status, json.loads(answer)

    async def events(self, path: str, body: Any) -> list[Any]:
        """The events of a stream, without the last [DONE]."""
        status, answer = await self.ask(path, {**body, "stream": True})
        assert status == 200, answer
        lines = [line.removeprefix(b"data: ") for line in answer.split(b"\n\n") if line]
        assert lines[-1] == b"[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    async def metric(self, name: str) -> float:
        """The value of a counter or gauge."""
        _, page = await self.ask("/metrics")
        return float(next(line.rsplit(" ", 1)[1] for line in page.decode().splitlines() if line.startswith(name + "{")))


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        whole, data = whole + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return whole


Scene = Callable[[Client], Awaitable[None]]


@pytest.fixture
def play() -> Callable[..., None]:
    """Run a scene against an emulator of these options."""

    def run(scene: Scene, *, case: dict[str, Any] | None = None, **options: Any) -> None:
        async def main() -> None:
            chosen = Options(arguments={**CASE, **(case or {})}, port=0, **options)
            clock = Clock(asyncio.get_running_loop(), chosen.speed)
            emulator, _ = _emulator(chosen, clock, 0)
            server = await asyncio.get_running_loop().create_server(
                lambda: Connection(emulator, emulator.register), "127.0.0.1", 0
            )
            try:
                await asyncio.wait_for(scene(Client(emulator, server.sockets[0].getsockname()[1])), 60)
            finally:
                server.close()
                clock.stop()
                for connection in list(emulator.connections):
                    connection.close(abort=True)
                await asyncio.sleep(0)
                await server.wait_closed()

        asyncio.run(main())

    return run
