"""Names as people write them: matched without regard to case, `_`, `-`, `/`, `.` and spaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean

_IGNORED = str.maketrans("", "", "_-/ \t")


@lru_cache(maxsize=65536)
def fold(name: str) -> str:
    """The form of `name` under which two spellings of one thing are equal."""
    return name.casefold().translate(_IGNORED)


class Names:
    """A registry of names with aliases: `resolve` gives the canonical name or an error that names the nearest.

    Args:
        kind:    what is named, for messages ("chip", "model").
        aliases: canonical name -> its other spellings.
        listing: the command or page that lists every name.
    Raises:
        SpecError: two things claim one name.
    """

    __slots__ = ("_canonical", "_spelling", "kind", "listing")

    def __init__(self, kind: str, aliases: Mapping[str, Iterable[str]], *, listing: str = "") -> None:
        """Index every spelling once; a clash is a mistake in the catalogue and is refused."""
        self.kind, self.listing = kind, listing
        self._canonical: dict[str, str] = {}
        self._spelling: list[str] = []
        for canonical, others in aliases.items():
            for spelling in (canonical, *others):
                key = fold(spelling)
                if self._canonical.setdefault(key, canonical) != canonical:
                    raise SpecError(
                        f"two {kind}s claim the name {spelling!r}",
                        at=canonical,
                        got=self._canonical[key],
                        fix="keep the alias in one of the two files",
                    )
                self._spelling.append(spelling)

    @property
    def canonical(self) -> tuple[str, ...]:
        """Every canonical name, in order."""
        return tuple(dict.fromkeys(self._canonical.values()))

    def __contains__(self, name: str) -> bool:
        """Whether some spelling of `name` is known."""
        return fold(name) in self._canonical

    def resolve(self, name: str, *, at: str = "") -> str:
        """The canonical name. Raises UnknownNameError with the nearest names; there is never a default."""
        canonical = self._canonical.get(fold(name))
        if canonical is None:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}",
                at=at or self.kind,
                fix=did_you_mean(name, self._spelling, listing=self.listing),
            )
        return canonical
