"""Studies: published systems, each its claim beside our number; one of them run, with its figure and assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ridgeline.apps.web.accuracy_view import page_blocks
from ridgeline.apps.web.blocks import Answer, Block, command_of, numbers, picture, table, text
from ridgeline.apps.web.fields import Field, given
from ridgeline.apps.web.jobs import Told
from ridgeline.core.names import fold
from ridgeline.studies.frame.coverage import number
from ridgeline.studies.frame.shelf import find, names
from ridgeline.studies.frame.study import Study
from ridgeline.studies.frame.trial import Trial, doubts, movements, trial
from ridgeline.studies.frame.view import figure_svg

STUDIES: tuple[Field, ...] = (
    Field(name="name", kind="text", label="Study", doc="run one of them, for some seconds", suggestions="studies"),
)
_CLAIMS = ("claim", "over", "theirs", "ours", "ours/theirs", "verdict", "where")


def studies(values: Mapping[str, Any], tell: Told) -> Answer:
    """The coverage table, or one study run."""
    name = str(given(STUDIES, values).get("name", ""))
    if not name:
        return _coverage()
    done, stopped = _tried(find(name), tell)
    study, claims = done.study, done.to_dict()["claims"]
    notes = [text("Stopped before all assumptions were moved.", kind="note")] if stopped else []
    return Answer(
        title=f"{study.name} ({study.n}): {study.paper}",
        blocks=[*notes, *_blocks(done)],
        rows=[{**claim, "claim": number(j.claim.ends), "result": number(j.ours)} for claim, j in _pairs(claims, done)],
        command=command_of(("study", study.name), {}, {}),
    )


def _tried(study: Study, tell: Told) -> tuple[Trial, bool]:
    """(the study run, and again with each uncertain assumption moved; whether it was stopped in between)."""
    runs = 1 + len(doubts(study))
    tell(0.0, f"running {study.name}")
    done, moved = trial(study, sensitivity=False), {}
    try:
        tell(1 / runs, "moving each uncertain assumption")
        for name, ends in movements(study):
            moved[name] = ends
            tell((1 + len(moved)) / runs, f"moved {name}")
    except KeyboardInterrupt:
        return replace(done, moved=moved), True
    return replace(done, moved=moved), False


def _pairs(claims: Sequence[Mapping[str, Any]], done: Trial) -> Iterator[tuple[Mapping[str, Any], Any]]:
    return zip(claims, done.judged, strict=True)


def _coverage() -> Answer:
    """docs/coverage.md; its table begins with the study, in every row."""
    blocks = [_by_study(block) if block["type"] == "table" else block for block in page_blocks("coverage.md")]
    rows = [
        dict(zip(block["head"], row, strict=True))
        for block in blocks
        if block["type"] == "table"
        for row in block["rows"]
    ]
    return Answer(title="Coverage", blocks=blocks, rows=rows, command=command_of(("study", "--all"), {}, {}))


def _by_study(block: Block) -> Block:
    """The study first and in each row, so that rows may be sorted and a click runs it."""
    head = list(block["head"])
    if "study" not in head:
        return block
    at = head.index("study")
    order = [at, *(i for i in range(len(head)) if i != at)]
    rows, above = [], [""] * len(head)
    known = {fold(name): name for name in names()}
    for row in block["rows"]:
        filled = [cell or (above[i] if i in (at, 0) else "") for i, cell in enumerate(row)]
        above = filled
        rows.append([known.get(fold(filled[i]), filled[i]) if i == at else filled[i] for i in order])
    return table(block["title"], [head[i] for i in order], rows, links="name", quiet=block["quiet"])


def _blocks(done: Trial) -> Iterator[Block]:
    study = done.study
    yield text(f"{str(done.verdict).capitalize()}. {study.idea}", kind="why")
    first = done.judged[0]
    yield numbers(
        [
            ("theirs", number(first.claim.ends), first.claim.metric),
            ("ours", number(first.ours), f"{first.ratio:.2f} of theirs"),
            ("claims", str(len(done.judged)), "all of them below"),
        ]
    )
    rows = [
        [j.claim.metric, j.claim.baseline, number(j.claim.ends), number(j.ours), f"{j.ratio:.2f}", str(j.verdict)]
        for j in done.judged
    ]
    sources = [[*row, j.claim.source] for row, j in zip(rows, done.judged, strict=True)]
    yield table("Claims", _CLAIMS, sources)
    yield from (text(f"{j.claim.metric}: {j.claim.why}", kind="note") for j in done.judged if j.claim.why)
    figure = figure_svg(done)
    if figure:
        yield picture("", figure)
    if study.assumptions:
        yield table("Assumptions, and our first number with each moved by a fifth", *_assumed(done))
    yield from (text(note, kind="note") for note in done.outcome.notes)


def _assumed(done: Trial) -> tuple[tuple[str, ...], list[list[str]]]:
    rows = []
    for a in done.study.assumptions:
        moved = done.moved.get(a.name)
        low, high = (number((v, v)) for v in moved) if moved else ("", "")
        rows.append([a.name, f"{a.value:g} {a.unit}".strip(), low, high, a.source])
    return ("assumed", "value", "-20%", "+20%", "source"), rows
