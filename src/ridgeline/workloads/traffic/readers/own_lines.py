"""ridgeline's own columns as JSON lines: arrival_s, prompt_tokens, output_tokens and the others of `table`."""

from __future__ import annotations

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.lines import Collector, objects
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.readers.table import BLOCK, COLUMNS

CALLED = {column: names[0] for column, names in COLUMNS.items()}


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a file."""
    taken = Collector(path, CALLED)
    last: dict[str, int] = {}
    for number, line in objects(path, lambda n, why: taken.skipped.append((n, why)), taken.__len__):
        values = {column: line.get(name) for column, name in CALLED.items() if column != "hash_ids"}
        session = values["session"]
        own = None if session is None or isinstance(session, list | dict) else str(session)
        follows = own in last and values["arrival_s"] is None and values["think_s"] is not None
        place = taken.add(number, values, after=last[own] if follows and own else -1, blocks=line.get("hash_ids"))
        if own is not None:
            last[own] = place
    return taken.rows(block=BLOCK)


FORMAT = Format(
    name="lines",
    kind="lines",
    needs=(("prompt_tokens",), ("output_tokens",)),
    read=read,
    about="JSON lines with arrival_s, prompt_tokens, output_tokens",
)
