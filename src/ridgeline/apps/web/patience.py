"""Connections that do not wait for ever: a client that sends its request's head byte by byte is let go."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ridgeline.apps.web.guard import MOST_READ_S


class Patient(H11Protocol):
    """HTTP/1.1 whose head is here in time, or the connection closes (uvicorn itself waits without end)."""

    read_s = MOST_READ_S

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A request should come."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """The clock of a head runs from its first byte to its last."""
        if self._closing is None and self._between():
            self._wait()
        super().data_received(data)
        if not self._between():
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """No clock outlives its connection."""
        self._stop()
        super().connection_lost(exc)

    def _between(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _wait(self) -> None:
        self._closing = self.loop.call_later(self.read_s, self._give_up)

    def _stop(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _give_up(self) -> None:
        self._closing = None
        if self._between() and not self.transport.is_closing():
            self.transport.close()
