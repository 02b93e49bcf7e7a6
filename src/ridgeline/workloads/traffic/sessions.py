"""Sessions: chats with think time, and agents that call tools. Each turn's prompt holds all that came before it.

The prompt of a turn is the one before, its output, and new tokens (what the user writes, or what the tool returns).
Prefix blocks are numbered so that the turns of a session share what they have in common, and all sessions of a class
share its system prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError
from ridgeline.core.seeding import stream
from ridgeline.workloads.traffic import prefixes
from ridgeline.workloads.traffic.lengths import Law
from ridgeline.workloads.traffic.requests import MAX_TOKENS, RequestClass, Traffic

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

DEFAULT_BLOCK = 64
MAX_ROWS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """How a session runs.

    Args:
        turns:    law of the number of turns (an agent's steps), >= 1.
        think:    law of the seconds between an answer and the next turn (the time that a tool takes).
        system:   tokens that every prompt of the class begins with.
        parallel: further requests beside each turn but the first, released by the same answer (side calls of an agent);
                  they read the same history, and nothing waits for them.
        context:  longest prompt and output together; a session ends before the turn that would be longer.
        block:    tokens per prefix block; 0: no prefix information.
    """

    turns: Law
    think: Law
    system: int = 0
    parallel: Law | None = None
    context: int = MAX_TOKENS
    block: int = DEFAULT_BLOCK

    def __post_init__(self) -> None:
        if not (0 <= self.system < self.context <= MAX_TOKENS and 0 <= self.block <= MAX_TOKENS):
            got = (self.system, self.context, self.block)
            raise SpecError("a session needs 0 <= system < context and block >= 0", at="sessions", got=got, fix="check")


def plain(starts_s: Floats, prompt: Law, output: Law, *, seed: int, name: str, one: RequestClass) -> Traffic:
    """One request at each time, without prefixes; lengths are drawn from streams of their own under `name`."""
    lengths = [
        law.sample(len(starts_s), stream(seed, f"{name}/{what}"))
        for law, what in ((prompt, "prompt"), (output, "output"))
    ]
    return Traffic.of(starts_s, *lengths, classes=(one,), name=name)


def play(
    starts_s: Floats, prompt: Law, output: Law, sessions: Sessions, *, seed: int, name: str, one: RequestClass
) -> Traffic:
    """The requests of sessions that start at these times.

    Args:
        starts_s: float64 [sessions], never falling.
        prompt:   law of the new tokens of each turn.
        output:   law of the tokens of each answer.
        sessions: how each runs.
        seed:     of the run; turns, think times and lengths have streams of their own under `name`.
        name:     of the class.
        one:      the class of all of them.
    Raises:
        DomainError: more than 5e7 requests.
        SpecError: no turn fits the context.
    """
    counts = np.minimum(sessions.turns.sample(len(starts_s), stream(seed, f"{name}/turns")), MAX_ROWS)
    if counts.sum() > MAX_ROWS:
        raise SpecError(f"more than {MAX_ROWS:,} turns", at=name, got=int(counts.sum()), fix="fewer sessions or turns")
    first, turn = prefixes.listed(counts)
    session = np.repeat(np.arange(len(starts_s)), counts)
    new = prompt.sample(len(session), stream(seed, f"{name}/prompt"))
    answers = output.sample(len(session), stream(seed, f"{name}/output"))
    think = sessions.think.seconds(len(session), stream(seed, f"{name}/think"))
    think[turn == 0] = 0.0
    # All tokens before this turn: the sums of the session up to it.
    said = np.cumsum(new + answers) - (new + answers)
    length = sessions.system + said - said[first[:-1]][session] + new
    kept = length + answers <= sessions.context
    if len(kept) and not kept.any():
        raise SpecError("no turn fits the context", at=name, got=sessions.context, fix="give a longer context")
    # Sums rise, so that what is kept of a session is its beginning; sessions without any are gone.
    place = np.cumsum(kept) - 1
    after = np.where(turn > 0, place - 1, -1)[kept]
    session, turn, length = session[kept], turn[kept], length[kept]
    columns = {"output_tokens": answers[kept], "think_s": think[kept]}
    traffic = Traffic.of(
        starts_s[session],
        length,
        classes=(one,),
        after=after,
        session=session,
        blocks=_blocks(session, length, sessions),
        name=name,
        **columns,
    )
    return traffic if sessions.parallel is None else _beside(traffic, prompt, output, sessions, seed, name)


def _blocks(session: Longs, length: Longs, sessions: Sessions) -> tuple[Longs, Longs, int] | None:
    if not sessions.block:
        return None
    start, ids = prefixes.growing(session, length, sessions.block, sessions.system)
    return start, ids, sessions.block


def _beside(traffic: Traffic, prompt: Law, output: Law, sessions: Sessions, seed: int, name: str) -> Traffic:
    """The traffic with side requests behind each turn that waits; they begin like the turn that they wait for."""
    assert sessions.parallel is not None, "only agents have side requests"
    later = np.flatnonzero(traffic.after >= 0)
    drawn = sessions.parallel.draw(stream(seed, f"{name}/parallel/count"), len(later))
    counts = np.clip(np.rint(drawn), 0, 1000).astype(np.int64)
    if counts.sum() + len(traffic) > MAX_ROWS:
        raise SpecError(f"more than {MAX_ROWS:,} requests", at=name, got=int(counts.sum()), fix="fewer side requests")
    beside = np.repeat(later, counts)
    parent = traffic.after[beside]
    history = traffic.prompt_tokens[parent] + traffic.output_tokens[parent]
    length = history + prompt.sample(len(beside), stream(seed, f"{name}/parallel/prompt"))
    answers = output.sample(len(beside), stream(seed, f"{name}/parallel/output"))
    kept = length + answers <= sessions.context
    beside, parent, length, answers = beside[kept], parent[kept], length[kept], answers[kept]
    rows = len(traffic)
    blocks = None
    if sessions.block:
        # Only what the history fills is shared: the ids of the turn beside it, then one text of its own each.
        own = prefixes.growing(np.full(len(beside), -1), length, sessions.block)
        shared = history[kept] // sessions.block
        counts = np.diff(own[0])
        _, place = prefixes.listed(counts)
        ids = own[1] + traffic.hash_ids.max(initial=-1) + 1
        common = place < np.repeat(shared, counts)
        ids[common] = traffic.hash_ids[(np.repeat(traffic.hash_start[:-1][beside], counts) + place)[common]]
        start = np.concatenate([traffic.hash_start, traffic.hash_start[-1] + np.cumsum(counts)])
        blocks = (start, np.concatenate([traffic.hash_ids, ids]), sessions.block)
    columns = {
        "prompt_tokens": length,
        "output_tokens": answers,
        "after": parent,
        "think_s": traffic.think_s[beside],
        "session": traffic.session[beside],
    }
    both = {column: np.concatenate([getattr(traffic, column), added]) for column, added in columns.items()}
    arrival = np.concatenate([traffic.arrival_s, traffic.arrival_s[beside]])
    order = np.lexsort((np.arange(len(arrival)) >= rows, np.concatenate([np.arange(rows), beside])))
    return _ordered(arrival, both, blocks, order, traffic)


def _ordered(
    arrival: Floats,
    columns: dict[str, NDArray[np.float64] | Longs],
    blocks: tuple[Longs, Longs, int] | None,
    order: Longs,
    like: Traffic,
) -> Traffic:
    """The requests in that order, which follows arrivals and puts each behind the one that it waits for."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    after = columns["after"]
    columns["after"] = np.where(after >= 0, place[np.maximum(after, 0).astype(np.int64)], -1)
    if blocks is not None:
        start, ids = prefixes.pick(blocks[0], blocks[1], order)
        blocks = (start, ids, blocks[2])
    taken = {column: values[order] for column, values in columns.items()}
    return Traffic.of(arrival[order], classes=like.classes, blocks=blocks, name=like.name, **taken)
