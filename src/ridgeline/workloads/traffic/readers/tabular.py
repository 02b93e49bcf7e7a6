"""Columns of a CSV or Parquet file into rows of requests; each table format says which column is what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ridgeline.core.tables import Kind, Labels, Table, lists_of, read_table, times_of
from ridgeline.workloads.traffic.readers.rows import Floats, Longs, Rows

NUMBERS = ("arrival_s", "prompt_tokens", "output_tokens", "think_s")
LABELS = ("session", "class_name", "tenant", "adapter", "model")


def rows_of(
    path: str,
    names: tuple[str, ...],
    columns: Mapping[str, tuple[str, ...]],
    *,
    dates: bool = False,
    block: int = 0,
    no_output: str = "must be >= 1",
) -> Rows:
    """The rows of a table.

    Args:
        path:    the file.
        names:   the columns that it has.
        columns: column of `Rows` -> the names that it may have in the file, the first that is there counts.
        dates:   whether arrivals are dates with times, not seconds.
        block:   tokens per block of the column `hash_ids`, if it has one.
        no_output: why a request may have no output, as this format has it.
    """
    spelled = {name.casefold(): name for name in names}
    called = {
        column: spelled[choice.casefold()]
        for column, choices in columns.items()
        for choice in [next((one for one in choices if one.casefold() in spelled), "")]
        if choice
    }
    wanted: dict[str, Kind] = {called[column]: "number" for column in NUMBERS if column in called}
    wanted |= {called[column]: "text" for column in LABELS if column in called}
    if dates:
        del wanted[called["arrival_s"]]
    table = read_table(path, columns=wanted)
    bad = {column: table.bad[called[column]] for column in NUMBERS if called.get(column) in table.bad}
    found = {column: table.number(called[column]) for column in NUMBERS if called.get(column) in wanted}
    if dates:
        found["arrival_s"], wrong = times_of(table, called["arrival_s"])
        if wrong.values:
            bad["arrival_s"] = wrong
    none = np.full(table.rows, np.nan)
    labels: dict[str, Any] = {column: table.labels(called[column]) for column in LABELS if column in called}
    blocks = None
    flawed = None
    if "hash_ids" in called and block:
        lengths, ids, flawed = lists_of(table, called["hash_ids"])
        blocks = (np.concatenate([[0], np.cumsum(lengths)]), ids, block)
    return Rows(
        source=path,
        arrival_s=found.get("arrival_s", none),
        prompt_tokens=found.get("prompt_tokens", none),
        output_tokens=found.get("output_tokens", none),
        think_s=found.get("think_s"),
        after=_turns(table, labels.get("session"), found.get("think_s"), found.get("arrival_s", none)),
        called=called,
        bad=bad,
        blocks=blocks,
        flawed=flawed,
        no_output=no_output,
        dated=dates,
        **labels,
    )


def _turns(table: Table, session: Labels | None, think: Floats | None, arrival: Floats) -> Longs | None:
    """Rows of a session that have a think time and no arrival of their own wait for the row of it before them."""
    if session is None or think is None:
        return None
    order = np.argsort(session.codes, kind="stable")
    before = np.full(table.rows, -1, dtype=np.int64)
    own = session.codes[order]
    follows = np.zeros(table.rows, dtype=np.bool_)
    follows[1:] = (own[1:] == own[:-1]) & (own[1:] >= 0)
    before[order[1:]] = order[:-1]
    waits = np.zeros(table.rows, dtype=np.bool_)
    waits[order] = follows
    return np.where(waits & np.isnan(arrival), before, -1)
