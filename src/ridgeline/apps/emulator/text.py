"""Synthetic answers: one word per token, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

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

    def __init__(self, seed: int) -> None:
        """Drawn once."""
        rng = stream(seed, "words of answers")
        self._words = [f" {WORDS[i]}" for i in rng.integers(0, len(WORDS), SHELF).tolist()]
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
