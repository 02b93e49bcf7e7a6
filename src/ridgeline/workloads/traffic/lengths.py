"""Laws of lengths and times: tokens, turns, seconds. Written as text: `1024`, `lognormal(mean=1k, sigma=0.8)`.

One notation serves tokens (rounded, at least 1) and seconds (`lognormal(mean=30s, sigma=1)`). Every law takes `min` and
`max`, to which draws are clipped; the mean that a law is given is the one before clipping and rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.workloads.traffic.notation import Call, Parameter, bind, number, parse
from ridgeline.workloads.traffic.requests import MAX_TIME_S, MAX_TOKENS

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
Values = Mapping[str, float | str]

_P99 = 2.3263478740408408
"""The 99 % point of the normal distribution."""
_WIDEST = 10.0
"""Largest sigma of a lognormal: its 99 % point is then 10^10 times its median."""
_RANKS = 1_000_000
"""Most ranks of a Zipf law."""
_MOST = {"count": float(MAX_TOKENS), "s": MAX_TIME_S}


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Something to draw lengths or times from.

    Args:
        text: as it was written.
        mean: of the draws before clipping and rounding.
        draw: (generator, n) -> float64 [n].
        least, most: what draws are clipped to.
    """

    text: str
    mean: float
    draw: Draw
    least: float = 0.0
    most: float = MAX_TIME_S

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """int64 [n]: whole numbers >= 1, rounded to the nearest."""
        drawn = self.draw(rng, n)
        np.rint(drawn, out=drawn)
        least = max(self.least, 1.0)
        np.clip(drawn, least, max(least, min(self.most, MAX_TOKENS)), out=drawn)
        return drawn.astype(np.int64)

    def seconds(self, n: int, rng: np.random.Generator) -> Floats:
        """float64 [n], >= 0."""
        drawn = self.draw(rng, n)
        return np.clip(drawn, max(self.least, 0.0), min(self.most, MAX_TIME_S), out=drawn)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A law by name: its parameters besides `min` and `max`, and what it draws."""

    parameters: tuple[tuple[str, str], ...]
    needed: int
    make: Callable[[Values, str, str], tuple[float, Draw]]


def parse_law(
    text: object, dimension: str = "count", *, at: str = "", folder: Path | None = None, column: str = "prompt_tokens"
) -> Law:
    """The law that a text writes.

    Args:
        text:      "1024", "lognormal(p50=900, p99=8k)", "uniform(1s, 3s)", "empirical(FILE)", or a number of tokens.
        dimension: "count" for tokens and turns, "s" for times.
        at:        where the text stands, for messages.
        folder:    what the name of a file is relative to.
        column:    which lengths of a file are meant: "prompt_tokens" or "output_tokens".
    Raises:
        SpecError, UnknownNameError, UnitError: what is wrong with the text.
        FileFormatError: the file cannot be read.
    """
    call = parse(text, at=at or "law")
    if not call.name:
        call = Call(name="fixed", plain=call.plain, named={}, at=call.at, text=call.text)
    if call.name == "empirical":
        return _empirical(call, folder, column, dimension)
    kind = _LAWS.get(call.name)
    if kind is None:
        raise UnknownNameError(f"unknown law {call.name!r}", at=call.at, fix=did_you_mean(call.name, names()))
    most = _MOST[dimension]
    dimensions = {"value": dimension, "frac": "1", "shape": "1"}
    top = {"value": most, "frac": 1.0, "shape": 100.0}
    parameters = [
        Parameter(name, dimensions[sort], _LEAST.get(name, 0.0), top[sort], above=name not in _LEAST)
        for name, sort in kind.parameters
    ]
    clip = [Parameter("min", dimension, 0.0, most, above=False), Parameter("max", dimension, 0.0, most)]
    values = bind(call, [*parameters, *clip], needed=kind.needed)
    least, greatest = number(values, "min", 0.0), number(values, "max", most)
    if least > greatest:
        raise SpecError("min is above max", at=call.at, got=call.text, fix="give min <= max")
    mean, draw = kind.make(values, call.at, dimension)
    return Law(text=call.text, mean=mean, draw=draw, least=least, most=greatest)


def names() -> tuple[str, ...]:
    """Every law that can be written."""
    return (*_LAWS, "empirical")


def fixed(value: float) -> Law:
    """Always the same."""
    return Law(text=f"{value:g}", mean=value, draw=lambda _, n: np.full(n, float(value)))


def empirical(values: NDArray[np.int64], text: str = "empirical") -> Law:
    """Drawn from these values, each as likely."""
    return Law(text=text, mean=float(values.mean()), draw=lambda rng, n: rng.choice(values, n).astype(np.float64))


def _empirical(call: Call, folder: Path | None, column: str, dimension: str) -> Law:
    # The readers make traffic, and traffic is drawn by these laws: this one line joins the two.
    from ridgeline.workloads.traffic.readers import read_lengths

    if dimension != "count":
        raise SpecError("a file holds lengths, not times", at=call.at, got=call.text, fix="use another law")
    values = bind(call, [Parameter("file", "text")], needed=1)
    prompt, output = read_lengths((folder or Path()) / str(values["file"]))
    return empirical(output if column == "output_tokens" else prompt, call.text)


def _fixed(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    value = number(values, "value")
    return value, lambda _, n: np.full(n, value)


def _uniform(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    low, high = number(values, "low"), number(values, "high")
    if low > high:
        raise SpecError("low is above high", at=at, got=(low, high), fix="give low <= high")
    if dimension == "s":
        return (low + high) / 2, lambda rng, n: rng.uniform(low, high, n)
    return _between(low, high)


def _between(low: float, high: float) -> tuple[float, Draw]:
    """Whole numbers, both ends as likely as the rest."""
    first, last = math.ceil(low), max(math.floor(high), math.ceil(low))
    return (first + last) / 2, lambda rng, n: rng.integers(first, last + 1, n).astype(np.float64)


def _range(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    most = number(values, "length")
    return _between(max(float(int(most * number(values, "ratio"))), 1.0), most)


def _around(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    middle, ratio = number(values, "length"), number(values, "ratio")
    return _between(max(float(math.floor(middle * (1 - ratio))), 1.0), float(math.ceil(middle * (1 + ratio))))


def _lognormal(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    get = {key: number(values, key) for key in ("mean", "p50", "p99", "sigma", "cv") if key in values}
    given = set(get)
    log = {key: math.log(get[key]) for key in ("mean", "p50", "p99") if key in get}
    if given == {"mean", "sigma"}:
        sigma = get["sigma"]
        middle = log["mean"] - sigma**2 / 2
    elif given == {"mean", "cv"}:
        sigma = math.sqrt(math.log1p(get["cv"] ** 2))
        middle = log["mean"] - sigma**2 / 2
    elif given == {"p50", "sigma"}:
        sigma, middle = get["sigma"], log["p50"]
    elif given == {"mean", "p50"} and log["mean"] >= log["p50"]:
        sigma, middle = math.sqrt(2 * (log["mean"] - log["p50"])), log["p50"]
    elif given == {"p50", "p99"} and log["p99"] >= log["p50"]:
        sigma, middle = (log["p99"] - log["p50"]) / _P99, log["p50"]
    else:
        fix = "give mean and sigma, mean and cv, p50 and sigma, p50 and a larger mean, or p50 and a larger p99"
        raise SpecError("these do not make a lognormal", at=at, got=sorted(given), fix=fix)
    if sigma > _WIDEST:
        raise SpecError("the lognormal is too wide", at=at, got=sigma, fix=f"give a sigma of at most {_WIDEST:g}")

    def draw(rng: np.random.Generator, n: int) -> Floats:
        drawn = rng.standard_normal(n)
        drawn *= sigma
        drawn += middle
        return np.exp(drawn, out=drawn)

    return math.exp(middle + sigma**2 / 2), draw


def _gamma(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    mean, cv = number(values, "mean"), number(values, "cv", 1.0)
    return mean, lambda rng, n: rng.gamma(cv**-2, mean * cv**2, n)


def _geometric(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    mean = number(values, "mean")
    if mean < 1:
        raise SpecError("a geometric law starts at 1", at=at, got=mean, fix="give a mean of at least 1")
    return mean, lambda rng, n: rng.geometric(1 / mean, n).astype(np.float64)


def _zipf(values: Values, at: str, dimension: str) -> tuple[float, Draw]:
    """Whole numbers from 1 to `count`, the i-th with a weight of i**-alpha."""
    count, alpha = number(values, "count"), number(values, "alpha", 1.0)
    if not 1 <= count <= _RANKS or count != int(count):
        raise SpecError("a Zipf law has whole ranks", at=at, got=count, fix=f"give 1 to {_RANKS:,}")
    ranks = np.arange(1.0, count + 1.0)
    share = np.cumsum(ranks**-alpha)
    share /= share[-1]
    mean = float(ranks @ np.diff(share, prepend=0.0))
    return mean, lambda rng, n: np.minimum(np.searchsorted(share, rng.random(n), side="right") + 1.0, count)


_LEAST = {"value": 0.0, "low": 0.0, "sigma": 0.0, "ratio": 0.0, "cv": 1e-3, "alpha": 0.0}
"""Parameters that may be as small as this; the others are above 0."""
_LAWS: Mapping[str, _Kind] = {
    "fixed": _Kind(parameters=(("value", "value"),), needed=1, make=_fixed),
    "uniform": _Kind(parameters=(("low", "value"), ("high", "value")), needed=2, make=_uniform),
    "lognormal": _Kind(
        parameters=(("mean", "value"), ("sigma", "shape"), ("p50", "value"), ("p99", "value"), ("cv", "shape")),
        needed=0,
        make=_lognormal,
    ),
    "gamma": _Kind(parameters=(("mean", "value"), ("cv", "shape")), needed=1, make=_gamma),
    "exponential": _Kind(parameters=(("mean", "value"),), needed=1, make=_gamma),
    "geometric": _Kind(parameters=(("mean", "value"),), needed=1, make=_geometric),
    # Popularity, as of adapters.
    "zipf": _Kind(parameters=(("count", "value"), ("alpha", "shape")), needed=1, make=_zipf),
    # Lengths from ratio x length to length, as InferenceMAX and SGLang draw them.
    "range": _Kind(parameters=(("length", "value"), ("ratio", "frac")), needed=2, make=_range),
    # Lengths from (1 - ratio) x length to (1 + ratio) x length, as vLLM draws them since 2025.
    "around": _Kind(parameters=(("length", "value"), ("ratio", "frac")), needed=2, make=_around),
}
