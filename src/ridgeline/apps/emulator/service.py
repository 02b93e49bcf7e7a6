"""From a request on the wire to a request of the fleet, and from its tokens back to the wire."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ridgeline import __version__
from ridgeline.apps.emulator.asks import Ask, Reader, Refused
from ridgeline.apps.emulator.clock import Clock
from ridgeline.apps.emulator.http import Connection, json_bytes
from ridgeline.apps.emulator.metrics import Metrics
from ridgeline.apps.emulator.text import Lorem, echoed
from ridgeline.serving.fleet.live import Live
from ridgeline.serving.record.played import DONE

_GET = {"/health", "/ping", "/version", "/metrics", "/v1/models"}
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


@dataclass(slots=True, kw_only=True)
class Answer:
    """One completion under way.

    Attributes:
        head, tail: of an event, before and after the word of a token. events: of words that it has said, framed.
        sent: tokens so far. last_s: when the last came, simulated.
    """

    connection: Connection
    ask: Ask
    name: str
    created: int
    asked_s: float
    start: int
    echo: Sequence[str] | None
    head: bytes = b""
    tail: bytes = b""
    events: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0
    last_s: float = 0.0

    def event(self, word: str) -> bytes:
        """What a token that is this word looks like on the wire."""
        framed = self.events.get(word)
        if framed is None:
            framed = self.connection.framed(self.head + json.dumps(word).encode() + self.tail)
            self.events[word] = framed
        return framed


class Emulator:
    """Serves connections from a running fleet."""

    def __init__(self, clock: Clock, reader: Reader, *, limits: Limits, seed: int, echo: bool) -> None:
        """`serve` gives it the fleet."""
        self.clock, self.reader, self.limits = clock, reader, limits
        self.metrics = Metrics(reader.models[0])
        self.connections: set[Connection] = set()
        self._lorem, self._echo, self._seed = Lorem(seed), echo, seed
        self._answers: dict[int, Answer] = {}
        self._by_connection: dict[Connection, int] = {}
        self._early: set[int] = set()  # refused by the fleet before it had an answer
        self._numbered = 0
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
            if path in _GET and method in ("GET", "HEAD"):
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
            shared = {"object": "model", "created": 0, "owned_by": "ridgeline", "max_model_len": self.reader.longest}
            data = [{"id": name, "root": self.reader.models[0], **shared} for name in self.reader.models]
            connection.answer(200, json_bytes({"object": "list", "data": data}))
        elif path == "/version":
            connection.answer(200, json_bytes({"version": __version__}))
        else:
            connection.answer(200 if self.live.up else 503, b"")

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

    def _complete(self, connection: Connection, ask: Ask) -> None:
        self._numbered += 1
        live = self.live
        now = max(self.clock.at(connection.since), live.now)  # reading a long prompt is no time of the deployment's
        answer = Answer(
            connection=connection,
            ask=ask,
            name=f"{'chatcmpl' if ask.chat else 'cmpl'}-{self._seed:x}-{self._numbered:x}",
            created=int(time.time()),
            asked_s=now,
            start=self._lorem.start(),
            echo=echoed(ask.prompt) if self._echo else None,
        )
        if ask.stream:
            answer.head, answer.tail = _event_of(answer)
        request = live.submit(now, ask.prompt_tokens, ask.output_tokens, ask.units)
        if request < 0:
            raise Refused(503, "the emulator holds as many requests as it can", "ServiceUnavailableError")
        self.clock.reset()
        if request in self._early:
            self._early.discard(request)
            raise Refused(400, f"{ask.prompt_tokens + ask.output_tokens} tokens can never fit the KV cache")
        self._answers[request] = answer
        self._by_connection[connection] = request
        self.metrics.prompt_tokens += ask.prompt_tokens
        if ask.stream:
            connection.begin()

    def left(self, connection: Connection) -> None:
        """The client of an answer has gone."""
        request = self._by_connection.pop(connection, None)
        if request is not None:
            self._answers.pop(request, None)
            self.metrics.ended["abort"] += 1
            self.live.cancel(request, self.clock.now_s)
            self.clock.reset()

    # Tokens ----------------------------------------------------------------------------------------------------------

    def tokens(self, request: int, total: int, due_s: float) -> None:
        """A request has so many tokens now."""
        answer = self._answers.get(request)
        if answer is None:
            return
        sent, metrics, framed = answer.sent, self.metrics, b""
        fresh = total - sent
        metrics.generated_tokens += fresh
        if sent:
            metrics.between.add((due_s - answer.last_s) / fresh, fresh)
        else:
            metrics.first.add(due_s - answer.asked_s)
        answer.last_s, answer.sent = due_s, total
        if not answer.ask.stream:
            return
        if not sent and answer.ask.chat:
            framed = answer.connection.framed(_line(_chunk(answer, {"role": "assistant", "content": ""})))
        ends = total >= answer.ask.output_tokens
        for i in range(sent, total - ends):
            framed += answer.event(self._word(answer, i))
        if ends:
            last = _chunk(answer, self._word(answer, total - 1), _reason(answer.ask))
            framed += answer.connection.framed(_line(last))
        answer.connection.write(framed)

    def ended(self, request: int, how: int, due_s: float) -> None:
        """A request is complete, or will never be."""
        answer = self._answers.pop(request, None)
        if answer is None:
            self._early.add(request)
            return
        connection = answer.connection
        self._by_connection.pop(connection, None)
        if how != DONE:
            self.metrics.ended["abort"] += 1
            lost = Refused(503, "the replica that served this request failed", "ServiceUnavailableError")
            if answer.ask.stream:
                connection.finish(connection.framed(b"data: " + lost.body() + b"\n\n"))
            else:
                connection.answer(lost.status, lost.body())
            return
        self.metrics.ended[_reason(answer.ask)] += 1
        self.metrics.whole.add(due_s - answer.asked_s)
        if not answer.ask.stream:
            text = "".join(self._word(answer, i) for i in range(answer.sent))
            connection.answer(200, json_bytes(_whole(answer, text)))
            return
        usage = b""
        if answer.ask.usage:
            usage = connection.framed(_line({**_chunk(answer, None), "choices": [], "usage": _usage(answer.ask)}))
        connection.finish(usage + connection.framed(b"data: [DONE]\n\n"))

    def _word(self, answer: Answer, i: int) -> str:
        echo = answer.echo
        return echo[i % len(echo)] if echo is not None else self._lorem.word(answer.start, i)


# Bodies, as OpenAI's API reference has them ------------------------------------------------------------------------


def _reason(ask: Ask) -> str:
    return "length" if ask.limited else "stop"


def _usage(ask: Ask) -> dict[str, int]:
    total = ask.prompt_tokens + ask.output_tokens
    return {"prompt_tokens": ask.prompt_tokens, "completion_tokens": ask.output_tokens, "total_tokens": total}


def _base(answer: Answer, kind: str) -> dict[str, object]:
    return {"id": answer.name, "object": kind, "created": answer.created, "model": answer.ask.model}


def _chunk(answer: Answer, content: object, reason: str | None = None) -> dict[str, object]:
    """An event of a stream: a word, or a chat's first piece."""
    ask = answer.ask
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if ask.chat:
        choice["delta"] = content if isinstance(content, dict) else {"content": content}
    else:
        choice["text"] = content
    return {**_base(answer, "chat.completion.chunk" if ask.chat else "text_completion"), "choices": [choice]}


def _event_of(answer: Answer) -> tuple[bytes, bytes]:
    """What stands before and after the word of an event."""
    before, _, after = _line(_chunk(answer, "\0")).partition(json.dumps("\0").encode())
    return before, after


def _line(value: dict[str, object]) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


def _whole(answer: Answer, text: str) -> dict[str, object]:
    ask = answer.ask
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": _reason(ask)}
    if ask.chat:
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    kind = "chat.completion" if ask.chat else "text_completion"
    return {**_base(answer, kind), "choices": [choice], "usage": _usage(ask)}
