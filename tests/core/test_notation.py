"""Names with settings: what is read, and what is refused."""

from __future__ import annotations

import pytest

from ridgeline.core.errors import SpecError
from ridgeline.core.notation import Call, parse_call


def read(text: object) -> Call:
    return parse_call(text, at="x", example="queue(target=4)")


def test_plain_and_named_values_are_read_as_text() -> None:
    call = read(" queue ( 4 , \"a, (b)\", cool_down=60 s ,name='x y') ")
    assert (call.name, call.plain) == ("queue", ("4", "a, (b)"))
    assert call.named == {"cool_down": "60 s", "name": "x y"}
    assert read("power-of-two") == read(" power-of-two ")
    assert read("fcfs()").plain == ()


@pytest.mark.parametrize(
    "text",
    [
        *["", "4", "a(", "a)", "a(b", "a(b,)", "a(,b)", "a(b,,c)", "a(b=)", "a(=b)", "a(b=1, 2)", "a(b=1, b=2)", "a b"],
        *["a(b(c))", "a('b)", "a(b==c)", "a(b)c", "x" * 5000, None, 3, True, "a(" + "1," * 3000 + "1)"],
        "__import__('x')",
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(SpecError):
        read(text)
