"""Points of sweep files: how many, in which order, drawn how, and what is said about files that are wrong."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels
from ridgeline.search.sweeps.conditions import holds
from ridgeline.search.sweeps.points import Points, points_of
from ridgeline.search.sweeps.spec import Given, load_sweep

WHOLE = frozenset({"n", "m"})


def read(name: str, value: Given) -> float | str:
    """Columns whose names begin with t hold text."""
    return str(value) if name.startswith("t") else float(value)


def made(tmp_path: Path, text: str) -> Points:
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return points_of(load_sweep(path), read=read, whole=WHOLE)


def rows(points: Points) -> list[tuple[Any, ...]]:
    return list(zip(*points.part(0, points.count).values(), strict=True))


def test_axes_are_crossed_in_the_order_of_the_file_and_groups_vary_together(tmp_path: Path) -> None:
    text = "task: a b\nfixed: {f: 7}\naxes: {n: [3, 1], t: [x, y]}\nzip: [{a: [1, 2], ta: [p, q]}]\n"
    points = made(tmp_path, text)
    expected = [(7, n, t, *z) for n, t, z in itertools.product((3, 1), "xy", ((1, "p"), (2, "q")))]
    assert rows(points) == expected
    assert list(points.columns) == ["f", "n", "t", "a", "ta"]
    assert points.part(3, 2) == {k: [row[i] for row in expected[3:5]] for i, k in enumerate(points.columns)}


@pytest.mark.parametrize(
    ("law", "values"),
    [
        ("linspace(0, 1, 5)", [0, 0.25, 0.5, 0.75, 1]),
        ("logspace(1, 1000, 4)", [1, 10, 100, 1000]),
        ("range(1, 4)", [1, 2, 3]),
        ("range(0, 1, 0.1)", [i / 10 for i in range(10)]),
        ("range(5, 0, -2)", [5, 3, 1]),
        ("linspace(4, 4, 1)", [4]),
    ],
)
def test_laws_of_an_axis_give_what_their_names_say(tmp_path: Path, law: str, values: list[float]) -> None:
    points = made(tmp_path, f"task: a b\naxes: {{x: '{law}'}}\n")
    assert [row[0] for row in rows(points)] == pytest.approx(values)


def test_whole_columns_are_rounded_and_nothing_comes_twice(tmp_path: Path) -> None:
    points = made(tmp_path, "task: a b\naxes: {n: 'logspace(1, 16, 9)'}\n")
    assert [row[0] for row in rows(points)] == [1, 2, 3, 4, 6, 8, 11, 16]


@pytest.mark.parametrize("method", ["latin-hypercube", "random"])
def test_a_sample_lies_in_its_ranges_and_repeats(tmp_path: Path, method: str) -> None:
    text = (
        f"task: a b\naxes: {{t: [x, y]}}\nsample:\n  points: 400\n  seed: 5\n  method: {method}\n"
        "  axes: {x: 'uniform(-2, 6)', y: 'loguniform(1, 1e4)', m: 'uniform(1, 3)', tt: [a, b, c, d]}\n"
    )
    points = made(tmp_path, text)
    assert points.count == 800
    table = points.table()
    x, y, m = (np.asarray(table[name])[:400] for name in ("x", "y", "m"))
    assert ((x >= -2) & (x < 6)).all()
    assert ((y >= 1) & (y < 1e4)).all()
    assert set(m.tolist()) == {1, 2, 3}
    assert abs(np.log10(y).mean() - 2) < 0.2
    assert rows(points) == rows(made(tmp_path, text))
    assert rows(points) != rows(made(tmp_path, text.replace("seed: 5", "seed: 6")))
    if method == "latin-hypercube":  # one point in each of as many equal slices
        assert sorted(np.floor((x + 2) / 8 * 400).astype(int).tolist()) == list(range(400))
        tt = table["tt"]
        assert isinstance(tt, Labels)
        assert np.bincount(tt.codes[:400]).tolist() == [100] * 4


def test_another_sampled_axis_leaves_the_draws_of_the_first_alone(tmp_path: Path) -> None:
    text = "task: a b\nsample: {points: 9, axes: {x: 'uniform(0, 1)'}}\n"
    more = "task: a b\nsample: {points: 9, axes: {a: 'uniform(0, 1)', x: 'uniform(0, 1)'}}\n"
    assert [row[0] for row in rows(made(tmp_path, text))] == [row[1] for row in rows(made(tmp_path, more))]


def test_a_condition_keeps_some_points_and_numbers_go_on_without_gaps(tmp_path: Path) -> None:
    points = made(
        tmp_path, "task: a b\naxes: {n: [1, 2, 4], m: [1, 2, 4], t: [x, y]}\nwhere: n * m <= 4 and t != 'y'\n"
    )
    assert rows(points) == [(n, m, "x") for n, m in itertools.product((1, 2, 4), repeat=2) if n * m <= 4]


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("axes: {x: [1]}", "task is missing", 1),
        ("task: a b\naxis: {x: [1]}", "unknown key 'axis'", 2),
        ("task: a b", "nothing varies", 1),
        ("task: a b\naxes:\n  x: 4", "one value is no axis", 3),
        ("task: a b\naxes:\n  x: []", "without values", 3),
        ("task: a b\naxes:\n  x: linspaec(1, 2, 3)", "did you mean 'linspace'", 3),
        ("task: a b\naxes:\n  x: linspace(1, 2)", "linspace takes other values", 3),
        ("task: a b\naxes:\n  x: linspace(1, 2, 2.5)", "so many values", 3),
        ("task: a b\naxes:\n  x: linspace(1, 2, 1e12)", "so many values", 3),
        ("task: a b\naxes:\n  x: logspace(0, 2, 3)", "above 0", 3),
        ("task: a b\naxes:\n  x: range(1, 1)", "without values", 3),
        ("task: a b\naxes:\n  x: range(1, 9, 0)", "without values", 3),
        ("task: a b\naxes:\n  x: range(0, 1, 1e-12)", "without values", 3),
        ("task: a b\naxes:\n  x: uniform(0, 1)", "unknown law", 3),
        ("task: a b\naxes:\n  t: linspace(0, 1, 2)", "no law gives", 3),
        ("task: a b\naxes:\n  x: [1, [2]]", "axes", 3),
        ("task: a b\nfixed: {x: 1}\naxes:\n  x: [1]", "x is given twice", 4),
        ("task: a b\nzip:\n  - {x: [1, 2], y: [1]}", "vary together", 3),
        ("task: a b\nzip:\n  - {}", "vary together", 3),
        ("task: a b\nsample:\n  points: 0\n  axes: {x: [1]}", "out of range", 3),
        ("task: a b\nsample:\n  points: 5\n  seed: -1\n  axes: {x: [1]}", "out of range", 4),
        ("task: a b\nsample:\n  points: 5\n  method: sobol\n  axes: {x: [1]}", "unknown method", 4),
        ("task: a b\nsample:\n  points: 5\n  axes: {}", "needs axes", 4),
        ("task: a b\nsample:\n  points: 5\n  axes:\n    x: uniform(2, 1)", "no room", 5),
        ("task: a b\nsample:\n  points: 5\n  axes:\n    x: loguniform(0, 1)", "no room", 5),
        ("task: a b\naxes: {x: [1]}\nchunk: 0", "out of range", 3),
        ("task: a b\naxes: {x: [1]}\nlimit: 5 kg", "limit", 3),
        ("task: a b\naxes: {x: [1]}\nlimit: 0s", "above 0", 3),
        ("task: a b\naxes: {x: [1]}\nlimit: true", "a time", 3),
        ("task: a b\naxes: {x: [1]}\nwhere: x > 1", "no point keeps", 3),
        ("task: a b\naxes: {x: [1]}\nwhere: y > 1", "which no point has", 3),
        ("task: a b\naxes: {x: 'range(0, 1e6)', y: 'range(0, 1e6)'}", "too large", 2),
        ("task: [a]\naxes: {x: [1]}", "task", 1),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(tmp_path: Path, text: str, says: str, line: int) -> None:
    with pytest.raises(RidgelineError) as caught:
        made(tmp_path, text)
    assert says in caught.value.line()
    assert f"sweep.yaml:{line}:" in caught.value.at
    assert caught.value.fix


COLUMNS = {
    "a": np.array([0.0, 1.0, 2.5, -3.0]),
    "b": np.array([1.0, 1.0, 4.0, 2.0]),
    "t": Labels(np.array([0, 1, 1, 0], np.int32), ("x", "y z")),
}
NUMBERS = st.recursive(
    st.sampled_from(["a", "b", "2", "0.5", "1e1"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
        inner.map(lambda one: f"ceil({one})"),
        inner.map(lambda one: f"-{one}"),
    ),
    max_leaves=6,
)
TRUTHS = st.recursive(
    st.one_of(
        st.tuples(NUMBERS, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), NUMBERS).map(" ".join),
        st.sampled_from(["t == 'x'", 't != "y z"', "a < b < 3"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"(not {one})"),
    ),
    max_leaves=4,
)


@given(condition=TRUTHS)
def test_a_condition_means_what_python_means_by_it(condition: str) -> None:
    texts = COLUMNS["t"]
    assert isinstance(texts, Labels)
    names = [
        {"a": a, "b": b, "t": t, "min": min, "max": max, "ceil": math.ceil}
        for a, b, t in zip(COLUMNS["a"].tolist(), COLUMNS["b"].tolist(), texts.texts(), strict=True)
    ]
    expected = [bool(eval(condition, {}, row)) for row in names]
    assert holds(condition, COLUMNS, at="here").tolist() == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a ** 2 == 9 or a % 2 == 0.5", [0, 0, 1, 1]),
        ("2 ** -1 < a", [0, 1, 1, 0]),
        ("-a ** 2 < 0", [0, 1, 1, 1]),
        ("floor(a / b) == 0", [1, 0, 1, 0]),
    ],
)
def test_arithmetic_of_conditions(condition: str, expected: list[int]) -> None:
    assert holds(condition, COLUMNS, at="here").astype(int).tolist() == expected


@pytest.mark.parametrize(
    "condition",
    [
        "a",
        "a +",
        "a < ",
        "< 1",
        "a = 1",
        "(a < 1",
        "a < 1)",
        "a < 1 b",
        "a and b",
        "not a",
        "t < 'x'",
        "t + 1 > 0",
        "t == 1",
        "a == (b < 1)",
        "min(a) < 1",
        "ceil(a, b) < 1",
        "min a < 1",
        "and",
        "a ** 65 > 1",
        "a ** b ** 99 > 1",
        "a.__class__ == 1",
        "__import__('os') == 1",
        "a[0] > 1",
        "lambda: 1",
        "a := 1",
        "'unclosed == t",
        "a < 1;",
        "(" * 100 + "a" + ")" * 100 + " < 1",
        "+".join(["a"] * 150) + " < 1",
        "a < 1 " + " " * 5000 + "or b < 1",
        "\0",
        "é < 1",
        "9" * 400 + "e999 < a",
    ],
)
def test_what_is_no_condition_is_one_named_error(condition: str) -> None:
    with pytest.raises(RidgelineError) as caught:
        holds(condition, COLUMNS, at="here")
    assert caught.value.at == "here"
    assert caught.value.fix


@given(condition=st.text("ab t'\"()<>=!*+-/%.,0123456789andornotmiflceх_", max_size=40))
def test_any_text_is_a_condition_or_a_named_error(condition: str) -> None:
    try:
        found = holds(condition, COLUMNS, at="here")
    except RidgelineError:
        return
    assert found.shape == (4,)
