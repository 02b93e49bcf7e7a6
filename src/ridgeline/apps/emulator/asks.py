"""What a client asks for, read from the body of a request; what is wrong with it is said as OpenAI's API does."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One completion.

    Attributes:
        prompt: its text, for echoes. units: ids of its prompt's units of the prefix cache.
        limited: whether `output_tokens` is the client's limit, so that the answer ends for its length.
    """

    chat: bool
    model: str
    prompt: str
    prompt_tokens: int
    output_tokens: int
    limited: bool
    stream: bool
    usage: bool
    units: Sequence[int] = ()


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

    def read(self, body: bytes, *, chat: bool) -> Ask:
        """The ask of a body. Raises Refused."""
        given = _json(body)
        model = given.get("model", self.models[0])
        if model not in self.models:
            raise Refused(404, f"The model `{str(model)[:120]}` does not exist.", "NotFoundError")
        text, tokens = self._chat(given) if chat else self._prompt(given)
        if _whole(given, "n", 1) != 1 or _whole(given, "best_of", 1) != 1:
            raise Refused(400, "only n=1 is emulated")
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
        wanted = limit if limit and _flag(given, "ignore_eos") else max(self.draw(limit), least, 1)
        output = min(wanted, limit or room)
        options = given.get("stream_options") or {}
        if not isinstance(options, dict):
            raise Refused(400, "stream_options is an object")
        return Ask(
            chat=chat,
            model=str(model),
            prompt=text,
            prompt_tokens=tokens,
            output_tokens=output,
            limited=bool(limit) and output == limit,
            stream=_flag(given, "stream"),
            usage=_flag(options, "include_usage"),
            units=self._units(given.get("prompt"), text, tokens),
        )

    def _prompt(self, given: dict[str, Any]) -> tuple[str, int]:
        prompt = given.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return prompt, max(self.count(prompt), 1)
        if isinstance(prompt, list) and prompt and all(isinstance(t, int) and 0 <= t < 1 << 31 for t in prompt):
            return "", len(prompt)
        raise Refused(400, "prompt is a text or a list of token ids, one prompt per request")

    def _chat(self, given: dict[str, Any]) -> tuple[str, int]:
        messages = given.get("messages")
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
        if not text and isinstance(prompt, list):
            flat = prompt[0] if isinstance(prompt[0], list) else prompt
            raw = array("q", flat).tobytes()
        else:
            raw = text.encode()
        digest, ids, size = hashlib.blake2b(digest_size=7), [], len(raw) / max(tokens, 1) * self.unit_tokens
        for i in range(whole):
            digest.update(raw[int(i * size) : int((i + 1) * size)])
            ids.append(int.from_bytes(digest.copy().digest(), "little"))
        return ids


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
