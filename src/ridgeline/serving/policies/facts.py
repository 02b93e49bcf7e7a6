"""What policies may know about requests: columns by request number, and the seed of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ridgeline.core.seeding import stream

_WORD = (1 << 64) - 1


class ServiceClass(Protocol):
    """What is promised to a class of requests; `workloads.traffic.RequestClass` is one."""

    @property
    def ttft_s(self) -> float:
        """Objective of the time to the first token; inf: none."""

    @property
    def tpot_s(self) -> float:
        """Objective of the time per output token after the first."""

    @property
    def e2e_s(self) -> float:
        """Objective of the time to the last token."""

    @property
    def priority(self) -> int:
        """Higher is served first by schedulers that know priorities."""

    @property
    def weight(self) -> float:
        """Its share, for fair schedulers."""


@dataclass(frozen=True, slots=True)
class _Plain:
    """A class without promises."""

    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf
    priority: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Requests as policies see them.

    Attributes:
        prompt_tokens, output_tokens: lengths. Output tokens are what a real scheduler cannot know.
        arrival_s: when each is sent; NaN while that is not known (a closed loop, a session): the driver may hand the
            column that it fills as they come.
        class_code: index into `classes` (None: all 0).
        classes: what is promised.
        tenant: for fair schedulers (None: all 0).
        session: for routers that keep sessions together; -1: none (None: all -1).
        model: of several that take turns (None: all 0).
        seed: of policies that draw.
    """

    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    arrival_s: Sequence[float] = ()
    class_code: Sequence[int] | None = None
    classes: tuple[ServiceClass, ...] = (_Plain(),)
    tenant: Sequence[int] | None = None
    session: Sequence[int] | None = None
    model: Sequence[int] | None = None
    seed: int = 0

    @classmethod
    def of(cls, traffic: Any, *, sent_s: Sequence[float] | None = None, seed: int = 0) -> Facts:
        """The facts of a `Traffic`; `sent_s` is the column of the log that holds when each request was really sent."""
        return cls(
            prompt_tokens=traffic.prompt_tokens.tolist(),
            output_tokens=traffic.output_tokens.tolist(),
            arrival_s=traffic.arrival_s.tolist() if sent_s is None else sent_s,
            class_code=_varying(traffic.class_code, 0),
            classes=tuple(traffic.classes) or (_Plain(),),
            tenant=_varying(traffic.tenant, 0),
            session=_varying(traffic.session, -1),
            model=_varying(traffic.model, -1),
            seed=seed,
        )

    def __len__(self) -> int:
        """Requests."""
        return len(self.prompt_tokens)

    def class_of(self, request: int) -> ServiceClass:
        """What is promised to it."""
        return self.classes[0 if self.class_code is None else self.class_code[request]]

    def tenant_of(self, request: int) -> int:
        """Whose it is."""
        return 0 if self.tenant is None else self.tenant[request]

    def session_of(self, request: int) -> int:
        """Number of its session; -1: none."""
        return -1 if self.session is None else self.session[request]

    def model_of(self, request: int) -> int:
        """Number of its model."""
        return 0 if self.model is None else self.model[request]

    def sent_s(self, request: int, time: float) -> float:
        """When it was sent; `time` if nobody knows."""
        sent = self.arrival_s[request] if request < len(self.arrival_s) else math.nan
        return time if math.isnan(sent) else sent


def _varying(column: Any, usual: int) -> list[int] | None:
    """A column as plain numbers; None where all are the usual one."""
    values = np.asarray(column)
    return None if np.all(values == usual) else values.tolist()


class Noise:
    """Standard normal draws by request number: the same for each request, whichever lane asks, and without memory."""

    __slots__ = ("_key",)

    def __init__(self, seed: int, name: str) -> None:
        """`name` is the stream; the run's seed gives its key."""
        self._key = int(stream(seed, name).integers(0, 1 << 63))

    def uniform(self, request: int) -> float:
        """In (0, 1). Source: splitmix64, Steele et al., "Fast splittable pseudorandom number generators", 2014."""
        z = (self._key + (request + 1) * 0x9E3779B97F4A7C15) & _WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
        return ((z ^ (z >> 31)) + 0.5) / (_WORD + 1)

    def normal(self, request: int) -> float:
        """Two uniform draws by Box and Muller's transform."""
        radius = math.sqrt(-2.0 * math.log(self.uniform(2 * request)))
        return radius * math.cos(2.0 * math.pi * self.uniform(2 * request + 1))
