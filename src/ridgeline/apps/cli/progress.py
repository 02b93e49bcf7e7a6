"""A sign of life for runs that take more than a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridgeline.api.simulations.simulate import Progress
    from ridgeline.api.simulations.simulate_table import Told

Counted = Callable[[int, int, int], None]
"""Told points done, points in all, points with an error."""


@contextmanager
def counted(title: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of things that are done, of how many; none where the answer is for a program."""
    if quiet:
        yield None
        return
    with _bar(title) as update:
        yield lambda done, total: update(done, total, title)


@contextmanager
def progress(title: str, quiet: bool) -> Iterator[Progress | None]:
    """A bar of requests that have ended, and the median so far; none where the answer is for a program.

    What comes before anything is simulated is told in its own words.
    """
    if quiet:
        yield None
        return
    with _bar(title) as update:

        def tell(time_s: float, ended: int, total: int, so_far: str) -> None:
            told = (f"{time_s:,.0f} s simulated" if time_s else "", so_far)
            update(ended, total, ", ".join(words for words in (title, *told) if words))

        yield tell


@contextmanager
def counting(title: str, quiet: bool) -> Iterator[Counted | None]:
    """A bar of points that are done; none where the answer is for a program, or nobody looks."""
    if quiet:
        yield None
        return
    with _bar(title, watched=True) as update:

        def tell(done: int, total: int, failed: int) -> None:
            update(done, total, f"{title}, {failed:,} with an error" if failed else title)

        yield tell


@contextmanager
def rows_progress(title: str) -> Iterator[Told]:
    """A bar of the rows of a table that are done, and how far the one under way is."""
    with _bar(title) as update:

        def tell(done: int, rows: int, words: str) -> None:
            update(done, rows, f"{title}{', ' if words else ''}{words}")

        yield tell


@contextmanager
def _bar(title: str, *, watched: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """The bar of all of them, told how many are done, of how many, and what it says of them.

    A `watched` one says how long it will take, and is drawn on a terminal only.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), *([TimeRemainingColumn()] if watched else [])]
    console = Console(stderr=True)
    hidden = watched and not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, words: str) -> None:
            bar.update(task, completed=done, total=total, description=words)

        yield update
