"""JSON lines into rows of requests: one object a line, read line by line through the strict parser."""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.errors import FileFormatError
from ridgeline.core.files import MAX_BYTES, parse_json, regular_size
from ridgeline.core.tables import Labels
from ridgeline.workloads.traffic.readers.rows import Longs, Rows

_PATIENCE = 1000
"""Lines without use before a file is given up; beyond them, one line in ten must be of use."""
_MOST_ITEMS = 2**28


class Collector:
    """Grows the columns of `Rows` line by line, in compact arrays."""

    def __init__(self, source: str, called: Mapping[str, str]) -> None:
        """Start without rows; `called` says how the file names each column."""
        self.source, self.called = source, called
        self.columns = {name: array("d") for name in ("arrival_s", "prompt_tokens", "output_tokens", "think_s")}
        self.bad: dict[str, dict[int, str]] = {}
        self.numbers, self.after = array("q"), array("q")
        self.labels: dict[str, list[int]] = {
            name: [] for name in ("session", "class_name", "tenant", "adapter", "model")
        }
        self.known: dict[str, dict[str, int]] = {name: {} for name in self.labels}
        self.block_ids, self.block_counts = array("q"), array("q")
        self.flawed: set[int] = set()
        self.skipped: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, number: int, values: Mapping[str, Any], *, after: int = -1, blocks: Any = None) -> int:
        """One request: what the file says of each column (absent: missing). Its place."""
        place = len(self.numbers)
        self.numbers.append(number)
        self.after.append(after)
        for name, column in self.columns.items():
            column.append(self._number(name, values.get(name), place))
        for name, codes in self.labels.items():
            codes.append(self._label(name, values.get(name)))
        self._take_blocks(blocks, place)
        return place

    def _number(self, name: str, value: Any, place: int) -> float:
        if type(value) is int or type(value) is float:
            return float(value)
        if value is not None:
            self.bad.setdefault(name, {})[place] = repr(value)[:80]
        return float("nan")

    def _label(self, name: str, value: Any) -> int:
        if value is None or isinstance(value, list | dict):
            return -1
        known = self.known[name]
        return known.setdefault(str(value)[:200], len(known))

    def _take_blocks(self, blocks: Any, place: int) -> None:
        count = 0
        if isinstance(blocks, list):
            if all(type(one) is int and 0 <= one <= 2**62 for one in blocks):
                self.block_ids.extend(blocks)
                count = len(blocks)
            else:
                self.flawed.add(place)
        elif blocks is not None:
            self.flawed.add(place)
        self.block_counts.append(count)
        if len(self.block_ids) > _MOST_ITEMS:
            raise FileFormatError(
                "too many prefix blocks", at=self.source, got=_MOST_ITEMS, fix="cut the trace in parts"
            )

    def rows(self, *, block: int = 0, growing: int = 0) -> Rows:
        """What was collected. `block` is the size of the blocks, 0: what fits the prompts."""
        size = len(self.numbers)
        columns: dict[str, Any] = {
            name: np.frombuffer(column, dtype=np.float64) for name, column in self.columns.items()
        }
        after = np.frombuffer(self.after, dtype=np.int64)
        counts = np.frombuffer(self.block_counts, dtype=np.int64)
        blocks = None
        if len(self.block_ids):
            fitting = block or block_size(counts, columns["prompt_tokens"])
            start = np.concatenate([[0], np.cumsum(counts)])
            blocks = (start, np.frombuffer(self.block_ids, dtype=np.int64), fitting)
        flawed = None
        if self.flawed:
            flawed = np.zeros(size, dtype=np.bool_)
            flawed[list(self.flawed)] = True
        labels: dict[str, Any] = {
            name: Labels(np.array(codes, dtype=np.int32), tuple(self.known[name]))
            for name, codes in self.labels.items()
            if self.known[name]
        }
        bad = {}
        for name, texts in self.bad.items():
            codes = np.full(size, -1, dtype=np.int32)
            codes[list(texts)] = np.arange(len(texts))
            bad[name] = Labels(codes, tuple(texts.values()))
        return Rows(
            source=self.source,
            called=self.called,
            bad=bad,
            numbers=np.frombuffer(self.numbers, dtype=np.int64),
            unit="line",
            after=after if size and after.max() >= 0 else None,
            blocks=blocks,
            flawed=flawed,
            growing=growing if blocks is None else 0,
            skipped=tuple(self.skipped),
            **columns,
            **labels,
        )


def block_size(counts: Longs, prompt_tokens: Any) -> int:
    """Tokens per block that explain the lengths of nearly all lists; 512, Mooncake's, where none or several do."""
    known = (counts > 0) & (prompt_tokens >= 1) & (prompt_tokens < 2**31)
    counts, prompt = counts[known], prompt_tokens[known].astype(np.int64)
    for size in (512, 16, 32, 64, 128, 256, 1024, 2048, 4096):
        if len(counts) and (counts == -(-prompt // size)).mean() >= 0.99:
            return size
    return 512


def objects(path: str, give_up: Callable[[int, str], None], useful: Callable[[], int]) -> Iterator[tuple[int, Any]]:
    """(line number, object) for each line that holds one; the others go to `give_up(number, reason)`.

    `useful()` says how many lines were of use so far: a file that is mostly noise is not read to its end.

    Raises:
        FileFormatError: not a readable file, a line without end, too little of use.
    """
    fruitless = 0
    for number, line in _lines(path):
        if not line.strip():
            fruitless += 1
        else:
            try:
                value = parse_json(line, path).data
            except FileFormatError as error:
                fruitless += 1
                column = error.at.rpartition(":")[2]
                give_up(number, f"column {column}: {error.what}")
            else:
                if isinstance(value, dict):
                    before = useful()
                    yield number, value
                    fruitless += useful() == before
                else:
                    fruitless += 1
                    give_up(number, "not a JSON object")
        if fruitless > _PATIENCE and fruitless > 9 * useful():
            what = f"of the first {number} lines {useful()} can be used"
            raise FileFormatError(
                what, at=f"{path}:{number}", fix="give JSON lines: one object a line, one per request"
            )


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    regular_size(path)
    try:
        with Path(path).open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else Path(path).open("rb") as file:
            number = 0
            while line := file.readline(MAX_BYTES + 1):
                number += 1
                if len(line) > MAX_BYTES:
                    what = f"line {number} is longer than {MAX_BYTES // 2**20} MiB"
                    raise FileFormatError(what, at=f"{path}:{number}", fix="give JSON lines: one object a line")
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError("not a readable file", at=path, got=str(error), fix="is it cut off?") from error
