"""A policy of someone else's, held to its contract while it runs: what breaks it becomes a named error at once.

A guard costs a set look-up or two per decision. Policies that come with ridgeline run without.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from ridgeline.core.errors import PolicyError, RidgelineError
from ridgeline.serving.policies.autoscalers import MOST
from ridgeline.serving.policies.routers import LaneView

_FIX = "run ridgeline.check_policy on it"


def guarded(kind: str, name: str, policy: Any) -> Any:
    """The object that a policy gave for this run, behind a guard of its kind.

    Raises:
        PolicyError: it lacks a method that its kind needs.
    """
    for method in NEEDED[kind]:
        if not hasattr(policy, method):
            raise PolicyError(f"{kind} {name} has no {method!r}", at=kind, got=type(policy).__name__, fix=_FIX)
    guard = _GUARDS.get(kind)
    return policy if guard is None else guard(name, policy)


NEEDED = {
    "scheduler": ("push", "push_front", "peek", "pop", "__len__"),
    "router": ("route",),
    "autoscaler": ("decide", "interval_s"),
    "roles": ("decide", "interval_s"),
    "rebalance": ("decide", "interval_s"),
    "eviction": ("__contains__", "__setitem__", "__delitem__", "popitem", "clear"),
    "kv": ("tokens",),
    "tier": ("tier",),
}
"""What the object of a policy must have, by kind."""


class _Guard:
    """Calls of a policy, whose exceptions are named after it."""

    kind = ""

    def __init__(self, name: str, policy: Any) -> None:
        self._name, self._policy = name, policy

    def _broken(self, what: str, got: object = None) -> PolicyError:
        return PolicyError(f"{self.kind} {self._name} {what}", at=self.kind, got=got, fix=_FIX)

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._policy, method)(*arguments)
        except RidgelineError:
            raise
        except Exception as error:
            raise self._broken(f"failed in {method!r}", f"{type(error).__name__}: {error}") from error

    def _passed(self, method: str) -> Callable[..., Any] | None:
        """A method that it may have, for the engine to find or not."""
        if getattr(self._policy, method, None) is None:
            return None
        return lambda *arguments: self._call(method, *arguments)

    def _number(self, method: str, *arguments: Any) -> float:
        value = self._call(method, *arguments)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise self._broken(f"gave no number from {method!r}", value)
        return float(value)

    def _whole(self, value: object, what: str) -> int:
        """A whole number of replicas."""
        try:
            count = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            count = -1
        if isinstance(value, bool) or not 0 <= count <= MOST:
            raise self._broken(what, value)
        return count

    def _interval_s(self) -> float:
        """Time between two decisions, above 0."""
        interval = self._policy.interval_s
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval < math.inf:
            raise self._broken("has no interval above 0", interval)
        return float(interval)


class _Queue(_Guard):
    kind = "scheduler"

    def __init__(self, name: str, policy: Any) -> None:
        super().__init__(name, policy)
        self._waiting: set[int] = set()
        self.departed, self.settle = self._passed("departed"), self._passed("settle")
        self.served, self.decoding = self._passed("served"), self._passed("decoding")
        self.next_time = self._next_time if hasattr(policy, "next_time") else None
        self.victims = self._victims if hasattr(policy, "victims") else None
        self.holds = self._holds if hasattr(policy, "holds") else None

    def push(self, request: int, time: float) -> None:
        self._call("push", request, time)
        self._waiting.add(request)

    def push_front(self, request: int) -> None:
        self._call("push_front", request)
        self._waiting.add(request)

    def peek(self) -> int:
        return self._one_of("peek")

    def pop(self) -> int:
        expected = self._one_of("peek")
        request = self._one_of("pop")
        if request != expected:
            raise self._broken("pops another request than it peeks", (expected, request))
        self._waiting.remove(request)
        return request

    def _one_of(self, method: str) -> int:
        request: int = self._call(method)
        try:
            waits = request in self._waiting
        except TypeError:
            waits = False
        if not waits:
            raise self._broken(f"gave a request from {method!r} that does not wait", request)
        return request

    def _next_time(self, time: float) -> float:
        return self._number("next_time", time)

    def _holds(self) -> float:
        return self._number("holds")

    def _victims(self, running: Collection[int], time: float) -> Sequence[int]:
        chosen = list(self._call("victims", running, time))
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(running):
            raise self._broken("names victims twice, or that do not run", chosen)
        return chosen

    def __len__(self) -> int:
        length = self._call("__len__")
        if length != len(self._waiting):
            raise self._broken("has lost or doubled requests", f"{length} of {len(self._waiting)}")
        return int(length)

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)


class _Router(_Guard):
    kind = "router"

    def __init__(self, name: str, policy: Any) -> None:
        super().__init__(name, policy)
        self.blind = bool(getattr(policy, "blind", False))
        self.changed = self._passed("changed")

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        chosen = self._call("route", request, time, lanes)
        try:
            index = operator.index(chosen)
        except TypeError:
            index = -1
        if isinstance(chosen, bool) or not 0 <= index < len(lanes):
            raise self._broken(f"chose none of {len(lanes)} lanes", chosen)
        if not lanes[index].up:
            raise self._broken("chose a lane that is down", index)
        return index


class _Autoscaler(_Guard):
    kind = "autoscaler"

    def __init__(self, name: str, policy: Any) -> None:
        super().__init__(name, policy)
        self.interval_s = self._interval_s()

    def decide(self, time: float, view: Any) -> int:
        return self._whole(self._call("decide", time, view), "wants no whole number of replicas")


class _Roles(_Guard):
    kind = "roles"

    def __init__(self, name: str, policy: Any) -> None:
        super().__init__(name, policy)
        self.interval_s = self._interval_s()

    def decide(self, time: float, prefill: Any, decode: Any) -> int:
        return self._whole(self._call("decide", time, prefill, decode), "wants no whole number of replicas")


class _Rebalancer(_Guard):
    kind = "rebalance"

    def __init__(self, name: str, policy: Any) -> None:
        super().__init__(name, policy)
        self.interval_s = self._interval_s()

    def decide(self, time: float, lanes: Sequence[LaneView]) -> list[tuple[int, int]]:
        chosen = self._call("decide", time, lanes)
        try:
            pairs = [(operator.index(giver), operator.index(taker)) for giver, taker in chosen]
        except (TypeError, ValueError):
            raise self._broken("gave no pairs of lanes", chosen) from None
        named = [lane for pair in pairs for lane in pair]
        if len(set(named)) < len(named):
            raise self._broken("names a lane twice", pairs)
        if not all(0 <= lane < len(lanes) and lanes[lane].up for lane in named):
            raise self._broken("names a lane that is not up", pairs)
        return pairs


class _Order(_Guard):
    kind = "eviction"

    def __init__(self, name: str, policy: Any) -> None:
        super().__init__(name, policy)
        self._idle: set[int] = set()
        self.touched = self._passed("touched")

    def __contains__(self, unit: object) -> bool:
        return unit in self._idle

    def __setitem__(self, unit: int, _: None) -> None:
        self._call("__setitem__", unit, None)
        self._idle.add(unit)

    def __delitem__(self, unit: int) -> None:
        self._call("__delitem__", unit)
        self._idle.remove(unit)

    def popitem(self, last: bool = False) -> tuple[int, None]:
        item = self._call("popitem", False)
        if not isinstance(item, tuple) or len(item) != 2 or item[0] not in self._idle:
            raise self._broken("evicts what it does not have", item)
        self._idle.remove(item[0])
        return item[0], None

    def clear(self) -> None:
        self._call("clear")
        self._idle.clear()


_GUARDS: dict[str, Callable[[str, Any], Any]] = {
    "scheduler": _Queue,
    "router": _Router,
    "autoscaler": _Autoscaler,
    "roles": _Roles,
    "rebalance": _Rebalancer,
    "eviction": _Order,
}
