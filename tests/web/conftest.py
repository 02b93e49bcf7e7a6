"""The page on a real socket, in a thread of this process, and a client that says exactly what it is told to."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="the page needs the extra `web`")
pytest.importorskip("fastapi", reason="the page needs the extra `web`")

from ridgeline.apps.web.server import application, limits  # noqa: E402


class Client:
    """Talks to the page on a port."""

    def __init__(self, port: int) -> None:
        self.port, self.base = port, f"http://127.0.0.1:{port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.putrequest(method, path, skip_host="host" in (headers or {}), skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if data is not None and "content-length" not in (headers or {}):
                connection.putheader("content-length", str(len(data)))
            connection.endheaders(data)
            reply = connection.getresponse()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
        finally:
            connection.close()

    def raw_ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """The same without judging path and headers first, as clients of attackers do."""
        lines = {"host": f"127.0.0.1:{self.port}", **headers, "connection": "close"}
        if method != "GET":
            lines["content-length"] = "0"
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        data = self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
        start, _, body = data.partition(b"\r\n\r\n")
        first, *rest = start.decode("latin-1").split("\r\n")
        return int(first.split()[1]), {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}, body

    def json(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, parsed body)."""
        status, _, data = self.ask(method, path, body)
        return status, json.loads(data)

    def answer(self, view: str, values: dict[str, Any]) -> dict[str, Any]:
        """A quick view's answer."""
        status, told = self.json("POST", f"/api/views/{view}", values)
        assert status == 200, told
        return told  # type: ignore[no-any-return]

    def refused(self, view: str, values: Any) -> str:
        """What a view says of bad input."""
        status, told = self.json("POST", f"/api/views/{view}", values)
        assert status == 422, (status, told)
        return str(told["error"])

    def start(self, view: str, values: dict[str, Any]) -> str:
        """A job, started."""
        status, told = self.json("POST", f"/api/views/{view}/jobs", values)
        assert status == 200, told
        return str(told["job"])

    def progress(self, job: str) -> str:
        """The event that tells how far a job is now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"/api/jobs/{job}/events")
            return connection.getresponse().readline().decode()
        finally:
            connection.close()

    def events(self, job: str) -> list[dict[str, Any]]:
        """All events of a job, to its end."""
        status, headers, data = self.ask("GET", f"/api/jobs/{job}/events")
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        return [json.loads(part.removeprefix(b"data: ")) for part in data.split(b"\n\n") if part]

    def raw(self, data: bytes, *, timeout_s: float = 20.0) -> bytes:
        """Bytes out, and what comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as sock:
            sock.sendall(data)
            whole = b""
            while part := sock.recv(65536):
                whole += part
            return whole


@contextmanager
def served(app: Any, **more: Any) -> Iterator[Client]:
    """An application on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", **{**limits(), **more}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield Client(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture(scope="session")
def page() -> Iterator[Client]:
    """The page, as it is served without flags."""
    with served(application()) as client:
        yield client
