"""The roofline of a prediction's steps: each op a dot under the machine's roofs (Williams et al., CACM 2009)."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline.core import units
from ridgeline.core.errors import FileFormatError, MissingExtraError, SpecError
from ridgeline.core.files import atomic_path, write_atomic
from ridgeline.hardware import catalogue
from ridgeline.serving.explain import operational_intensity

if TYPE_CHECKING:
    from ridgeline.api.predictions.predict import Prediction

WIDTH, HEIGHT, MARGIN = 900, 520, 70
COLOURS = {"decode": "#1f77b4", "prefill": "#d62728"}


def draw_roofline(prediction: Prediction, path: Path) -> None:
    """Write the roofline of a serving prediction.

    Raises:
        SpecError: a prediction without steps.
        FileFormatError: a suffix other than .html, .svg or .png.
        MissingExtraError: .png without matplotlib (extra `plot`).
    """
    if not prediction.phases:
        raise SpecError("this prediction has no steps to draw", at="roofline", fix="predict a serving deployment")
    suffix = Path(path).suffix.casefold()
    if suffix in (".html", ".svg"):
        picture = roofline_svg(prediction)
        write_atomic(path, _page(prediction, picture) if suffix == ".html" else picture)
    elif suffix == ".png":
        _png(prediction, Path(path))
    else:
        raise FileFormatError("a roofline is .html, .svg or .png", at=str(path), got=suffix, fix="choose one of them")


def _roofs(prediction: Prediction) -> tuple[float, dict[str, float]]:
    """Memory bandwidth, and the peak of each number format that the step computes in."""
    chip = catalogue.chip(str(prediction.case["chip"]))
    used = {cost.op.compute for phase in prediction.phases for cost in phase.step.ops if cost.op.compute != "fp32"}
    return chip.dram.bandwidth_bytes_per_s, {name: chip.peak_flops_per_s(name) for name in sorted(used)}


def _points(prediction: Prediction) -> list[tuple[str, str, float, float, float]]:
    return [(phase.name, *point) for phase in prediction.phases for point in operational_intensity(phase.step)]


class _Axes:
    """Log-log axes around the points and the ridge."""

    def __init__(self, prediction: Prediction) -> None:
        self.bandwidth, self.peaks = _roofs(prediction)
        self.points = _points(prediction)
        ridge = max(self.peaks.values()) / self.bandwidth
        xs = [point[2] for point in self.points]
        ys = [point[3] for point in self.points]
        self.x0, self.x1 = min(*xs, 0.1) / 2, max(*xs, ridge) * 4
        self.y0, self.y1 = min(ys) / 3, max(self.peaks.values()) * 3

    def x(self, value: float) -> float:
        share = (math.log(value) - math.log(self.x0)) / (math.log(self.x1) - math.log(self.x0))
        return MARGIN + share * (WIDTH - 2 * MARGIN)

    def y(self, value: float) -> float:
        share = (math.log(value) - math.log(self.y0)) / (math.log(self.y1) - math.log(self.y0))
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)


def roofline_svg(prediction: Prediction) -> str:
    """The roofline of a serving prediction as one <svg> element."""
    axes = _Axes(prediction)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_grid(axes),
    ]
    for name, peak in axes.peaks.items():
        ridge = peak / axes.bandwidth
        corner = f"{axes.x(ridge):.1f},{axes.y(peak):.1f}"
        start = f"{axes.x(axes.x0):.1f},{axes.y(max(axes.x0 * axes.bandwidth, axes.y0)):.1f}"
        end = f"{axes.x(axes.x1):.1f},{axes.y(peak):.1f}"
        parts.append(f'<polyline points="{start} {corner} {end}" fill="none" stroke="#444" stroke-width="2"/>')
        label = f"{name} {units.si(peak, 'FLOP/s')}"
        parts.append(f'<text x="{axes.x(axes.x1) - 150:.1f}" y="{axes.y(peak) - 6:.1f}">{html.escape(label)}</text>')
    for phase, name, intensity, rate, share in axes.points:
        radius = 4 + 16 * math.sqrt(share)
        title = f"{phase} {name}: {intensity:.3g} FLOP/B, {units.si(rate, 'FLOP/s')}, {share:.1%} of the step"
        parts.append(
            f'<circle cx="{axes.x(intensity):.1f}" cy="{axes.y(rate):.1f}" r="{radius:.1f}" fill="{COLOURS[phase]}" '
            f'fill-opacity="0.55" stroke="white"><title>{html.escape(title)}</title></circle>'
        )
    for place, (phase, colour) in enumerate(COLOURS.items()):
        parts.append(f'<circle cx="{MARGIN + 20}" cy="{MARGIN + 10 + 20 * place}" r="6" fill="{colour}"/>')
        parts.append(
            f'<text x="{MARGIN + 32}" y="{MARGIN + 14 + 20 * place}">{phase} step (area: share of time)</text>'
        )
    parts.append("</svg>")
    return "\n".join(parts)


def _grid(axes: _Axes) -> list[str]:
    parts = []
    for power in range(math.ceil(math.log10(axes.x0)), math.floor(math.log10(axes.x1)) + 1):
        x = axes.x(10.0**power)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{10.0**power:g}</text>')
    for power in range(math.ceil(math.log10(axes.y0)), math.floor(math.log10(axes.y1)) + 1):
        y = axes.y(10.0**power)
        label = units.si(10.0**power, "FLOP/s")
        parts.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="10">{label}</text>')
    middle = WIDTH / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 18}" text-anchor="middle">operational intensity, FLOP per byte</text>'
    )
    return parts


def _page(prediction: Prediction, picture: str) -> str:
    """One self-contained page: the picture, then the numbers; no script, nothing fetched."""
    from ridgeline.api.predictions.show import human, plain

    title = html.escape(f"{prediction.case['model']} on {prediction.case['chip']}")
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(human(name, value))}</td></tr>"
        for name, value in prediction.values.items()
    )
    case = html.escape(json.dumps(dict(prediction.case)))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{title}</title><style>body{{font-family:sans-serif;max-width:960px;margin:2em auto}}"
        "td{padding:2px 1em 2px 0}pre{overflow-x:auto}</style></head><body>"
        f"<h1>{title}</h1>{picture}<h2>Results</h2><table>{rows}</table>"
        f"<h2>Breakdown</h2><pre>{html.escape(plain(prediction))}</pre><h2>Case</h2><pre>{case}</pre></body></html>"
    )


def _png(prediction: Prediction, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "a PNG needs matplotlib", at=str(path), fix="pip install 'ridgeline[plot]', or write .html or .svg"
        ) from error
    axes = _Axes(prediction)
    figure = Figure(figsize=(9, 5.2), dpi=120)
    panel: Any = figure.add_subplot()
    for name, peak in axes.peaks.items():
        xs = [axes.x0, peak / axes.bandwidth, axes.x1]
        panel.plot(xs, [xs[0] * axes.bandwidth, peak, peak], color="#444")
        panel.annotate(f"{name} {units.si(peak, 'FLOP/s')}", (axes.x1, peak), ha="right", va="bottom")
    for phase, colour in COLOURS.items():
        chosen = [point for point in axes.points if point[0] == phase]
        sizes = [40 + 800 * point[4] for point in chosen]
        panel.scatter(
            [p[2] for p in chosen], [p[3] for p in chosen], s=sizes, color=colour, alpha=0.55, label=f"{phase} step"
        )
    panel.set(xscale="log", yscale="log", xlim=(axes.x0, axes.x1), ylim=(axes.y0, axes.y1))
    panel.set_xlabel("operational intensity, FLOP per byte")
    panel.set_ylabel("FLOP/s")
    panel.set_title(f"{prediction.case['model']} on {prediction.case['chip']}")
    panel.grid(visible=True, which="major", alpha=0.3)
    panel.legend(loc="upper left", markerscale=0.4)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
