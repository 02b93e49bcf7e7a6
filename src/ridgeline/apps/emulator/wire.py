"""Requests under way, and what their answers look like on the wire, as OpenAI's API reference has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ridgeline.apps.emulator.asks import Ask, Call, Refused
from ridgeline.apps.emulator.http import Connection, json_bytes


@dataclass(slots=True, kw_only=True)
class Wire:
    """A request under way, and the connection that its answers leave by.

    Attributes:
        answers: one per completion. left: how many are not complete. over: nobody waits for them any more.
    """

    connection: Connection
    call: Call
    name: str
    created: int
    answers: list[Answer] = field(default_factory=list)
    left: int = 0
    over: bool = False


@dataclass(slots=True, kw_only=True)
class Answer:
    """One completion under way.

    Attributes:
        index: its place among those of its request. number: what the fleet knows it by.
        head, tail: of an event, before and after the word of a token. events: of words that it has said, framed.
        sent: tokens so far. last_s: when the last came, simulated.
    """

    wire: Wire
    ask: Ask
    index: int
    asked_s: float
    start: int
    echo: Sequence[str] | None
    number: int = -1
    head: bytes = b""
    tail: bytes = b""
    events: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0
    last_s: float = 0.0

    def event(self, word: str) -> bytes:
        """What a token that is this word looks like on the wire."""
        framed = self.events.get(word)
        if framed is None:
            framed = self.wire.connection.framed(self.head + json.dumps(word).encode() + self.tail)
            self.events[word] = framed
        return framed


def reason_of(ask: Ask) -> str:
    """Why a completion ends."""
    return "length" if ask.limited else "stop"


def usage_of(wire: Wire) -> dict[str, int]:
    """Tokens of all completions, and of each prompt once."""
    prompt, output = wire.call.prompt_tokens, sum(answer.sent for answer in wire.answers)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def base_of(wire: Wire, *, streams: bool) -> dict[str, object]:
    """What every body of this answer has."""
    kind = ("chat.completion.chunk" if streams else "chat.completion") if wire.call.chat else "text_completion"
    return {"id": wire.name, "object": kind, "created": wire.created, "model": wire.call.model}


def chunk(answer: Answer, content: object, reason: str | None = None) -> dict[str, object]:
    """An event of a stream: a word, or a chat's first piece."""
    choice: dict[str, object] = {"index": answer.index, "logprobs": None, "finish_reason": reason}
    if answer.wire.call.chat:
        choice["delta"] = content if isinstance(content, dict) else {"content": content}
    else:
        choice["text"] = content
    return {**base_of(answer.wire, streams=True), "choices": [choice]}


def opening(answer: Answer) -> bytes:
    """What comes before the first token: a chat's role, the prompt where its echo is asked."""
    call = answer.wire.call
    if call.chat:
        return answer.wire.connection.framed(line(chunk(answer, {"role": "assistant", "content": ""})))
    return answer.wire.connection.framed(line(chunk(answer, answer.ask.prompt))) if call.echo else b""


def lost(wire: Wire) -> None:
    """Say that an answer will never be complete."""
    refused = Refused(503, "the replica that served this request failed", "ServiceUnavailableError")
    if wire.call.stream:
        wire.connection.finish(wire.connection.framed(b"data: " + refused.body() + b"\n\n"))
    else:
        wire.connection.answer(refused.status, refused.body())


def around(answer: Answer) -> tuple[bytes, bytes]:
    """What stands before and after the word of an event."""
    before, _, after = line(chunk(answer, "\0")).partition(json.dumps("\0").encode())
    return before, after


def line(value: dict[str, object]) -> bytes:
    """A server-sent event."""
    return b"data: " + json_bytes(value) + b"\n\n"
