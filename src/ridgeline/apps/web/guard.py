"""Who may talk to the page, and how much: hosts, origins, a token, sizes, time; and what a browser may do with it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

MOST_BODY_BYTES = 8 << 20
MOST_HEADER_BYTES = 16 << 10
MOST_READ_S = 30.0
"""For the head of a request, and again for its body."""
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "ridgeline"
READS = ("GET", "HEAD")

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class Guard:
    """ASGI middleware.

    A page on another site may resolve its own name to this machine (DNS rebinding): the Host header tells. Writes of
    another origin are refused. With a token, every request needs it, as `?token=` once and as a cookie from then on.
    A body is whole, small enough and here in time before anything else sees it.
    """

    def __init__(self, app: Any, *, host: str, token: str, read_s: float = MOST_READ_S) -> None:
        """`host`: the address that is listened on."""
        self._app, self._token, self._read_s = app, token.encode(), read_s
        self._hosts = LOCAL | {host.casefold()}
        self._any = host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let through, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        status, words = self._judged(scope, headers)
        body = b""
        if not status and scope["method"] not in READS:
            status, body = await _body(receive, self._read_s)
            words = _REFUSED.get(status, "")
        if status < 0:
            return
        if status:
            await _refuse(send, status, words)
            return
        cookie = self._token.decode() if self._asked(scope) else ""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
                if cookie:
                    kept = f"{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/"
                    message["headers"].append((b"set-cookie", kept.encode()))
            await send(message)

        await self._app(scope, _again(body, receive), sending)

    def _judged(self, scope: Message, headers: dict[str, str]) -> tuple[int, str]:
        """(status, words) of a refusal; 0: none."""
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if size + sum(len(name) + len(value) for name, value in headers.items()) > MOST_HEADER_BYTES:
            return 431, f"a head of at most {MOST_HEADER_BYTES >> 10} KiB"
        if not self._any and _hostname(headers.get("host", "")) not in self._hosts:
            return 421, "this server does not go by that name"
        if scope["method"] not in READS and not _own(headers):
            return 403, "writes come from the page itself"
        if int(headers.get("content-length") or 0) > MOST_BODY_BYTES:
            return 413, _REFUSED[413]
        if self._token and not (self._asked(scope) or self._remembered(headers)):
            return 401, "give the token that the server printed: ?token=..."
        return 0, ""

    def _asked(self, scope: Message) -> bool:
        words = [word.partition(b"=") for word in scope["query_string"].split(b"&")]
        return bool(self._token) and any(k == b"token" and hmac.compare_digest(v, self._token) for k, _, v in words)

    def _remembered(self, headers: dict[str, str]) -> bool:
        words = [word.strip().partition("=") for word in headers.get("cookie", "").split(";")]
        return any(k == COOKIE and hmac.compare_digest(v.encode("latin-1"), self._token) for k, _, v in words)


_REFUSED = {408: "the request did not arrive in time", 413: f"at most {MOST_BODY_BYTES >> 20} MiB"}


def _hostname(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _own(headers: dict[str, str]) -> bool:
    """Whether a write comes from this page, or from no page at all, as curl's do."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.casefold() == headers.get("host", "").casefold()
    except ValueError:
        return False


async def _body(receive: Receive, most_s: float) -> tuple[int, bytes]:
    """(0, the whole body), or the status of a refusal; -1: the client has gone."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(most_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return -1, b""
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST_BODY_BYTES:
                    return 413, b""
                if not message.get("more_body"):
                    return 0, b"".join(parts)
    except TimeoutError:
        return 408, b""


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that is already here, then what else comes."""
    told = False

    async def receiving() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving


async def _refuse(send: Send, status: int, words: str) -> None:
    body = words.encode()
    start = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    start.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": [*start, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
