"""Studies on a screen, and their figures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.charts import Axis, Line, line_chart
from ridgeline.studies.frame.coverage import number
from ridgeline.studies.frame.study import Study, Verdict
from ridgeline.studies.frame.trial import Trial

_COLOURS = {Verdict.REPRODUCED: "green", Verdict.TREND: "yellow", Verdict.NOT_REPRODUCED: "red"}


def listing(studies: Sequence[Study]) -> RenderableType:
    """Every study on a line, without running one."""
    table = _table("n", "study", "area", "paper")
    for study in studies:
        table.add_row(str(study.n), study.name, study.area, study.paper)
    return table


def summary(trials: Sequence[Trial]) -> RenderableType:
    """Every claim of many studies on a line."""
    table = _table("study", "claim", "theirs", "ours", "ratio", "verdict")
    for each in trials:
        for i, j in enumerate(each.judged):
            name = each.study.name if i == 0 else ""
            table.add_row(
                name, j.claim.metric, number(j.claim.ends), number(j.ours), f"{j.ratio:.2f}", _verdict(j.verdict)
            )
    return table


def detail(trial: Trial) -> RenderableType:
    """One study: what is claimed, what we get, what was assumed, and what that does to the result."""
    study = trial.study
    parts: list[RenderableType] = [
        Text(f"{study.name} ({study.n}): {study.paper}", style="bold"),
        Text(study.idea),
        Text(""),
    ]
    claims = _table("claim", "over", "theirs", "ours", "ratio", "verdict")
    for j in trial.judged:
        claims.add_row(
            j.claim.metric,
            j.claim.baseline,
            number(j.claim.ends),
            number(j.ours),
            f"{j.ratio:.2f}",
            _verdict(j.verdict),
        )
    parts.append(claims)
    parts += [Text(f"  why: {j.claim.metric}: {j.claim.why}") for j in trial.judged if j.claim.why]
    if study.assumptions:
        assumed = _table("assumed", "value", "-20%", "+20%", "source")
        for a in study.assumptions:
            moved = trial.moved.get(a.name)
            low, high = (number((v, v)) for v in moved) if moved else ("", "")
            assumed.add_row(a.name, f"{a.value:g} {a.unit}".strip(), low, high, a.source)
        parts += [Text(""), assumed]
        if trial.moved:
            parts.append(Text("-20%, +20%: our first number with that assumption moved"))
    parts += [Text(f"note: {note}") for note in trial.outcome.notes]
    return Group(*parts)


def figure_svg(trial: Trial) -> str:
    """The study's figure as one <svg> element; empty if it has none."""
    figure = trial.outcome.figure
    if figure is None:
        return ""
    return line_chart(
        figure.title,
        [Line(name=name, x=figure.x, y=y) for name, y in figure.lines.items()],
        x=Axis(label=figure.x_label, log=figure.x_log),
        y=Axis(label=figure.y_label, log=figure.y_log),
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        right = heading in ("n", "theirs", "ours", "ratio", "value", "-20%", "+20%")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    return table


def _verdict(verdict: Verdict) -> Text:
    return Text(str(verdict), style=_COLOURS[verdict])
