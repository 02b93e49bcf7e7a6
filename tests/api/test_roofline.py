"""The roofline picture: three formats, nothing fetched, no op above its roof."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import ridgeline as rl
from ridgeline.api.predictions.roofline import draw_roofline
from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.serving.explain import operational_intensity


@pytest.fixture(scope="module")
def serving() -> rl.Prediction:
    return rl.predict(model="meta-llama/Llama-3.1-8B", on="h100-sxm", isl=512, osl=128, concurrency=8)


def test_svg_is_well_formed_and_has_a_dot_per_op(serving: rl.Prediction, tmp_path: Path) -> None:
    path = tmp_path / "roofline.svg"
    draw_roofline(serving, path)
    root = ElementTree.parse(path).getroot()
    dots = [each for each in root.iter("{http://www.w3.org/2000/svg}circle") if len(each)]
    assert len(dots) == sum(len(operational_intensity(phase.step)) for phase in serving.phases) > 10
    for each in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(each.attrib["cx"]) <= 900
        assert 0 <= float(each.attrib["cy"]) <= 520


def test_html_is_one_page_that_fetches_and_runs_nothing(serving: rl.Prediction, tmp_path: Path) -> None:
    path = tmp_path / "roofline.html"
    draw_roofline(serving, path)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "src=" not in page
    assert page.count("http") == page.count("http://www.w3.org/2000/svg")


def test_png_is_a_png(serving: rl.Prediction, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = tmp_path / "roofline.png"
    draw_roofline(serving, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_op_lies_above_its_roof(serving: rl.Prediction) -> None:
    chip = rl.chip("h100-sxm")
    peak = max(chip.matrix_flops_per_s.values())
    for phase in serving.phases:
        for name, intensity, rate, share in operational_intensity(phase.step):
            assert rate <= peak * (1 + 1e-9), name
            assert intensity > 0
            assert 0 <= share <= 1


def test_another_suffix_is_refused_and_nothing_is_written(serving: rl.Prediction, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="html"):
        draw_roofline(serving, tmp_path / "roofline.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_without_steps_has_no_roofline(tmp_path: Path) -> None:
    kernel = rl.predict("ops", kind="copy", chip="l40s", message_bytes=1e6)
    with pytest.raises(SpecError, match="no steps"):
        draw_roofline(kernel, tmp_path / "roofline.svg")
