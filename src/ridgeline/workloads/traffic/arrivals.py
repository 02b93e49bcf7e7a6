"""When requests arrive: gaps of a law, under a rate that may change with time. Text: `poisson(12/s)`.

Gaps are drawn at rate 1 and then stretched by the inverse of the expected number of arrivals Λ(t), which is exact for
any rate and takes no rejected draws. Every process that changes its rate also takes `cv`, the variation of its gaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, SpecError, UnknownNameError, did_you_mean
from ridgeline.workloads.traffic.lengths import Law, fixed, parse_law
from ridgeline.workloads.traffic.notation import Call, Parameter, bind, number, parse, quantity
from ridgeline.workloads.traffic.rates import Bursts, Diurnal, Flat, Ramp, Rate, Steps
from ridgeline.workloads.traffic.requests import MAX_TIME_S

Floats = NDArray[np.float64]
Gaps = Callable[[np.random.Generator, int], Floats]

MAX_REQUESTS = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """A process of arrivals.

    Args:
        text:    as it was written.
        rate:    over time; None in a closed loop.
        gaps:    draws of mean 1, each the expected number of arrivals between two.
        at_zero: whether the first arrives at 0 (else after the first gap).
        clients: > 0: closed loop.
        think:   law of the seconds between a completion and the next request of a closed loop.
    """

    text: str
    rate: Rate | Bursts | None
    gaps: Gaps
    at_zero: bool = False
    clients: int = 0
    think: Law | None = None

    @property
    def mean_per_s(self) -> float:
        """The mean rate, over a period or in the end; NaN in a closed loop."""
        return math.nan if self.rate is None else self.rate.mean_per_s

    def sample(self, rng: np.random.Generator, *, count: int | None = None, duration_s: float | None = None) -> Floats:
        """Arrival times, float64, never falling: the first `count`, or those before `duration_s`, or both.

        Raises:
            DomainError: neither or an impossible limit, or more than 2e8 arrivals.
        """
        if count is None and duration_s is None:
            raise DomainError("arrivals without an end", at="requests", fix="give a number of requests or a duration")
        if count is not None and not 0 <= count <= MAX_REQUESTS:
            raise _too_many(count)
        if duration_s is not None and not 0 < duration_s <= MAX_TIME_S:
            raise DomainError("not a finite time above 0", at="duration", got=duration_s, fix="give for example 1h")
        if self.rate is None:
            if count is None:
                fix = "give a number of requests"
                raise DomainError("a closed loop is ended by a number of requests", at="requests", fix=fix)
            return np.zeros(count)
        draws, paths = rng.spawn(2)
        limit = math.inf if duration_s is None else duration_s
        if count is not None:
            units = self._units(draws, count)
            rate = self._fixed(paths, float(units[-1]) if count else 0.0, limit)
            times = _rising(rate, units)
            return times if duration_s is None else times[: np.searchsorted(times, duration_s)]
        rate = self._fixed(paths, math.inf, limit)
        total = rate.expected(limit)
        if total > MAX_REQUESTS:
            raise _too_many(total)
        times = _rising(rate, self._units_below(draws, total))
        return times[: np.searchsorted(times, limit)]

    def _fixed(self, rng: np.random.Generator, total: float, until_s: float) -> Rate:
        assert self.rate is not None, "a closed loop has no rate"
        return self.rate.path(rng, total, until_s) if isinstance(self.rate, Bursts) else self.rate

    def _units(self, rng: np.random.Generator, count: int) -> Floats:
        gaps = self.gaps(rng, count)
        if self.at_zero and count:
            gaps[1:] = gaps[:-1].copy()
            gaps[0] = 0.0
        return np.cumsum(gaps, out=gaps)

    def _units_below(self, rng: np.random.Generator, total: float) -> Floats:
        parts: list[Floats] = []
        reached = 0.0
        wanted = int(total + 4 * math.sqrt(total)) + 16
        while reached < total:
            part = self._units(rng, wanted) if not parts else np.cumsum(self.gaps(rng, wanted))
            part += reached
            parts.append(part)
            reached = float(part[-1])
            wanted = wanted // 4 + 16
        units = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return units[: np.searchsorted(units, total)]


def parse_arrivals(text: object, *, at: str = "arrivals") -> Arrivals:
    """The process that a text writes: `poisson(12/s)`, `gamma(12/s, cv=2)`, `closed(64)`, ...

    Raises:
        SpecError, UnknownNameError, UnitError: what is wrong with the text.
    """
    call = parse(text, at=at)
    if not call.name:
        fix = f"write for example poisson(12/s); there are {', '.join(_PROCESSES)}"
        raise SpecError("not a process of arrivals", at=at, got=call.text, fix=fix)
    make = _PROCESSES.get(call.name)
    if make is None:
        fix = did_you_mean(call.name, _PROCESSES, listing=f"there are {', '.join(_PROCESSES)}")
        raise UnknownNameError(f"unknown process {call.name!r}", at=at, fix=fix)
    return make(call)


def _rising(rate: Rate, units: Floats) -> Floats:
    """Arrival times, with what rounding may have turned around at the seams of a rate put right."""
    times = rate.times(units)
    return times if isinstance(rate, Flat) else np.maximum.accumulate(times, out=times)


def _too_many(count: float) -> DomainError:
    fix = "lower the rate, the duration or the number of requests"
    return DomainError(f"not 0 to {MAX_REQUESTS:,} requests", at="requests", got=count, fix=fix)


_RATE = Parameter("rate", "1/s", 1e-9, 1e9, above=False)
_CV = Parameter("cv", "1", 1e-3, 100.0, above=False)
_PERIOD = Parameter("period", "s", 1e-3, 1e10, above=False)


def _exponential(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_exponential(n)


def _varying(cv: float) -> Gaps:
    if cv == 1.0:
        return _exponential
    shape = cv**-2
    return lambda rng, n: rng.standard_gamma(shape, n) / shape


def _poisson(call: Call) -> Arrivals:
    rate = Flat(number(bind(call, [_RATE], needed=1), "rate"))
    return Arrivals(text=call.text, rate=rate, gaps=_exponential)


def _gamma(call: Call) -> Arrivals:
    values = bind(call, [_RATE, _CV], needed=2)
    return Arrivals(text=call.text, rate=Flat(number(values, "rate")), gaps=_varying(number(values, "cv")))


def _weibull(call: Call) -> Arrivals:
    values = bind(call, [_RATE, Parameter("shape", "1", 0.1, 100.0, above=False)], needed=2)
    shape = number(values, "shape")
    mean = math.gamma(1 + 1 / shape)
    rate = Flat(number(values, "rate"))
    return Arrivals(text=call.text, rate=rate, gaps=lambda rng, n: rng.weibull(shape, n) / mean)


def _constant(call: Call) -> Arrivals:
    rate = Flat(number(bind(call, [_RATE], needed=1), "rate"))
    return Arrivals(text=call.text, rate=rate, gaps=lambda _, n: np.ones(n), at_zero=True)


def _diurnal(call: Call) -> Arrivals:
    """`peak` is the highest rate over the lowest."""
    peak = Parameter("peak", "1", 1.0, 1e6, above=False)
    values = bind(call, [_RATE, peak, _PERIOD, _CV], needed=2)
    high = number(values, "peak")
    rate = Diurnal(
        mean_per_s=number(values, "rate"), depth=(high - 1) / (high + 1), period_s=number(values, "period", 86400.0)
    )
    return Arrivals(text=call.text, rate=rate, gaps=_varying(number(values, "cv", 1.0)))


def _profile(call: Call) -> Arrivals:
    """`weights` share the period out evenly: `profile(12/s, "1 1 2 4 3 1", period=24h)`."""
    values = bind(call, [_RATE, Parameter("weights", "text"), _PERIOD, _CV], needed=2)
    one = Parameter("weights", "count", 0.0, 1e9, above=False)
    words = str(values["weights"]).replace(",", " ").split()
    weights = np.array([quantity(word, one, at=call.at) for word in words], dtype=np.float64)
    if not weights.any():
        raise SpecError("no weight is above 0", at=call.at, got=call.text, fix='write for example "1 1 2 4 3 1"')
    lasting = np.full(len(weights), number(values, "period", 86400.0) / len(weights))
    rate = Steps(weights / weights.mean() * number(values, "rate"), lasting)
    return Arrivals(text=call.text, rate=rate, gaps=_varying(number(values, "cv", 1.0)))


def _ramp(call: Call) -> Arrivals:
    start = Parameter("start", "1/s", 0.0, 1e9, above=False)
    end = Parameter("end", "1/s", 1e-9, 1e9, above=False)
    values = bind(call, [start, end, Parameter("over", "s", 1e-3, 1e10, above=False), _CV], needed=3)
    rate = Ramp(start_per_s=number(values, "start"), mean_per_s=number(values, "end"), over_s=number(values, "over"))
    return Arrivals(text=call.text, rate=rate, gaps=_varying(number(values, "cv", 1.0)))


def _burst(call: Call) -> Arrivals:
    """`peak` is the busy rate over the quiet one, `on` and `off` how long each lasts on average."""
    peak = Parameter("peak", "1", 1.0, 1e9, above=False)
    on, off = (Parameter(name, "s", 1e-3, 1e10, above=False) for name in ("on", "off"))
    values = bind(call, [_RATE, peak, on, off], needed=4)
    rate = Bursts(
        mean_per_s=number(values, "rate"),
        peak=number(values, "peak"),
        on_s=number(values, "on"),
        off_s=number(values, "off"),
    )
    return Arrivals(text=call.text, rate=rate, gaps=_exponential)


def _closed(call: Call) -> Arrivals:
    values = bind(call, [Parameter("clients", "count", 1, 1e7, above=False), Parameter("think", "text")], needed=1)
    clients = number(values, "clients")
    if clients != int(clients):
        raise SpecError("clients are counted in wholes", at=call.at, got=call.text, fix="write for example closed(64)")
    think = parse_law(values["think"], "s", at=f"{call.at} think") if "think" in values else fixed(0.0)
    return Arrivals(text=call.text, rate=None, gaps=_exponential, clients=int(clients), think=think)


_PROCESSES: Mapping[str, Callable[[Call], Arrivals]] = {
    "poisson": _poisson,
    "gamma": _gamma,
    "weibull": _weibull,
    "constant": _constant,
    "diurnal": _diurnal,
    "profile": _profile,
    "ramp": _ramp,
    "burst": _burst,
    "closed": _closed,
}
