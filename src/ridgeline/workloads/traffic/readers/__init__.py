"""Readers of request traces, one small file per format, chosen by what a file holds and not by its name.

Promises traffic in the order of arrival: rows that cannot be used are left out, counted and named in
`Traffic.skipped`; a file of no known format is one error that names the formats and the nearest columns. Runs nothing,
fetches nothing. Columns that no reader knows are the publisher's own and are left alone. A new format is one file with
a FORMAT, and a row here.
Read `formats.py` first, then `rows.py`, then any reader.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import FileFormatError, UnknownNameError, did_you_mean, nearest
from ridgeline.core.files import regular_size
from ridgeline.core.tables import column_names
from ridgeline.workloads.traffic.readers import (
    agentic,
    azure,
    bailian,
    burstgpt,
    lengths,
    mooncake,
    own_lines,
    table,
    vidur,
)
from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.lines import objects
from ridgeline.workloads.traffic.readers.rows import LENGTHS_ONLY, judged
from ridgeline.workloads.traffic.requests import Traffic

__all__ = ["FORMATS", "LENGTHS_ONLY", "Format", "read_lengths", "read_trace"]

FORMATS: tuple[Format, ...] = tuple(
    module.FORMAT for module in (table, azure, burstgpt, vidur, lengths, own_lines, bailian, mooncake, agentic)
)
"""Every format, in the order in which they are tried."""


def read_trace(path: str | os.PathLike[str], *, form: str | None = None) -> Traffic:
    """The requests of a trace file of any known format.

    Args:
        path: the file: CSV, gzipped CSV, Parquet, JSON lines, gzipped JSON lines.
        form: the name of its format, instead of looking at its columns.
    Returns:
        Traffic in the order of arrival. If the file holds no arrivals, `LENGTHS_ONLY` is among its notes; all are 0.
    Raises:
        FileFormatError: not readable, of no known format, or without a usable row.
        UnknownNameError: no format of that name.
    """
    name = os.fspath(path)
    chosen = [one for one in FORMATS if form is None or one.name == form]
    if not chosen:
        raise UnknownNameError(f"unknown format {form!r}", at="form", fix=did_you_mean(form or "", _names(FORMATS)))
    kind, columns = _look(name)
    for one in chosen:
        if one.kind == kind and (form is not None or one.fits(columns)):
            _require(one, columns, name)
            return judged(one.read(name, columns), Path(name).name)
    raise _unknown(name, kind, columns, chosen)


def read_lengths(path: str | os.PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prompt and output tokens of the usable rows of any trace, with or without arrivals."""
    traffic = read_trace(path)
    return traffic.prompt_tokens, traffic.output_tokens


def _look(name: str) -> tuple[str, tuple[str, ...]]:
    """("table" or "lines", its columns or keys)."""
    if not regular_size(name):
        raise FileFormatError("the file is empty", at=name, fix="is it the right file?")
    start = _start(name)
    if start[:4] != b"PAR1" and start.lstrip()[:1] == b"{":
        return "lines", _keys(name)
    if start[:4] != b"PAR1" and start.lstrip()[:1] == b"[":
        fix = "give JSON lines, or lengths in tokens as CSV; texts have no lengths without a tokenizer"
        raise FileFormatError(
            "a JSON list is no trace", at=f"{name}:1", got=start[:40].decode(errors="replace"), fix=fix
        )
    return "table", column_names(name)


def _start(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            start = file.read(4096)
        if start[:2] != b"\x1f\x8b":
            return start
        with gzip.open(name, "rb") as unpacked:
            return unpacked.read(4096)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError("not a readable file", at=name, got=str(error), fix="is it cut off?") from error


def _keys(name: str) -> tuple[str, ...]:
    """The keys of the first objects of a file of JSON lines."""
    reasons: list[tuple[int, str]] = []
    keys: dict[str, None] = {}
    found: list[int] = []
    for number, line in objects(name, lambda number, why: reasons.append((number, why)), found.__len__):
        found.append(number)
        keys.update(dict.fromkeys(line))
        if len(found) >= 3:
            break
    if not found:
        number, why = reasons[0] if reasons else (1, "no line holds anything")
        fix = "give JSON lines: one object a line, one per request"
        raise FileFormatError("not JSON lines", at=f"{name}:{number}", got=why, fix=fix)
    return tuple(keys)


def _require(one: Format, columns: tuple[str, ...], name: str) -> None:
    for choices in one.needs:
        if not {choice.casefold() for choice in choices} & {column.casefold() for column in columns}:
            what = f"a trace of format {one.name} needs {' or '.join(choices[:3])}"
            raise FileFormatError(what, at=f"{name}:1", fix=_nearest(choices, columns))


def _nearest(wanted: Iterable[str], columns: tuple[str, ...]) -> str:
    hits = [(one, near) for one in wanted for near in nearest(one, columns[:200], count=1)]
    return f"is {hits[0][1][:60]!r} meant as {hits[0][0]!r}?" if hits else "add it, or give another file"


def _unknown(name: str, kind: str, columns: tuple[str, ...], tried: Iterable[Format]) -> FileFormatError:
    same = [one for one in tried if one.kind == kind]
    words = {need[0]: None for one in same for need in one.needs}
    missing = [word for word in words if word.casefold() not in {column.casefold() for column in columns}]
    near = _nearest(missing, columns)
    known = "; ".join(f"{one.name}: {one.about}" for one in same)
    shown = ", ".join(column[:40] for column in columns[:12])
    what = f"not a known {'table' if kind == 'table' else 'file of JSON lines'} of requests"
    return FileFormatError(what, at=f"{name}:1", got=shown, fix=f"{near} Tried {known}")


def _names(formats: Iterable[Format]) -> list[str]:
    return [one.name for one in formats]
