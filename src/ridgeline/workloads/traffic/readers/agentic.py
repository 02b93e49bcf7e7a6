"""LLMServingSim's workloads: requests, and agents' sessions of requests with the time that tools take between them.

A line is a request (input_toks, output_toks, arrival_time_ns) or a session (session_id, arrival_time_ns, sub_requests),
whose sub-requests each have `tool_duration_ns`, the wait before the next. Each prompt is whole. Token ids, where given,
say which prefixes are equal; else the prompts of a session extend each other for as long as they grow.
Source: casys-kaist/LLMServingSim, workloads/README.md.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import Any

from ridgeline.workloads.traffic.readers.formats import Format
from ridgeline.workloads.traffic.readers.lines import Collector, objects
from ridgeline.workloads.traffic.readers.rows import Rows
from ridgeline.workloads.traffic.sessions import DEFAULT_BLOCK

CALLED = {
    "arrival_s": "arrival_time_ns",
    "prompt_tokens": "input_toks",
    "output_tokens": "output_toks",
    "think_s": "tool_duration_ns",
    "session": "session_id",
}
BLOCK = 16
_MOST_STEPS = 100_000


def read(path: str, names: tuple[str, ...]) -> Rows:
    """The rows of such a file."""
    taken = Collector(path, CALLED)
    known: dict[bytes, int] = {}
    for number, line in objects(path, lambda n, why: taken.skipped.append((n, why)), taken.__len__):
        steps = line.get("sub_requests")
        if steps is None:
            values = {"arrival_s": _seconds(line.get("arrival_time_ns")), **_lengths(line)}
            taken.add(number, values, blocks=_blocks(line.get("input_tok_ids"), known))
        elif not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            taken.skipped.append((number, "sub_requests: not a list of objects"))
        elif not 0 < len(steps) <= _MOST_STEPS:
            taken.skipped.append((number, f"sub_requests: not 1 to {_MOST_STEPS} of them"))
        else:
            _take_session(taken, number, line, steps, known)
    return taken.rows(block=BLOCK, growing=DEFAULT_BLOCK)


def _take_session(
    taken: Collector, number: int, line: dict[str, Any], steps: list[dict[str, Any]], known: dict[bytes, int]
) -> None:
    session = line.get("session_id")
    shared = {"session": f"line {number}" if session is None else session}
    place, wait = -1, None
    for step in steps:
        values = {"think_s": wait, **shared, **_lengths(step)}
        if place < 0:
            values["arrival_s"] = _seconds(line.get("arrival_time_ns"))
        place = taken.add(number, values, after=place, blocks=_blocks(step.get("input_tok_ids"), known))
        wait = _seconds(step.get("tool_duration_ns"))


def _lengths(item: dict[str, Any]) -> dict[str, Any]:
    return {"prompt_tokens": item.get("input_toks"), "output_tokens": item.get("output_toks")}


def _seconds(value: Any) -> Any:
    """Nanoseconds as seconds; what is no number stays, to be named."""
    return value / 1_000_000_000 if type(value) is int or type(value) is float else value


def _blocks(tokens: Any, known: dict[bytes, int]) -> Any:
    """Ids of the full blocks of a prompt: equal where all tokens up to the end of the block are."""
    if tokens is None or (isinstance(tokens, list) and not tokens):
        return None
    if not isinstance(tokens, list) or not all(type(one) is int and 0 <= one < 2**31 for one in tokens):
        return "malformed"
    written = array("i", tokens).tobytes()
    width = BLOCK * array("i").itemsize
    digest, ids = b"", []
    for end in range(width, len(written) + 1, width):
        digest = hashlib.blake2b(digest + written[end - width : end], digest_size=16).digest()
        ids.append(known.setdefault(digest, len(known)))
    return ids


FORMAT = Format(
    name="llmservingsim",
    kind="lines",
    needs=(("input_toks", "sub_requests"), ("arrival_time_ns", "output_toks", "session_id")),
    read=read,
    about="JSON lines with input_toks, output_toks, arrival_time_ns, or sessions with sub_requests",
)
