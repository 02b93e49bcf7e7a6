"""What an engine is told and what it reports: rules of its scheduler, requests, and the record of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.core.errors import DomainError

POLICIES = ("chunked", "whole", "prefill-first")
CACHES = ("grow", "reserve", "reserve-part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the engine forms an iteration.

    Attributes:
        slots: sequences at once.
        token_budget: new tokens of an iteration.
        prompts: chunked (a prompt is cut to the budget left), whole (it waits until it fits), prefill-first (prompts
            have iterations of their own, and decoding waits for them).
        cache: grow (a prompt's tokens at admission, then token by token), reserve (prompt and output at admission) or
            reserve-part (as grow, but admits only while part of all remaining outputs would still fit).
        cache_tokens: tokens that the cache holds.
        lag: iterations already scheduled when a request arrives, which it misses.
        wait_steps, wait_frac: prompts are held back for at most so many iterations while they would fill less than this
            share of the budget (TensorRT-LLM's batch wait).
        front_end_s: time per output token of the one process through which all tokens pass.
        growth: output tokens per iteration and sequence (above 1 under speculation).
    """

    slots: int
    token_budget: float
    prompts: str = "chunked"
    cache: str = "grow"
    cache_tokens: float = math.inf
    lag: float = 0.0
    wait_steps: int = 0
    wait_frac: float = 0.0
    front_end_s: float = 0.0
    growth: float = 1.0

    def __post_init__(self) -> None:
        """Refuse rules under which nothing would ever run."""
        if self.prompts not in POLICIES or self.cache not in CACHES:
            raise DomainError(f"prompts is one of {POLICIES}, cache one of {CACHES}", at="rules", got=self)
        if self.slots < 1 or self.token_budget < 1 or self.lag < 0 or self.growth <= 0:
            raise DomainError("slots, token_budget and growth are positive, lag is not negative", at="rules", got=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests in the order in which they are sent.

    Attributes:
        prompts, outputs: tokens of each; outputs >= 1.
        hits: prompt tokens found in the cache, fewer than the prompt.
        clients: with `arrivals` None, so many are in flight: each completion sends the next one.
        arrivals: times at which they are sent, rising (open loop).
    """

    prompts: Sequence[int]
    outputs: Sequence[int]
    hits: Sequence[int]
    clients: int = 1
    arrivals: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What happened, times in seconds as the client sees them: when each request was sent, its first and last token.

    `iterations`, `events` count iterations and the runs they were taken in; `preempted` recomputed requests;
    `decode_area` is the integral of the number of decoding sequences over time, `end_s` the end of the last iteration.
    """

    sent_s: list[float]
    first_s: list[float]
    last_s: list[float]
    iterations: int
    events: int
    preempted: int
    decode_area: float
    end_s: float
