"""`predict serving`: a table of deployments in, a table of times, memory, power and money out.

Rows whose models have one structure, one runtime and chips of one kin are evaluated together as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Resolved, Rows, alone, groups
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.machine import machine_in
from ridgeline.hardware.topology import Machine
from ridgeline.plans import requantise
from ridgeline.serving.clocks import hold_power, locked, warmed
from ridgeline.serving.deployment import Deployment, Outcome, evaluate
from ridgeline.serving.disaggregated import evaluate_pools
from ridgeline.serving.load import procedure
from ridgeline.serving.runtime import named_runtime, runtime
from ridgeline.serving.step_work import NARROW_BITS
from ridgeline.workloads.catalogue import model as find_model
from ridgeline.workloads.families.size import parameters
from ridgeline.workloads.model import MixtureOfExperts, Model, stack

Column = NDArray[np.float64]

CHUNK_ROWS = 8192
"""Rows evaluated at once: their columns fit the caches of one core."""

MOST_RUNS = 30_000
"""Rows of a table beyond which named procedures are answered by the closed form, not by a run for each row."""

LARGEST_REPLICA = 1e6
"""Chips; a table that asks for more has a mistake in it, which the plan check then names."""

FORMATS = ("weights", "activations", "kv", "moe_weights")


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that one evaluation takes: one structure, chips of one kin, one engine, one procedure."""

    rows: Rows
    models: Resolved[Model]
    machines: Resolved[Machine]
    attention: Resolved[tuple[Machine, ...]]
    runtime: str
    version: str
    mode: str
    procedure: str


def unchanged(deployment: Deployment) -> Deployment:
    """The deployment as the catalogue has it."""
    return deployment


def predict_serving(
    cases: Cases, problems: Problems, change: Callable[[Deployment], Deployment] = unchanged
) -> dict[str, NDArray[np.float64] | list[str]]:
    """Evaluate every row that has no problem yet.

    Args:
        cases: every column of the serving table, defaults filled in.
        problems: one entry per row.
        change: what is assumed otherwise than the catalogue has it (machines, runtime), for what-if questions.
    Returns: result column -> one value per row; NaN or "" where a row has a problem.
    """
    results = {name: np.full(cases.rows, np.nan) for name in Outcome.names()}
    texts = {"bound": np.full(cases.rows, "", dtype=object), "regime": np.full(cases.rows, "", dtype=object)}
    for group in grouped(cases, problems):

        def fill(rows: Rows, group: Group = group) -> None:
            outcome = _evaluate(change(deployment_for(group, rows, cases)), group.mode, rows, problems)
            for name, value in outcome.numbers().items():
                results[name][rows] = np.broadcast_to(np.asarray(value, dtype=np.float64), rows.shape)
            for name, words in (("bound", outcome.bound), ("regime", outcome.regime)):
                texts[name][rows] = np.broadcast_to(words, rows.shape)

        for start in range(0, group.rows.size, CHUNK_ROWS):
            alone(group.rows[start : start + CHUNK_ROWS], fill, problems)
    bad = ~problems.ok
    for name, column in results.items():
        if name not in ("fits", "memory_bytes_per_chip", "weights_bytes_per_chip", "kv_bytes_per_chip"):
            column[bad] = np.nan
    for column in texts.values():
        column[bad] = ""
    return {**results, **{name: column.tolist() for name, column in texts.items()}}


def _evaluate(deployment: Deployment, mode: str, rows: Rows, problems: Problems) -> Outcome:
    answer = evaluate_pools if mode == "disagg" else evaluate
    if np.any(deployment.cases["power_cap_w"] > 0):
        deployment = hold_power(deployment, answer, problems, rows)
    return answer(deployment, problems, rows)


def deployment_of(cases: Cases, problems: Problems, row: int) -> Deployment | None:
    """The deployment of one row by itself, None if the row has a problem."""
    for group in grouped(cases, problems):
        if row in group.rows:
            return deployment_for(group, np.array([row], dtype=np.intp), cases)
    return None


def deployment_for(group: Group, rows: Rows, cases: Cases) -> Deployment:
    """Some rows of a group as columns of one structure."""
    models, model_index = group.models.used(rows)
    machines, machine_index = group.machines.used(rows)
    apart, apart_index = group.attention.used(rows)
    load = cases.labels("load")
    saturated = np.array([value == "saturated" for value in load.values])[load.codes[rows]]
    model = stack(models, model_index)
    columns = _columns(machines, machine_index)
    clock = cases.number("clock_frac")[rows]
    measured = procedure(group.procedure)
    return Deployment(
        model=model,
        machines=_warm(columns if np.all(clock == 1.0) else locked(columns, clock), cases, rows),
        runtime=measured.imposed(
            runtime(group.runtime).of_version(group.version),
            group.version,
            experts=any(isinstance(block.ffn, MixtureOfExperts) for block in model.blocks),
        ),
        version=group.version,
        procedure=measured,
        cases={name: cases.number(name)[rows] for name in cases.numbers},
        saturated=saturated,
        bulk=cases.rows > MOST_RUNS,
        attention=_warm(_columns([one[0] for one in apart], apart_index), cases, rows) if apart[0] else None,
    )


def _warm(machines: MachineColumns, cases: Cases, rows: Rows) -> MachineColumns:
    """The machines at the temperature of each row; single steps tell no power and have none."""
    name = "chip_temperature_c"
    return warmed(machines, cases.number(name)[rows]) if name in cases.numbers else machines


def _columns(machines: Sequence[Machine], index: Rows) -> MachineColumns:
    return MachineColumns(tuple(machines), None if len(machines) == 1 else index)


def _check_attention(cases: Cases, problems: Problems) -> None:
    """Flag what the columns of attention chips cannot mean together."""
    named = np.array([bool(value) for value in cases.labels("attention_chip").values])
    given = named[cases.labels("attention_chip").codes]
    disagg = np.array([value == "disagg" for value in cases.labels("mode").values])[cases.labels("mode").codes]
    problems.flag(~given & (cases.number("attention_chips") > 0), "attention_chips need an attention_chip")
    problems.flag(given & (cases.number("attention_chips") < 1), "attention_chips must be given with attention_chip")
    problems.flag(given & disagg, "attention_chip goes with mode=agg: prompts and weights are in one pool")


def grouped(cases: Cases, problems: Problems) -> Iterator[Group]:
    """Resolve each distinct name once, then split rows by what cannot be a column."""
    models = Resolved(problems, cases, ("model", *FORMATS, "runtime", "procedure"), _model)
    machines = Resolved(problems, cases, ("chip", "node"), _machine_finder(cases))
    attention = Resolved(problems, cases, ("attention_chip",), _attention_finder(cases))
    _check_attention(cases, problems)
    engines = Resolved(problems, cases, ("runtime", "runtime_version"), _engine)
    measured = Resolved(problems, cases, ("procedure",), lambda name: procedure(name).name)
    rows = np.flatnonzero(problems.ok).astype(np.intp)
    keys = [
        models.codes(lambda model: model.signature()),
        machines.codes(lambda machine: machine.chip.kin),
        attention.codes(lambda found: found[0].chip.kin if found else ""),
        engines.codes(str),
        measured.codes(str),
        cases.labels("mode").codes,
    ]
    for _, members in groups(keys, rows):
        first = int(members[0])
        name, version = _engine(cases.text("runtime", first), cases.text("runtime_version", first))
        yield Group(
            rows=members,
            models=models,
            machines=machines,
            attention=attention,
            runtime=name,
            version=version,
            mode=cases.text("mode", first),
            procedure=cases.text("procedure", first),
        )


def _engine(name: str, version: str) -> tuple[str, str]:
    """Runtime and version; the version may stand in the name."""
    known, written = named_runtime(name)
    return known, version or written


def _model(name: str, weights: str, activations: str, kv: str, moe_weights: str, engine: str, measured: str) -> Model:
    """The model in its formats; a harness may give 8-bit weights an 8-bit cache where the case names none."""
    formats = {"weights": weights, "activations": activations, "moe_weights": moe_weights}
    found = _text_only(requantise(find_model(name), kv=kv, **formats))
    if kv or found.precision.ffn.weight.bits > NARROW_BITS:
        return found
    serves = runtime(engine)
    own = serves.cache_formats.get(found.precision.ffn.weight.name, "")
    return requantise(found, kv=procedure(measured).cache_format(serves.name) or own)


def _text_only(model: Model) -> Model:
    """Text load leaves towers idle: they only hold memory. Folded into a number, models with and without them stack."""
    towers = sum((parameters(tower).total for tower in model.towers), start=np.float64(0.0))
    return replace(model, towers=(), extra_parameters=float(model.extra_parameters + towers))


def _machine_finder(cases: Cases) -> Callable[[str, str], Machine]:
    """Machines large enough for the largest replica of the table; groups of ranks find their own level in them."""
    span = cases.number("tp") * cases.number("pp") * cases.number("dp") * cases.number("cp")
    for pool in ("prefill", "decode"):
        span = np.fmax(span, cases.number(f"{pool}_tp") * cases.number(f"{pool}_pp") * cases.number(f"{pool}_dp"))
    largest = int(np.clip(np.nanmax(span, initial=1.0), 1.0, LARGEST_REPLICA))

    return lambda chip, node: machine_in(chip, node, largest)


def _attention_finder(cases: Cases) -> Callable[[str], tuple[Machine, ...]]:
    """Machines of the chips that hold caches, none where they are those of the weights."""
    largest = int(np.clip(np.nanmax(cases.number("attention_chips"), initial=1.0), 1.0, LARGEST_REPLICA))
    return lambda chip: (machine_in(chip, "", largest),) if chip else ()
