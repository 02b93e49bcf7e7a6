"""Synthetic answers: one word per token, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ridgeline.core.seeding import stream

WORDS: tuple[str, ...] = (
    *("lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do", "eiusmod", "tempor"),
    *(
        "incididunt",
        "ut",
        "labore",
        "et",
        "dolore",
        "magna",
        "aliqua",
        "enim",
        "ad",
        "minim",
        "veniam",
        "quis",
        "nostrud",
    ),
    *("exercitation", "ullamco", "laboris", "nisi", "aliquip", "ex", "ea", "commodo", "consequat", "duis", "aute"),
)
SHELF = 4096
"""Words drawn once; each answer starts somewhere among them."""


class Lorem:
    """Words without meaning."""

    def __init__(self, seed: int, count: Callable[[str], int] | None = None) -> None:
        """Drawn once, of those that `count`, the tokens of a text, takes for one each, if it knows any."""
        known = [f" {word}" for word in WORDS]
        words = [word for word in known if count is None or count(word) == 1] or known
        rng = stream(seed, "words of answers")
        self._words: list[str] = [words[i] for i in rng.integers(0, len(words), SHELF).tolist()]
        self._next = 0

    def start(self) -> int:
        """Where the next answer starts."""
        self._next = (self._next + 997) % SHELF
        return self._next

    def word(self, start: int, i: int) -> str:
        """Token number `i` of an answer."""
        return self._words[(start + i) % SHELF]


def echoed(prompt: str) -> Sequence[str]:
    """The words of the prompt, each as a token."""
    return [f" {word}" for word in prompt.split()] or [" "]
