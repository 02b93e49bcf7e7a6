"""Whether a policy keeps its contract: random scenarios that name what is wrong, before a simulation does.

What is checked: that every answer is possible, that no request is lost or doubled, that two runs decide alike, that
nothing raises or fails to come back, and how long a decision takes. A note is not an error: orders that may let a
request wait for ever are legal, and so are slow ones.
"""

from __future__ import annotations

import copy
import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.core.errors import PolicyError, SpecError
from ridgeline.core.seeding import stream
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.guards import NEEDED
from ridgeline.serving.policies.registry import BUNDLED, Policy, policy
from ridgeline.serving.policies.trials import CHECKS, REQUESTS, Findings
from ridgeline.workloads.traffic import RequestClass

SLOW_S = 200e-6
"""Per decision: the engine itself takes some 10 us per request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found.

    Attributes:
        name, kind: of the policy.
        errors: what breaks the contract; none: `ok`.
        notes: what is legal and may still surprise.
        decisions, decision_s: calls that were timed, and seconds of each on average.
    """

    name: str
    kind: str
    errors: tuple[str, ...]
    notes: tuple[str, ...]
    decisions: int
    decision_s: float

    @property
    def ok(self) -> bool:
        """Whether it can be used."""
        return not self.errors

    def __str__(self) -> str:
        """One line per finding."""
        verdict = "ok" if self.ok else f"{len(self.errors)} error{'s' * (len(self.errors) > 1)}"
        lines = [f"{self.kind} {self.name}: {verdict}, {self.decision_s * 1e6:.1f} us per decision"]
        lines += [f"  error  {text}" for text in self.errors] + [f"  note   {text}" for text in self.notes]
        return "\n".join(lines)


class _TooLong(BaseException):
    """Raised inside a check that does not come back; no policy catches it by accident."""


def check_policy(chosen: Any, *, kind: str = "", seed: int = 0, timeout_s: float = 20.0) -> Report:
    """Run a policy through random scenarios.

    Args:
        chosen:    a function or class that takes `Facts`, an object with the methods of its kind, or the name of a
                   policy with its settings.
        kind:      a key of `guards.NEEDED`; "": found from its methods or its name.
        seed:      of the scenarios.
        timeout_s: after which it counts as hanging.
    Returns:
        What was found; `report.ok` says whether it can be used, `print(report)` shows the rest.
    Raises:
        SpecError: it is of no kind. UnknownNameError, SpecError, UnitError: a text that names no policy.
    """
    facts = _facts(seed)
    found = Findings()
    named: list[Policy] = []

    def check() -> None:
        one = _policy(chosen, kind, facts)
        named.append(one)
        CHECKS[one.kind](one, facts, seed, found)

    failure = _within(timeout_s, check)
    if isinstance(failure, SpecError | PolicyError) and not named:
        raise failure
    if isinstance(failure, _TooLong):
        found.errors.append(f"does not come back within {timeout_s:g} s ({found.stage})")
    elif failure is not None:
        raise failure
    each = found.spent_s / found.calls if found.calls else 0.0
    if each > SLOW_S:
        found.notes.append(f"slow: {each * 1e6:.0f} us per decision, where the engine takes some 10 us per request")
    return Report(
        name=named[0].name if named else str(getattr(chosen, "__name__", chosen)),
        kind=named[0].kind if named else kind,
        errors=tuple(found.errors),
        notes=tuple(found.notes),
        decisions=found.calls,
        decision_s=each,
    )


def _within(timeout_s: float, call: Callable[[], None]) -> BaseException | None:
    """Run it in a thread of its own for at most so long: what it raised, `_TooLong` if it had to be stopped."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True, name="check_policy")
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        # Ends loops of Python code; one inside a C function is left behind, as a daemon.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TooLong))
        thread.join(2.0)
        return _TooLong()
    return failures[0] if failures else None


def _facts(seed: int) -> Facts:
    """Random requests of three classes, five tenants and twenty sessions."""
    draw = stream(seed, "check_policy/facts")
    return Facts(
        prompt_tokens=draw.integers(1, 200, REQUESTS).tolist(),
        output_tokens=draw.integers(1, 60, REQUESTS).tolist(),
        arrival_s=np.cumsum(draw.exponential(0.02, REQUESTS)).tolist(),
        class_code=draw.integers(0, 3, REQUESTS).tolist(),
        classes=(
            RequestClass(name="soon", ttft_s=0.2, tpot_s=0.02, e2e_s=2.0, priority=2, weight=1.0),
            RequestClass(name="usual", ttft_s=1.0, tpot_s=0.1, e2e_s=10.0, priority=1, weight=2.0),
            RequestClass(name="late", ttft_s=30.0, tpot_s=1.0, e2e_s=60.0, priority=0, weight=1.0),
        ),
        tenant=draw.integers(0, 5, REQUESTS).tolist(),
        session=draw.integers(-1, 20, REQUESTS).tolist(),
        seed=seed,
    )


def _policy(chosen: Any, kind: str, facts: Facts) -> Policy:
    """As a policy, guarded; its kind found from what it makes."""
    if isinstance(chosen, Policy):
        chosen, kind = chosen.make, chosen.kind
    if isinstance(chosen, str) and not kind:
        name = chosen.partition("(")[0].strip()
        kinds = [one for one, names in BUNDLED.items() if name in names]
        if len(kinds) != 1:
            fix = "give kind=, one of " + ", ".join(NEEDED)
            raise SpecError("the kind of a policy is not clear from its name", at="kind", got=chosen, fix=fix)
        kind = kinds[0]
    if isinstance(chosen, str):
        one = policy(kind, chosen)
        return Policy(kind=one.kind, name=one.name, text=one.text, origin="given", make=one.make)
    if callable(chosen) and kind:
        return policy(kind, chosen)
    try:
        made = chosen(facts) if callable(chosen) else chosen
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise PolicyError("a policy cannot be made", at="policy", got=got, fix="it is called with the facts") from error
    kind = kind or next((one for one, methods in NEEDED.items() if all(hasattr(made, m) for m in methods)), "")
    if not kind:
        fix = "give it the methods of its kind, or kind= to hear which it lacks"
        raise SpecError("a policy of no kind", at="policy", got=type(made).__name__, fix=fix)
    if callable(chosen):
        return policy(kind, chosen)
    name = type(chosen).__name__
    return Policy(kind=kind, name=name, text=name, origin="given", make=lambda facts: copy.deepcopy(chosen))
