"""The report of a simulated run: one file, nothing fetched, no script, pictures that hold what they say."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from tests.serving.test_answers import loaded
from tests.serving.test_step_table import stepper_of

from ridgeline.api.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Line, Mark, line_chart
from ridgeline.api.simulations.simulation_page import simulation_page, write_page
from ridgeline.core.errors import FileFormatError
from ridgeline.serving.record.answers import answers
from ridgeline.serving.record.latency import Promise
from ridgeline.serving.record.power_table import sample_power

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def page() -> str:
    played, code = loaded(3.0), np.arange(400) % 2
    powers = {"serving": sample_power(stepper_of("meta-llama/Llama-3.1-8B", 1), low=1, high=400, tokens=420)}
    classes = (Promise(name="chat", ttft_s=0.02), Promise(name=HOSTILE, e2e_s=3.0))
    found = answers(played, classes=classes, class_code=code, powers=powers)
    case = {"model": HOSTILE, "tp": 8}
    return simulation_page(found, played, title=HOSTILE, case=case, class_code=code, powers=powers)


def pictures(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_page_fetches_nothing_and_runs_nothing(page: str) -> None:
    assert "<script" not in page.casefold()
    assert "<img" not in page
    assert "onerror=alert(1)>" not in page
    assert "default-src 'none'" in page
    outside = re.findall(r"(?:src|href)\s*=|url\(|@import", page.replace("src=x onerror", ""))
    assert not outside
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_page_shows_tables_curves_series_and_why(page: str) -> None:
    for words in ("TTFT", "ITL", "goodput", "Bound by", "steady state", "MLPerf", "boards", "What was asked"):
        assert words in page
    titles = [picture.get("aria-label", "") for picture in pictures(page)]
    assert len(titles) == 3 + 6
    assert any("power" in title for title in titles)
    assert "objective of chat" in page


def test_every_point_of_every_picture_lies_inside_its_axes(page: str) -> None:
    for picture in pictures(page):
        lines = picture.findall(f"{SVG}polyline")
        assert lines
        for line in lines:
            points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
            assert all(LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1 for x, _ in points)
            assert all(TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for _, y in points)


def test_a_distribution_rises_from_left_to_right(page: str) -> None:
    for picture in pictures(page)[:3]:
        for line in picture.findall(f"{SVG}polyline"):
            points = np.array([[float(v) for v in pair.split(",")] for pair in line.get("points", "").split()])
            assert (np.diff(points[:, 0]) >= 0).all()
            assert (np.diff(points[:, 1]) <= 0).all()


def test_without_power_its_curve_is_left_out(tmp_path: Path) -> None:
    played = loaded(3.0)
    plain = simulation_page(answers(played), played, title="x")
    assert len(pictures(plain)) == 3 + 5
    write_page(tmp_path / "page.html", plain)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == plain
    with pytest.raises(FileFormatError, match="folder"):
        write_page(tmp_path / "nowhere" / "page.html", plain)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1.0], [5.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 2.0]),
        ([0.0, -1.0], [1.0, 2.0]),
        (np.linspace(1e-6, 1e6, 5000), np.linspace(0, 1e12, 5000)),
        ([1.0, 2.0], [-3.0, math.inf]),
    ],
)
def test_any_data_makes_a_well_formed_picture(x: object, y: object, log: bool) -> None:
    lines = [Line(name="a", x=x, y=y), Line(name=HOSTILE, x=x, y=y)]  # type: ignore[arg-type]
    marks = [Mark(name=HOSTILE, x=3.0, line=1), Mark(name="none", x=math.inf)]
    picture = line_chart(HOSTILE, lines, x=Axis(label=HOSTILE, log=log), y=Axis(label="y"), marks=marks)
    root = ElementTree.fromstring(picture)
    assert "nan" not in picture.casefold().replace("alert", "")
    drawn = sum(len(line.get("points", "").split()) for line in root.findall(f"{SVG}polyline"))
    assert drawn <= 2 * 600


@pytest.mark.parametrize("values", [[1e-3, 1.0, 1e4], [0.0, 5.0, 50.0], [7.0, 7.0, 7.0]])
def test_a_logarithmic_y_axis_shows_what_is_above_zero(values: list[float]) -> None:
    picture = line_chart(
        "t", [Line(name="a", x=[1.0, 2.0, 3.0], y=values)], x=Axis(label="x"), y=Axis(label="y", log=True)
    )
    assert picture.count("<svg") == 1
    assert "nan" not in picture


@pytest.mark.parametrize(("low", "high"), [(7.1, 7.9), (1.0, 3.0), (0.2, 90.0), (1e-3, 1e5)])
def test_a_logarithmic_axis_has_marks_however_short_it_is(low: float, high: float) -> None:
    axis = Axis(label="time", text=lambda value: f"at {value:.6g}", log=True)
    svg = line_chart("t", [Line(name="a", x=[low, high], y=[0.0, 1.0])], x=axis, y=Axis(label="share"))
    marks = [float(mark) for mark in re.findall(r">at ([\d.e+-]+)<", svg)]
    assert len(marks) >= 3 and marks == sorted(marks)
    assert all(low * 0.9 <= mark <= high * 1.1 for mark in marks)
