"""Whole systems beside what was measured: serving points, published serving rates, published training runs.

Rows are mapped to the columns of `predict` by one query per file; what a row cannot say (a batch size, a release) is
left to the defaults. Nothing here is fitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.accuracy.validate import Points
from ridgeline.api.tables.intake import wanted
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core.cases import Problems
from ridgeline.core.errors import UnknownNameError
from ridgeline.core.tables import Labels, from_mapping
from ridgeline.hardware import catalogue
from ridgeline.training.predict import predict_training
from ridgeline.training.published import read_runs

Texts = NDArray[np.str_]

SERVING_POINTS = """
select model_path as model, system as chip, backend as runtime, coalesce(backend_version, '') as runtime_version,
  isl, osl, coalesce(tp_size, 1) as tp, coalesce(pp_size, 1) as pp, coalesce(attention_dp_size, 1) as dp,
  coalesce(concurrency, batch_size) as concurrency,
  coalesce(gemm_quant_mode, '') as weights, coalesce(moe_quant_mode, '') as moe_weights,
  case when regexp_matches(source_file, '^2026|db-dump|gap') then 'inferencemax' else 'aiconfigurator' end as procedure,
  silicon_ttft_ms / 1e3 as measured_ttft_s, silicon_tpot_ms / 1e3 as measured_tpot_s
from read_csv(?) where mode = 'agg' order by id
"""
PUBLISHED_RATES = """
with rows as (select *, coalesce(tp, n_gpus, 1) as ranks, coalesce(notes, '') like '%attention-DP enabled%' as spread
  from read_csv(?))
select model, gpu as chip, 'trtllm' as runtime, isl, osl, coalesce(pp, 1) as pp, if(spread, 1, ranks) as tp,
  if(spread, ranks, 1) as dp, coalesce(ep, 0) as ep, if(spread and ep is null, ranks, 0) as moe_tp, 'saturated' as load,
  coalesce(weight_dtype, '') as weights,
  coalesce(act_dtype, '') as activations, coalesce(kv_dtype, '') as kv, 'trtllm-bench' as procedure,
  coalesce(version, '') as release, value as measured_output_tokens_per_s
from rows
where batch_or_concurrency = 'saturated' and metric = 'output_tok_s_total' and engine like 'TensorRT-LLM%'
  and coalesce(notes, '') not like '%SUSPECT%' order by case_id, value
"""
"""Ranks of attention data parallelism replace those of tensor parallelism where a row says so; its experts are cut by
as many, as the engine does without `ep`."""

PUBLISHED_TIMES = """
with rows as (select *, split_part(source, '@', 1) as origin, try_cast(batch_or_concurrency as double) as batch
  from read_csv(?, all_varchar = true) where coalesce(notes, '') not like '%SUSPECT%'),
named as (select *, case
    when engine like 'llama.cpp%' and metric = 'tg_tok_s' and origin like 'XiongjieDai%' then 'token, llama.cpp'
    when engine like 'llama.cpp%' and metric = 'pp_tok_s' and origin like 'XiongjieDai%' then 'prompt, llama.cpp'
    when engine = 'HF transformers' and metric = 'e2e_latency_ms' then 'request, Transformers'
    when origin = 'ml-energy/leaderboard-v2' and engine = 'vLLM' and metric = 'tpot_mean_ms' then 'token, vLLM 0.5'
    when engine = 'optimum-habana' then 'request, Gaudi' end as kind from rows)
select kind, model, gpu as chip, if(kind = 'request, Gaudi', 'habana', engine) as runtime,
  if(kind = 'token, vLLM 0.5', '0.5.4', '') as runtime_version, coalesce(version, '') as release,
  coalesce(weight_dtype, if(kind = 'request, Transformers', 'bf16', '')) as weights,
  case when kind = 'token, llama.cpp' then 1 else coalesce(isl::double, if(engine = 'vLLM', 220, 64)) end as isl,
  case when kind = 'prompt, llama.cpp' then 1 else coalesce(osl::double, 100) end as osl,
  if(kind like '%llama.cpp', 1, coalesce(tp::double, 1)) as tp, coalesce(pp::double, 1) as pp,
  coalesce(batch, 1) as concurrency,
  case metric when 'tg_tok_s' then 1 / value::double when 'pp_tok_s' then isl::double / value::double
    when 'output_tok_s_total' then coalesce(batch, 1) * osl::double / value::double else value::double / 1e3
  end as measured_s
from named where kind is not null order by case_id
"""
"""Times of engines that no kernel table holds. Prompts that a source does not give are assumed: 64 tokens for single
requests, 220 for ML.ENERGY's chats; vLLM's release follows from the date of its run."""

METRIC_OF = {"token": "tpot_s", "prompt": "ttft_s", "request": "e2e_s"}


PUBLISHED_IMAGES = """
select model, gpu as chip, resolution, batch, precision, coalesce(layout, '') as layout, mode, framework as runtime,
  coalesce(compiled, '') as compiled, gmacs, macts_m, params_m, value as measured_images_per_s
from read_csv(?) where framework = 'timm benchmark.py' and metric = 'img_s'
  and coalesce(notes, '') not like '%SUSPECT%' order by case_id, value
"""


def validate_systems(data: Path) -> list[Points]:
    """Every whole-system measurement that the folder holds; none for a single table."""
    found: list[Points] = []
    if (points := data / "silicon" / "serving_points.csv").is_file():
        found += _serving(points)
    if (rates := data / "published" / "inference_llm.csv").is_file():
        found += _rates(rates) + _times(rates)
    if (runs := data / "published" / "training.csv").is_file():
        found += _training(runs)
    return [each for each in found if each.predicted.size or each.refused]


def validate_vision(data: Path) -> list[Points]:
    """Images per second of networks that were timed under a framework; none where the table is missing."""
    path = data / "published" / "vision.csv"
    if not path.is_file():
        return []
    columns = _query(PUBLISHED_IMAGES, path)
    results, problems = evaluate_table("vision", from_mapping(columns, columns=wanted("vision")))
    columns |= {"weights": columns["precision"], "runtime": columns["compiled"], "concurrency": columns["batch"]}
    everything, measured = np.ones(problems.rows, dtype=bool), columns["measured_images_per_s"]
    return _by_regime("vision speed", columns, results, problems.column(), "images_per_s", measured, everything)


def _serving(path: Path) -> list[Points]:
    columns = _query(SERVING_POINTS, path)
    # The table names one quantisation for everything; models without experts have no use for the second.
    columns["moe_weights"] = np.where(columns["moe_weights"] == columns["weights"], "", columns["moe_weights"])
    results, errors = _predict(columns)
    found: list[Points] = []
    for procedure in ("aiconfigurator", "inferencemax"):
        mine = columns["procedure"] == procedure
        for metric in ("ttft_s", "tpot_s"):
            name = f"serving {metric.removesuffix('_s')}, {procedure} points"
            found += _by_regime(name, columns, results, errors, metric, columns[f"measured_{metric}"], mine)
    return found


def _rates(path: Path) -> list[Points]:
    columns = _query(PUBLISHED_RATES, path)
    results, errors = _predict(columns)
    everything = np.ones(len(errors), dtype=bool)
    measured = columns["measured_output_tokens_per_s"]
    columns["runtime_version"] = columns["release"]
    name = "published saturated output rate"
    return _by_regime(name, columns, results, errors, "output_tokens_per_s", measured, everything)


def _times(path: Path) -> list[Points]:
    columns = _query(PUBLISHED_TIMES, path)
    results, errors = _predict(columns)
    columns["runtime_version"] = columns["release"]
    found: list[Points] = []
    for kind in np.unique(columns["kind"]).tolist():
        metric, mine = METRIC_OF[kind.partition(",")[0]], columns["kind"] == kind
        found += _by_regime(
            f"published time of a {kind}", columns, results, errors, metric, columns["measured_s"], mine
        )
    return found


def _training(path: Path) -> list[Points]:
    runs = read_runs(path)
    problems = Problems(runs.cases.rows)
    with np.errstate(all="ignore"):
        results = predict_training(runs.cases, problems)
    speed = np.asarray(results["tokens_per_s_per_chip"], np.float64)
    step = np.asarray(results["step_s"], np.float64)
    predicted = np.where(runs.is_step_time, 1.0 / step, speed)
    measured = np.where(runs.is_step_time, 1.0 / runs.measured, runs.measured)
    cases = runs.cases
    columns = {
        "chip": np.array(cases.labels("chip").texts()),
        "runtime": np.array(runs.family),
        "weights": np.array(cases.labels("precision").texts()),
        "model": np.array(cases.labels("model").texts()),
        "tp": cases.number("tp"),
        "concurrency": cases.number("global_batch"),
    }
    everything = np.ones(cases.rows, dtype=bool)
    return _by_regime(
        "training speed", columns, {**results, "speed": predicted}, problems.column(), "speed", measured, everything
    )


def _query(query: str, path: Path) -> dict[str, NDArray[np.generic]]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        fetched = connection.execute(query, [str(path)]).fetchnumpy()
    return {str(name): _filled(values) for name, values in fetched.items()}


def _filled(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if values.dtype.kind == "O":
        return np.array([str(value) for value in values.tolist()])
    return np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)


def _predict(columns: Mapping[str, NDArray[np.generic]]) -> tuple[dict[str, object], list[str]]:
    results, problems = evaluate_table("serving", from_mapping(columns, columns=wanted("serving")))
    return results, problems.column()


def _by_regime(
    kind: str,
    columns: Mapping[str, NDArray[np.generic]],
    results: Mapping[str, object],
    errors: list[str],
    metric: str,
    measured: NDArray[np.generic],
    mine: NDArray[np.bool_],
) -> list[Points]:
    predicted = np.asarray(results[metric], np.float64)
    said = _texts(results["regime"])
    good = mine & np.isfinite(predicted) & (predicted > 0) & (np.asarray(measured, np.float64) > 0)
    labels = {
        "chip": _canonical(columns["chip"].astype(str)),
        "runtime": columns["runtime"].astype(str),
        "version": columns.get("runtime_version", np.full(mine.size, "")).astype(str),
        "dtype": columns["weights"].astype(str),
        "size": _short(columns["model"].astype(str)),
        "bound": _texts(results["bound"]),
        "kernel": np.full(mine.size, ""),
        "case": _words(columns),
    }
    refused = Counter(message for message, row in zip(errors, mine, strict=True) if message and row)
    found = []
    for regime in ("calibrated", "datasheet"):
        points = Points(
            kind=kind,
            regime=regime,
            predicted=predicted,
            measured=np.asarray(measured, np.float64),
            labels=labels,
            apart=np.full(mine.size, ""),
            refused=refused if regime == "calibrated" else {},
        )
        found.append(points.rows(good & (said == regime)))
    return found


def _canonical(chips: Texts) -> Texts:
    """Names of the catalogue where it knows the spelling."""
    known = {str(chip): _chip_name(str(chip)) for chip in np.unique(chips)}
    return np.array([known[str(chip)] for chip in chips])


def _chip_name(written: str) -> str:
    try:
        return catalogue.chip(written).name
    except UnknownNameError:
        return written


def _short(models: Texts) -> Texts:
    """A model by the last part of its name."""
    return np.array([str(model).rpartition("/")[2] for model in models])


def _words(columns: Mapping[str, NDArray[np.generic]]) -> Texts:
    names = [name for name in ("model", "isl", "osl", "tp", "pp", "concurrency", "procedure") if name in columns]
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return np.array([" ".join(_word(name, value) for name, value in zip(names, row, strict=True)) for row in rows])


def _word(name: str, value: object) -> str:
    return f"{name}={value:g}" if isinstance(value, float) else str(value)


def _texts(column: object) -> Texts:
    return np.array(column.texts()) if isinstance(column, Labels) else np.asarray(column, str)
