"""From a request on the wire to a request of the fleet, and from its tokens back to the wire."""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass
from urllib.parse import unquote

from ridgeline import __version__
from ridgeline.apps.emulator.asks import Ask, Call, Reader, Refused, by_bytes
from ridgeline.apps.emulator.clock import Clock
from ridgeline.apps.emulator.http import Connection, json_bytes
from ridgeline.apps.emulator.metrics import Metrics
from ridgeline.apps.emulator.text import Lorem, echoed
from ridgeline.apps.emulator.wire import Answer, Wire, around, base_of, chunk, line, lost, opening, reason_of, usage_of
from ridgeline.serving.fleet.live import Live
from ridgeline.serving.record.played import DONE

_GET = {"/health", "/ping", "/version", "/load", "/metrics", "/v1/models"}
_ONE_MODEL = "/v1/models/"
_ALSO_POST = {"/ping": ("POST",)}
"""SageMaker asks so."""
_POST = {"/v1/completions": False, "/v1/chat/completions": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When requests are turned away.

    Attributes:
        waiting: more than so many in queues (0: any number).
        rate_per_s: more than so many per second of the wall, in bursts of a second (0: any).
        status: what such a client hears: 429 or 503.
        key: what clients must send as a bearer token; empty: nothing.
    """

    waiting: int = 0
    rate_per_s: float = 0.0
    status: int = 429
    key: str = ""


class Emulator:
    """Serves connections from a running fleet."""

    def __init__(self, clock: Clock, reader: Reader, *, limits: Limits, seed: int, echo: bool) -> None:
        """`serve` gives it the fleet."""
        self.clock, self.reader, self.limits = clock, reader, limits
        self.metrics = Metrics(reader.models[0])
        self.connections: set[Connection] = set()
        self._lorem = Lorem(seed, None if reader.count is by_bytes else reader.count)
        self._echo, self._seed = echo, seed
        self._answers: dict[int, Answer] = {}
        self._wires: dict[Connection, Wire] = {}
        self._early: set[int] = set()  # refused by the fleet before it had an answer
        self._numbered = 0
        self._started = int(time.time())
        self._allowance, self._refilled_s = max(limits.rate_per_s, 1.0), 0.0
        self._live: Live | None = None

    @property
    def live(self) -> Live:
        """The fleet."""
        assert self._live is not None, "an emulator serves once it has a fleet"
        return self._live

    def serve(self, live: Live) -> None:
        """From this fleet."""
        self._live = live
        self.clock.drive(live)

    def register(self, connection: Connection, opens: bool) -> None:
        """A connection opens or closes."""
        (self.connections.add if opens else self.connections.discard)(connection)

    # Requests --------------------------------------------------------------------------------------------------------

    def handle(self, connection: Connection, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        """Answer a request, or begin to. Raises Refused."""
        try:
            told = path in _GET or path.startswith(_ONE_MODEL)
            if told and method in ("GET", "HEAD", *_ALSO_POST.get(path, ())):
                self._told(connection, path)
            elif path in _POST and method == "POST":
                self._allowed(headers)
                self._complete(connection, self.reader.read(body, chat=_POST[path]))
            elif path in _GET or path in _POST:
                raise Refused(405, f"{method} is not allowed here", "MethodNotAllowed")
            else:
                raise Refused(404, f"nothing is at {path[:120]}", "NotFoundError")
        except Refused as error:
            self.metrics.refused[error.status] += 1
            raise

    def _told(self, connection: Connection, path: str) -> None:
        if path == "/metrics":
            text = self.metrics.text(self.live, self.clock, len(self.connections))
            connection.answer(200, text.encode(), kind="text/plain; version=0.0.4; charset=utf-8")
        elif path == "/v1/models":
            data = [self._model(name) for name in self.reader.models]
            connection.answer(200, json_bytes({"object": "list", "data": data}))
        elif path.startswith(_ONE_MODEL):
            name = unquote(path.removeprefix(_ONE_MODEL))
            if name not in self.reader.models:
                raise Refused(404, f"The model `{name[:120]}` does not exist.", "NotFoundError")
            connection.answer(200, json_bytes(self._model(name)))
        elif path == "/load":
            connection.answer(200, json_bytes({"server_load": self.live.running + self.live.waiting}))
        elif path == "/version":
            connection.answer(200, json_bytes({"version": __version__}))
        else:
            connection.answer(200 if self.live.up else 503, b"")

    def _model(self, name: str) -> dict[str, object]:
        shared = {"object": "model", "created": self._started, "owned_by": "ridgeline", "parent": None}
        return {"id": name, "root": self.reader.models[0], "max_model_len": self.reader.longest, **shared}

    def _allowed(self, headers: dict[str, str]) -> None:
        limits = self.limits
        if limits.key:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), limits.key.encode()):
                raise Refused(401, "Unauthorized", "AuthenticationError")
        if not self.live.up:
            raise Refused(503, "no replica is up", "ServiceUnavailableError")
        if limits.waiting and self.live.waiting >= limits.waiting:
            raise Refused(limits.status, "too many requests are waiting", "RateLimitError")
        if limits.rate_per_s:
            now = self.clock.wall_s(self.clock.now_s)
            most = max(limits.rate_per_s, 1.0)
            self._allowance = min(most, self._allowance + (now - self._refilled_s) * limits.rate_per_s)
            self._refilled_s = now
            if self._allowance < 1.0:
                raise Refused(limits.status, f"more than {limits.rate_per_s:g} requests per second", "RateLimitError")
            self._allowance -= 1.0

    def _complete(self, connection: Connection, call: Call) -> None:
        self._numbered += 1
        name = f"{'chatcmpl' if call.chat else 'cmpl'}-{self._seed:x}-{self._numbered:x}"
        wire = Wire(connection=connection, call=call, name=name, created=int(time.time()), left=len(call.asks))
        now = max(self.clock.at(connection.since), self.live.now)  # reading a prompt is no time of the deployment's
        try:
            for ask in call.asks:
                self._submit(wire, ask, now)
        except Refused:
            self._abandon(wire)
            raise
        finally:
            self.clock.reset()
        self._wires[connection] = wire
        self.metrics.prompt_tokens += call.prompt_tokens
        if call.stream:
            connection.begin()

    def _submit(self, wire: Wire, ask: Ask, now: float) -> None:
        """Give one completion to the fleet. Raises Refused."""
        answer = Answer(
            wire=wire,
            ask=ask,
            index=len(wire.answers),
            asked_s=now,
            start=self._lorem.start(),
            echo=echoed(ask.prompt) if self._echo else None,
        )
        if wire.call.stream:
            answer.head, answer.tail = around(answer)
        answer.number = self.live.submit(now, ask.prompt_tokens, ask.output_tokens, ask.units)
        if answer.number < 0:
            raise Refused(503, "the emulator holds as many requests as it can", "ServiceUnavailableError")
        if answer.number in self._early:
            self._early.discard(answer.number)
            raise Refused(400, f"{ask.prompt_tokens + ask.output_tokens} tokens can never fit the KV cache")
        wire.answers.append(answer)
        self._answers[answer.number] = answer

    def left(self, connection: Connection) -> None:
        """The client of an answer has gone."""
        wire = self._wires.pop(connection, None)
        if wire is not None:
            self._abandon(wire)
            self.clock.reset()

    def _abandon(self, wire: Wire) -> None:
        """Take what is not complete out of the fleet."""
        wire.over = True
        for answer in wire.answers:
            if self._answers.get(answer.number) is answer:
                self.metrics.ended["abort"] += 1
                self.live.cancel(answer.number, self.clock.now_s)
                self._answers.pop(answer.number, None)

    # Tokens ----------------------------------------------------------------------------------------------------------

    def tokens(self, request: int, total: int, due_s: float) -> None:
        """A request has so many tokens now."""
        answer = self._answers.get(request)
        if answer is None or answer.wire.over:
            return
        sent, metrics, framed, wire = answer.sent, self.metrics, b"", answer.wire
        fresh = total - sent
        metrics.generated_tokens += fresh
        if sent:
            metrics.between.add((due_s - answer.last_s) / fresh, fresh)
        else:
            metrics.first.add(due_s - answer.asked_s)
        answer.last_s, answer.sent = due_s, total
        if not wire.call.stream:
            return
        if not sent:
            framed = opening(answer)
        ends = total >= answer.ask.output_tokens
        for i in range(sent, total - ends):
            framed += answer.event(self._word(answer, i))
        if ends:
            last = chunk(answer, self._word(answer, total - 1), reason_of(answer.ask))
            framed += wire.connection.framed(line(last))
        wire.connection.write(framed)

    def ended(self, request: int, how: int, due_s: float) -> None:
        """A request is complete, or will never be."""
        answer = self._answers.pop(request, None)
        if answer is None:
            self._early.add(request)
            return
        wire, metrics = answer.wire, self.metrics
        if wire.over:
            return
        wire.left -= 1
        if how == DONE:
            metrics.ended[reason_of(answer.ask)] += 1
            metrics.whole.add(due_s - answer.asked_s)
            if wire.left:
                return
        else:
            metrics.ended["abort"] += 1
        connection = wire.connection
        self._wires.pop(connection, None)
        if how != DONE:
            wire.over = True
            asyncio.get_running_loop().call_soon(self._abandon, wire)  # not within the fleet's own step
            lost(wire)
        elif not wire.call.stream:
            connection.answer(200, json_bytes(self._whole(wire)))
        else:
            usage = b""
            if wire.call.usage:
                told = {**base_of(wire, streams=True), "choices": [], "usage": usage_of(wire)}
                usage = connection.framed(line(told))
            connection.finish(usage + connection.framed(b"data: [DONE]\n\n"))

    def _whole(self, wire: Wire) -> dict[str, object]:
        """The body of an answer that does not stream."""
        choices = []
        for answer in wire.answers:
            text = "".join(self._word(answer, i) for i in range(answer.sent))
            choice: dict[str, object] = {
                "index": answer.index,
                "logprobs": None,
                "finish_reason": reason_of(answer.ask),
            }
            if wire.call.chat:
                choice["message"] = {"role": "assistant", "content": text}
            else:
                choice["text"] = answer.ask.prompt + text if wire.call.echo else text
            choices.append(choice)
        return {**base_of(wire, streams=False), "choices": choices, "usage": usage_of(wire)}

    def _word(self, answer: Answer, i: int) -> str:
        echo = answer.echo
        return echo[i % len(echo)] if echo is not None else self._lorem.word(answer.start, i)
