"""A row of a table that is simulated: from its cells to the arguments of `simulate`, and from a run to its columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.api.tables.columns import Column
from ridgeline.core.tables import Labels

if TYPE_CHECKING:
    from ridgeline.api.simulations.simulate import Simulated

LATENCIES = ("ttft", "tpot", "itl", "e2e")
COUNTS = ("done", "rejected", "unfinished", "failed")


def cells(table: Mapping[str, Any], row: int, columns: Sequence[Column]) -> dict[str, float | str]:
    """What a row says of these columns, by their names; empty cells are left out."""
    names = {name: column.name for column in columns for name in (column.name, *column.aliases)}
    found: dict[str, float | str] = {}
    for name, values in table.items():
        if name not in names:
            continue
        if isinstance(values, Labels):
            if values.codes[row] >= 0:
                found[names[name]] = values.values[values.codes[row]]
        elif not np.isnan(values[row]):
            found[names[name]] = float(values[row])
    return found


def predicted_columns(run: Simulated) -> dict[str, float | str]:
    """The result columns of `predict serving` that a run fills: of its steady state."""
    steady, everyone = run.answers.steady, run.answers.steady.overall
    nan = math.nan
    ttft, tpot, e2e = (
        nan if latency is None else latency.mean.value for latency in (everyone.ttft_s, everyone.tpot_s, everyone.e2e_s)
    )
    return {
        "ttft_s": ttft,
        "tpot_s": tpot,
        "steady_ttft_s": ttft,
        "steady_tpot_s": tpot,
        "tpot_low_s": nan if everyone.tpot_s is None else everyone.tpot_s.mean.low,
        "tpot_high_s": nan if everyone.tpot_s is None else everyone.tpot_s.mean.high,
        "e2e_s": e2e,
        "request_per_s": everyone.request_per_s,
        "output_tokens_per_s": everyone.output_tokens_per_s,
        "output_tokens_per_s_per_chip": steady.output_tokens_per_s_per_chip,
        "total_tokens_per_s": everyone.total_tokens_per_s,
        "batch": steady.batch,
        "power_w_per_chip": steady.power_w_per_chip,
        "energy_j_per_output_token": steady.energy_j_per_output_token,
        "cost_usd_per_1m_output_tokens": steady.cost_usd_per_1m_output_tokens,
        "bound": run.answers.bound.kind,
    }


def percentile_names() -> tuple[str, ...]:
    """Columns of percentiles, as `ttft_p99_s`."""
    from ridgeline.serving.record.latency import LEVELS

    return tuple(f"{name}_p{100 * level:g}_s" for name in LATENCIES for level in LEVELS)


def played_columns(run: Simulated) -> dict[str, float]:
    """What only a run knows: percentiles, goodput, how requests ended, queue and cache. Counts are of the whole run."""
    steady, everyone = run.answers.steady, run.answers.steady.overall
    found: dict[str, float] = dict.fromkeys(percentile_names(), math.nan)
    for name in LATENCIES:
        latency = getattr(everyone, f"{name}_s")
        if latency is not None:
            found |= {f"{name}_p{100 * one.level:g}_s": one.value for one in latency.percentiles}
    whole = run.answers.whole.overall
    return {
        **found,
        "goodput_request_per_s": everyone.goodput_request_per_s,
        "slo_met_frac": everyone.slo_met_frac,
        **{name: float(getattr(whole, name)) for name in COUNTS},
        "preemptions": float(whole.preemptions),
        "chips": run.answers.whole.chips,
        "queue": steady.queue,
        "in_flight": steady.in_flight,
        "kv_use_frac": steady.kv_use_frac,
        "warm_up_s": run.answers.warm_up.until_s,
        "end_s": run.played.end_s,
    }
