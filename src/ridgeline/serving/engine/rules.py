"""What an engine is told and what it writes down: rules of its scheduler, requests, and the log of a run."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.core.errors import DomainError

PROMPTS = ("chunked", "whole", "prefill-first")
CACHES = ("grow", "reserve", "reserve-part")
PREEMPTIONS = ("recompute", "swap")
BATCHINGS = ("continuous", "static")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the engine forms an iteration.

    Attributes:
        slots: sequences at once.
        token_budget: new tokens of an iteration.
        prompts: chunked (a prompt is cut to the budget left), whole (it waits until it fits), prefill-first (prompts
            have iterations of their own, and decoding waits for them).
        longest_chunk: most tokens of one prompt in an iteration.
        cache: grow (a prompt's blocks at admission, then block by block), reserve (prompt and output at admission) or
            reserve-part (as grow, but admits only while part of all remaining outputs would still fit).
        cache_tokens: tokens that the cache holds.
        longest_tokens: most tokens of one sequence in the cache, where that is in parts.
        block_tokens: tokens of a cache block. Under speculation lengths are means, and blocks must be single tokens.
        kept_tokens: most tokens of a sequence that stay in the cache while it decodes (cache eviction policies).
        watermark_frac: share of the cache that admission leaves free, unless the engine is empty.
        preemption: recompute (prompt and emitted tokens are prefilled again) or swap (the cache moves to the host).
        copy_s: time to move one block between host and device.
        lag: iterations already scheduled when a request arrives, which it misses.
        wait_steps, wait_frac: prompts are held back for at most so many iterations while they would fill less than this
            share of the budget (TensorRT-LLM's batch wait).
        front_end_s: time per output token of the one process through which all tokens pass.
        growth: output tokens per iteration and sequence (above 1 under speculation).
        prefill_only: requests leave after their prompt; another engine decodes (disaggregated serving).
        batching: continuous (whoever fits enters at any iteration) or static (requests are admitted only when nothing
            runs; a batch then takes all that slots and cache allow, its prompts share as many iterations as the budget
            asks, and the slot of a sequence that ends early stays empty; Orca, OSDI 2022, section 2).
    """

    slots: int
    token_budget: float
    prompts: str = "chunked"
    longest_chunk: float = math.inf
    cache: str = "grow"
    cache_tokens: float = math.inf
    longest_tokens: float = math.inf
    block_tokens: int = 1
    kept_tokens: float = math.inf
    watermark_frac: float = 0.0
    preemption: str = "recompute"
    copy_s: float = 0.0
    lag: float = 0.0
    wait_steps: int = 0
    wait_frac: float = 0.0
    front_end_s: float = 0.0
    growth: float = 1.0
    prefill_only: bool = False
    batching: str = "continuous"

    def __post_init__(self) -> None:
        """Refuse rules under which nothing would ever run."""
        if self.prompts not in PROMPTS or self.cache not in CACHES or self.preemption not in PREEMPTIONS:
            fix = f"prompts is one of {PROMPTS}, cache of {CACHES}, preemption of {PREEMPTIONS}"
            raise DomainError("unknown policy", at="rules", got=self, fix=fix)
        if self.batching not in BATCHINGS:
            raise DomainError("unknown batching", at="batching", got=self.batching, fix=f"one of {BATCHINGS}")
        sizes = (self.slots, self.token_budget, self.longest_chunk, self.block_tokens, self.kept_tokens)
        if min(sizes) < 1 or self.growth <= 0:
            raise DomainError("slots, budgets and block_tokens are at least 1, growth positive", at="rules", got=self)
        if min(self.lag, self.copy_s, self.front_end_s, self.wait_steps) < 0 or not 0 <= self.watermark_frac < 1:
            raise DomainError("times are not negative, watermark_frac is below 1", at="rules", got=self)
        if self.growth != 1.0 and self.block_tokens != 1:
            fix = "count the cache in tokens: block_tokens=1"
            raise DomainError("under speculation lengths are means", at="block_tokens", got=self.block_tokens, fix=fix)

    @property
    def blocks(self) -> float:
        """Blocks that the cache holds."""
        return self.cache_tokens // self.block_tokens if math.isfinite(self.cache_tokens) else UNLIMITED


UNLIMITED = float(1 << 50)
"""Tokens of a cache without bound: far above any load, and sums of tokens stay exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests in the order in which they are sent; columns of any sequence type.

    Attributes:
        prompts, outputs: tokens of each; outputs >= 1.
        hits: prompt tokens found in the cache, fewer than the prompt; they save computation, not room (None: none).
        clients: with `arrivals` None, so many are in flight: each completion sends the next one.
        arrivals: times at which they are sent, rising (open loop).
    """

    prompts: Sequence[int]
    outputs: Sequence[int]
    hits: Sequence[int] | None = None
    clients: int = 1
    arrivals: Sequence[float] | None = None


class Log:
    """When what happened to each request, in seconds as its client sees it; NaN: not yet. Engines of a fleet share it.

    Attributes:
        sent, admitted, first, last: arrival, first admission to a batch, first token, last token.
        preempted, found: how often it was preempted, and prompt tokens found in a prefix cache; only where not 0.
    """

    __slots__ = ("admitted", "first", "found", "last", "preempted", "sent")

    def __init__(self, requests: int) -> None:
        """Room for so many requests."""
        self.sent, self.admitted, self.first, self.last = (array("d", [math.nan]) * requests for _ in range(4))
        self.preempted: dict[int, int] = {}
        self.found: dict[int, int] = {}
