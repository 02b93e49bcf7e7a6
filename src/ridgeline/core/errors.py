"""The one error type: every message says what was wrong, where, what was got, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RidgelineError(Exception):
    """Base of every error that ridgeline raises on purpose.

    Args:
        what: what is wrong, in one sentence without a full stop.
        at:   where: `file:line:column field` for files, the argument or column name for calls.
        got:  the offending value, shown shortened.
        fix:  what would be right.
    """

    code = "RL0100"

    def __init__(self, what: str, *, at: str = "", got: object = None, fix: str = "") -> None:
        """Keep the four parts apart, so that tables, JSON and the screen can each lay them out."""
        self.what, self.at, self.got, self.fix = what, at, got, fix
        super().__init__(self.line())

    def line(self) -> str:
        """The whole error in one line, as the `error` column of a case table shows it."""
        where = f" at {self.at}" if self.at else ""
        got = f" (got {_short(self.got)})" if self.got is not None else ""
        fix = f"; {self.fix}" if self.fix else ""
        return " ".join(_cut(word) for word in f"{self.what}{where}{got}{fix}".split())

    def screen(self) -> str:
        """The error as the command line prints it: at most four short lines."""
        lines = [f"error {self.code}: {' '.join(_cut(word) for word in self.what.split(' '))}"]
        if self.at:
            lines.append(f"  at   {self.at}")
        if self.got is not None:
            lines.append(f"  got  {_short(self.got)}")
        if self.fix:
            lines.append(f"  fix  {self.fix}")
        return "\n".join(lines)


class SpecError(RidgelineError):
    """A description (chip, model, plan, file content) breaks one of its invariants."""

    code = "RL0101"


class DomainError(RidgelineError):
    """A number outside the domain of a function: negative, not finite, not an integer."""

    code = "RL0102"


class UnknownNameError(RidgelineError):
    """A name that no catalogue holds; the fix names the nearest ones."""

    code = "RL0103"


class FileFormatError(RidgelineError):
    """A file that cannot be read: missing, too large, malformed, unsafe."""

    code = "RL0104"


class UnitError(RidgelineError):
    """A quantity whose unit is missing, unknown or of another dimension."""

    code = "RL0105"


class PlanError(RidgelineError):
    """A plan that cannot be applied to this model or machine."""

    code = "RL0106"


class CapacityError(RidgelineError):
    """A workload that does not fit the memory it was given."""

    code = "RL0107"


class MissingExtraError(RidgelineError):
    """A feature whose optional dependency is not installed; the fix names the extra."""

    code = "RL0108"


class PolicyError(RidgelineError):
    """A policy that broke its contract: it raised, or answered what is not possible."""

    code = "RL0111"


def nearest(name: str, choices: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """The choices that look most like `name`, best first (empty when nothing is close)."""
    folded = {choice.casefold(): choice for choice in sorted(choices, reverse=True)}
    hits = difflib.get_close_matches(name.casefold(), list(folded), n=count, cutoff=0.5)
    return tuple(folded[hit] for hit in hits)


def did_you_mean(name: str, choices: Iterable[str], *, listing: str = "") -> str:
    """The `fix` of an unknown name: nearest choices, then the command or place that lists them all."""
    hits = nearest(name, choices)
    ask = f"did you mean {' or '.join(repr(hit) for hit in hits)}?" if hits else "no close name is known"
    return f"{ask} {listing}".strip()


def _cut(word: str, limit: int = 160) -> str:
    """A word without end, as hostile cells hold them, does not fill the screen."""
    return word if len(word) <= limit else f"{word[: limit - 1]}…"


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
