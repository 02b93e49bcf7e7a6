"""Rows that fail alone, and rows grouped by codes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.cases import Cases, Problems, Resolved, groups
from ridgeline.core.columns import map_columns
from ridgeline.core.errors import UnknownNameError
from ridgeline.core.tables import encode


def test_the_first_problem_of_a_row_is_the_one_that_is_told() -> None:
    problems = Problems(3)
    problems.flag(np.array([False, True, True]), "first")
    problems.flag_each(np.array([0, 1]), ["zero", "one"])
    problems.flag(slice(None), UnknownNameError("unknown chip 'x'", at="chip"))
    assert problems.column() == ["zero", "first", "first"]
    assert not problems.ok.any()
    codes, messages = problems.coded()
    assert [messages[code] for code in codes] == problems.column()


@given(
    columns=st.lists(st.lists(st.integers(-1, 5), min_size=12, max_size=12), min_size=1, max_size=6),
    chosen=st.sets(st.integers(0, 11)),
)
def test_groups_part_the_chosen_rows_by_equal_codes(columns: list[list[int]], chosen: set[int]) -> None:
    codes = [np.array(column, dtype=np.int32) for column in columns]
    rows = np.array(sorted(chosen), dtype=np.intp)
    found = list(groups(codes, rows))
    assert sorted(int(row) for _, members in found for row in members) == sorted(chosen)
    assert len({key for key, _ in found}) == len(found)
    for key, members in found:
        assert all(tuple(int(column[row]) for column in codes) == key for row in members)


def test_many_wide_codes_still_group_rightly() -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 2**30, 50).astype(np.int32) for _ in range(5)]
    assert len(list(groups(codes, np.arange(50)))) == 50


def test_each_distinct_combination_is_resolved_once_and_failures_stay_in_their_rows() -> None:
    calls: list[tuple[str, str]] = []

    def find(model: str, chip: str) -> str:
        calls.append((model, chip))
        if model == "bad":
            raise UnknownNameError("unknown model 'bad'", at="model")
        return f"{model}@{chip}"

    texts = {"model": encode(["a", "bad", "a", "b"]), "chip": encode(["x", "x", "x", "y"])}
    problems = Problems(4)
    resolved = Resolved(problems, Cases(4, {}, texts), ("model", "chip"), find)
    assert sorted(calls) == [("a", "x"), ("b", "y"), ("bad", "x")]
    assert problems.ok.tolist() == [True, False, True, True]
    values, index = resolved.used(np.array([0, 2, 3]))
    assert [values[i] for i in index] == ["a@x", "a@x", "b@y"]
    codes = resolved.codes(len)
    assert codes[0] == codes[2] == codes[3] != codes[1]


def test_columns_inside_a_value_change_and_the_rest_is_the_same_object() -> None:
    value = ("text", 3.0, (np.arange(2.0), "more"))
    doubled = map_columns(value, lambda column: np.tile(column, 2))
    assert doubled[2][0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert map_columns(("text", (1.0, "x")), lambda column: column * 0) == ("text", (1.0, "x"))
