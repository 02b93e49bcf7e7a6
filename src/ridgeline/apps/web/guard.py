"""Who may talk to the page, and how much: hosts, origins, a token, sizes; and what a browser may do with it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

MOST_BODY_BYTES = 8 << 20
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
COOKIE = "ridgeline"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class Guard:
    """ASGI middleware.

    A page on another site may resolve its own name to this machine (DNS rebinding): the Host header tells. Writes of
    another origin are refused. With a token, every request needs it, as `?token=` once and as a cookie from then on.
    """

    def __init__(self, app: Any, *, host: str, token: str) -> None:
        """`host`: the address that is listened on."""
        self._app, self._token = app, token
        self._hosts = LOCAL | {host, f"[{host}]"}
        self._any = host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let through, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        status, words = self._judged(scope, headers)
        if status:
            body = words.encode()
            start = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": [*start, *HEADERS]})
            await send({"type": "http.response.body", "body": body})
            return
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/" if self._asked(scope) else ""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
                if cookie:
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        await self._app(scope, _limited(receive), sending)

    def _judged(self, scope: Message, headers: dict[str, str]) -> tuple[int, str]:
        """(status, words) of a refusal; 0: none."""
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if not self._any and name not in self._hosts:
            return 421, "this server does not go by that name"
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != headers.get("host", ""):
            return 403, "writes come from the page itself"
        if int(headers.get("content-length") or 0) > MOST_BODY_BYTES:
            return 413, f"at most {MOST_BODY_BYTES >> 20} MiB"
        if self._token and not (self._asked(scope) or self._remembered(headers)):
            return 401, "give the token that the server printed: ?token=..."
        return 0, ""

    def _asked(self, scope: Message) -> bool:
        words = [word.partition("=") for word in scope["query_string"].decode("latin-1").split("&")]
        return bool(self._token) and any(k == "token" and hmac.compare_digest(v, self._token) for k, _, v in words)

    def _remembered(self, headers: dict[str, str]) -> bool:
        words = [word.strip().partition("=") for word in headers.get("cookie", "").split(";")]
        return any(k == COOKIE and hmac.compare_digest(v, self._token) for k, _, v in words)


def _limited(receive: Receive) -> Receive:
    """A body that grows without saying so ends at the limit."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BODY_BYTES:
            return {"type": "http.disconnect"}
        return message

    return receiving
