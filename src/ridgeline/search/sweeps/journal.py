"""The journal of a sweep: what has been evaluated, safe from the death of any process, and who may add to it.

One SQLite file in WAL mode. A piece is one commit, which survives the death of this process at once; about once a
second a commit is synced, so that a power cut loses a second at most. The file is locked as long as it is open, by
SQLite's own exclusive lock, which dies with the process. It also holds the question field by field: one that differs is
refused.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.errors import FileFormatError
from ridgeline.core.files import parse_json, writable_target
from ridgeline.search.sweeps.work import ERROR, KINDS, Column, Part, Piece

SYNC_EVERY_S = 1.0
FORM = 1
"""Of the tables here; another one is another version."""

_TABLES = """
CREATE TABLE question (field TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pieces (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, failed INTEGER NOT NULL);
CREATE TABLE cells (first INTEGER NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL,
  kind TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (first, place)) WITHOUT ROWID;
"""
_TEXTS = "text"


class JournalError(FileFormatError):
    """A journal that another run holds, or that belongs to another version or question."""

    code = "RL0112"


class Journal:
    """An open journal. Use it as a context; what was recorded stays."""

    def __init__(self, path: str | os.PathLike[str], question: Mapping[str, str], *, fresh: bool = False) -> None:
        """Open or make the journal of a question, and lock it.

        Args:
            path: the file.
            question: field -> text; two journals are of one question if all fields are equal.
            fresh: forget what is in it.
        Raises:
            JournalError: another run holds it; it belongs to another version or question (the field is named).
            FileFormatError: it cannot be written, the disk is full, or it is no journal.
        """
        self.path = os.fspath(path)
        writable_target(path)
        self._synced_s = -float("inf")
        self._base: sqlite3.Connection | None = None
        try:
            with self._named():
                self._base = sqlite3.connect(self.path, isolation_level=None, timeout=0.0)
                self._open(fresh)
            self._hold(question)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the journal."""
        if self._base is not None:
            with suppress(sqlite3.Error):
                self._base.close()
            self._base = None

    @property
    def base(self) -> sqlite3.Connection:
        """The open database."""
        if self._base is None:
            raise JournalError("the journal is closed", at=self.path, fix="open it again")
        return self._base

    def record(self, piece: Piece) -> None:
        """Add the results of a part, all or nothing. Raises FileFormatError: the disk is full, ..."""
        first, cells = piece.part.first, [*piece.columns.items(), (ERROR, piece.errors)]
        now_s = time.monotonic()
        sync = now_s - self._synced_s >= SYNC_EVERY_S
        with self._named():
            self.base.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
            with self._commit():
                self.base.execute("INSERT INTO pieces VALUES (?, ?, ?)", (first, piece.part.count, piece.failed))
                rows = ((first, i, name, *_packed(column)) for i, (name, column) in enumerate(cells))
                self.base.executemany("INSERT INTO cells VALUES (?, ?, ?, ?, ?)", rows)
        if sync:
            self._synced_s = now_s

    def parts(self) -> list[Part]:
        """What has been evaluated, in order. Raises FileFormatError: parts that overlap."""
        with self._named():
            found = self.base.execute("SELECT first, count FROM pieces ORDER BY first").fetchall()
        parts = [Part(first=first, count=count) for first, count in found]
        for one, other in pairwise(parts):
            if one.first < 0 or one.count < 1 or one.first + one.count > other.first:
                raise self._damaged("parts overlap")
        return parts

    def failed(self) -> int:
        """Points with an error."""
        with self._named():
            return int(self.base.execute("SELECT coalesce(sum(failed), 0) FROM pieces").fetchone()[0])

    def forget_failed(self) -> None:
        """Forget every part that holds an error, so that it is evaluated again."""
        with self._named(), self._commit():
            self.base.execute("DELETE FROM cells WHERE first IN (SELECT first FROM pieces WHERE failed > 0)")
            self.base.execute("DELETE FROM pieces WHERE failed > 0")

    def pieces(self) -> Iterator[Piece]:
        """Everything, in the order of points. Raises FileFormatError: damaged."""
        for part in self.parts():
            with self._named():
                query = "SELECT name, kind, data FROM cells WHERE first = ? ORDER BY place"
                cells = self.base.execute(query, (part.first,)).fetchall()
            columns = {name: self._unpacked(part, kind, data) for name, kind, data in cells}
            errors = columns.pop(ERROR, None)
            if not isinstance(errors, tuple):
                raise self._damaged(f"part {part.first} has no column of errors")
            yield Piece(part=part, columns=columns, errors=errors)

    def _open(self, fresh: bool) -> None:
        base = self.base
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        form = base.execute("PRAGMA user_version").fetchone()[0]
        tables = base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and form != FORM:
            raise JournalError("not a journal of this version", at=self.path, got=form, fix=self._way_out())
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        with self._commit():  # which takes the lock, also where nothing is written
            if not tables:
                for statement in _TABLES.split(";"):
                    base.execute(statement)
                base.execute(f"PRAGMA user_version={FORM}")
            if fresh:
                for table in ("question", "pieces", "cells"):
                    base.execute(f"DELETE FROM {table}")  # noqa: S608 - names from above

    def _hold(self, question: Mapping[str, str]) -> None:
        """Keep the question of a new journal; refuse that of another."""
        with self._named():
            known = dict(self.base.execute("SELECT field, value FROM question").fetchall())
        if not known:
            with self._named(), self._commit():
                self.base.executemany("INSERT INTO question VALUES (?, ?)", list(question.items()))
            return
        for name in (*question, *sorted(set(known) - set(question))):
            here, there = question.get(name), known.get(name)
            if here != there:
                what = f"the journal is of another {'version' if name == 'version' else 'question'}: {name} differs"
                shown = f"{_cut(there)} there, {_cut(here)} now"
                raise JournalError(what, at=f"{self.path} {name}", got=shown, fix=self._way_out())

    def _way_out(self) -> str:
        return "--fresh starts over and forgets it; or name another --out"

    @contextmanager
    def _commit(self) -> Iterator[None]:
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.base.execute("ROLLBACK")
            raise

    @contextmanager
    def _named(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the kind of error, the others say more about it.
            kind = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
            if kind == sqlite3.SQLITE_BUSY:
                fix = "wait for it, or name another --out"
                raise JournalError("another sweep is writing these results", at=self.path, fix=fix) from error
            what, fix = _REASONS.get(kind, ("the journal cannot be used", "name another --out"))
            raise FileFormatError(what, at=self.path, got=str(error), fix=fix) from error

    def _damaged(self, how: str) -> FileFormatError:
        return FileFormatError("the journal is damaged", at=self.path, got=how, fix=self._way_out())

    def _unpacked(self, part: Part, kind: object, data: object) -> Column:
        if not isinstance(data, bytes):
            raise self._damaged(f"part {part.first} holds no bytes")
        if kind == _TEXTS:
            return self._unpacked_texts(part, data)
        if kind not in KINDS or len(data) != part.count * np.dtype(str(kind)).itemsize:
            raise self._damaged(f"part {part.first} has a column of kind {kind!r} and {len(data)} bytes")
        return np.frombuffer(data, dtype=str(kind))

    def _unpacked_texts(self, part: Part, data: bytes) -> tuple[str, ...]:
        size = 4 * part.count
        codes = np.frombuffer(data[:size], dtype="<i4") if len(data) >= size else np.empty(0, np.int32)
        values = parse_json(data[size:], f"{self.path} part {part.first}").data
        fits = codes.size == part.count and isinstance(values, list) and all(isinstance(one, str) for one in values)
        if not fits or (codes.size and not 0 <= codes.min() <= codes.max() < len(values)):
            raise self._damaged(f"part {part.first} has a broken column of text")
        return tuple(values[code] for code in codes.tolist())


_REASONS: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space and run the same command: what is done is kept"),
    sqlite3.SQLITE_IOERR: ("the journal cannot be written", "see whether the disk is full, or its quota used up"),
    sqlite3.SQLITE_READONLY: ("the journal is read-only", "check the rights of the file, or name another --out"),
    sqlite3.SQLITE_CANTOPEN: ("the journal cannot be opened", "check the folder and its rights"),
    sqlite3.SQLITE_NOTADB: ("not a journal", "name another --out, or remove the file"),
    sqlite3.SQLITE_CORRUPT: ("the journal is damaged", "remove it, or name another --out"),
}


def journal_of(out: str | os.PathLike[str]) -> Path:
    """The journal beside a file of results."""
    path = Path(out)
    return path.with_name(f"{path.name}.journal")


def _packed(column: Column) -> tuple[str, bytes]:
    if not isinstance(column, tuple):
        array: Any = column.astype(column.dtype.newbyteorder("<"))
        return array.dtype.str, array.tobytes()
    values = list(dict.fromkeys(column))
    known = {text: code for code, text in enumerate(values)}
    codes = np.array([known[text] for text in column], dtype="<i4")
    # Codes first; the texts, of which there are few, as JSON behind them.
    return _TEXTS, codes.tobytes() + json.dumps(values).encode()


def _cut(value: str | None, longest: int = 60) -> str:
    if value is None:
        return "nothing"
    return value if len(value) <= longest else f"{value[: longest - 1]}…"
