"""Published serving runs with measured energy: deployments, and the load of a chip at the measured timing.

Rows of `published/energy.csv` (watts) and `published/inference_llm.csv` (throughput) of one configuration are joined.
Prompts are not published; the lengths assumed for each task stand in `costs/fits/energy_runs.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.cases import Cases, Problems
from ridgeline.core.files import parse_yaml
from ridgeline.core.tables import from_mapping
from ridgeline.costs.serving_power import ServingLoad
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.serving.deployment import Deployment, evaluate, lane_load, make_pool, plan_of, serving_load
from ridgeline.serving.predict import deployment_for, grouped
from ridgeline.serving.steady import solve

Column = NDArray[np.float64]
Texts = NDArray[np.str_]

RUNS = """
with watts as (select * from read_csv($1) where metric = 'W' and engine = 'vLLM' and version like 'ML.ENERGY v3%'),
  rates as (select "group", value from read_csv($2) where metric = 'output_tok_s_total')
select watts.model, watts.task, watts.gpu as chip, watts.n_gpus::double as chips, greatest(watts.dp, 1)::double as dp,
  watts.n_gpus / greatest(watts.dp, 1) as tp, if(watts.ep > 1, watts.ep, 0)::double as ep, watts.batch::double as batch,
  watts.out_len::double as osl, watts.value / watts.n_gpus as power_w, rates.value as tokens_per_s,
  regexp_extract(watts.notes, 'max_num_seqs=([0-9]+)', 1)::double as max_batch,
  coalesce(watts.notes, '') like '%SUSPECT%' as suspect
from watts join rates using ("group") order by watts.case_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRuns:
    """Measured runs; every field has one value per run.

    Attributes:
        cases: columns of `predict serving`; `concurrency` is the measured mean batch.
        power_w: mean of one chip.
        tokens_per_s: outputs of the whole deployment.
        model, task, chip: as published; `chip` by its name in the catalogue.
        suspect: rows that the data set itself marks.
    """

    cases: Mapping[str, NDArray[np.generic]]
    power_w: Column
    tokens_per_s: Column
    model: Texts
    task: Texts
    chip: Texts
    suspect: NDArray[np.bool_]

    @property
    def chips(self) -> ChipColumns:
        """The chip of each run."""
        names, index = np.unique(self.chip, return_inverse=True)
        return ChipColumns(tuple(catalogue.chip(str(name)) for name in names), index.astype(np.intp))

    @property
    def token_j(self) -> Column:
        """Measured energy of all chips per output token, J."""
        found: Column = self.power_w * self.cases["chips"].astype(np.float64) / self.tokens_per_s
        return found


def read_energy_runs(energy: Path, rates: Path) -> EnergyRuns:
    """The runs of two published tables, in the order of their identifiers."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        found = connection.execute(RUNS, [str(energy), str(rates)]).fetchnumpy()
    texts = {name: np.array([str(value) for value in found[name]]) for name in ("model", "task", "chip")}
    numbers = {
        name: np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
        for name, column in found.items()
        if name not in texts and name != "suspect"
    }
    source = resources.files("ridgeline.costs") / "fits" / "energy_runs.yaml"
    tasks = parse_yaml(source.read_text("utf-8"), name=source.name).data["tasks"]
    chip = np.array([catalogue.chip(name).name for name in texts["chip"]])
    cases: dict[str, NDArray[np.generic]] = {name: numbers[name] for name in ("tp", "dp", "ep", "max_batch", "chips")}
    cases |= {
        "model": texts["model"],
        "chip": chip,
        "isl": np.array([float(tasks[task]["prompt_tokens"]) for task in texts["task"]]),
        "osl": np.round(numbers["osl"]),
        "concurrency": numbers["batch"],
        "procedure": np.full(chip.size, "ml-energy"),
    }
    return EnergyRuns(
        cases=cases,
        power_w=numbers["power_w"],
        tokens_per_s=numbers["tokens_per_s"],
        model=texts["model"],
        task=texts["task"],
        chip=chip,
        suspect=np.asarray(found["suspect"], dtype=bool),
    )


def measured_load(runs: EnergyRuns) -> ServingLoad:
    """The load of a chip in each run if its iterations take the measured time: running batch over throughput."""
    cases, problems = _intake(runs)
    columns = {field.name: np.full(cases.rows, np.nan) for field in fields(ServingLoad)}
    for group in grouped(cases, problems):
        d = deployment_for(group, group.rows, cases)
        plan, batch = plan_of(d), d.cases["concurrency"]
        load = lane_load(d, plan.dp)
        pool = make_pool(d, plan, load, 1.0, batch=d.cases["max_batch"], prompts_only=False)
        per_s = runs.tokens_per_s[group.rows] / plan.dp
        state = replace(
            solve(pool.stepper, load, pool.limits, d.procedure),
            tpot_s=batch / runs.tokens_per_s[group.rows],
            batch=batch / plan.dp,
            request_per_s=per_s / load.osl,
        )
        step = pool.stepper.step(pool.stepper.decode(batch / plan.dp, load.isl + load.osl / 2.0))
        done = serving_load(d, pool, load, state, step)
        for name, column in columns.items():
            column[group.rows] = np.broadcast_to(np.asarray(getattr(done, name), np.float64), group.rows.shape)
    return ServingLoad(**columns)


def predicted_token_j(runs: EnergyRuns) -> Column:
    """Energy per output token from our own timing and the law alone, without what was measured of the run; NaN where
    it cannot be predicted.
    """
    cases, problems = _intake(runs)
    found = np.full(cases.rows, np.nan)
    with np.errstate(all="ignore"):
        for group in grouped(cases, problems):
            d: Deployment = replace(deployment_for(group, group.rows, cases), measured_power=False)
            found[group.rows] = evaluate(d, problems, group.rows).energy_j_per_output_token
    found[~problems.ok] = np.nan
    return found


def _intake(runs: EnergyRuns) -> tuple[Cases, Problems]:
    return intake("serving", from_mapping(dict(runs.cases), columns=wanted("serving")))
