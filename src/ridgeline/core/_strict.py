"""Strict YAML and JSON: text in, plain data out, every refusal with its line and column. `files.py` is the door to it.

Both formats have one iterative walker that also finds positions, so that nesting cannot exhaust the stack.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from ridgeline.core.errors import FileFormatError

MAX_DEPTH = 64
MAX_YAML_VALUES = 500_000
MAX_JSON_VALUES = 2_000_000

Keys = tuple[str | int, ...]
Position = tuple[int, int]

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONSTANTS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_JSON_NUMBER = re.compile(r"NaN|-?Infinity|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
# Sign and digits of the largest integer that float64 holds; the interpreter's own limit lies far above.
_LONGEST_INTEGER = 310
_SURE_DIGITS = 300
"""Shorter ones are held for sure; lists of tokens are long, and each number is looked at."""
_TOO_LARGE = 2**1024
_FINITE = "give a finite number that a float64 can hold"
_ONCE = "keep one of them"


def fail(what: str, name: str, line: int, column: int, fix: str, *, got: object = None) -> NoReturn:
    """Refuse the text at that place."""
    raise FileFormatError(what, at=f"{name}:{line}:{column}", got=got, fix=fix)


def line_column(text: str, offset: int) -> Position:
    """Line and column, from 1, of a character offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class _FlawError(ValueError):
    """Found something refused while the C parser runs; the walker then finds where."""


def json_data(text: str, name: str, *, infinite_ok: bool = False) -> Any:
    """The data of a JSON text; `infinite_ok` accepts the literals Infinity and -Infinity. Raises FileFormatError."""
    if text.count(",") > MAX_JSON_VALUES:
        fail(f"more than {MAX_JSON_VALUES} values", name, 1, 1, "descriptions are small; is it the right file?")
    constant = _not_nan if infinite_ok else _finite
    try:
        data = json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_int=_whole, parse_constant=constant
        )
        if _deeper_than(data, MAX_DEPTH):
            raise _FlawError
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        fix = "the file seems to be cut off" if cut else "check the commas, quotes and brackets there"
        fail(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", name, error.lineno, error.colno, fix)
    except (_FlawError, RecursionError, UnicodeEncodeError) as error:
        for _ in walk_json(text, name, infinite_ok=infinite_ok):
            continue
        fail("not strict JSON", name, 1, 1, f"simplify the file ({type(error).__name__})")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise _FlawError
    return data


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _FlawError
    return number


def _not_nan(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        raise _FlawError
    return number


def _whole(text: str) -> int:
    if len(text) >= _SURE_DIGITS and (len(text) > _LONGEST_INTEGER or math.isinf(float(text))):
        raise _FlawError
    return int(text)


def _deeper_than(data: Any, depth: int) -> bool:
    """Whether containers are nested deeper than `depth`, found level by level."""
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(depth):
        if not level:
            break
        inside = (child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent))
        level = [child for child in inside if isinstance(child, dict | list)]
    return bool(level)


def walk_json(text: str, name: str, *, infinite_ok: bool = False) -> Iterator[tuple[Keys, Position]]:
    """Path and position of every value of a JSON text; raises FileFormatError at the first thing that is refused."""
    path: list[Any] = []
    frames: list[set[str] | None] = []
    at_key = False
    line, line_start, counted = 1, 0, 0
    for found in _JSON_TOKEN.finditer(text):
        start, piece = found.start(), found[0]
        breaks = text.count("\n", counted, start)
        if breaks:
            line, line_start = line + breaks, text.rfind("\n", counted, start) + 1
        counted, position = start, (line, start - line_start + 1)
        keys = frames[-1] if frames else None
        if piece in "}]":
            frames.pop()
            path.pop()
            at_key = False
        elif piece == ",":
            at_key = keys is not None
            if not at_key:
                path[-1] += 1
        elif piece == ":":
            at_key = False
        elif at_key and keys is not None:
            path[-1] = _json_key(piece, keys, name, position)
        else:
            yield tuple(path), position
            if piece in "{[":
                at_key = piece == "{"
                frames.append(set() if at_key else None)
                path.append("" if at_key else 0)
                _check_depth(len(frames), name, *position)
            elif not (infinite_ok and piece in ("Infinity", "-Infinity")):
                _check_json_scalar(piece, name, position)


def _json_key(token: str, keys: set[str], name: str, position: Position) -> str:
    _check_json_scalar(token, name, position)
    key: str = json.loads(token)
    if key in keys:
        fail(f"the key {key!r} is given twice", name, *position, _ONCE)
    keys.add(key)
    return key


def _check_json_scalar(token: str, name: str, position: Position) -> None:
    if token[0] == '"':
        if not _is_text(json.loads(token)):
            fail("the text holds half a surrogate pair", name, *position, "write the character itself")
    else:
        # Only the start: what follows a refused number was never parsed, and may be anything.
        number = _JSON_NUMBER.match(token)
        if number and not math.isfinite(float(number[0])):
            fail("not a finite number", name, *position, _FINITE, got=number[0])


def _check_depth(depth: int, name: str, line: int, column: int) -> None:
    if depth > MAX_DEPTH:
        fail(f"nested deeper than {MAX_DEPTH} levels", name, line, column, "flatten it")


def _is_text(value: str) -> bool:
    """Whether `value` can be written as UTF-8: half a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _PythonParser(Reader, Scanner, Parser):
    """The event parser in Python, for PyYAML builds without libyaml."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def event_parser() -> Any:
    """The parser of libyaml where PyYAML was built with it, else the one in Python: same events, ten times slower."""
    return getattr(yaml.cyaml, "CParser", _PythonParser) if yaml.__with_libyaml__ else _PythonParser


def yaml_data(text: str, name: str, positions: dict[Keys, Position] | None = None) -> Any:
    """The data of a YAML text; `positions`, if given, is filled. Raises FileFormatError."""
    builder = _YamlBuilder(name, positions)
    try:
        parser = event_parser()(text)
        while parser.check_event():
            builder.take(parser.get_event())
    except ReaderError as error:
        line, column = line_column(text, min(error.position, len(text)))
        fail("a control character is not allowed", name, line, column, "remove it", got=f"U+{error.character:04X}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        context = f" {error.context}" if error.context else ""
        fail(f"not YAML: {error.problem}{context}", name, line, column, "check indentation, quotes and brackets there")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        fail(f"not YAML: {error}", name, 1, 1, "check the escapes in quoted text")
    if not builder.count:
        fail("the file holds nothing but comments", name, 1, 1, "is it the right file?")
    return builder.root


class _YamlBuilder:
    """Builds plain data from parser events, refusing what the strict loader refuses."""

    __slots__ = ("container", "count", "documents", "key", "name", "parents", "path", "positions", "root")

    def __init__(self, name: str, positions: dict[Keys, Position] | None) -> None:
        self.name, self.positions = name, positions
        self.root: Any = None
        self.container: Any = None
        self.key: str | None = None
        self.parents: list[Any] = []
        self.path: list[str | int] = []
        self.documents = self.count = 0

    def take(self, event: Any) -> None:
        """One event of the parser."""
        kind = type(event)
        if kind is ScalarEvent:
            self._refuse_extras(event)
            if type(self.container) is dict and self.key is None:
                self._take_key(event)
            else:
                self._put(self._scalar(event), event)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            self._refuse_extras(event)
            if type(self.container) is dict and self.key is None:
                self._refuse(event, "a list or a mapping cannot be a key", "write the key as plain text")
            self._open({} if kind is MappingStartEvent else [], event)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            self.container = self.parents.pop()
            self.path.pop()
        elif kind is AliasEvent:
            self._refuse(event, f"an alias (*{event.anchor}) is not allowed", "write the value out")
        elif kind is DocumentStartEvent:
            self.documents += 1
            if self.documents > 1:
                self._refuse(event, "the file has a second document", "keep one document per file")

    def _take_key(self, event: Any) -> None:
        key = event.value
        if not key and event.implicit[0]:
            self._refuse(event, "a mapping entry has no key", "write `key: value`")
        if key in self.container:
            self._refuse(event, f"the key {key!r} is given twice", _ONCE)
        self._check_surrogates(event)
        self.key = self.path[-1] = key

    def _put(self, value: Any, event: Any) -> None:
        container = self.container
        if container is None:
            self.root = value
        elif type(container) is dict:
            container[self.key] = value
            self.key = None
        else:
            self.path[-1] = len(container)
            container.append(value)
        self.count += 1
        if self.count > MAX_YAML_VALUES:
            self._refuse(event, f"more than {MAX_YAML_VALUES} values", "descriptions are small; is it the right file?")
        if self.positions is not None:
            mark = event.start_mark
            self.positions[tuple(self.path)] = (mark.line + 1, mark.column + 1)

    def _open(self, opened: Any, event: Any) -> None:
        self._put(opened, event)
        self.parents.append(self.container)
        self.container = opened
        self.path.append("")
        _check_depth(len(self.path), self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if not event.implicit[0]:
            self._check_surrogates(event)
            return text
        if text[:1] not in "+-.0123456789" or not text:
            return _CONSTANTS.get(text, text)
        if _INTEGER.fullmatch(text):
            if len(text) <= _LONGEST_INTEGER:
                number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
                if abs(number) < _TOO_LARGE:
                    return number
        elif _FLOAT.fullmatch(text):
            real = float(text)
            if math.isfinite(real):
                return real
        elif not _NOT_FINITE.fullmatch(text):
            return text
        self._refuse(event, "not a finite number", _FINITE, got=text)

    def _check_surrogates(self, event: Any) -> None:
        if event.style == '"' and not _is_text(event.value):
            self._refuse(event, "the text holds half a surrogate pair", "write the character itself")

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, f"an anchor (&{event.anchor}) is not allowed", "write the value out where it is needed")
        if event.tag is not None:
            self._refuse(event, f"a tag ({event.tag}) is not allowed", "use plain values; quote what should be text")

    def _refuse(self, event: Any, what: str, fix: str, *, got: object = None) -> NoReturn:
        fail(what, self.name, event.start_mark.line + 1, event.start_mark.column + 1, fix, got=got)
