"""Units: what is written is what is meant, ambiguity asks, and what is printed can be read back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError, UnitError
from ridgeline.core.units import _UNITS, EXAMPLES, count, duration, parse, si, size

# Three significant digits round by at most half a unit of the third.
THREE_DIGITS = 5.001e-3


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("80 GiB", "byte", 80 * 2**30),
        ("50 MB", "byte", 50e6),
        ("3.35 TB/s", "byte/s", 3.35e12),
        ("450 GB/s", "byte/s", 450e9),
        ("400 Gbit/s", "byte/s", 50e9),
        ("989.4 TFLOP/s", "flop/s", 989.4e12),
        ("1979 TOPS", "flop/s", 1979e12),
        ("1 TMAC/s", "flop/s", 2e12),
        ("1 GMACS", "flop/s", 2e9),
        ("40ms", "s", 0.04),
        ("936 ns", "s", 936e-9),
        ("5 µs", "s", 5e-6),
        ("1 year", "s", 8760 * 3600),
        ("12/s", "1/s", 12),
        ("12 req/s", "1/s", 12),
        ("30/min", "1/s", 0.5),
        ("1.98 GHz", "hz", 1.98e9),
        ("1.98 GHz", "1/s", 1.98e9),
        ("700 W", "w", 700),
        ("1.2 kWh", "j", 1.2 * 3.6e6),
        ("3 pJ", "j", 3e-12),
        ("2.99 USD/h", "usd/s", 2.99 / 3600),
        ("$2.99/h", "usd/s", 2.99 / 3600),
        ("-$5", "usd", -5),
        ("814 mm^2", "m2", 814e-6),
        ("814 mm²", "m2", 814e-6),
        ("4 nm", "m", 4e-9),
        ("350 gCO2/kWh", "kg/j", 0.35 / 3.6e6),
        ("1.8 L/kWh", "l/j", 1.8 / 3.6e6),
        ("2 m^3", "l", 2000),
        ("4 pJ/bit", "j/byte", 32e-12),
        ("87%", "frac", 0.87),
        (0.87, "1", 0.87),
        ("70B", "count", 70e9),
        (128, "count", 128),
        ("1200 token/s", "token/s", 1200),
        (".5e3 s", "s", 500),
        ("5. s", "s", 5),
    ],
)
def test_written_quantities_become_si(text: str | float, dimension: str, expected: float) -> None:
    assert parse(text, dimension) == pytest.approx(expected, rel=1e-15, abs=0)


def test_decimal_quantities_are_correctly_rounded() -> None:
    # 1.1 * 1e-12 in float64 arithmetic is off by one unit in the last place; the parsed value is not.
    assert parse("1.1 ps", "s") == 1.1e-12
    assert parse("0.3 TB/s", "byte/s") == 0.3e12


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        ("80", "byte", "a unit is missing"),
        (80, "byte", "a unit is missing"),
        ("80 Gb", "byte", "write Gbit for bits or GB for bytes"),
        ("400 Gb/s", "byte/s", "write Gbit/s for bits or GB/s for bytes"),
        ("400 Gbps", "byte/s", "write Gbit/s for bits or GB/s for bytes"),
        ("256 KB", "byte", "write kB for 1000 bytes or KiB for 1024"),
        ("80 gb", "byte", "did you mean GB"),
        ("40 ms", "byte", "'ms' measures s, not byte"),
        ("3.35 TB", "byte/s", "'TB' measures byte, not byte/s"),
        ("3.35 TB/s", "byte", "'TB/s' measures byte/s, not byte"),
        ("40 mz", "s", "did you mean ms"),
        ("3.35 tb/s", "byte/s", "did you mean TB/s"),
        ("0.3 kg/kwh", "kg/j", "did you mean kg/kWh"),
        ("5 zorkmid", "s", "unknown unit 'zorkmid'"),
        ("1,000 s", "s", "unknown unit"),
        ("1_000 s", "s", "unknown unit"),
        ("fast", "s", "not a number with a unit"),
        ("", "s", "not a number with a unit"),
        ("$", "usd", "not a number with a unit"),
        ("9" * 101, "s", "not a number with a unit"),
        ("nan s", "s", "not a number with a unit"),
        ("1e999 s", "s", "not a finite number"),
        (10**400, "s", "not a finite number"),
        (math.nan, "s", "not a finite number"),
        (-math.inf, "count", "not a finite number"),
        ("1e308 h", "s", "larger than a float64 can hold"),
        (True, "count", "not a quantity"),
        (None, "s", "got 'null'"),
        ([1], "s", "not a quantity"),
    ],
)
def test_what_cannot_be_read_says_where_and_what_would_be_right(text: object, dimension: str, message: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse(text, dimension, at="a.yaml:3:7 memory.capacity")  # type: ignore[arg-type]
    assert message in caught.value.line()
    assert caught.value.at == "a.yaml:3:7 memory.capacity"
    assert caught.value.fix


def test_a_number_without_unit_is_si_only_where_the_caller_allows_it() -> None:
    assert parse(80, "byte", bare_ok=True) == 80.0
    assert parse("1e3", "byte/s", bare_ok=True) == 1000.0


def test_numbers_too_small_for_a_float_are_zero() -> None:
    assert parse("1e-999999999999999999999999 s", "s") == 0.0


def test_a_dimension_that_does_not_exist_is_the_callers_mistake() -> None:
    for dimension in ("furlong", "byte/furlong", "", "byte/"):
        with pytest.raises(DomainError, match="no dimension"):
            parse("1 s", dimension)


@pytest.mark.parametrize(("dimension", "text"), EXAMPLES.items())
def test_every_example_shown_in_messages_can_be_read(dimension: str, text: str) -> None:
    for example in text.split(" or "):
        assert parse(example, dimension) > 0


def test_a_dimension_without_an_example_still_gets_a_fix() -> None:
    with pytest.raises(UnitError, match="write a number and a unit of usd/byte"):
        parse("3", "usd/byte")


def test_spellings_with_two_dimensions_are_these_only() -> None:
    # The message for a unit of another dimension names one dimension per spelling, so overlaps must stay few and known.
    owners: dict[str, list[str]] = {}
    for dimension, units in _UNITS.items():
        for unit in units:
            owners.setdefault(unit, []).append(dimension)
    assert {unit: found for unit, found in owners.items() if len(found) > 1} == {
        "": ["1", "count"],
        "B": ["byte", "count"],
    }


finite = st.floats(min_value=1e-12, max_value=1e18, allow_nan=False)


@given(value=finite, unit=st.sampled_from(["W", "J", "Hz", "L"]))
def test_si_text_reads_back_to_three_digits(value: float, unit: str) -> None:
    dimension = {"W": "w", "J": "j", "Hz": "1/s", "L": "l"}[unit]
    assert parse(si(value, unit), dimension) == pytest.approx(value, rel=THREE_DIGITS)
    assert parse(si(-value, unit), dimension) == pytest.approx(-value, rel=THREE_DIGITS)


@given(value=st.floats(min_value=1e-15, max_value=1e12))
def test_durations_read_back_to_three_digits(value: float) -> None:
    assert parse(duration(value), "s") == pytest.approx(value, rel=THREE_DIGITS)


@given(value=st.floats(min_value=1, max_value=1e20), decimal=st.booleans())
def test_sizes_read_back_to_three_digits(value: float, decimal: bool) -> None:
    assert parse(size(value, decimal=decimal), "byte") == pytest.approx(value, rel=THREE_DIGITS)


@given(value=st.integers(min_value=0, max_value=10**14))
def test_counts_read_back_to_three_digits(value: int) -> None:
    assert parse(count(value), "count") == pytest.approx(value, rel=THREE_DIGITS)


@given(value=finite, digits=st.integers(min_value=1, max_value=12))
def test_more_digits_never_read_back_worse_than_they_say(value: float, digits: int) -> None:
    assert parse(si(value, "W", digits=digits), "w") == pytest.approx(value, rel=0.5000001 * 10.0 ** (1 - digits))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (si(9.894e14, "FLOP/s"), "989 TFLOP/s"),
        (si(999.96e3, "W"), "1.00 MW"),
        (si(0, "W"), "0 W"),
        (si(0.5, "L"), "500 mL"),
        (si(math.nan, "W"), "n/a"),
        (duration(936e-9), "936 ns"),
        (duration(0.0123), "12.3 ms"),
        (duration(59.999), "1.00 min"),
        (duration(-1.5), "-1.50 s"),
        (duration(math.inf), "inf"),
        (size(80 * 2**30), "80.0 GiB"),
        (size(80e9, decimal=True), "80.0 GB"),
        (size(512), "512 B"),
        (size(-math.inf), "-inf"),
        (count(812), "812"),
        (count(12_345), "12.3k"),
        (count(8.03e9), "8.03B"),
        (count(0.5), "0.500"),
        (count(math.nan), "n/a"),
        (duration(1e13), "1.16e+08 d"),
    ],
)
def test_numbers_are_shown_as_people_write_them(shown: str, expected: str) -> None:
    assert shown == expected
