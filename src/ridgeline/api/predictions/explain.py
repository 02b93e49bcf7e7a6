"""Why one kernel costs what it costs: every candidate bound, the bytes, and the choices of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.tables.intake import intake, wanted
from ridgeline.api.tables.ops import explain_op
from ridgeline.core import units
from ridgeline.core.errors import SpecError
from ridgeline.core.tables import from_mapping

if TYPE_CHECKING:
    from ridgeline.api.predictions.predict import Prediction


def explain_kernel(prediction: Prediction) -> dict[str, Any]:
    """Candidate bounds (seconds, longest first), choices, work and hardware bound of an ops prediction.

    Raises SpecError for a prediction of another task.
    """
    if prediction.task != "ops":
        raise SpecError("only kernels are explained", at="explain", got=prediction.task, fix="use `predict ops`")
    table = from_mapping({name: [value] for name, value in prediction.case.items()}, columns=wanted("ops"))
    with np.errstate(all="ignore"):
        price = explain_op(intake("ops", table)[0])
    assert price is not None, "a case that was predicted has a price"
    bounds = {name: _number(term) for name, term in price.terms.items()}
    return {
        "kernel": price.kernel,
        "time_s": _number(price.time_s),
        "hardware_bound_s": _number(price.floor_s),
        "bounds_s": dict(sorted(bounds.items(), key=lambda bound: -bound[1])),
        "choices": {name: _number(value) for name, value in price.detail.items()},
        "flops": _number(price.flops),
        "read_bytes": _number(price.read_bytes),
        "write_bytes": _number(price.write_bytes),
    }


def explanation_view(prediction: Prediction) -> RenderableType:
    """The same as a table for people."""
    told = explain_kernel(prediction)
    table = Table(
        title=f"candidate bounds of kernel family {told['kernel']!r}",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("bound")
    table.add_column("time", justify="right")
    table.add_column("of the price", justify="right")
    for name, seconds in told["bounds_s"].items():
        if seconds > 0:
            table.add_row(name, units.duration(seconds), f"{seconds / told['time_s']:.1%}")
    share = told["hardware_bound_s"] / told["time_s"]
    table.add_row("hardware", units.duration(told["hardware_bound_s"]), f"{share:.1%}")
    parts: list[RenderableType] = [table]
    if told["choices"]:
        chosen = ", ".join(f"{name} {value:,.4g}" for name, value in told["choices"].items())
        parts.append(Text(f"choices: {chosen}"))
    return Group(*parts)


def _number(value: Any) -> float:
    return float(np.ravel(np.asarray(value, dtype=np.float64))[0])
