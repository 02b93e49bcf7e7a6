"""HTTP/1.1 on asyncio: one protocol object per connection; h11 knows the grammar, tokens bypass it.

A streaming answer is chunks of a few bytes, thousands per second in one process: their framing is written here, since
a general server spends more on each than the emulator has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

import h11

from ridgeline.apps.emulator.asks import Refused

MOST_HEADER_BYTES = 16 << 10
MOST_BODY_BYTES = 8 << 20
READ_S = 30.0
"""A request must be complete so long after its first byte."""
MOST_UNSENT_BYTES = 1 << 20
"""A client that lets so much of a stream pile up is dropped."""
LINGER_S = 2.0
"""A client that is refused while it still sends may read the answer for so long, before the connection ends."""

Headers = list[tuple[str, str]]


class Service(Protocol):
    """What answers requests."""

    def handle(self, connection: Connection, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        """Answer now, or later through the connection. Raises Refused."""

    def left(self, connection: Connection) -> None:
        """The client of an answer under way has gone."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, service: Service, register: Callable[[Connection, bool], None]) -> None:
        """`register` hears that it opens and closes."""
        self._service, self._register = service, register
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)
        self._transport: asyncio.Transport | None = None
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._chunked = self._refused = False
        self.answering = False
        self.open = False
        self.since = 0.0
        """When the last bytes of the request under way were read: a time of the loop."""

    # From the loop ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connects."""
        assert isinstance(transport, asyncio.Transport), "a stream has a stream transport"
        self._transport, self.open = transport, True
        self._register(self, True)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone, whoever closed."""
        self.open = False
        self._stop_timer()
        self._register(self, False)
        if self.answering:
            self.answering = False
            self._service.left(self)

    def data_received(self, data: bytes) -> None:
        """Bytes come in; while an answer is under way they wait in the parser."""
        if self._refused:
            return
        if not self.answering:
            loop = asyncio.get_running_loop()
            self.since = loop.time()
            if self._timer is None:
                self._timer = loop.call_later(READ_S, self._too_slow)
        try:
            self._wire.receive_data(data)
        except h11.RemoteProtocolError:
            self.close()
            return
        if self.answering and len(self._wire.trailing_data[0]) > MOST_BODY_BYTES:
            self.close()
            return
        self._read()

    def eof_received(self) -> bool:
        """The client will send no more; if it waits for an answer, it may still read one."""
        return self.answering

    def pause_writing(self) -> None:
        """The client does not read: more than it may leave unread has piled up."""
        self.close(abort=True)

    # Reading ---------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        while self.open and not self.answering:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(Refused(error.error_status_hint, "this is not HTTP/1.1, or its header is too long"))
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                self._continue()
                return
            if isinstance(event, h11.Request):
                self._request, self._body, self._size = event, [], 0
                if int(dict(event.headers).get(b"content-length", b"0")) > MOST_BODY_BYTES:
                    self._refuse(Refused(413, f"the body is larger than {MOST_BODY_BYTES >> 20} MiB"))
                    return
            elif isinstance(event, h11.Data):
                self._size += len(event.data)
                if self._size > MOST_BODY_BYTES:
                    self._refuse(Refused(413, f"the body is larger than {MOST_BODY_BYTES >> 20} MiB"))
                    return
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._stop_timer()
                self._handle()
            elif isinstance(event, h11.ConnectionClosed):
                self.close()

    def _continue(self) -> None:
        """A client that asks first is told to send its body."""
        if self._wire.they_are_waiting_for_100_continue and self._transport is not None:
            sent = self._wire.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._transport.write(sent or b"")

    def _handle(self) -> None:
        request = self._request
        assert request is not None, "a message that ends has begun"
        self.answering = True
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in request.headers}
        path = request.target.decode("latin-1").partition("?")[0]
        try:
            self._service.handle(self, request.method.decode("latin-1"), path, headers, b"".join(self._body))
        except Refused as error:
            self._refuse(error)

    def _refuse(self, error: Refused) -> None:
        """Say what is wrong; what was not read any more cannot be skipped, so the connection ends."""
        self.answering = True
        closes = self._wire.their_state is not h11.DONE
        self._refused = closes
        more = [("connection", "close")] if closes else []
        self.answer(error.status, error.body(), more=more)
        if closes:
            self._linger()

    def _linger(self) -> None:
        """End the connection once the client has, or soon: at once, what it still sends would destroy the answer."""
        self._stop_timer()
        if self.open and self._transport is not None:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def _too_slow(self) -> None:
        self._timer = None
        if not self.answering and self._request is not None:
            self._refuse(Refused(408, "the request took too long"))
        else:
            self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Answering -------------------------------------------------------------------------------------------------------

    def answer(self, status: int, body: bytes, *, kind: str = "application/json", more: Headers | None = None) -> None:
        """A whole answer."""
        if not self._sendable():
            return
        headers = [("content-type", kind), ("content-length", str(len(body))), *(more or [])]
        shown = b"" if self._request is not None and self._request.method == b"HEAD" else body
        self._send(h11.Response(status_code=status, headers=headers), h11.Data(data=shown), h11.EndOfMessage())
        self._done()

    def begin(self) -> None:
        """The header of an answer that comes in events."""
        if not self._sendable():
            return
        assert self._request is not None, "an answer has a request"
        self._chunked = self._request.http_version == b"1.1"
        headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        headers += [("transfer-encoding", "chunked")] if self._chunked else []
        self._send(h11.Response(status_code=200, headers=headers))
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=MOST_UNSENT_BYTES)

    def framed(self, data: bytes) -> bytes:
        """An event as it goes over the wire."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def write(self, framed: bytes) -> None:
        """A piece of it, or several."""
        if self.open and self._transport is not None:
            self._transport.write(framed)

    def finish(self, framed: bytes) -> None:
        """Its last pieces, and its end."""
        if not self.open or self._transport is None:
            return
        self._transport.write(framed + (self._wire.send(h11.EndOfMessage()) or b""))
        self._done()

    def close(self, *, abort: bool = False) -> None:
        """Hang up."""
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()

    def _sendable(self) -> bool:
        return self.open and self._wire.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def _send(self, *events: Any) -> None:
        data = b"".join(self._wire.send(event) or b"" for event in events)
        if self._transport is not None:
            self._transport.write(data)

    def _done(self) -> None:
        """The next request of the connection, if there is one."""
        self.answering = False
        self._request = None
        if self._wire.our_state is h11.DONE and self._wire.their_state is h11.DONE:
            self._wire.start_next_cycle()
            loop = asyncio.get_running_loop()
            self.since = loop.time()
            loop.call_soon(self._read)
        elif self._wire.our_state is h11.MUST_CLOSE and not self._refused:
            self.close()


def json_bytes(value: Any) -> bytes:
    """A value as the body of an answer."""
    return json.dumps(value, separators=(",", ":")).encode()
