"""Plan: from a question to deployments; the front as dots, the ranking as tables, the winner with its launch files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ridgeline.api.planning.launch import launch_files
from ridgeline.api.planning.plan import Candidate, Planned
from ridgeline.api.planning.plan import plan as search
from ridgeline.api.planning.plan_columns import ASKED
from ridgeline.api.planning.plan_words import moved_words, objective_words, question_words, short_name, why_words
from ridgeline.api.predictions.show import human
from ridgeline.apps.web.blocks import Answer, Block, command_of, file, numbers, python_of, scatter, table, text
from ridgeline.apps.web.fields import Field, fields_of, given
from ridgeline.apps.web.jobs import Told
from ridgeline.core import units
from ridgeline.core.errors import RidgelineError

MOST_DOTS = 300
TARGETS = ("", "kubernetes")
"""Launch files that the winner comes with; "" is its engine's command line."""
_FIRST = {
    "model": "Qwen/Qwen3-32B-FP8",
    "on": "16x h200-sxm",
    "isl": "4000",
    "osl": "1000",
    "rate": "",
    "ttft": "1 s",
    "tpot": "40 ms",
    "objective": "throughput, latency",
    "runtime": "vllm",
}
_SUGGEST = {"model": "models", "on": "machines", "runtime": "runtimes", "site": "sites", "weights": "formats"}
PLAN: tuple[Field, ...] = fields_of(
    tuple(column for column in ASKED if column.name != "trace"),
    first=_FIRST,
    sliders={"isl": (16, 131072), "osl": (1, 16384)},
    suggest={**_SUGGEST, "kv": "formats"},
)
_COLUMNS = ("chips", "request_per_s", "output_tokens_per_s", "output_tokens_per_s_per_chip", "ttft_s", "tpot_s")
_MONEY = ("cost_usd_per_1m_output_tokens", "energy_j_per_output_token", "memory_bytes_per_chip", "bound")
_HEAD = ("", "deployment", "chips", "request/s", "token/s", "token/s per chip", "TTFT", "TPOT")
_HEAD_MONEY = ("cost of 1M tokens", "energy per token", "memory per chip", "bound by")
_LOSSES = ("deployment", "TTFT", "played", "p99", "TPOT", "played", "p99", "request/s", "played", "limits")


def plan(values: Mapping[str, Any], tell: Told) -> Answer:
    """Search, and move assumptions; each tells how far it is, and what is known when it is stopped is the answer."""
    case = given(PLAN, values, needed=("model", "on"))
    planned = search(explain=True, progress=lambda _, ended, total, words: tell(ended / max(total, 1), words), **case)
    tell.keep("Report", "plan.html", planned.write_page)
    tell.keep("Front as CSV", "plan.csv", planned.write_table)
    return Answer(
        title=question_words(planned.asked),
        blocks=list(_blocks(planned)),
        rows=[{"deployment": one.name, **one.case, **one.values} for one in _ranked(planned)],
        command=command_of(("plan",), case, {}) + " --explain",
        python=python_of("plan(", case),
    )


def _blocks(planned: Planned) -> Iterator[Block]:
    winner, q = planned.winner, planned.question
    if planned.interrupted:
        yield text("Stopped before its end: this is what was known by then.", kind="note")
    yield text("\n".join(why_words(planned)), kind="why")
    yield numbers([(name, human(name, winner.values[name]), "") for name in (*_COLUMNS, *_MONEY[:2])])
    told = f"Ranked by {objective_words(q)}; {planned.seen:,} candidates of {planned.engines:,} engines"
    told += "" if planned.interrupted else ", all of them"
    yield text(f"{told}; {planned.feasible:,} keep all limits.", kind="note")
    yield _dots(planned)
    yield _table(planned, "Best plans, each with its best settings", planned.best)
    if len(planned.families) > 1:
        yield _table(planned, "Best of each kind", list(planned.families.values()))
    if planned.checks:
        yield table("Simulated too: predicted means, then mean and p99 as played", _LOSSES, list(_checked(planned)))
    if planned.moved:
        head = ("assumption", "moved", "objective", "winner")
        yield table("What would change the winner: each assumption moved by a tenth", head, moved_words(planned))
    yield from _launch(winner)
    yield from (text(note, kind="note") for note in planned.notes)


def _ranked(planned: Planned) -> list[Candidate]:
    """The best, then the front without them."""
    return list({one.key: one for one in (*planned.best, *planned.front)}.values())


def _dots(planned: Planned) -> Block:
    """Speed that a user sees against what a chip gives; the ranked ones large."""
    ranked = {one.key for one in planned.best}
    rest = [one for one in planned.front if one.key not in ranked]
    shown = [*planned.best, *rest[:: len(rest) // MOST_DOTS + 1]]
    points = [
        {
            "x": 1.0 / float(one.values["tpot_s"]),
            "y": float(one.values["output_tokens_per_s_per_chip"]),
            "front": one.key in ranked,
            "words": [
                ("deployment", short_name(planned, one)),
                *((name, human(name, one.values[name])) for name in (*_COLUMNS, *_MONEY)),
            ],
        }
        for one in shown
    ]
    title = f"Pareto front: {len(planned.front):,} candidates that none beats in all objectives (large: the best plans)"
    return scatter(title, ("token/s that a user sees", "token/s per chip"), points)


def _table(planned: Planned, title: str, candidates: Sequence[Candidate]) -> Block:
    rows = [
        [
            f"{place + 1}",
            short_name(planned, one),
            f"{float(one.values['chips']):g}",
            *(human(name, one.values[name]) for name in (*_COLUMNS[1:], *_MONEY)),
        ]
        for place, one in enumerate(candidates)
    ]
    return table(title, (*_HEAD, *_HEAD_MONEY), rows)


def _checked(planned: Planned) -> Iterator[list[str]]:
    for one, found in planned.checks:
        cells = [short_name(planned, one)]
        for name in ("ttft", "tpot"):
            seconds = (float(one.values[f"{name}_s"]), found.mean_s[name], found.tail_s[name])
            cells += [units.duration(value) for value in seconds]
        cells += [units.count(float(one.values["request_per_s"])), units.count(found.request_per_s)]
        yield [*cells, "kept" if found.keeps else "missed"]


def _launch(winner: Candidate) -> Iterator[Block]:
    """Files that launch the winner, and what they cannot say."""
    for target in TARGETS:
        try:
            files = launch_files(dict(winner.case), target)
        except RidgelineError as error:
            yield text(f"No launch files{f' for {target}' if target else ''}: {error.line()}", kind="note")
            continue
        for name, content in files.items():
            yield file(f"Launch the winner: {files.target}", name, content)
        yield from (text(note.line(), kind="note") for note in files.notes)
