"""Rows of measured tables for the fits: labels that occur, and columns of the rows of one half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ridgeline.costs.fits.common import chosen, hash_unit
from ridgeline.costs.measurements import SIZES


def distinct(file: Path, names: Sequence[str], where: str) -> list[tuple[str, ...]]:
    """Every combination of labels that the chosen rows hold, sorted. `where` is one of the fits' own conditions."""
    listed = ", ".join(names)
    query = f"select distinct {listed} from '{file}' where {where} order by all"  # noqa: S608
    with duckdb.connect() as connection:
        return [tuple(str(label) for label in row) for row in connection.execute(query).fetchall()]


def gpus_of(file: Path, where: str) -> tuple[str, ...]:
    """The chips that the chosen rows were measured on."""
    return tuple(gpu for (gpu,) in distinct(file, ("gpu",), where))


def count_rows(file: Path) -> int:
    """Rows of a table."""
    with duckdb.connect() as connection:
        found = connection.execute("select count(*) from read_parquet(?)", [str(file)]).fetchone()
    return int(found[0]) if found else 0


def read_rows(file: Path, key: Sequence[str], where: str, half: str, limit: int) -> dict[str, Any]:
    """Sizes `key` and `latency_ms` of rows of one part: the first `limit` by the hash of their sizes.

    Parts are those of `common.chosen` over the sizes that `measurements` checks, so that every user of the tables
    means the same rows by them.
    """
    names = ", ".join(f'"{name}"' for name in (*key, "latency_ms"))
    order = ", ".join(f'"{name}"' for name in key)
    query = f"select {names} from '{file}' where ({where}) order by {order}, latency_ms"  # noqa: S608
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        table = connection.execute(query).fetchnumpy()
    columns = {name: values.astype(float) for name, values in table.items()}
    sizes = [columns.get(name, np.zeros_like(columns["latency_ms"])) for name in SIZES[file.stem]]
    wanted = chosen(half, *sizes)
    order_by = np.argsort(hash_unit(*(columns[name] for name in reversed(key))), kind="stable")
    first = order_by[wanted[order_by]][:limit]
    return {name: values[first] for name, values in columns.items()}
