"""The journal: whole pieces, one writer, one question, and a name for everything that goes wrong."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.core.errors import FileFormatError, RidgelineError
from ridgeline.search.sweeps.journal import Journal, JournalError, journal_of
from ridgeline.search.sweeps.work import Part, Piece, failure, joined

QUESTION = {"version": "1", "fixed.isl": "1024", "axes.tp": "[1, 2]", "installed files of ridgeline": "aa"}
PIECE = Piece(part=Part(first=0, count=2), columns={"a": np.array([1.5, np.nan]), "b": ("x", "")}, errors=("", "bad"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal_of(tmp_path / "out.parquet")


def test_what_was_recorded_is_there_when_it_is_opened_again(path: Path) -> None:
    later = Piece(part=Part(first=2, count=1), columns={"b": ("é\n\0",), "c": np.array([True])}, errors=("",))
    with Journal(path, QUESTION) as journal:
        journal.record(later)
        journal.record(PIECE)
    with Journal(path, QUESTION) as journal:
        first, second = journal.pieces()
        assert journal.failed() == 1
    assert (first.part, first.errors, first.columns["b"]) == (PIECE.part, PIECE.errors, PIECE.columns["b"])
    np.testing.assert_array_equal(first.columns["a"], PIECE.columns["a"])
    assert second.columns["b"] == ("é\n\0",)
    assert second.columns["c"].dtype == np.bool_


@settings(max_examples=30)  # each syncs a file
@given(numbers=st.lists(st.floats(), min_size=1, max_size=20), texts=st.data())
def test_every_number_and_text_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], texts: Any
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    words = tuple(texts.draw(st.text(st.characters(codec="utf-8"))) for _ in numbers)
    piece = Piece(
        part=Part(first=0, count=len(numbers)), columns={"n": np.array(numbers), "t": words}, errors=("",) * len(words)
    )
    with Journal(path, {}) as journal:
        journal.record(piece)
        (found,) = journal.pieces()
    assert found.columns["n"].tobytes() == np.array(numbers).tobytes()
    assert found.columns["t"] == words


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"version": "2"}, "version"),
        ({"fixed.isl": "2048"}, "fixed.isl"),
        ({"axes.tp": "[1]"}, "axes.tp"),
        ({"axes.pp": "[1]"}, "axes.pp"),
        ({"installed files of ridgeline": "bb"}, "installed files"),
    ],
)
def test_a_journal_of_another_question_or_version_is_refused_and_the_field_named(
    path: Path, changed: dict[str, str], field: str
) -> None:
    with Journal(path, QUESTION) as journal:
        journal.record(PIECE)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=field) as caught:
        Journal(path, QUESTION | changed)
    assert "--fresh" in caught.value.fix
    assert path.read_bytes() == before
    with pytest.raises(JournalError, match=r"fixed\.isl"):
        Journal(path, {name: value for name, value in QUESTION.items() if name != "fixed.isl"})
    with Journal(path, QUESTION | changed, fresh=True) as journal:
        assert journal.parts() == []


def test_two_runs_of_one_journal_are_refused(path: Path) -> None:
    code = (
        "import sys; from ridgeline.search.sweeps.journal import Journal; "
        f"j = Journal({str(path)!r}, {QUESTION!r}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        for fresh in (False, True):
            with pytest.raises(JournalError, match="another sweep"):
                Journal(path, QUESTION, fresh=fresh)
        process.kill()
    with Journal(path, QUESTION) as journal, pytest.raises(JournalError, match="another sweep"):
        journal.record(PIECE)
        Journal(path, QUESTION)


def test_a_full_disk_is_named_and_what_is_done_is_kept(path: Path) -> None:
    with Journal(path, QUESTION) as journal:
        journal.record(PIECE)
        pages = journal.base.execute("PRAGMA page_count").fetchone()[0]
        journal.base.execute(f"PRAGMA max_page_count={pages}")
        large = Piece(part=Part(first=2, count=9_000), columns={"a": np.ones(9_000)}, errors=("",) * 9_000)
        with pytest.raises(FileFormatError, match="the disk is full"):
            journal.record(large)
    with Journal(path, QUESTION) as journal:
        assert journal.parts() == [PIECE.part]
        journal.record(large)
        assert journal.parts() == [PIECE.part, large.part]


def test_a_folder_that_is_not_there_or_read_only_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileFormatError, match="no such folder"):
        Journal(path / "no" / "j", QUESTION)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for those who are not root
    with pytest.raises(FileFormatError, match="not writable"):
        Journal(path, QUESTION)
    assert not path.exists()


@pytest.mark.parametrize("code", ["SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_IOERR_WRITE"])
def test_what_sqlite_cannot_write_is_one_named_error(path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> sqlite3.Connection:
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode = getattr(sqlite3, code)
        raise error

    monkeypatch.setattr(sqlite3, "connect", broken)
    with pytest.raises(FileFormatError, match="the journal") as caught:
        Journal(path, QUESTION)
    assert caught.value.fix


def damages() -> Iterator[tuple[str, str]]:
    """What someone may have done to a journal."""
    yield "overlap", "INSERT INTO pieces VALUES (1, 5, 0)"
    yield "negative", "UPDATE pieces SET first = -5"
    yield "none", "UPDATE pieces SET count = 0"
    yield "kind", "UPDATE cells SET kind = '|O'"
    yield "size", "UPDATE cells SET data = x'00' WHERE kind <> 'text'"
    yield "text", "UPDATE cells SET data = x'0000000001000000ff' WHERE kind = 'text'"
    yield "codes", "UPDATE cells SET data = x'0900000009000000' || CAST('[\"a\"]' AS BLOB) WHERE kind = 'text'"
    yield "list", "UPDATE cells SET data = x'0000000000000000' || CAST('[1]' AS BLOB) WHERE kind = 'text'"
    yield "type", "UPDATE cells SET data = 'text' WHERE kind = 'text'"
    yield "errors", "DELETE FROM cells WHERE name = 'error'"


@pytest.mark.parametrize("sql", [sql for _, sql in damages()], ids=[name for name, _ in damages()])
def test_a_damaged_journal_is_one_named_error(path: Path, sql: str) -> None:
    with Journal(path, QUESTION) as journal:
        journal.record(PIECE)
    with sqlite3.connect(path) as base:
        base.execute(sql)
    base.close()
    with pytest.raises(RidgelineError), Journal(path, QUESTION) as journal:
        list(journal.pieces())


@pytest.mark.parametrize("content", [b"not a database, by far" * 100, b"SQLite format 3\0" + b"\xff" * 500])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"not a journal|damaged"):
        Journal(path, QUESTION, fresh=True)
    assert path.read_bytes() == content


def test_a_database_of_another_kind_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE mine (a)")
    base.close()
    with pytest.raises(JournalError, match="not a journal of this version"):
        Journal(path, QUESTION, fresh=True)


def test_failed_parts_can_be_forgotten(path: Path) -> None:
    with Journal(path, QUESTION) as journal:
        journal.record(PIECE)
        journal.record(failure(Part(first=2, count=1), "dead"))
        journal.record(Piece(part=Part(first=3, count=1), columns={}, errors=("",)))
        journal.forget_failed()
        assert journal.parts() == [Part(first=3, count=1)]
        assert journal.failed() == 0


def test_columns_of_pieces_stand_one_below_the_other() -> None:
    other = Piece(
        part=Part(first=2, count=2),
        columns={"a": np.array([1, 2]), "b": np.array([1.0, np.nan]), "c": np.array([True, False])},
        errors=("", ""),
    )
    found = joined([PIECE, other])
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["a"], [1.5, np.nan, 1.0, 2.0])
    assert found["b"] == ("x", "", "1", "")
    np.testing.assert_array_equal(found["c"], [np.nan, np.nan, 1.0, 0.0])
