"""Results as people read them: aligned units, a breakdown with shares, a memory bar, one line of why."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.predictions.breakdown import breakdown_of
from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.predictions.predict import Prediction

Number = float | str
BAR_CELLS = 40
MOST_OPS = 14


def _energy(value: float) -> str:
    return units.si(value, "J")


def _rate(unit: str) -> Callable[[float], str]:
    return lambda value: f"{units.count(value)} {unit}"


FORMATS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("max_batch_that_fits", units.count),
    ("flops_per_s_per_chip", lambda value: units.si(value, "FLOP/s")),
    ("tokens_per_s_per_chip", _rate("token/s")),
    ("tokens_per_s", _rate("token/s")),
    ("request_per_s", _rate("request/s")),
    ("images_per_s", _rate("image/s")),
    ("_bytes_per_chip", units.size),
    ("_bytes", units.size),
    ("_w_per_chip", lambda value: units.si(value, "W")),
    ("_w", lambda value: units.si(value, "W")),
    ("_j", _energy),
    ("energy_j_per_output_token", _energy),
    ("energy_j_per_token", _energy),
    ("energy_j_per_image", _energy),
    ("cost_usd_per_1m_output_tokens", lambda value: f"${value:.3g}"),
    ("_frac", lambda value: f"{value:.1%}"),
    ("mfu", lambda value: f"{value:.1%}"),
    ("hfu", lambda value: f"{value:.1%}"),
    ("fits", lambda value: "yes" if value else "no"),
    ("max_batch_that_fits", lambda value: f"{value:,.0f}"),
    ("flops", lambda value: units.si(value, "FLOP")),
    ("macs", lambda value: units.si(value, "MAC")),
    ("params", units.count),
    ("_per_s", lambda value: f"{units.count(value)}/s"),
    ("_s", units.duration),
)
"""Ending of a result's name -> how people read it; the longest that fits."""

WORDS: Mapping[str, str] = {
    "ttft_s": "arrival to first token, mean",
    "tpot_s": "between tokens, the first left out, mean",
    "e2e_s": "ttft_s + (output tokens - 1) x tpot_s",
    "request_per_s": "completed requests",
    "output_tokens_per_s": "generated tokens of the deployment",
    "output_tokens_per_s_per_chip": "generated tokens per chip",
    "total_tokens_per_s": "prompt and generated tokens",
    "chips": "chips of the deployment",
    "batch": "sequences that decode together",
    "max_batch_that_fits": "sequences whose cache fits at once",
    "power_w_per_chip": "boards alone, no host, no cooling",
    "energy_j_per_output_token": "board energy per generated token",
    "cost_usd_per_1m_output_tokens": "rent of the chips",
    "time_s": "expected time",
    "time_low_s": "10th percentile",
    "time_high_s": "90th percentile",
}

SERVING_ROWS = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "request_per_s",
    "output_tokens_per_s",
    "output_tokens_per_s_per_chip",
    "total_tokens_per_s",
    "batch",
    "max_batch_that_fits",
    "power_w_per_chip",
    "energy_j_per_output_token",
    "cost_usd_per_1m_output_tokens",
)

BOUND_WORDS: Mapping[str, str] = {
    "memory": "memory bandwidth: weights and KV cache stream from device memory at every token",
    "compute": "arithmetic: the matrix engines are the longest part of the step",
    "l2": "the last-level cache's bandwidth",
    "link": "links between chips: collectives wait for bytes on the wire",
    "latency": "latency of collectives: small messages, many hops",
    "launch": "kernel launches: the ops are too small to fill the chip",
    "host": "the host: scheduling and launching take longer than the device's work",
    "prefill interference": "prompts of other requests, which stretch the iterations that they share",
}


def human(name: str, value: Number) -> str:
    """A result as people read it."""
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    fitting = [(len(ending), write) for ending, write in FORMATS if name.endswith(ending)]
    if not fitting:
        return f"{value:,.4g}"
    return max(fitting, key=lambda found: found[0])[1](value)


def prediction_view(prediction: Prediction) -> RenderableType:
    """The whole screen of one prediction."""
    parts: list[RenderableType] = [Text(title_of(prediction), style="bold"), _metrics(prediction)]
    if prediction.task == "serving":
        parts += [_memory(prediction), Text(_why(prediction))]
    parts += [_breakdown(phase) for phase in prediction.phases]
    if "regime" in prediction.values:
        parts.append(Text(_regime(prediction), style="dim"))
    return Group(*parts)


def plain(prediction: Prediction, *, width: int = 110) -> str:
    """The same screen as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(prediction_view(prediction))
    return out.getvalue()


def html(prediction: Prediction, *, width: int = 110) -> str:
    """The same screen as an HTML fragment, names escaped by rich."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(prediction_view(prediction))
    return console.export_html(inline_styles=True, code_format="<pre style='font-family:monospace'>{code}</pre>")


def title_of(prediction: Prediction) -> str:
    """What was predicted, in a line."""
    case = prediction.case
    if prediction.task != "serving":
        return f"{prediction.task}: {case.get('model') or case.get('kind')} on {case.get('chip')}"
    chips = float(prediction.values.get("chips", 0.0))
    machines = f"{chips:g}x {case['chip']}"
    if case.get("attention_chip"):
        apart = float(case["attention_chips"]) * float(case["replicas"])
        machines = f"{chips - apart:g}x {case['chip']} and {apart:g}x {case['attention_chip']}"
    return (
        f"{case['model']} on {machines} with {case['runtime']}, {case['isl']:g} in / {case['osl']:g} out, {_load(case)}"
    )


def _load(case: Mapping[str, Number]) -> str:
    if case.get("load") == "saturated":
        return "saturated"
    if float(case.get("concurrency", 0.0)) > 0:
        return f"{case['concurrency']:g} requests in flight"
    rate = float(case.get("request_rate_per_s", 0.0))
    return f"{rate:g} requests/s" if rate > 0 else "saturated"


def _metrics(prediction: Prediction) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("metric")
    table.add_column("value", justify="right", style="bold")
    table.add_column("meaning", style="dim")
    names = SERVING_ROWS if prediction.task == "serving" else tuple(prediction.values)
    for name in names:
        value = prediction.values.get(name, math.nan)
        text = human(name, value)
        if name == "tpot_s" and "tpot_low_s" in prediction.values:
            span = [human("tpot_s", prediction.values[f"tpot_{end}_s"]) for end in ("low", "high")]
            text_note = f"{WORDS[name]}; 80 % interval {span[0]} .. {span[1]}"
        else:
            text_note = WORDS.get(name, "")
        table.add_row(name, text, text_note)
    return table


def _memory(prediction: Prediction) -> RenderableType:
    from ridgeline.hardware import catalogue

    apart = str(prediction.case.get("attention_chip", ""))
    if apart:
        sizes = [float(prediction.values[f"{name}_bytes_per_chip"]) for name in ("memory", "kv")]
        of = [catalogue.chip(name).dram.capacity_bytes for name in (str(prediction.case["chip"]), apart)]
        here, there = (f"{units.size(a)} of {units.size(b)}" for a, b in zip(sizes, of, strict=True))
        return Text(f"memory per chip  weights and reserve {here}; cache, on an attention chip, {there}")
    capacity = catalogue.chip(str(prediction.case["chip"])).dram.capacity_bytes
    v = {name: float(prediction.values[f"{name}_bytes_per_chip"]) for name in ("weights", "kv", "memory")}
    reserve = max(v["memory"] - v["weights"] - v["kv"], 0.0)
    bar = Text("memory per chip  ")
    for amount, style in ((v["weights"], "blue"), (v["kv"], "green"), (reserve, "yellow")):
        bar.append("█" * round(BAR_CELLS * amount / capacity), style=style)
    bar.append("░" * max(BAR_CELLS - round(BAR_CELLS * v["memory"] / capacity), 0))
    bar.append(
        f"  weights {units.size(v['weights'])} + cache {units.size(v['kv'])} + reserve {units.size(reserve)}"
        f" of {units.size(capacity)}"
    )
    return bar


def _why(prediction: Prediction) -> str:
    bound = str(prediction.values["bound"])
    return f"bound by {bound}: {BOUND_WORDS.get(bound, 'the largest part of the step')}"


def _breakdown(phase: object) -> Table:
    rows = breakdown_of(phase.step)  # type: ignore[attr-defined]
    host_s = phase.host_s  # type: ignore[attr-defined]
    whole = sum(float(row["time_s"]) for row in rows) + host_s
    title = f"{phase.name} step, {units.duration(whole)}: {phase.describes}"  # type: ignore[attr-defined]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in (
        ("op", "left"),
        ("runs", "right"),
        ("time", "right"),
        ("share", "right"),
        ("bound by", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("kernel", style="dim")
    for row in rows[:MOST_OPS]:
        share = float(row["time_s"]) / whole
        block = "" if row["times"] == 1 else f"{row['block']}."
        cells = (f"{block}{row['op']}", f"{row['times']:.0f}", units.duration(float(row["time_s"])))
        table.add_row(*cells, f"{share:.1%}", str(row["bound"]), str(row["kernel"]))
    rest = sum(float(row["time_s"]) for row in rows[MOST_OPS:])
    if rest:
        table.add_row(f"{len(rows) - MOST_OPS} more", "", units.duration(rest), f"{rest / whole:.1%}", "", "")
    if host_s:
        table.add_row("host", "1", units.duration(host_s), f"{host_s / whole:.1%}", "host", "")
    return table


def _regime(prediction: Prediction) -> str:
    if prediction.values["regime"] == "calibrated":
        return "regime: calibrated (most of the time is priced with coefficients measured on this chip)"
    return "regime: datasheet (this chip contributed nothing but its datasheet)"
