"""Policies by name and by entry point, and what the checker says about those that break their contract."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import ridgeline
from ridgeline.core.errors import DomainError, PolicyError, RidgelineError, SpecError, UnitError, UnknownNameError
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.queues import Fcfs
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.policies import registry as policies
from ridgeline.serving.policies.autoscalers import QueueLength
from ridgeline.serving.policies.checking import check_policy
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.registry import BUNDLED, KINDS, known, policy
from ridgeline.serving.policies.trials import _TIMES

FACTS = Facts(prompt_tokens=[10] * 50, output_tokens=[5] * 50)
SETTINGS = {
    "window": "window(4096)",
    "budget": "budget(tokens=1k)",
    "host": "host(512GB, 50GB/s)",
    "nvme": "nvme(capacity=8TB, bandwidth=14GB/s, latency=100us)",
    "remote": "remote(capacity=100TB, bandwidth=5GB/s)",
    "weighted": "weighted(2, 1)",
    "schedule": "schedule(2@0h, 8@8h, period=24h)",
}
NAMED = [(kind, SETTINGS.get(name, name)) for kind, names in BUNDLED.items() for name in names]


@pytest.mark.parametrize(("kind", "text"), NAMED)
def test_every_bundled_policy_keeps_its_contract(kind: str, text: str) -> None:
    report = check_policy(text, kind=kind)
    assert report.ok, str(report)
    assert report.errors == ()
    assert f"{kind} " in str(report)


@pytest.mark.parametrize(("kind", "text"), NAMED)
def test_every_bundled_policy_says_what_it_does(kind: str, text: str) -> None:
    (listed,) = [one for one in known(kind) if one.name == policy(kind, text).name]
    assert listed.summary.endswith((".", ":"))
    assert listed.origin == "ridgeline"


def test_settings_are_read_with_their_units() -> None:
    tier = policy("tier", "nvme(capacity=8TB, bandwidth=14GB/s, latency=100us)")(FACTS)
    assert (tier.capacity_bytes, tier.bandwidth_bytes_per_s, tier.latency_s) == (8e12, 14e9, 1e-4)
    assert tier.tier(2e6).load_s == pytest.approx(1e-4 + 2e6 / 14e9)
    assert policy("kv", "window(4k)")(FACTS).tokens == 4000
    assert policy("kv", "full")(FACTS).tokens == float("inf")
    scaler = policy("autoscaler", "queue(target=8, cool_down=2min, interval=5s)")(FACTS)
    assert isinstance(scaler, QueueLength)
    assert scaler.interval_s == 5.0
    assert policy("scheduler", "slo-aware(drop_late=false)")(FACTS)._drops is False
    assert policy("Scheduler", "FCFS").name == "fcfs"


@pytest.mark.parametrize(
    ("kind", "text", "error", "says"),
    [
        ("schedular", "fcfs", UnknownNameError, "scheduler"),
        ("scheduler", "fcsf", UnknownNameError, "fcfs"),
        ("router", "least-load", UnknownNameError, "least-loaded"),
        ("autoscaler", "queue(targt=4)", UnknownNameError, "target"),
        ("autoscaler", "queue(target=many)", UnitError, "target"),
        ("autoscaler", "queue(cool_down=60)", UnitError, "cool_down"),
        ("autoscaler", "queue(cool_down=60W)", UnitError, "cool_down"),
        ("autoscaler", "queue(minimum=1.5)", SpecError, "whole"),
        ("autoscaler", "queue(target=1, target=2)", SpecError, "twice"),
        ("autoscaler", "queue(1, target=2)", SpecError, "twice"),
        ("autoscaler", "queue(target=-1)", DomainError, "above 0"),
        ("scheduler", "fcfs(1)", SpecError, "too many"),
        ("scheduler", "slo-aware(drop_late=perhaps)", SpecError, "true or false"),
        ("scheduler", "rotation(quantum=0s)", DomainError, "above 0"),
        ("scheduler", "shortest-predicted(sigma=-1)", DomainError, "negative"),
        ("router", "weighted", DomainError, "above 0"),
        ("router", "weighted(a)", UnitError, "weights"),
        ("kv", "window", SpecError, "needs tokens"),
        ("kv", "window(0)", DomainError, "at least one"),
        ("tier", "host(512GB)", SpecError, "needs bandwidth"),
        ("tier", "host(0GB, 1GB/s)", DomainError, "above 0"),
        ("scheduler", "", SpecError, "name with settings"),
        ("scheduler", None, SpecError, "not text"),
        ("scheduler", "__import__('os')", SpecError, "settings"),
    ],
)
def test_what_cannot_be_is_a_named_error(kind: str, text: object, error: type[RidgelineError], says: str) -> None:
    with pytest.raises(error, match=says):
        policy(kind, text)


# Entry points --------------------------------------------------------------------------------------------------------


class Newest(Fcfs):
    """Last come, first served."""

    def __init__(self, facts: Facts, depth: int = 3) -> None:
        super().__init__()

    def push(self, request: int, time: float) -> None:
        self.push_front(request)


def install(monkeypatch: pytest.MonkeyPatch, *names: tuple[str, str]) -> None:
    found = [EntryPoint(name=name, value=value, group=policies.GROUP) for name, value in names]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found if group == policies.GROUP else [])


def test_installed_policies_are_found_listed_and_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("scheduler.newest", "collections:deque"))
    monkeypatch.setattr(EntryPoint, "load", lambda self: Newest)
    one = policy("scheduler", "newest(depth=4)")
    assert one.origin == "collections:deque"
    queue = one(FACTS)
    queue.push(1, 0.0)
    queue.push(2, 0.0)
    assert queue.pop() == 2
    assert [x.settings for x in known("scheduler") if x.name == "newest"] == ["depth=3"]
    assert "newest" not in {x.name for x in known(plugins=False)}
    with pytest.raises(UnknownNameError):
        policy("scheduler", "newest", plugins=False)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("newest", "collections:deque", "names no policy"),
        ("queue.newest", "collections:deque", "names no policy"),
        ("scheduler.fcfs", "collections:deque", "called 'fcfs'"),
        ("scheduler.newest", "no_such_module:x", "cannot be loaded"),
        ("scheduler.newest", "math:pi", "cannot be called"),
    ],
)
def test_broken_entry_points_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    install(monkeypatch, (name, value))
    with pytest.raises(RidgelineError, match=says):
        policy("scheduler", "newest")
    assert policy("scheduler", "fcfs", plugins=False).name == "fcfs"


# Broken policies -----------------------------------------------------------------------------------------------------


class Loses(Fcfs):
    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.count = 0

    def push(self, request: int, time: float) -> None:
        self.count += 1
        if self.count % 50:
            super().push(request, time)


class Doubles(Loses):
    def push(self, request: int, time: float) -> None:
        self.count += 1
        for _ in range(1 + (self.count % 50 == 0)):
            self.push_front(request)


class PeeksOther(Loses):
    def push(self, request: int, time: float) -> None:
        self.push_front(request)

    def pop(self) -> int:
        return deque.pop(self)


class Invents(Loses):
    def peek(self) -> int:
        return 10**6


class Raises(Loses):
    def pop(self) -> int:
        raise KeyError("gone")


class Never(Loses):
    def pop(self) -> int:
        while True:
            self.count += 1


class Stubborn(Never):
    def pop(self) -> int:
        while True:
            try:
                self.count += 1
            except Exception:
                self.count = 0


class Moody(Loses):
    made = 0

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        Moody.made += 1
        self.odd = Moody.made % 2

    def push(self, request: int, time: float) -> None:
        (self.push_front if self.odd else self.append)(request)


class Unrunning(Loses):
    def push(self, request: int, time: float) -> None:
        self.append(request)

    def victims(self, running: Any, time: float) -> list[int]:
        return [-1]


class NotANumber(Loses):
    def push(self, request: int, time: float) -> None:
        self.append(request)

    def next_time(self, time: float) -> float:
        return float("nan")


class Stack(Loses):
    """Legal, and nobody at the bottom is ever served."""

    def push(self, request: int, time: float) -> None:
        self.push_front(request)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Loses, "lost or doubled"),
        (Doubles, "lost or doubled"),
        (PeeksOther, "pops another request than it peeks"),
        (Invents, "does not wait"),
        (Raises, "failed in 'pop'.*KeyError"),
        (Moody, "serve in another order|two runs"),
        (Unrunning, "do not run"),
        (NotANumber, "no number from 'next_time'"),
        (lambda facts: deque(), "has no 'push'"),
        (lambda facts: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_the_checker_names_what_a_scheduler_breaks(make: Any, says: str) -> None:
    report = check_policy(make, kind="scheduler")
    assert not report.ok
    assert re.search(says, str(report)), str(report)


@pytest.mark.parametrize("make", [Never, Stubborn])
def test_the_checker_comes_back_from_a_policy_that_does_not(make: Any) -> None:
    report = check_policy(make, timeout_s=0.5)
    assert not report.ok
    assert "does not come back within 0.5 s" in str(report)


def test_starving_and_being_slow_are_notes() -> None:
    report = check_policy(Stack)
    assert report.ok
    assert "may starve" in str(report)
    assert "may starve" not in str(check_policy("fcfs"))


class Route:
    """The base of broken routers."""

    blind = False

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def route(self, request: int, time: float, lanes: Any) -> Any:
        return 0


class Beyond(Route):
    def route(self, request: int, time: float, lanes: Any) -> Any:
        return len(lanes)


class Half(Route):
    def route(self, request: int, time: float, lanes: Any) -> Any:
        return 0.5


class Peeps(Route):
    blind = True

    def route(self, request: int, time: float, lanes: Any) -> Any:
        return min((lane.load, i) for i, lane in enumerate(lanes) if lane.up)[1]


class First(Route):
    def route(self, request: int, time: float, lanes: Any) -> Any:
        return next(i for i, lane in enumerate(lanes) if lane.up)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Route, "lane that is down"),
        (Beyond, "chose none of 7 lanes"),
        (Half, "chose none of 7 lanes"),
        (Peeps, "says that it is blind"),
    ],
)
def test_the_checker_names_what_a_router_breaks(make: Any, says: str) -> None:
    report = check_policy(make)
    assert report.kind == "router"
    assert says in str(report)
    assert not report.ok


def test_lanes_that_are_never_chosen_are_a_note() -> None:
    report = check_policy(First)
    assert report.ok
    assert "never chose lanes" in str(report)


class Scale:
    interval_s = 1.0

    def __init__(self, wanted: Any) -> None:
        self.wanted = wanted

    def decide(self, time: float, view: Any) -> Any:
        return self.wanted


@pytest.mark.parametrize("wanted", [-1, 2.5, None, True, 10**9, "2"])
def test_the_checker_names_what_an_autoscaler_breaks(wanted: Any) -> None:
    report = check_policy(Scale(wanted))
    assert report.kind == "autoscaler"
    assert "no whole number of replicas" in str(report)
    assert check_policy(Scale(3)).ok


class Forgets(OrderedDict):
    def popitem(self, last: bool = True) -> Any:
        return 10**9, None


class Keeps:
    tokens = 0


def test_the_checker_looks_at_the_other_kinds() -> None:
    assert "evicts what it does not have" in str(check_policy(Forgets(), kind="eviction"))
    assert "keeps no tokens" in str(check_policy(Keeps(), kind="kv"))
    assert check_policy("host(1GB, 1GB/s)").kind == "tier"


def test_a_policy_of_no_kind_is_refused() -> None:
    for chosen in (object(), lambda facts: 3):
        with pytest.raises(SpecError, match="of no kind"):
            check_policy(chosen)
    with pytest.raises(PolicyError, match="ZeroDivisionError"):
        check_policy(lambda facts: 1 / 0)
    with pytest.raises(UnknownNameError):
        check_policy("fcsf", kind="scheduler")
    with pytest.raises(SpecError, match="not clear"):
        check_policy("fcsf")


def test_the_checker_is_public() -> None:
    assert ridgeline.check_policy is check_policy
    assert len(KINDS) == 8


@pytest.mark.parametrize(
    ("make", "says"), [(Loses, "lost or doubled"), (Raises, "failed in 'pop'"), (Invents, "does not wait")]
)
def test_a_policy_that_misbehaves_in_a_run_is_a_named_error(make: Any, says: str) -> None:
    requests = Requests(prompts=[10] * 120, outputs=[5] * 120, arrivals=[0.01 * i for i in range(120)])
    queue = policy("scheduler", make)(FACTS)
    engine = Engine(_TIMES, Rules(slots=2, token_budget=64.0), requests, Log(120), queue=queue)
    with pytest.raises(PolicyError, match=says):
        serve(engine, requests)
