"""What a reader is: how its files are known, and how one is read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from ridgeline.workloads.traffic.readers.rows import Rows

Read = Callable[[str, tuple[str, ...]], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of traces.

    Args:
        name:  as people call it.
        kind:  "table": CSV or Parquet, known by its columns; "lines": JSON objects, one a line, known by their keys.
        needs: columns or keys that must all be there; each may have other names.
        read:  (path, the columns or keys that are there) -> rows.
        about: one line for messages: what its files look like.
    """

    name: str
    kind: Literal["table", "lines"]
    needs: tuple[tuple[str, ...], ...]
    read: Read
    about: str

    def fits(self, names: Collection[str]) -> bool:
        """Whether a file with these columns or keys is of this format; case does not count."""
        folded = {name.casefold() for name in names}
        return all(any(one.casefold() in folded for one in choices) for choices in self.needs)
