"""Prompt prefixes as ids of blocks: equal id, equal prompt up to and including that block (CSR: starts and ids)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError

Longs = NDArray[np.int64]
Blocks = tuple[Longs, Longs]
"""(start [n + 1], ids): the blocks of request i are ids[start[i]:start[i + 1]]."""

MAX_BLOCKS = 2**28
"""Most ids in one traffic: 2 GiB of them."""


def listed(counts: Longs) -> tuple[Longs, Longs]:
    """For lists of these lengths one behind the other: where each starts [n + 1], and each item's place in its list."""
    start = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=start[1:])
    if start[-1] > MAX_BLOCKS:
        fix = "use larger blocks, shorter prompts or fewer requests"
        raise DomainError(f"more than {MAX_BLOCKS} prefix blocks", at="hash_ids", got=int(start[-1]), fix=fix)
    return start, np.arange(start[-1]) - np.repeat(start[:-1], counts)


def pick(start: Longs, ids: Longs, order: Longs) -> Blocks:
    """The blocks of the requests at these places, in this order."""
    if not len(ids):
        return np.broadcast_to(np.int64(0), (len(order) + 1,)), ids
    counts = np.diff(start)[order]
    picked, place = listed(counts)
    return picked, ids[np.repeat(start[:-1][order], counts) + place]


def coarser(start: Longs, ids: Longs, size: int, wanted: int) -> Blocks:
    """The same prefixes in blocks of `wanted` tokens, a multiple of `size`: the id of the last small block in each.

    A large block that is not full is dropped, since its id would stand for a shorter prefix.
    """
    if size == wanted or not len(ids):
        return start, ids
    if wanted % size:
        fix = "make both prefixes with the same `block`"
        raise DomainError("prefix blocks of two sizes do not fit", at="hash_tokens", got=(size, wanted), fix=fix)
    factor = wanted // size
    counts = np.diff(start) // factor
    picked, place = listed(counts)
    return picked, ids[np.repeat(start[:-1], counts) + (place + 1) * factor - 1]


def joined(parts: list[Blocks]) -> Blocks:
    """The blocks of several traffics one behind the other, ids of one never equal to those of another."""
    ids, counts, taken = [], [], 0
    for start, own in parts:
        distinct, dense = np.unique(own, return_inverse=True)
        ids.append(dense.astype(np.int64) + taken)
        counts.append(np.diff(start))
        taken += len(distinct)
    together = np.concatenate(ids)
    if not len(together):
        return np.broadcast_to(np.int64(0), (sum(map(len, counts)) + 1,)), together
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]), together


def growing(stream: Longs, prompt_tokens: Longs, block: int, shared_tokens: int = 0) -> Blocks:
    """Ids of the full blocks of prompts that are beginnings of one text per stream.

    Args:
        stream:        [n] number of the text that each prompt is a beginning of; -1: of a text of its own.
        prompt_tokens: [n].
        block:         tokens per block.
        shared_tokens: how much of its beginning every text has in common (a system prompt).
    """
    counts = prompt_tokens // block
    start, place = listed(counts)
    shared = shared_tokens // block
    text = np.where(stream >= 0, stream, stream.max(initial=-1) + 1 + np.arange(len(stream)))
    distinct, text = np.unique(text, return_inverse=True)
    longest = np.zeros(len(distinct), dtype=np.int64)
    np.maximum.at(longest, text, counts)
    own = np.maximum(longest - shared, 0)
    base = shared + np.cumsum(own) - own
    ids = np.where(place < shared, place, np.repeat(base[text], counts) + place - shared)
    return start, ids


def epochs(session: Longs, prompt_tokens: Longs) -> Longs:
    """A stream for each session, anew where a prompt is shorter than the one before it (a context that was cut).

    Rows of a session must be in order; -1 stays -1.
    """
    order = np.argsort(session, kind="stable")
    own, length = session[order], prompt_tokens[order]
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = (own[1:] != own[:-1]) | (length[1:] < length[:-1])
    stream = np.empty(len(order), dtype=np.int64)
    stream[order] = np.cumsum(fresh)
    return np.where(session >= 0, stream, -1)


def reuse_frac(ids: Longs) -> float:
    """Share of blocks that came before: what an endless cache would hold. NaN without blocks."""
    return 1.0 - len(np.unique(ids)) / len(ids) if len(ids) else math.nan
