"""One engine by itself, driven through its requests."""

from __future__ import annotations

from collections import deque

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.batch import NEVER
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Requests


def serve(engine: Engine, requests: Requests) -> None:
    """One engine alone serves all requests: at their arrival times, or as a closed loop of clients.

    Raises DomainError: a request that the cache can never hold.
    """
    count = len(requests.prompts)
    for request in range(count):
        if not engine.fits(request):
            raise DomainError("a request is longer than the cache", at="cache_tokens", got=engine.rules.cache_tokens)
    sent = engine.log.sent
    if requests.arrivals is None:
        clients = min(requests.clients, count)
        sending: deque[tuple[float, int]] = deque((0.0, request) for request in range(clients))
    else:
        clients, sending = count, deque(zip(requests.arrivals, range(count), strict=True))
    while True:
        while sending and sending[0][0] <= engine.end:
            time, request = sending.popleft()
            sent[request] = time
            engine.push(request, time)
        if engine.end == NEVER:
            return
        for request in engine.finish():
            if clients < count:
                sending.append((engine.log.last[request], clients))
                clients += 1
        while sending and sending[0][0] <= engine.t:
            time, request = sending.popleft()
            sent[request] = time
            engine.push(request, time)
        engine.plan()
