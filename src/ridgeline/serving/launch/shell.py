"""Shell text as words, without a shell: quotes, continued lines and literal variables; nothing is run or expanded.

What only a shell could know (`$(...)`, backquotes, variables that the text does not set) stays as it is written and is
marked, so that nobody takes it for a value. Source: POSIX.1-2017, Shell Command Language, 2.2 and 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ridgeline.core.errors import FileFormatError

MOST_CHARACTERS = 256 * 1024
_MOST_WORDS = 50_000
_LONGEST_VALUE = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}$`'\"\\]*))?\}")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_ENDS = ";&|()"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command, the line that it stands on, and whether it is known without a shell."""

    text: str
    line: int
    literal: bool = True


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command: its words, after the variables that stand before them."""

    words: tuple[Word, ...]
    variables: Mapping[str, str]


def commands_in(text: str, name: str, *, variables: Mapping[str, str] | None = None, first: int = 1) -> list[Command]:
    """The simple commands of a shell text, in order.

    Args:
        text: of a line or of a script.
        name: of the file, for messages.
        variables: known beforehand, as those of a container.
        first: number of the text's first line in its file.
    Raises:
        FileFormatError: too long, a quote without end, a control character, a here-document.
    """
    if len(text) > MOST_CHARACTERS:
        fix = f"a launch has at most {MOST_CHARACTERS // 1024} KiB of text"
        raise FileFormatError("the text is too long", at=f"{name}:{first}", got=f"{len(text)} characters", fix=fix)
    if (odd := _UNPRINTABLE.search(text)) is not None:
        line = first + text.count("\n", 0, odd.start())
        got = f"U+{ord(odd[0]):04X}"
        raise FileFormatError("a control character", at=f"{name}:{line}", got=got, fix="remove it")
    known = dict(variables or {})
    found = []
    for words in _Lexer(text.replace("\r\n", "\n"), name, known, first).commands():
        command = _command(words)
        exported = bool(command.words) and command.words[0].text in ("export", "declare", "local", "readonly")
        if not command.words or exported:
            given = {match[1]: match[2] for word in command.words[1:] if word.literal for match in _pairs(word)}
            for variable, value in {**command.variables, **given}.items():
                # Variables of variables of variables would grow without end.
                if len(value) <= _LONGEST_VALUE:
                    known[variable] = value
                else:
                    known.pop(variable, None)
        found.append(command)
    return found


def _pairs(word: Word) -> Iterator[re.Match[str]]:
    if (match := _ASSIGNED.fullmatch(word.text)) is not None:
        yield match


def _command(words: list[Word]) -> Command:
    variables: dict[str, str] = {}
    start = 0
    for word in words:
        match = _ASSIGNED.fullmatch(word.text)
        if match is None:
            break
        start += 1
        if word.literal:
            variables[match[1]] = match[2]
    return Command(tuple(words[start:]), variables)


class _Lexer:
    """One pass over the characters."""

    def __init__(self, text: str, name: str, known: dict[str, str], first: int) -> None:
        self.text, self.name, self.known = text, name, known
        self.at, self.line, self.count, self.expanded = 0, first, 0, 0
        self.words: list[Word] = []
        self.part: list[str] | None = None
        self.literal, self.skip = True, False

    def commands(self) -> Iterator[list[Word]]:
        """The words of each command."""
        text = self.text
        while self.at < len(text):
            letter = text[self.at]
            if letter in " \t\n" or letter in _ENDS:
                yield from self._boundary(letter)
            elif letter == "#" and self.part is None:
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif letter in "<>":
                self._redirect()
            else:
                self._letter(letter)
        self._end_word()
        if self.words:
            yield self.words

    def _boundary(self, letter: str) -> Iterator[list[Word]]:
        if letter == "&" and self.text.startswith("&>", self.at):
            self.at += 1
            return
        self._end_word()
        self.at += 1
        if letter not in " \t":
            if self.words:
                yield self.words
            self.words, self.skip = [], False
        self.line += letter == "\n"

    def _redirect(self) -> None:
        """A redirection and, later, the word behind it are no words of the command."""
        if self.text.startswith("<<", self.at) and not self.text.startswith("<<<", self.at):
            self._fail("a here-document is not read", "write the command itself")
        if self.part is not None and "".join(self.part).isdigit():
            self.part = None
        self._end_word()
        while self.at < len(self.text) and self.text[self.at] in "<>&":
            self.at += 1
        self.skip = True

    def _letter(self, letter: str) -> None:
        if self.text.startswith("\\\n", self.at):
            # A continued line; between words it begins none.
            self.at += 2
            self.line += 1
            return
        if self.part is None:
            self.part, self.literal = [], True
        if letter == "'":
            end = self.text.find("'", self.at + 1)
            if end < 0:
                self._fail_quote("'")
            self._take(self.text[self.at + 1 : end], end + 1)
        elif letter == '"':
            self._double()
        elif letter == "\\":
            self._take(self.text[self.at + 1 : self.at + 2], self.at + 2)
        elif letter in "$`":
            self._expand(split=True)
        else:
            self._take(letter, self.at + 1)

    def _double(self) -> None:
        opened = self.at
        self.at += 1
        assert self.part is not None, "a quote begins a word"
        while True:
            letter = self.text[self.at : self.at + 1]
            if not letter:
                self.at = opened
                self._fail_quote('"')
            elif letter == '"':
                self.at += 1
                self.part.append("")
                return
            elif letter == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", "`", '"', "\\", "\n"):
                escaped = self.text[self.at + 1]
                self._take("" if escaped == "\n" else escaped, self.at + 2)
                self.line += escaped == "\n"
            elif letter in "$`":
                self._expand(split=False)
            else:
                self._take(letter, self.at + 1)
                self.line += letter == "\n"

    def _expand(self, *, split: bool) -> None:
        """A variable that is known takes its value; all else is kept as written, and marked."""
        text, at = self.text, self.at
        braced = _BRACED.match(text, at + 1) if text[at] == "$" else None
        bare = _NAME.match(text, at + 1) if text[at] == "$" else None
        if braced is not None or bare is not None:
            match = braced or bare
            assert match is not None, "one of the two matched"
            name, other = (braced[1], braced[2]) if braced is not None else (match[0], None)
            value = self.known.get(name, other)
            if value is not None:
                self._value(value, match.end(), split=split)
                return
            self.literal = False
            self._take(text[at : match.end()], match.end())
            return
        end = self._substitution_end(at)
        # "$" alone, as in a pattern, is itself.
        self.literal = self.literal and end == at + 1 and text[at] == "$"
        self._take(text[at:end], end)

    def _value(self, value: str, end: int, *, split: bool) -> None:
        self.expanded += len(value)
        if self.expanded > MOST_CHARACTERS:
            self._fail("variables make the text too long", "write the values themselves")
        if not split or not re.search(r"\s", value):
            self._take(value, end)
            return
        pieces = value.split()
        for index, piece in enumerate(pieces):
            if index:
                self._end_word()
                self.part, self.literal = [], True
            self._take(piece, end)
        self.at = end

    def _substitution_end(self, at: int) -> int:
        text = self.text
        if text[at] == "`":
            end = text.find("`", at + 1)
            return end + 1 if end >= 0 else self._fail_quote("`")
        closing = {"(": ")", "{": "}"}.get(text[at + 1 : at + 2])
        if closing is None:
            return at + 1
        depth, position, opening = 0, at + 1, text[at + 1]
        while position < len(text):
            depth += (text[position] == opening) - (text[position] == closing)
            position += 1
            if not depth:
                return position
        return self._fail_quote(f"${opening}")

    def _take(self, piece: str, at: int) -> None:
        assert self.part is not None, "a word has begun"
        self.part.append(piece)
        # Only single-quoted pieces and expansions span lines; the rest counts its own.
        if len(piece) > 1:
            self.line += piece.count("\n")
        self.at = at

    def _end_word(self) -> None:
        if self.part is None:
            return
        if self.skip:
            self.skip = False
        else:
            self.count += 1
            if self.count > _MOST_WORDS:
                self._fail("too many words", "is it a launch?")
            self.words.append(Word("".join(self.part), self.line, self.literal))
        self.part = None

    def _fail_quote(self, quote: str) -> int:
        self._fail(f"{quote} is opened and not closed", f"close it, or write \\{quote[0]}")
        return 0

    def _fail(self, what: str, fix: str) -> None:
        raise FileFormatError(what, at=f"{self.name}:{self.line}", fix=fix)
