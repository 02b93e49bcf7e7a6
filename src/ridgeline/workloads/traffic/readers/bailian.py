"""Qwen-Bailian usage traces: timestamp (s), input_length, output_length, chat_id, parent_chat_id, type, turn, hash_ids.

Every turn has a timestamp and its whole prompt, so it arrives then; chats that follow from one another are one session.
`type` becomes the class. Blocks hold 16 tokens. Source: alibaba-edu/qwen-bailian-usagetraces-anon, README.
"""

from __future__ import annotations

from typing import Any

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.lines import Collector, objects
from ridgeline.workloads.traffic.readers.rows import Rows

CALLED = {"arrival_s": "timestamp", "prompt_tokens": "input_length", "output_tokens": "output_length"}
BLOCK = 16


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a file."""
    taken = Collector(path, CALLED)
    root: dict[str, str] = {}
    for number, line in objects(path, lambda n, why: taken.skipped.append((n, why)), taken.__len__):
        chat, parent = _key(line.get("chat_id")), _key(line.get("parent_chat_id"))
        session = root.get(parent, parent) if parent not in ("", "-1") else chat
        root[chat] = session
        values = {
            "arrival_s": line.get("timestamp"),
            "prompt_tokens": line.get("input_length"),
            "output_tokens": line.get("output_length"),
            "session": session or None,
            "class_name": line.get("type"),
        }
        taken.add(number, values, blocks=line.get("hash_ids"))
    return taken.rows(block=BLOCK)


def _key(value: Any) -> str:
    return "" if value is None or isinstance(value, list | dict) else str(value)[:200]


FORMAT = Format(
    name="bailian",
    kind="lines",
    needs=(("chat_id",), ("parent_chat_id",), ("timestamp",), ("input_length",)),
    read=read,
    about="JSON lines with chat_id, parent_chat_id, timestamp (s), input_length, output_length, hash_ids",
)
