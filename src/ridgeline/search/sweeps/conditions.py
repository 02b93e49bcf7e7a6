"""Conditions over the columns of points, as `tp * pp <= 8 and chip != "l40s"`: a grammar of its own, and no `eval`.

    or:         and ("or" and)*
    and:        not ("and" not)*
    not:        "not" not | comparison
    comparison: sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)*
    sum:        product (("+" | "-") product)*
    product:    sign (("*" | "/" | "%") sign)*
    sign:       "-" sign | power
    power:      atom ("**" sign)?
    atom:       number | "text" | name | ("min" | "max" | "ceil" | "floor") "(" or ("," or)* ")" | "(" or ")"

At most 200 parts; exponents are numbers of at most 64. Every column is an array, so that a condition is evaluated once.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.tables import Labels

MOST_PARTS, MOST_DEPTH, MOST_EXPONENT, LONGEST = 200, 40, 64.0, 4096

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')|(?P<mark>\*\*|<=|>=|==|!=|[-+*/%<>(),]))"
)
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": np.minimum,
    "max": np.maximum,
    "ceil": np.ceil,
    "floor": np.floor,
}
_WORDS = ("and", "or", "not")

Columns = Mapping[str, NDArray[np.float64] | Labels]


def holds(condition: str, columns: Columns, *, at: str) -> NDArray[np.bool_]:
    """Where a condition holds, [points].

    Args:
        condition: text of the grammar above.
        columns: numbers or texts by name; all of one length.
        at: where the condition stands, for messages.
    Raises:
        SpecError: not of the grammar, or text where a number belongs. UnknownNameError: no such column.
    """
    parser = _Parser(condition, columns, at)
    with np.errstate(all="ignore"):
        found = parser.whole()
    rows = len(next(iter(columns.values())))
    if not (isinstance(found, np.ndarray | bool | np.bool_) and np.asarray(found).dtype == np.bool_):
        raise SpecError("a condition is true or false", at=at, got=condition, fix="compare, as in tp * pp <= 8")
    return np.broadcast_to(np.asarray(found), (rows,)).copy()


class _Parser:
    """Parses and evaluates in one walk; values are arrays of numbers, of truths, or of texts."""

    def __init__(self, text: str, columns: Columns, at: str) -> None:
        self.text, self.columns, self.at = text, columns, at
        self.tokens, self.place, self.depth = self._tokens(), 0, 0

    def _tokens(self) -> list[tuple[str, str]]:
        if len(self.text) > LONGEST:
            raise self._wrong("the condition is too long")
        found, place, end = [], 0, len(self.text.rstrip())
        while place < end:
            match = _TOKEN.match(self.text, place)
            if match is None:
                raise self._wrong(f"unexpected {self.text[place:].strip()[:20]!r}")
            found.append((str(match.lastgroup), match[str(match.lastgroup)]))
            place = match.end()
        if len(found) > MOST_PARTS:
            raise self._wrong(f"more than {MOST_PARTS} parts")
        return [*found, ("end", "")]

    def _wrong(self, what: str) -> SpecError:
        fix = 'write for example tp * pp <= 8 and chip != "l40s"'
        return SpecError(f"not a condition: {what}", at=self.at, got=self.text, fix=fix)

    def _next(self, *marks: str) -> str:
        """The next token if it is one of these marks or words; else ""."""
        kind, text = self.tokens[self.place]
        if text in marks and kind in ("mark", "name"):
            self.place += 1
            return text
        return ""

    def whole(self) -> Any:
        value = self._or()
        if self.tokens[self.place][0] != "end":
            raise self._wrong(f"unexpected {self.tokens[self.place][1]!r}")
        return value

    def _or(self) -> Any:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self._wrong("too deep")
        value = self._and()
        while self._next("or"):
            value = self._truth(value) | self._truth(self._and())
        self.depth -= 1
        return value

    def _and(self) -> Any:
        value = self._not()
        while self._next("and"):
            value = self._truth(value) & self._truth(self._not())
        return value

    def _not(self) -> Any:
        flips = 0
        while self._next("not"):
            flips += 1
        value = self._comparison()
        return value if not flips else self._truth(value) ^ np.bool_(flips % 2)

    def _comparison(self) -> Any:
        left, held = self._sum(), None
        while mark := self._next(*_COMPARE):
            right = self._sum()
            texts = [self._is_text(side) for side in (left, right)]
            if any(texts) and (not all(texts) or mark not in ("==", "!=")):
                raise self._wrong("text is compared with text by == or !=")
            if not any(texts):
                self._number(left), self._number(right)
            now = _COMPARE[mark](left, right)
            held = now if held is None else held & now
            left = right
        return left if held is None else held

    def _sum(self) -> Any:
        value = self._product()
        while mark := self._next("+", "-"):
            right = self._number(self._product())
            value = self._number(value) + right if mark == "+" else self._number(value) - right
        return value

    def _product(self) -> Any:
        value = self._sign()
        while mark := self._next("*", "/", "%"):
            right, left = self._number(self._sign()), self._number(value)
            value = left * right if mark == "*" else left / right if mark == "/" else left % right
        return value

    def _sign(self) -> Any:
        minus = 0
        while self._next("-"):
            minus += 1
        value = self._power()
        return value if not minus else self._number(value) * (-1.0) ** minus

    def _power(self) -> Any:
        value = self._atom()
        if not self._next("**"):
            return value
        minus = bool(self._next("-"))
        exponent = self._number(self._atom())
        if np.any(np.abs(exponent) > MOST_EXPONENT):
            raise self._wrong(f"an exponent above {MOST_EXPONENT:g}")
        return np.asarray(self._number(value), dtype=np.float64) ** (-exponent if minus else exponent)

    def _atom(self) -> Any:
        kind, text = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            if not np.isfinite(float(text)):
                raise self._wrong("a number without end")
            return np.float64(text)
        if kind == "text":
            return np.str_(text[1:-1])
        if kind == "name" and text in _FUNCTIONS:
            return self._function(text)
        if kind == "name" and text not in _WORDS:
            return self._column(text)
        if text == "(" and kind == "mark":
            value = self._or()
            self._closed()
            return value
        self.place -= 1
        raise self._wrong(f"unexpected {text!r}" if text else "it ends too early")

    def _closed(self) -> None:
        if not self._next(")"):
            raise self._wrong("a bracket is not closed")

    def _function(self, name: str) -> Any:
        if not self._next("("):
            raise self._wrong(f"{name} needs brackets")
        values = [self._number(self._or())]
        while self._next(","):
            values.append(self._number(self._or()))
        self._closed()
        if (len(values) == 1) != (name in ("ceil", "floor")):
            raise self._wrong(f"{name} takes {'one value' if name in ('ceil', 'floor') else 'two values or more'}")
        value = values[0] if len(values) > 1 else _FUNCTIONS[name](values[0])
        for other in values[1:]:
            value = _FUNCTIONS[name](value, other)
        return value

    def _column(self, name: str) -> Any:
        if name not in self.columns:
            fix = did_you_mean(name, self.columns, listing=f"columns here: {', '.join(self.columns)}")
            raise UnknownNameError(f"the condition names {name!r}, which no point has", at=self.at, fix=fix)
        column = self.columns[name]
        return np.array(column.values)[column.codes] if isinstance(column, Labels) else column

    @staticmethod
    def _is_text(value: Any) -> bool:
        return bool(np.asarray(value).dtype.kind == "U")

    def _number(self, value: Any) -> Any:
        if np.asarray(value).dtype.kind != "f":
            raise self._wrong("text or a comparison stands where a number belongs")
        return value

    def _truth(self, value: Any) -> Any:
        if np.asarray(value).dtype.kind != "b":
            raise self._wrong("and, or and not join comparisons")
        return value
