"""Bodies of requests: what is read, and what is refused with the words of OpenAI's API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.apps.emulator.asks import Reader, Refused, by_bytes

READER = Reader(models=("m",), longest=1000, draw=lambda limit: limit or 50, count=by_bytes, unit_tokens=16)


def _read(chat: bool = False, **body: Any) -> Any:
    """The only completion that a body asks for."""
    (ask,) = READER.read(json.dumps(body).encode(), chat=chat).asks
    return ask


def test_a_list_of_tokens_is_as_long_as_it_is_and_a_text_four_bytes_a_token() -> None:
    assert _read(prompt=[1, 2, 3]).prompt_tokens == 3
    assert _read(prompt="a" * 40).prompt_tokens == 10
    assert _read(prompt=[[5] * 7]).prompt_tokens == 7
    assert _read(chat=True, messages=[{"role": "user", "content": "a" * 40}]).prompt_tokens == 14
    parts = [{"role": "user", "content": [{"type": "text", "text": "a" * 40}, {"type": "image_url", "image_url": {}}]}]
    assert _read(chat=True, messages=parts).prompt_tokens >= 14


def test_an_answer_is_as_long_as_its_limit_or_as_drawn() -> None:
    assert _read(prompt="a").output_tokens == 50
    assert _read(prompt="a", max_tokens=7).output_tokens == 7
    assert _read(chat=True, messages=[{"role": "user", "content": "a"}], max_completion_tokens=9).output_tokens == 9
    drawn = Reader(models=("m",), longest=1000, draw=lambda _: 20, count=by_bytes, unit_tokens=0)
    for body, length, limited in (
        ({"max_tokens": 30}, 20, False),
        ({"max_tokens": 10}, 10, True),
        ({"max_tokens": 30, "ignore_eos": True}, 30, True),
        ({"max_tokens": 40, "min_tokens": 25}, 25, False),
    ):
        (ask,) = drawn.read(json.dumps({"prompt": "a", **body}).encode(), chat=False).asks
        assert (ask.output_tokens, ask.limited) == (length, limited)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        (b'{"prompt": "a", "model": "gpt-9"}', 404, "does not exist"),
        (b'{"prompt": 3}', 400, "prompt is a text"),
        (b'{"prompt": []}', 400, "prompt is a text"),
        (b'{"prompt": ["a", 3]}', 400, "prompt is a text"),
        (b'{"prompt": [99999999999999999999]}', 400, "prompt is a text"),
        (b'{"prompt": "a", "max_tokens": -1}', 400, "max_tokens"),
        (b'{"prompt": "a", "max_tokens": 1e3}', 400, "max_tokens"),
        (b'{"prompt": "a", "n": 2, "best_of": 3}', 400, "best_of"),
        (b'{"prompt": "a", "n": 5000}', 400, "at most 2048"),
        (b'{"prompt": "a", "stream": "yes"}', 400, "stream is true or false"),
        (b'{"prompt": "a", "stream_options": 3}', 400, "stream_options"),
        (b'{"prompt": "a", "max_tokens": 5000}', 400, "maximum context length is 1000"),
        (b'{"prompt": "%s"}' % (b"a" * 8000), 400, "maximum context length"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, status: int, words: str) -> None:
    with pytest.raises(Refused) as caught:
        READER.read(body, chat=False)
    assert caught.value.status == status and words in caught.value.message
    assert json.loads(caught.value.body())["error"]["message"] == caught.value.message


def test_several_prompts_and_copies_are_a_completion_each() -> None:
    call = READER.read(json.dumps({"prompt": ["a" * 40, [1, 2, 3]], "n": 2, "max_tokens": 7}).encode(), chat=False)
    assert [ask.prompt_tokens for ask in call.asks] == [10, 10, 3, 3]
    assert call.prompt_tokens == 13
    assert all(ask.output_tokens == 7 and ask.limited for ask in call.asks)


def test_a_chat_without_messages_is_refused() -> None:
    for messages in (None, [], [3], [{"content": 3}]):
        with pytest.raises(Refused, match="message"):
            _read(chat=True, messages=messages)


@given(st.text(max_size=400), st.text(max_size=100), st.text(max_size=100))
def test_units_agree_as_far_as_the_prompts_do(shared: str, one: str, other: str) -> None:
    first, second = (_read(prompt=f"{shared:x<64}{end}").units for end in (one, other))
    same = sum(a == b for a, b in zip(first, second, strict=False))
    assert list(first[:same]) == list(second[:same])
    assert same >= 0 and len(set(first)) == len(first)


def test_equal_tokens_have_equal_units() -> None:
    long, short = _read(prompt=list(range(100))), _read(prompt=list(range(50)))
    assert len(long.units) == 6 and list(long.units[:3]) == list(short.units)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    for chat in (False, True):
        try:
            READER.read(body, chat=chat)
        except Refused as error:
            assert 400 <= error.status < 500
