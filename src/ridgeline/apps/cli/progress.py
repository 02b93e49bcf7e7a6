"""A sign of life for runs that take more than a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridgeline.api.simulate import Progress
    from ridgeline.api.simulate_table import Told

Counted = Callable[[int, int, int], None]
"""Told points done, points in all, points with an error."""


@contextmanager
def counted(title: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of things that are done, of how many; none where the answer is for a program."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress(title: str, quiet: bool) -> Iterator[Progress | None]:
    """A bar of requests that have ended, and the median so far; none where the answer is for a program."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def tell(time_s: float, ended: int, total: int, so_far: str) -> None:
            words = f"{title}, {time_s:,.0f} s simulated{', ' if so_far else ''}{so_far}"
            bar.update(task, completed=ended, total=total, description=words)

        yield tell


@contextmanager
def counting(title: str, quiet: bool) -> Iterator[Counted | None]:
    """A bar of points that are done; none where the answer is for a program, or nobody looks."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    seen = console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not seen) as bar:
        task = bar.add_task(title, total=None)

        def tell(done: int, total: int, failed: int) -> None:
            words = f"{title}, {failed:,} with an error" if failed else title
            bar.update(task, completed=done, total=total, description=words)

        yield tell


@contextmanager
def rows_progress(title: str) -> Iterator[Told]:
    """A bar of the rows of a table that are done, and how far the one under way is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def tell(done: int, rows: int, words: str) -> None:
            bar.update(task, completed=done, total=rows, description=f"{title}{', ' if words else ''}{words}")

        yield tell
