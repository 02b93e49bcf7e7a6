"""Many studies at once: the coverage table, as a page, and verdicts to compare with the committed ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ridgeline.studies.frame.shelf import find, names
from ridgeline.studies.frame.study import Study, Verdict
from ridgeline.studies.frame.trial import Trial

_HEAD = """# Coverage

Written by `ridgeline study --all --markdown docs/coverage.md`; a test runs every study and compares verdicts
with it.

Each published system is a study: a module of `ridgeline.studies` that builds the baseline and the improved system from
public parts, and prints its claim beside our number. Tolerances were set before any study was run: a claimed ratio is
**reproduced** within ±25 %, or if our sweep stays inside the claimed range; an absolute number within ±30 %;
arithmetic within 1 %. **Trend** means that the gain is there and its size is not, or an absolute number within a factor
of two. A study is as good as its worst claim. `ridgeline study NAME` shows assumptions, sources, and how the result
moves with them.

"""


def chosen(area: str = "") -> tuple[Study, ...]:
    """All studies, or those of an area, in the order of their names."""
    return tuple(study for study in map(find, names()) if not area or study.area == area)


def page(trials: Sequence[Trial]) -> str:
    """docs/coverage.md."""
    claims = [j.verdict for t in trials for j in t.judged]
    lines = [
        _HEAD
        + f"{len(trials)} studies: {_tally([t.verdict for t in trials])}.\n"
        + f"By the first claim of each: {_tally([t.judged[0].verdict for t in trials])}.\n"
        + f"Their {len(claims)} claims: {_tally(claims)}.\n",
        "| n | study | claim | theirs | ours | ours/theirs | verdict |",
        "| ---: | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for each in sorted(trials, key=lambda t: t.study.n):
        for i, j in enumerate(each.judged):
            n, name = (str(each.study.n), f"`{each.study.name}`") if i == 0 else ("", "")
            cells = (n, name, _words(j.claim.metric, j.claim.baseline), number(j.claim.ends), number(j.ours))
            lines.append(f"| {' | '.join(cells)} | {j.ratio:.2f} | {j.verdict} |")
    lines += ["", "## Why not", ""]
    for each in sorted(trials, key=lambda t: t.study.n):
        lines += [f"- **{each.study.name}**, {j.claim.metric}: {j.claim.why}" for j in each.judged if j.claim.why]
    return "\n".join(lines) + "\n"


def _tally(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdicts)
    return ", ".join(f"{counts[v]} {v}" for v in Verdict)


def number(ends: tuple[float, float]) -> str:
    """A number with three or four digits, or a range of them."""
    low, high = (_digits(v) for v in ends)
    return low if low == high else f"{low} - {high}"


def _digits(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"


def _words(metric: str, baseline: str) -> str:
    return f"{metric}, over {baseline}" if baseline else metric
