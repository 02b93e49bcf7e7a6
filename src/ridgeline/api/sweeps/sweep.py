"""`rl.sweep`: every point of a sweep file evaluated once, by whatever workers, into one table."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline import __version__
from ridgeline.api.sweeps.sweep_cases import VERBS, Verbs, checked, columns_of, usual_chunk
from ridgeline.api.tables.columns import Column
from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.core.files import sha256_of
from ridgeline.search.sweeps.journal import Journal, journal_of
from ridgeline.search.sweeps.points import Points, points_of
from ridgeline.search.sweeps.pools import InProcess, Pool, PoolError, Processes
from ridgeline.search.sweeps.results import check_results, write_results
from ridgeline.search.sweeps.run import Progress, Summary, missing, run
from ridgeline.search.sweeps.spec import Axis, SweepSpec, load_sweep
from ridgeline.search.sweeps.work import Piece, Work

if TYPE_CHECKING:
    from rich.console import RenderableType

ENGINES = ("local", "ray")
MOST_WORKERS = 4096
SHOWN_ERRORS = 5
"""Distinct errors that a summary tells."""
FILES = ("model", "trace", "fleet")
"""Columns whose values may be files: what is in them is part of the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep did.

    Attributes:
        out: the table. journal: what a later run goes on from.
        summary: points in all, there before, with an error, tried again.
        errors: the most frequent errors, and how many points each.
        engine, workers: who did it. note: why it was not who was asked for, if so. wall_s: how long this run took.
    """

    out: str
    journal: str
    summary: Summary
    errors: tuple[tuple[str, int], ...]
    engine: str
    workers: int
    wall_s: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        done = self.summary
        return {
            "verb": "sweep",
            "out": self.out,
            "journal": self.journal,
            "points": done.points,
            "evaluated": done.points - done.resumed,
            "resumed": done.resumed,
            "failed": done.failed,
            "retried": done.retried,
            "errors": [{"error": error, "points": count} for error, count in self.errors],
            "engine": self.engine,
            "workers": self.workers,
            "note": self.note,
            "wall_s": self.wall_s,
            "version": __version__,
        }

    def __rich__(self) -> RenderableType:
        """What happened, in a few lines."""
        from rich.text import Text

        done = self.summary
        lines = [f"{done.points:,} points in {self.out}, {done.failed:,} of them with an error"]
        if done.resumed:
            lines.append(f"{done.resumed:,} points were in the journal, {done.points - done.resumed:,} were evaluated")
        lines += [f"  {count:,} points: {error}" for error, count in self.errors]
        lines += [self.note] if self.note else []
        return Text("\n".join(lines))


def sweep(
    path: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "",
    workers: int = 0,
    engine: str = "local",
    address: str = "",
    fallback: str = "",
    fresh: bool = False,
    retry: bool = False,
    progress: Progress | None = None,
    verbs: Verbs = VERBS,
) -> Swept:
    """Evaluate every point of a sweep file; what an interrupted run has done is not done again.

    Args:
        path: the sweep file (.yaml).
        out: results: .parquet, .csv or .duckdb; instead of the file's own `out`.
        workers: processes; 0: this one (local), or as many as the cluster has processors (ray). Results are the same.
        engine: local, or ray (extra `ray`).
        address: of a Ray cluster; empty: a Ray on this machine.
        fallback: "local" to go on here if the cluster does not answer.
        fresh: forget the journal of earlier runs.
        retry: evaluate parts with errors again.
        progress: told points done, points in all, and points with an error.
        verbs: what can be swept; `studies.frame.swept.VERBS` knows studies too.
    Raises:
        RidgelineError: what is wrong with the file, the journal or the cluster. KeyboardInterrupt: Ctrl-C; the same
            call goes on.
    """
    started_s = time.perf_counter()
    _check(workers, engine, address, fallback)
    spec = load_sweep(path)
    read, whole = checked(spec, verbs)
    target = os.fspath(out) or spec.out or f"{Path(path).stem}.parquet"
    check_results(target)
    points = _canonical(columns_of(spec, verbs), points_of(spec, read=read, whole=whole))
    chunk = spec.chunk or usual_chunk(spec, verbs)
    work = Work(evaluate=verbs[spec.verb].evaluate, question={"task": spec.task}, limit_s=spec.limit_s)
    with Journal(journal_of(target), question_of(spec, points, chunk), fresh=fresh) as journal:
        if retry:
            journal.forget_failed()
        parts = len(missing(journal.parts(), points.count, chunk))
        pool, engine, workers, note = _pool(work, engine, workers, address, fallback, parts)
        summary = run(points, journal, pool, chunk=chunk, progress=progress)
        pieces = list(journal.pieces())
        write_results(points, pieces, target)
    errors = _errors(pieces)
    wall_s = time.perf_counter() - started_s
    return Swept(
        out=target,
        journal=os.fspath(journal_of(target)),
        summary=summary,
        errors=errors,
        engine=engine,
        workers=workers,
        wall_s=wall_s,
        note=note,
    )


def question_of(spec: SweepSpec, points: Points, chunk: int) -> dict[str, str]:
    """The question of a sweep field by field: two journals with equal fields hold the same results."""
    sample = spec.sample
    fields = {
        "version": __version__,
        "task": f"{spec.verb} {spec.task}",
        **{f"fixed.{axis.name}": _told(axis) for axis in spec.fixed},
        **{f"axes.{axis.name}": _told(axis) for axis in spec.axes},
        **{f"zip[{i}].{axis.name}": _told(axis) for i, group in enumerate(spec.zips) for axis in group},
    }
    if sample is not None:
        fields |= {f"sample.{name}": str(getattr(sample, name)) for name in ("points", "seed", "method")}
        fields |= {f"sample.axes.{axis.name}": _told(axis) for axis in sample.axes}
    fields |= {
        "order of the columns": ", ".join(axis.name for axis in spec.every_axis()),
        "where": spec.where,
        "chunk": str(chunk),
        "points": str(points.count),
        **{f"file {name}": digest for name, digest in _files(points)},
        "installed files of ridgeline": fingerprint(),
    }
    return fields


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """The sha256 of every file of the installed package, facts and code: the same version may hold other facts."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc"):
            digest.update(f"{path.relative_to(root).as_posix()}\n{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _check(workers: int, engine: str, address: str, fallback: str) -> None:
    if engine not in ENGINES:
        fix = did_you_mean(engine, ENGINES, listing=f"one of {', '.join(ENGINES)}")
        raise UnknownNameError(f"unknown engine {engine!r}", at="engine", fix=fix)
    if fallback not in ("", "local"):
        fix = "--fallback local, or leave it out"
        raise UnknownNameError(f"unknown fallback {fallback!r}", at="fallback", fix=fix)
    if not 0 <= workers <= MOST_WORKERS:
        raise DomainError("a number of workers", at="workers", got=workers, fix=f"give 0 to {MOST_WORKERS}")
    if address and engine != "ray":
        raise DomainError("only ray has an address", at="address", got=address, fix="add --engine ray")


def _canonical(columns: Mapping[str, Column], points: Points) -> Points:
    """Columns under the names of the task, whatever alias the file uses."""
    return Points(count=points.count, columns={columns[name].name: column for name, column in points.columns.items()})


def _pool(work: Work, engine: str, workers: int, address: str, fallback: str, parts: int) -> tuple[Pool, str, int, str]:
    """Who does it, at most one worker per part: the pool, its engine and size, and why it is not what was asked for."""
    note = ""
    if engine == "ray" and parts:
        from ridgeline.search.sweeps.ray_pool import RayPool

        try:
            pool = RayPool(work, count=workers, most=parts, address=address, fingerprint=fingerprint)
            return pool, engine, pool.count, note
        except PoolError as error:
            if fallback != "local":
                raise
            note = f"evaluated here: {error.what}"
    # A limit needs a worker that can be ended.
    count = min(workers or int(work.limit_s > 0), parts)
    return (Processes(work, count) if count else InProcess(work)), "local", count, note


def _told(axis: Axis) -> str:
    values = json.dumps(axis.values)
    return f"{axis.law}({values[1:-1]})" if axis.law else values


def _files(points: Points) -> Iterable[tuple[str, str]]:
    """Files that points name, and what is in them."""
    for name in FILES:
        _, values = points.columns.get(name, (None, ()))
        for value in values:
            path = Path(str(value)) if value and "\0" not in str(value) else None
            if path is None or len(str(value)) > 1024:
                continue
            inside = sorted(path.glob("*.json")) if path.is_dir() else [path] if path.is_file() else []
            yield from ((str(one), sha256_of(one)) for one in inside)


def _errors(pieces: Iterable[Piece]) -> tuple[tuple[str, int], ...]:
    counted: Counter[str] = Counter()
    for piece in pieces:
        counted.update(error for error in piece.errors if error)
    return tuple(sorted(counted.items(), key=lambda found: (-found[1], found[0]))[:SHOWN_ERRORS])
