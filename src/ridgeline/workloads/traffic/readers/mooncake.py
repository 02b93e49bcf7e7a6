"""Mooncake's traces and what grew from them: timestamp (ms), input_length, output_length, hash_ids; one object a line.

AIPerf and Dynamo add `session_id` and `delay` (ms): a turn without a timestamp follows the one before it in its session
after that time. Without hash_ids its `input_length` counts the new tokens only, as AIPerf's default has it; with
hash_ids, or `context_mode: message_array_with_responses`, it is the whole prompt. Blocks hold 512 tokens unless the
lengths of the lists say otherwise.
Source: kvcache-ai/Mooncake, FAST25-release/traces; ai-dynamo/aiperf, mooncake_trace loader.
"""

from __future__ import annotations

from typing import Any

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.lines import Collector, objects
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.sessions import DEFAULT_BLOCK

CALLED = {
    "arrival_s": "timestamp",
    "prompt_tokens": "input_length",
    "output_tokens": "output_length",
    "think_s": "delay",
    "session": "session_id",
}


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a file."""
    taken = Collector(path, CALLED)
    last: dict[str, tuple[int, float]] = {}
    for number, line in objects(path, lambda n, why: taken.skipped.append((n, why)), taken.__len__):
        if "input_length" not in line:
            why = "has a text and no length" if {"text_input", "messages", "payload"} & line.keys() else "is missing"
            taken.skipped.append((number, f"input_length: {why}"))
            continue
        _take(taken, number, line, last)
    return taken.rows(growing=DEFAULT_BLOCK)


def _take(taken: Collector, number: int, line: dict[str, Any], last: dict[str, tuple[int, float]]) -> None:
    session, blocks = line.get("session_id"), line.get("hash_ids")
    values = {
        "arrival_s": _seconds(line.get("timestamp")),
        "prompt_tokens": line["input_length"],
        "output_tokens": line.get("output_length"),
        "think_s": _seconds(line.get("delay")),
        "session": session,
    }
    if session is None or isinstance(session, list | dict):
        taken.add(number, values, blocks=blocks)
        return
    after, history = last.get(str(session), (-1, 0.0))
    follows = after >= 0 and line.get("timestamp") is None
    whole = blocks or line.get("context_mode") == "message_array_with_responses"
    if follows and not whole and _counts(values["prompt_tokens"]):
        values["prompt_tokens"] += history
    place = taken.add(number, values, after=after if follows else -1, blocks=blocks)
    if _counts(values["prompt_tokens"]) and _counts(values["output_tokens"]):
        last[str(session)] = (place, float(values["prompt_tokens"]) + float(values["output_tokens"]))
    else:
        last[str(session)] = (place, 0.0)


def _counts(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _seconds(value: Any) -> Any:
    """Milliseconds as seconds; what is no number stays, to be named."""
    return value / 1000 if _counts(value) else value


FORMAT = Format(
    name="mooncake",
    kind="lines",
    needs=(("input_length", "text_input", "messages"), ("output_length", "hash_ids", "timestamp", "session_id")),
    read=read,
    about="JSON lines with timestamp (ms), input_length, output_length, hash_ids",
)
