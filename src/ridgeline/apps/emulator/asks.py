"""What a client asks for, read from the body of a request; what is wrong with it is said as OpenAI's API does."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline.core.errors import RidgelineError
from ridgeline.core.files import parse_json

BYTES_PER_TOKEN = 4
"""Of English text; OpenAI's help pages give four characters as the rule of thumb. A tokenizer counts exactly."""

MESSAGE_TOKENS = 4
"""Marks around each chat message, as in ChatML (OpenAI cookbook, How to count tokens with tiktoken)."""


class Refused(Exception):
    """A request that gets an error: its HTTP status, and the body's `type` and `message`."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        """Said to the client."""
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind

    def body(self) -> bytes:
        """The JSON that OpenAI's clients understand."""
        error = {"message": self.message, "type": self.kind, "param": None, "code": self.status}
        return json.dumps({"error": error, "object": "error", **error}).encode()


MOST_CHOICES = 2048
"""Completions of one request: OpenAI's API takes so many prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One completion.

    Attributes:
        prompt: its text, for echoes. units: ids of its prompt's units of the prefix cache.
        limited: whether `output_tokens` is the client's limit, so that the answer ends for its length.
    """

    prompt: str
    prompt_tokens: int
    output_tokens: int
    limited: bool
    units: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one request asks for.

    Attributes:
        asks: a completion each, `copies` of each prompt together.
        usage: whether a stream ends with the tokens that it took. echo: whether answers begin with their prompt.
    """

    chat: bool
    model: str
    stream: bool
    usage: bool
    echo: bool
    copies: int
    asks: tuple[Ask, ...]

    @property
    def prompt_tokens(self) -> int:
        """Of its prompts, each counted once."""
        return sum(ask.prompt_tokens for ask in self.asks[:: self.copies])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How bodies are read.

    Attributes:
        models: names that clients may use. longest: tokens of prompt and output.
        draw: the length of an answer, from the client's limit (0: none).
        count: tokens of a text.
        unit_tokens: of a unit of the prefix cache; 0: none.
    """

    models: tuple[str, ...]
    longest: int
    draw: Callable[[int], int]
    count: Callable[[str], int]
    unit_tokens: int

    def read(self, body: bytes, *, chat: bool) -> Call:
        """The call of a body. Raises Refused."""
        given = _json(body)
        model = given.get("model", self.models[0])
        if model not in self.models:
            raise Refused(404, f"The model `{str(model)[:120]}` does not exist.", "NotFoundError")
        prompts = [given.get("messages")] if chat else _prompts(given.get("prompt"))
        copies = max(_whole(given, "n", 1), 1)
        if _whole(given, "best_of", copies) > copies:
            raise Refused(400, "best_of is not emulated beyond n")
        if len(prompts) * copies > MOST_CHOICES:
            raise Refused(400, f"at most {MOST_CHOICES} completions per request")
        options = given.get("stream_options") or {}
        if not isinstance(options, dict):
            raise Refused(400, "stream_options is an object")
        return Call(
            chat=chat,
            model=str(model),
            stream=_flag(given, "stream"),
            usage=_flag(options, "include_usage"),
            echo=not chat and _flag(given, "echo"),
            copies=copies,
            asks=tuple(ask for prompt in prompts for ask in self._asks(given, prompt, chat, copies)),
        )

    def _asks(self, given: dict[str, Any], prompt: Any, chat: bool, copies: int) -> Iterator[Ask]:
        """Completions of one prompt."""
        text, tokens = self._chat(prompt) if chat else self._prompt(prompt)
        limit = _whole(given, "max_completion_tokens", 0) if chat else 0
        limit = limit or _whole(given, "max_tokens", 0)
        least = _whole(given, "min_tokens", 0)
        room = self.longest - tokens
        if room < 1 or (limit and limit > room):
            raise Refused(
                400,
                f"This model's maximum context length is {self.longest} tokens. However, you requested "
                f"{tokens + limit} tokens ({tokens} in the prompt, {limit} in the completion).",
            )
        units = self._units(prompt, text, tokens)
        for _ in range(copies):
            wanted = limit if limit and _flag(given, "ignore_eos") else max(self.draw(limit), least, 1)
            output = min(wanted, limit or room)
            limited = bool(limit) and output == limit
            yield Ask(prompt=text, prompt_tokens=tokens, output_tokens=output, limited=limited, units=units)

    def _prompt(self, prompt: Any) -> tuple[str, int]:
        if isinstance(prompt, str):
            return prompt, max(self.count(prompt), 1)
        if isinstance(prompt, list) and prompt and all(isinstance(t, int) and 0 <= t < 1 << 31 for t in prompt):
            return "", len(prompt)
        raise Refused(400, "prompt is a text or a list of token ids, or a list of such")

    def _chat(self, messages: Any) -> tuple[str, int]:
        if not isinstance(messages, list) or not messages:
            raise Refused(400, "messages is a list of messages with a role and a content")
        texts = [_content(message) for message in messages]
        tokens = sum(self.count(text) for text in texts) + MESSAGE_TOKENS * len(texts)
        return "\n".join(texts), tokens

    def _units(self, prompt: Any, text: str, tokens: int) -> Sequence[int]:
        """An id per whole unit: a digest of the prompt up to its end."""
        if not self.unit_tokens:
            return ()
        whole = tokens // self.unit_tokens
        raw = text.encode() if text else array("q", prompt).tobytes()
        digest, ids, size = hashlib.blake2b(digest_size=7), [], len(raw) / max(tokens, 1) * self.unit_tokens
        for i in range(whole):
            digest.update(raw[int(i * size) : int((i + 1) * size)])
            ids.append(int.from_bytes(digest.copy().digest(), "little"))
        return ids


def _prompts(given: Any) -> list[Any]:
    """Each prompt of a completion."""
    return given if isinstance(given, list) and given and isinstance(given[0], str | list) else [given]


def by_bytes(text: str) -> int:
    """Tokens of a text without a tokenizer."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _json(body: bytes) -> dict[str, Any]:
    try:
        given = parse_json(body, "body").data
    except RidgelineError as error:
        raise Refused(400, f"the body is not JSON: {error.line()}") from None
    if not isinstance(given, dict):
        raise Refused(400, "the body is a JSON object")
    return given


def _content(message: Any) -> str:
    """The text of a message; parts that are no text count as nothing."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    if content is None and isinstance(message, dict) and "role" in message:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "\n".join(str(part.get("text", "")) for part in content)
    raise Refused(400, "each message has a role and a content")


def _whole(given: dict[str, Any], name: str, usual: int) -> int:
    value = given.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise Refused(400, f"{name} is a whole number, not negative")
    return value


def _flag(given: dict[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"{name} is true or false")
    return bool(value)
