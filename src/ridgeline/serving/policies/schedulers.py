"""Named orders in which waiting requests are served.

A scheduler is a function or class that takes the `Facts` of the run and gives the queue of one lane; further parameters
are keywords. What a queue must do, and what it may do besides, is in `queues.py`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.queues import Fcfs, Keyed, Queue
from ridgeline.serving.policies.facts import Facts, Noise

Scheduler = Callable[[Facts], Queue]


def fcfs(facts: Facts) -> Queue:
    """First come, first served; a preempted request goes first."""
    return Fcfs()


def priority(facts: Facts) -> Queue:
    """Highest priority of its class first, and of equal ones the first that came. It preempts nobody."""
    return Keyed(_rank(facts))


def shortest(facts: Facts) -> Queue:
    """Fewest output tokens first: an oracle, the bound of what prediction can bring."""
    return Keyed(lambda request, time: float(facts.output_tokens[request]))


def shortest_predicted(facts: Facts, *, sigma: float = 0.5) -> Queue:
    """Fewest predicted output tokens first; predictions are off by a lognormal factor, one draw per request.

    Args:
        facts: of the run.
        sigma: standard deviation of the logarithm of predicted over true length.
    """
    noise, outputs = Noise(facts.seed, "shortest-predicted"), facts.output_tokens
    _require(sigma >= 0, "sigma is not negative", "sigma", sigma)
    return Keyed(lambda request, time: outputs[request] * math.exp(sigma * noise.normal(request)))


def deadline(facts: Facts) -> Queue:
    """Earliest deadline of the first token first: when it was sent plus the TTFT of its class."""
    return Keyed(lambda request, time: facts.sent_s(request, time) + facts.class_of(request).ttft_s)


def _rank(facts: Facts) -> Callable[[int, float], float]:
    return lambda request, time: float(-facts.class_of(request).priority)


def _require(holds: bool, what: str, at: str, got: object, fix: str = "") -> None:
    if not holds:
        raise DomainError(what, at=at, got=got, fix=fix)


class SloAware:
    """Least slack first; requests that cannot meet their objective any more go behind all that can.

    Slack is the time that may still pass before a request must start: until the TTFT of its class, and until its end to
    end objective less the time that its output takes at the TPOT of its class.
    """

    def __init__(self, facts: Facts, *, token_s: float = 0.0, drop_late: bool = True) -> None:
        """An empty queue.

        Args:
            facts: of the run.
            token_s: time per output token where the class states no TPOT.
            drop_late: whether requests that are late anyway go last; otherwise they go first.
        """
        _require(0 <= token_s < math.inf, "token_s is a time", "token_s", token_s, "give for example 20ms")
        self._facts, self._token_s = facts, token_s
        self._timely, self._late = Keyed(self._latest_start), Keyed(self._latest_start)
        self._drops = drop_late

    def _latest_start(self, request: int, time: float) -> float:
        facts = self._facts
        promised, sent = facts.class_of(request), facts.sent_s(request, time)
        each = promised.tpot_s if promised.tpot_s < math.inf else self._token_s
        return sent + min(promised.ttft_s, promised.e2e_s - each * facts.output_tokens[request])

    def next_time(self, time: float) -> float:
        """Those that are late by now go to the back; the next one will be when the head is."""
        if not self._drops:
            return math.inf
        timely = self._timely
        while timely and timely.first_key() < time:
            self._late.take(timely)
        return timely.first_key() if timely else math.inf

    def push(self, request: int, time: float) -> None:
        """By its slack."""
        self._timely.push(request, time)

    def push_front(self, request: int) -> None:
        """At the place it had."""
        (self._late if request in self._late else self._timely).push_front(request)

    def peek(self) -> int:
        """The one of least slack."""
        return (self._timely or self._late).peek()

    def pop(self) -> int:
        """It, taken out."""
        return (self._timely or self._late).pop()

    def departed(self, request: int) -> None:
        """Forget it."""
        self._timely.departed(request)
        self._late.departed(request)

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._timely) + len(self._late)

    def __iter__(self) -> Iterator[int]:
        """Requests that wait, in any order."""
        return chain(self._timely, self._late)


class PriorityPreemptive(Keyed):
    """Highest priority first; one that waits takes the place of running ones of lower priority, the youngest of the
    lowest first.
    """

    __slots__ = ("_facts", "_levels", "_out")

    def __init__(self, facts: Facts) -> None:
        """An empty queue."""
        super().__init__(_rank(facts))
        self._facts = facts
        self._out: dict[int, int] = {}  # request that was popped -> its priority
        self._levels: dict[int, int] = {}  # priority -> how many of those

    def _back(self, request: int) -> None:
        level = self._out.pop(request, None)
        if level is not None:
            self._levels[level] -= 1
            if not self._levels[level]:
                del self._levels[level]

    def pop(self) -> int:
        """The first, which runs from now on."""
        request = super().pop()
        level = self._out[request] = self._facts.class_of(request).priority
        self._levels[level] = self._levels.get(level, 0) + 1
        return request

    def push_front(self, request: int) -> None:
        """It runs no more."""
        super().push_front(request)
        self._back(request)

    def departed(self, request: int) -> None:
        """It is complete."""
        super().departed(request)
        self._back(request)

    def victims(self, running: Collection[int], time: float) -> Iterable[int]:
        """Running ones below the head."""
        level = self._facts.class_of(self.peek()).priority
        if min(self._levels, default=level) >= level:
            return ()
        below = [(self._facts.class_of(r).priority, -i, r) for i, r in enumerate(running)]
        return [request for other, _, request in sorted(below) if other < level]


class Rotation:
    """Turns: a request that has run for a quantum gives way to one that waits, of its priority or a higher one.

    Quanta are those of the clock: who runs when one begins is spent, and if it comes back it queues behind all others
    of its priority. Rotation of priorities is what FastSwitch (arXiv 2411.18424) makes cheap by swapping.
    """

    def __init__(self, facts: Facts, *, quantum_s: float = 1.0) -> None:
        """An empty queue."""
        _require(0 < quantum_s < math.inf, "a quantum is a time above 0", "quantum_s", quantum_s, "give for example 1s")
        self._facts, self._quantum_s = facts, quantum_s
        self._turn = self._places = 0
        self._spent: deque[tuple[int, int, int, int]] | None = None  # of this quantum, once asked for
        self._heap: list[tuple[int, int, int]] = []
        self._since: dict[int, int] = {}  # request that is out -> the quantum in which it came to run
        self._place: dict[int, int] = {}  # and the place that it had

    def _level(self, request: int) -> int:
        return self._facts.class_of(request).priority

    def next_time(self, time: float) -> float:
        """The begin of the next quantum, if someone waits for it."""
        quantum = self._quantum_s
        turn = int(time / quantum)
        while turn * quantum > time:
            turn -= 1
        while (turn + 1) * quantum <= time:
            turn += 1
        if turn != self._turn:
            self._turn, self._spent = turn, None
        return (turn + 1) * quantum if self._heap else math.inf

    def push(self, request: int, time: float) -> None:
        """At the end of its priority."""
        self._places += 1
        heappush(self._heap, (-self._level(request), self._places, request))

    def push_front(self, request: int) -> None:
        """Its turn has ended: at the end of its priority too, or where it was if its turn has only begun."""
        place = self._place.pop(request)
        if self._since.pop(request) < self._turn:
            self._places += 1
            place = self._places
        heappush(self._heap, (-self._level(request), place, request))

    def peek(self) -> int:
        """The one whose turn comes next."""
        return self._heap[0][2]

    def pop(self) -> int:
        """Its turn begins."""
        _, place, request = heappop(self._heap)
        self._since[request], self._place[request] = self._turn, place
        return request

    def departed(self, request: int) -> None:
        """It is complete."""
        self._since.pop(request, None)
        self._place.pop(request, None)

    def victims(self, running: Collection[int], time: float) -> Iterable[int]:
        """Spent ones that are not above the head: lowest priority first, then who has run longest."""
        turn, since, level = self._turn, self._since, self._level
        if self._spent is None:
            ages = ((level(r), since[r], i, r) for i, r in enumerate(running) if since.get(r, turn) < turn)
            self._spent = deque(sorted(ages))
        while self._spent and since.get(self._spent[0][3], turn) >= turn:
            self._spent.popleft()
        head = level(self.peek())
        return (r for other, _, _, r in self._spent if other <= head and since.get(r, turn) < turn)

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._heap)

    def __iter__(self) -> Iterator[int]:
        """Requests that wait, in any order."""
        return (entry[-1] for entry in self._heap)


class Fair:
    """Whoever was served least is next: virtual token counters (Sheng et al., arXiv 2401.00588, algorithm 2).

    A tenant's counter rises by its prompts when they are admitted and by its outputs as they are emitted, over its
    weight. A tenant that comes back after a pause starts no lower than those that wait, or than the last that waited.
    """

    def __init__(self, facts: Facts, *, prompt: float = 1.0, output: float = 2.0, weights: str = "") -> None:
        """An empty queue.

        Args:
            facts: of the run.
            prompt: what a token of a prompt counts for.
            output: what an output token counts for.
            weights: `tenant:weight` separated by spaces; others have the weight of their class.
        """
        fine = min(prompt, output) >= 0 and prompt + output > 0
        _require(fine, "a token counts for 0 or more", "fair", (prompt, output), "give prompt=1, output=2")
        self._facts, self._prompt, self._output = facts, prompt, output
        self._weights = _weights(weights)
        self._clock = 0.0
        self._base: dict[int, float] = {}  # tenant -> counter when its tokens were last set to 0
        self._tokens: dict[int, float] = {}  # tenant -> weighted tokens since, up to the clock in `_as_of`
        self._rate: dict[int, int] = {}  # tenant -> its sequences that decode
        self._as_of: dict[int, float] = {}
        self._waiting: dict[int, deque[int]] = {}
        self._order: list[tuple[float, int]] = []  # (counter when last seen, tenant): counters only rise
        self._last = -1  # the last tenant that ceased to wait
        self._count = 0

    def counter(self, tenant: int) -> float:
        """What the tenant was given, in tokens over its weight."""
        tokens = self._tokens.get(tenant, 0.0)
        tokens += self._output * self._rate.get(tenant, 0) * (self._clock - self._as_of.get(tenant, self._clock))
        return self._base.get(tenant, 0.0) + tokens / self._weight(tenant)

    def _weight(self, tenant: int) -> float:
        return self._weights.get(tenant, 1.0)

    def _credit(self, request: int, tokens: float) -> int:
        """Add tokens to the counter of its tenant, and what decoding brought until now."""
        tenant = self._facts.tenant_of(request)
        if tenant not in self._weights:
            self._weights[tenant] = self._facts.class_of(request).weight
        since = self._clock - self._as_of.get(tenant, self._clock)
        decoded = self._output * self._rate.get(tenant, 0) * since
        self._tokens[tenant] = self._tokens.get(tenant, 0.0) + tokens + decoded
        self._as_of[tenant] = self._clock
        if tokens < 0 and tenant in self._waiting:
            heappush(self._order, (self.counter(tenant), tenant))
        return tenant

    def settle(self, tokens: float) -> None:
        """See Accounts."""
        self._clock = tokens

    def served(self, request: int, prompt_tokens: float, output_tokens: float) -> None:
        """See Accounts."""
        self._credit(request, self._prompt * prompt_tokens + self._output * output_tokens)

    def decoding(self, request: int, change: int, tokens: float) -> None:
        """See Accounts."""
        self._clock = tokens
        tenant = self._credit(request, 0.0)
        self._rate[tenant] = self._rate.get(tenant, 0) + change

    def _first(self) -> int:
        """The tenant of the lowest counter among those that wait; ties by number."""
        order = self._order
        while True:
            seen, tenant = order[0]
            now = self.counter(tenant) if tenant in self._waiting else math.inf
            if now == seen:
                return tenant
            if now == math.inf:
                heappop(order)
            else:
                heapreplace(order, (now, tenant))

    def holds(self) -> float:
        """See Accounts; others are taken to stand still, which is at most too short."""
        tenant = self._first()
        rate = self._output * self._rate.get(tenant, 0) / self._weight(tenant)
        if len(self._waiting) < 2 or not rate:
            return math.inf
        own = heappop(self._order)
        while self._order and self._order[0][1] == tenant:
            heappop(self._order)
        other = self._first()
        gap = self.counter(other) - own[0]
        heappush(self._order, own)
        return gap / rate

    def push(self, request: int, time: float) -> None:
        """Behind others of its tenant."""
        tenant = self._credit(request, 0.0)
        if tenant not in self._waiting:
            if self._waiting:
                self._lift(tenant, self.counter(self._first()))
            elif self._last >= 0:
                self._lift(tenant, self.counter(self._last))
        self._join(tenant).append(request)

    def _lift(self, tenant: int, least: float) -> None:
        if self.counter(tenant) < least:
            self._base[tenant], self._tokens[tenant], self._as_of[tenant] = least, 0.0, self._clock

    def push_front(self, request: int) -> None:
        """Before others of its tenant."""
        self._join(self._facts.tenant_of(request)).appendleft(request)

    def _join(self, tenant: int) -> deque[int]:
        self._count += 1
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            if len(self._order) > 4 * len(self._waiting) + 16:
                self._order = [(self.counter(other), other) for other in self._waiting]
                heapify(self._order)
            else:
                heappush(self._order, (self.counter(tenant), tenant))
        return self._waiting[tenant]

    def peek(self) -> int:
        """The first request of the tenant that was given least."""
        return self._waiting[self._first()][0]

    def pop(self) -> int:
        """It, taken out."""
        tenant = self._first()
        waiting = self._waiting[tenant]
        request = waiting.popleft()
        self._count -= 1
        if not waiting:
            del self._waiting[tenant]
            self._last = tenant
        return request

    def __len__(self) -> int:
        """Requests that wait."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Requests that wait, in any order."""
        return chain.from_iterable(self._waiting.values())


def _weights(text: str) -> dict[int, float]:
    """Weights by tenant as written: `0:2 7:1.5`."""
    found: dict[int, float] = {}
    for part in text.split():
        tenant, _, weight = part.partition(":")
        try:
            found[int(tenant)] = float(weight)
        except ValueError:
            fix = "write tenant:weight, separated by spaces"
            raise DomainError("not a weight of a tenant", at="weights", got=part, fix=fix) from None
        _require(0 < found[int(tenant)] < math.inf, "a weight is above 0", "weights", part)
    return found
