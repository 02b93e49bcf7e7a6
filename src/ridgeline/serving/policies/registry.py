"""Policies by kind and name: what comes with ridgeline, and what installed distributions add.

A policy is a function or class whose first argument is the `Facts` of a run; it gives the object that decides in that
run. Text chooses one with its settings: `queue(target=4, cool_down=60s)`. A setting is an argument of the function; the
suffix of its name (`_s`, `_bytes`, `_bytes_per_s`, `_tokens`, `_frac`) is its unit, and is left out in text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ridgeline.core import units
from ridgeline.core.errors import PolicyError, RidgelineError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.names import Names
from ridgeline.core.notation import Call, parse_call
from ridgeline.serving.policies import autoscalers, kv, models, rebalancers, roles, routers, schedulers
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.guards import NEEDED, guarded

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "ridgeline.policies"
"""Entry points of distributions that add policies; each is named `kind.name`."""

OWN = "ridgeline"

KINDS = tuple(NEEDED)

BUNDLED: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "scheduler": {
        "fcfs": schedulers.fcfs,
        "priority": schedulers.priority,
        "priority-preemptive": schedulers.PriorityPreemptive,
        "shortest": schedulers.shortest,
        "shortest-predicted": schedulers.shortest_predicted,
        "fair": schedulers.Fair,
        "deadline": schedulers.deadline,
        "slo-aware": schedulers.SloAware,
        "rotation": schedulers.Rotation,
        "by-model": models.ByModel,
    },
    "router": {
        "round-robin": routers.RoundRobin,
        "random": routers.Random,
        "least-loaded": routers.LeastLoaded,
        "power-of-two": routers.PowerOfChoices,
        "least-tokens": routers.LeastTokens,
        "session": routers.Session,
        "prefix": routers.Prefix,
        "prefix-cost": routers.PrefixCost,
        "weighted": routers.Weighted,
        "model-affine": models.ModelAffine,
    },
    "autoscaler": {
        "fixed": autoscalers.Fixed,
        "queue": autoscalers.QueueLength,
        "concurrency": autoscalers.Concurrency,
        "utilisation": autoscalers.Utilisation,
        "slo": autoscalers.Slo,
        "schedule": autoscalers.Schedule,
    },
    "roles": {"kept": roles.Kept, "balance": roles.Balance},
    "rebalance": {"free-cache": rebalancers.FreeCache, "freeness": rebalancers.Freeness},
    "kv": {"full": kv.full, "window": kv.window, "budget": kv.budget},
    "eviction": {"lru": kv.lru, "lfu": kv.Lfu, "fifo": kv.Fifo},
    "tier": {"host": kv.host, "nvme": kv.nvme, "remote": kv.remote},
}
"""Kind -> name -> what makes it."""

_EXAMPLES = {
    "scheduler": "fair(output=2)",
    "router": "power-of-two(choices=2)",
    "autoscaler": "queue(target=4, cool_down=60s)",
    "roles": "balance(interval=10s)",
    "rebalance": "free-cache(interval=1s, apart_frac=0.2)",
    "kv": "window(4096)",
    "eviction": "lfu",
    "tier": "host(capacity=512GB, bandwidth=50GB/s)",
}
_SUFFIXES = {"_bytes_per_s": "byte/s", "_bytes": "byte", "_tokens": "count", "_frac": "1", "_s": "s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy with its settings: call it with the facts of a run for the object that decides in it.

    Attributes:
        kind, name: what it is.
        text: as it was chosen.
        origin: "ridgeline", or the distribution that added it, or "given" for an object of the caller's.
        make: gives the object.
    """

    kind: str
    name: str
    text: str
    origin: str
    make: Callable[[Facts], Any]

    def __call__(self, facts: Facts) -> Any:
        """A fresh object; one that did not come with ridgeline is guarded.

        Raises:
            PolicyError: it cannot be made, or lacks what its kind needs.
        """
        if self.origin == OWN:
            return self.make(facts)
        try:
            made = self.make(facts)
        except RidgelineError:
            raise
        except Exception as error:
            what, got = f"{self.kind} {self.name} cannot be made", f"{type(error).__name__}: {error}"
            raise PolicyError(what, at=self.kind, got=got, fix="it is called with the facts of the run") from error
        return guarded(self.kind, self.name, made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A policy that there is: its settings with their defaults as text, what it does, and where it comes from."""

    kind: str
    name: str
    settings: str
    summary: str
    origin: str


def policy(kind: str, chosen: object, *, plugins: bool = True, at: str = "") -> Policy:
    """The policy that a text names, or a function or class of the caller's.

    Raises:
        UnknownNameError: no such kind, name or setting, with the nearest ones.
        SpecError, UnitError, DomainError: settings that cannot be.
    """
    found = _kind(kind)
    where = at or found
    if callable(chosen):
        name = getattr(chosen, "__name__", type(chosen).__name__)
        return Policy(kind=found, name=name, text=name, origin="given", make=chosen)
    call = parse_call(chosen, at=where, example=_EXAMPLES[found])
    added = _added(found) if plugins else {}
    listing = "write --no-plugins to leave them out" if added else ""
    names = Names(found, {**dict.fromkeys(BUNDLED[found], ()), **dict.fromkeys(added, ())}, listing=listing)
    name = names.resolve(call.name, at=where)
    entry = added.get(name)
    make, origin = (BUNDLED[found][name], OWN) if entry is None else (_loaded(entry), _origin(entry))
    settings, plain = _bound(make, call, where)
    made = Policy(kind=found, name=name, text=call.text, origin=origin, make=partial(_make, make, plain, settings))
    if origin == OWN:
        made(_NOBODY)  # settings out of range are news now, not when the run starts
    return made


def known(kind: str = "", *, plugins: bool = True) -> tuple[Listed, ...]:
    """Every policy that there is, by kind and name."""
    listed = []
    for one in (_kind(kind),) if kind else KINDS:
        makers: dict[str, tuple[Callable[..., Any], str]] = {name: (f, OWN) for name, f in BUNDLED[one].items()}
        if plugins:
            makers |= {name: (_loaded(entry), _origin(entry)) for name, entry in _added(one).items()}
        for name, (make, origin) in makers.items():
            summary = (inspect.getdoc(make) or "").partition("\n\n")[0].replace("\n", " ")
            settings = ", ".join(_shown(parameter) for parameter in _parameters(make))
            listed.append(Listed(kind=one, name=name, settings=settings, summary=summary, origin=origin))
    return tuple(listed)


_NOBODY = Facts(prompt_tokens=(), output_tokens=())


def _make(make: Callable[..., Any], plain: tuple[Any, ...], settings: Mapping[str, Any], facts: Facts) -> Any:
    return make(facts, *plain, **settings)


def _kind(kind: str) -> str:
    return Names("kind of policy", dict.fromkeys(KINDS, ())).resolve(kind)


# Entry points ------------------------------------------------------------------------------------------------------


def _added(kind: str) -> dict[str, EntryPoint]:
    """Policies of that kind that installed distributions add, by name."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        one, _, name = entry.name.partition(".")
        if one not in KINDS or not name:
            fix = f"name it kind.name, kind one of {', '.join(KINDS)}; --no-plugins leaves it out"
            raise SpecError("an entry point that names no policy", at=_origin(entry), got=entry.name, fix=fix)
        if one == kind:
            if name in found or name in BUNDLED[kind]:
                fix = "uninstall one of them, or write --no-plugins"
                raise SpecError(f"two {kind}s are called {name!r}", at=_origin(entry), got=entry.value, fix=fix)
            found[name] = entry
    return found


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def _loaded(entry: EntryPoint) -> Callable[..., Any]:
    try:
        loaded = entry.load()
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        fix = "mend or uninstall it, or write --no-plugins"
        raise PolicyError(f"{entry.name} cannot be loaded", at=_origin(entry), got=got, fix=fix) from error
    if not callable(loaded):
        fix = "point it at a function or class that takes the facts of a run"
        raise PolicyError(f"{entry.name} cannot be called", at=_origin(entry), got=loaded, fix=fix)
    result: Callable[..., Any] = loaded
    return result


# Settings ----------------------------------------------------------------------------------------------------------


def _parameters(make: Callable[..., Any]) -> list[inspect.Parameter]:
    """Its arguments but the first, which takes the facts."""
    return list(inspect.signature(make).parameters.values())[1:]


def _short(parameter: inspect.Parameter) -> tuple[str, str]:
    """Its name in text, and its dimension."""
    for suffix, dimension in _SUFFIXES.items():
        if parameter.name.endswith(suffix):
            return parameter.name.removesuffix(suffix), dimension
    return parameter.name, "1"


def _type(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return "str" if parameter.default in (None, inspect.Parameter.empty) else type(parameter.default).__name__
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "str")


def _shown(parameter: inspect.Parameter) -> str:
    name, dimension = _short(parameter)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return f"{name}..."
    if parameter.default is inspect.Parameter.empty:
        return name
    unit = "s" if dimension == "s" else ""
    value = f"{parameter.default:g}" if isinstance(parameter.default, float) else str(parameter.default)
    return f"{name}={value}{unit}"


def _bound(make: Callable[..., Any], call: Call, at: str) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The settings of a call by argument, and plain ones beyond those that have names."""
    parameters = {_short(one)[0]: one for one in _parameters(make) if one.kind is not one.VAR_KEYWORD}
    spread = next((one for one in parameters.values() if one.kind is one.VAR_POSITIONAL), None)
    shown = f"{call.name}({', '.join(_shown(one) for one in parameters.values())})"
    places = [one for one in parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    if spread is not None:
        plain = tuple(_value(text, spread, at) for text in call.plain)
        settings: dict[str, Any] = {}
    else:
        places = places or [one for one in parameters.values() if one.kind is one.KEYWORD_ONLY]
        if len(call.plain) > len(places):
            raise SpecError("too many values", at=at, got=call.text, fix=f"write {shown}")
        plain = ()
        settings = {one.name: _value(text, one, at) for one, text in zip(places, call.plain, strict=False)}
    for key, text in call.named.items():
        parameter = parameters.get(key) or next((one for one in parameters.values() if one.name == key), None)
        if parameter is None or parameter is spread:
            fix = did_you_mean(key, list(parameters), listing=f"write {shown}")
            raise UnknownNameError(f"{call.name} has no {key!r}", at=at, fix=fix)
        if parameter.name in settings:
            raise SpecError(f"{key} is given twice", at=at, got=call.text, fix="keep one of them")
        settings[parameter.name] = _value(text, parameter, at)
    for one in parameters.values():
        if one.default is one.empty and one is not spread and one.name not in settings:
            raise SpecError(f"{call.name} needs {_short(one)[0]}", at=at, got=call.text, fix=f"write {shown}")
    return settings, plain


def _value(text: str, parameter: inspect.Parameter, at: str) -> Any:
    name, dimension = _short(parameter)
    kind, where = _type(parameter), f"{at} {name}".strip()
    if kind == "str":
        return text
    if kind == "bool":
        if text not in ("true", "false"):
            raise SpecError(f"{name} is true or false", at=where, got=text, fix=f"write {name}=true")
        return text == "true"
    value = units.parse(text, "count" if kind == "int" else dimension, at=where)
    if kind != "int":
        return value
    if value != int(value):
        raise SpecError(f"{name} is a whole number", at=where, got=text, fix=f"write {name}={round(value)}")
    return int(value)
