"""Quantities as people write them ("3.35 TB/s", "40ms", "2.99 USD/h") and SI inside; the only table of units.

`parse` turns text into an SI float of one dimension; `si`, `duration`, `size` and `count` write numbers for people, in
forms that `parse` reads back. GB is 10^9 and GiB is 2^30; what has two readings (`Gb`, `KB`) is an error that asks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from functools import lru_cache
from types import MappingProxyType

from ridgeline.core.errors import DomainError, UnitError, nearest

_LARGE = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SMALL = {"c": -2, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15}
_METRIC = {prefix: Decimal(10) ** power for prefix, power in (_LARGE | _SMALL).items() if prefix != "c"}
_MULTIPLES = {prefix: Decimal(10) ** power for prefix, power in _LARGE.items()}
_BINARY = {prefix + "i": Decimal(1024) ** (i + 1) for i, prefix in enumerate(("K", "M", "G", "T", "P", "E"))}
_LENGTHS = {prefix: Decimal(10) ** power for prefix, power in ({"": 0, "k": 3} | _SMALL).items()}
_ONE = {"": Decimal(1)}
_SIZES = {
    decimal: [(float(scale), f" {prefix}B") for prefix, scale in prefixes.items()]
    for decimal, prefixes in ((True, _MULTIPLES), (False, _ONE | _BINARY))
}


def _family(symbols: str, prefixes: Mapping[str, Decimal] = _ONE, factor: str | int = 1) -> dict[str, Decimal]:
    return {p + symbol: Decimal(factor) * scale for symbol in symbols.split() for p, scale in prefixes.items()}


def _powers(symbols: str, power: int, factor: int = 1) -> dict[str, Decimal]:
    mark = {2: "²", 3: "³"}[power]
    return {
        f"{prefix}m{form}": scale**power * factor
        for prefix, scale in _LENGTHS.items()
        for form in (f"^{power}", f"**{power}", str(power), mark)
    } | _family(symbols)


_BYTES = _MULTIPLES | _BINARY
_OPERATIONS = "FLOP FLOPs flop flops OP OPs op ops"
_SECONDS = {p: s for p, s in _METRIC.items() if s <= 1}

_UNITS: Mapping[str, Mapping[str, Decimal]] = MappingProxyType(
    {
        "1": _ONE | _family("%", factor="0.01") | _family("request requests req", _MULTIPLES),
        "token": _family("token tokens tok", _MULTIPLES),
        "byte": _family("B byte bytes", _BYTES) | _family("bit bits", _BYTES, "0.125"),
        "count": _MULTIPLES | _BINARY | {"B": Decimal(10) ** 9},
        "flop": _family(_OPERATIONS, _MULTIPLES) | _family("MAC MACs", _MULTIPLES, 2),
        "flop/s": _family("FLOPS OPS", _MULTIPLES) | _family("MACS", _MULTIPLES, 2),
        "s": _family("s sec second seconds", _SECONDS)
        | _family("min minute minutes", factor=60)
        | _family("h hr hour hours", factor=3600)
        | _family("d day days", factor=86400)
        | _family("week weeks", factor=7 * 86400)
        # 8760 hours, the year of electricity tariffs and of amortisation tables.
        | _family("year years yr", factor=365 * 86400),
        "1/s": _family("Hz", _METRIC),
        "w": _family("W", _METRIC),
        "v": _family("V", _METRIC),
        "j": _family("J", _METRIC) | _family("Wh", _METRIC, 3600),
        "usd": _family("USD $", _MULTIPLES) | _family("cent cents", factor="0.01"),
        "m": _family("m", _LENGTHS),
        "m2": _powers("m2", 2),
        "kg": _family("g gCO2 gCO2e gCO2eq", _METRIC, "0.001") | _family("t tCO2 tCO2e tCO2eq", _MULTIPLES, 1000),
        "l": _family("L l", _METRIC) | _powers("m3", 3, 1000),
    }
)
"""Dimension -> unit as written -> how many SI units it is. A dimension `a/b` needs no row: `unit of a/unit of b`."""

_ALIASES = {"hz": "1/s", "frac": "1"}
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(.*)", re.DOTALL)
_AMBIGUOUS = re.compile(r"([kKMGTPE]?)([bB])(?:(ps)|/(.*))?$")
_EXACT = Context(prec=40)
_LONGEST = 100

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "1": "0.87 or 87%",
        "count": "8k or 70B",
        "token": "2 Mtoken",
        "token/s": "1200 token/s",
        "byte": "80 GiB or 80 GB",
        "byte/s": "3.35 TB/s",
        "flop": "2 GFLOP",
        "flop/s": "989.4 TFLOP/s",
        "s": "40 ms",
        "1/s": "12/s or 1.98 GHz",
        "w": "700 W",
        "v": "750 mV",
        "j": "1.2 kWh or 3 pJ",
        "usd": "30000 USD",
        "usd/s": "2.99 USD/h",
        "m": "4 nm",
        "m2": "814 mm^2",
        "kg": "1.5 kg",
        "l": "2 L",
        "kg/j": "350 gCO2/kWh",
        "l/j": "1.8 L/kWh",
        "usd/j": "0.08 USD/kWh",
        "j/byte": "4 pJ/bit",
        "j/flop": "0.5 pJ/FLOP",
    }
)
"""One way to write each common dimension, for messages and for help texts."""


def parse(text: str | int | float, dimension: str, *, at: str = "", bare_ok: bool = False) -> float:
    """The SI value of a written quantity: byte, s, W, J, kg, L, m2, USD, FLOP and their quotients.

    Args:
        text:      "80 GiB", "3.35 TB/s", "40ms", "12/s", "350 gCO2/kWh"; a number counts as written without a unit.
        dimension: a key of the table of units, or a quotient of two ("byte/s", "usd/s", "kg/j").
        at:        where the text stands, for the message.
        bare_ok:   accept a number without unit as SI; otherwise only "1" and "count" need no unit.
    Returns:
        A finite float, the correctly rounded product of number and unit.
    Raises:
        UnitError: not a number, not finite, no unit, a unit that is unknown, ambiguous or of another dimension.
        DomainError: the dimension itself does not exist (a mistake in the caller).
    """
    wanted = _ALIASES.get(dimension, dimension)
    numerator, denominator = _dimension(wanted)
    number, unit = _split(text, wanted, at)
    if not unit and bare_ok:
        return _finite(Decimal(number), text, wanted, at)
    factor = _UNITS.get(wanted, {}).get(unit)
    if factor is None and denominator:
        upper, slash, lower = unit.partition("/")
        above = _UNITS[numerator].get(upper.strip())
        below = _UNITS[denominator].get(lower.strip()) if slash else None
        factor = above / below if above is not None and below is not None else None
    if factor is None:
        raise _wrong_unit(text, unit, wanted, at)
    return _finite(_EXACT.multiply(Decimal(number), factor), text, wanted, at)


def si(value: float, unit: str, *, digits: int = 3) -> str:
    """`value` with the metric prefix that leaves 1 to 999: `si(9.894e14, "FLOP/s")` is "989 TFLOP/s"."""
    if not math.isfinite(value):
        return _unusual(value)
    steps = ((10.0**power, prefix) for prefix, power in _LARGE.items())
    tiny = ((10.0 ** _SMALL[prefix], prefix) for prefix in ("m", "u", "n", "p", "f"))
    return _scaled(value, [(scale, f" {prefix}{unit}") for scale, prefix in sorted((*steps, *tiny))], digits)


def duration(value_s: float, *, digits: int = 3) -> str:
    """A time for people: "936 ns", "12.3 ms", "1.50 s", "2.50 min", "3.00 h", "12.0 d"."""
    if not math.isfinite(value_s):
        return _unusual(value_s)
    scales = [(1e-9, " ns"), (1e-6, " us"), (1e-3, " ms"), (1.0, " s"), (60.0, " min"), (3600.0, " h"), (86400.0, " d")]
    return _scaled(value_s, scales, digits)


def size(value_bytes: float, *, decimal: bool = False, digits: int = 3) -> str:
    """A memory size for people: "80.0 GiB", or "85.9 GB" with `decimal`."""
    if not math.isfinite(value_bytes):
        return _unusual(value_bytes)
    return _scaled(value_bytes, _SIZES[decimal], digits)


def count(value: float, *, digits: int = 3) -> str:
    """A number of things for people: "812", "12.3k", "8.03B"."""
    if not math.isfinite(value):
        return _unusual(value)
    return _scaled(value, [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T")], digits)


@lru_cache(maxsize=256)
def _dimension(dimension: str) -> tuple[str, str]:
    """Numerator and denominator (empty for a dimension with a table of its own and no slash)."""
    numerator, slash, denominator = dimension.partition("/")
    if numerator not in _UNITS or (slash and denominator not in _UNITS):
        raise DomainError(
            f"no dimension {dimension!r}", at="dimension", fix=f"use one of {', '.join(_UNITS)}, or a/b of two"
        )
    return numerator, denominator


def _split(text: object, dimension: str, at: str) -> tuple[str, str]:
    """The number, as text that Decimal reads, and the unit as written."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise UnitError("not a quantity", at=at, got="null" if text is None else text, fix=_write(dimension))
    if not isinstance(text, str):
        return _number(text, text, dimension, at), ""
    stripped = text.strip()
    sign, money, amount = stripped.partition("$")
    if money and sign in ("", "-", "+") and amount[:1].isdigit():
        number, unit = _split(sign + amount, dimension, at)
        return number, "$" + unit
    found = _NUMBER.fullmatch(stripped) if len(stripped) <= _LONGEST else None
    if found is None:
        raise UnitError("not a number with a unit", at=at, got=text, fix=_write(dimension))
    return _number(found[1], text, dimension, at), found[2]


def _number(number: str | int | float, text: object, dimension: str, at: str) -> str:
    """`number` if float64 can hold it; what rounds to zero is zero, so that no exponent is too long for Decimal."""
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise UnitError("not a finite number", at=at, got=text, fix=_write(dimension))
    return str(number) if value else "0"


def _finite(value: Decimal, text: object, dimension: str, at: str) -> float:
    result = float(value)
    if not math.isfinite(result):
        raise UnitError("larger than a float64 can hold", at=at, got=text, fix=_write(dimension))
    return result


def _wrong_unit(text: object, unit: str, dimension: str, at: str) -> UnitError:
    """The most helpful of: no unit, ambiguous unit, unit of another dimension, unknown unit."""
    if not unit:
        return UnitError("a unit is missing", at=at, got=text, fix=_write(dimension))
    ambiguous = _AMBIGUOUS.match(unit)
    if ambiguous and dimension.startswith("byte"):
        prefix, letter, per_s, below = ambiguous.groups()
        rate = "/s" if per_s else f"/{below}" if below else ""
        if letter == "b":
            big = prefix.replace("K", "k")
            fix = f"write {big}bit{rate} for bits or {big}B{rate} for bytes"
            return UnitError(f"{unit!r} may mean bits or bytes", at=at, got=text, fix=fix)
        if prefix == "K":
            fix = f"write kB{rate} for 1000 bytes or KiB{rate} for 1024"
            return UnitError(f"{unit!r} may mean 1000 or 1024 bytes", at=at, got=text, fix=fix)
    other = next((d for d in _UNITS if _measures(unit, d)), None) or _quotient(unit)
    if other is not None and other != dimension:
        return UnitError(f"{unit!r} measures {other}, not {dimension}", at=at, got=text, fix=_write(dimension))
    hits = nearest(unit, _spellings(dimension))
    meant = f"did you mean {' or '.join(hits)}? " if hits else ""
    return UnitError(f"unknown unit {unit!r}", at=at, got=text, fix=meant + _write(dimension))


def _measures(unit: str, dimension: str) -> bool:
    return unit in _UNITS[dimension]


def _quotient(unit: str) -> str | None:
    """The dimension a/b that the written unit has, if both halves are known."""
    upper, slash, lower = (part.strip() for part in unit.partition("/"))
    above = next((d for d in _UNITS if _measures(upper, d)), None)
    below = next((d for d in _UNITS if slash and _measures(lower, d)), None)
    return f"{above}/{below}" if above and below else None


def _spellings(dimension: str) -> Iterable[str]:
    """Units worth proposing: those of the dimension, quotients with the usual denominators only."""
    numerator, denominator = _dimension(dimension)
    yield from (unit for unit in _UNITS.get(dimension, ()) if unit)
    if denominator:
        usual = {"s": ("s", "h"), "j": ("kWh", "J")}.get(denominator, tuple(_UNITS[denominator])[:2])
        yield from (f"{upper}/{lower}" for upper in _UNITS[numerator] for lower in usual)


def _write(dimension: str) -> str:
    example = EXAMPLES.get(dimension)
    return f"write it like {example}" if example else f"write a number and a unit of {dimension}"


def _unusual(value: float) -> str:
    return "n/a" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _scaled(value: float, scales: list[tuple[float, str]], digits: int) -> str:
    """`value` in the largest scale that leaves at least 1; rounding to `digits` may lift it to the next scale.

    `scales` rise.
    """
    if value == 0:
        return f"0{next(unit for scale, unit in scales if scale == 1.0)}"
    i = 0
    while i + 1 < len(scales) and abs(value) >= scales[i + 1][0]:
        i += 1
    text = _significant(value / scales[i][0], digits, whole=scales[i][0] == 1.0)
    if i + 1 < len(scales) and abs(float(text)) * scales[i][0] >= scales[i + 1][0]:
        i += 1
        text = _significant(value / scales[i][0], digits, whole=scales[i][0] == 1.0)
    return f"{text}{scales[i][1]}"


def _significant(number: float, digits: int, *, whole: bool) -> str:
    """`number` with `digits` significant digits; `whole` keeps a small integer; exponents only for the extreme."""
    rounded = float(f"{number:.{digits - 1}e}")
    if whole and number == rounded == int(number) and abs(number) < 1000:
        return f"{number:.0f}"
    if not 1e-3 <= abs(rounded) < 1e6:
        return f"{number:.{digits - 1}e}"
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"
