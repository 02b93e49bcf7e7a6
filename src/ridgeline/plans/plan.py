"""A plan: how a model is cut over chips and in which formats, with a text notation (`tp8 pp2 w=fp8 kv=fp8`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

import numpy as np

from ridgeline.core import dtypes
from ridgeline.core.errors import PlanError, did_you_mean
from ridgeline.workloads.ops import Dim

DEGREES = ("tp", "pp", "dp", "ep", "moe_tp", "cp")
FORMATS = {"w": "weights", "a": "activations", "kv": "kv", "moe": "moe_weights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Degrees are numbers or columns; formats are names or "" for "as the model is published".

    Attributes:
        tp: tensor parallelism of the attention and dense layers.
        pp: pipeline stages.
        dp: attention data parallelism inside one replica (each of `dp` groups serves its own sequences).
        ep, moe_tp: how the experts of a layer are spread: whole experts over `ep` ranks, each cut `moe_tp` ways;
            0 means "what the other leaves": tp * dp * cp = ep * moe_tp.
        cp: context parallelism.
        attention: chips beside those of a stage and group that hold its cache and run its decode attention (`away.py`);
            0: none. They are not counted in `chips`.
    """

    tp: Dim = 1.0
    pp: Dim = 1.0
    dp: Dim = 1.0
    ep: Dim = 0.0
    moe_tp: Dim = 0.0
    cp: Dim = 1.0
    attention: Dim = 0.0
    weights: str = ""
    activations: str = ""
    kv: str = ""
    moe_weights: str = ""

    @property
    def stage_chips(self) -> Dim:
        """Chips that share one layer."""
        return self.tp * self.dp * self.cp

    @property
    def chips(self) -> Dim:
        """Chips of one replica."""
        return self.stage_chips * self.pp

    def expert_degrees(self) -> tuple[Dim, Dim]:
        """(ep, moe_tp) with the one left open filled in; both open means the experts are cut like the attention."""
        ep, moe_tp = np.asarray(self.ep, float), np.asarray(self.moe_tp, float)
        stage = np.asarray(self.stage_chips, float)
        open_tp = np.where(ep > 0, stage / np.maximum(ep, 1.0), np.where(np.asarray(self.dp) > 1, 1.0, stage))
        full_tp = np.where(moe_tp > 0, moe_tp, np.maximum(open_tp, 1.0))
        full_ep = np.where(ep > 0, ep, np.maximum(stage / full_tp, 1.0))
        return full_ep, full_tp

    def __str__(self) -> str:
        """The notation, without what is default."""
        parts = [
            f"{f.name}{int(getattr(self, f.name))}" for f in fields(self) if f.name in DEGREES and self._set(f.name)
        ]
        parts += [f"{key}={getattr(self, name)}" for key, name in FORMATS.items() if getattr(self, name)]
        return " ".join(parts) or "tp1"

    def _set(self, name: str) -> bool:
        default = 0.0 if name in ("ep", "moe_tp") else 1.0
        return bool(np.any(np.asarray(getattr(self, name)) != default))


def parse_plan(text: str) -> Plan:
    """Read `tp8 pp2 ep8 w=fp8 kv=fp8`: degrees as name and count, formats as `w= a= kv= moe=`, in any order.

    Raises PlanError for an unknown word, a repeated one, or a count below 1; UnknownNameError for an unknown format.
    """
    values: dict[str, float | str] = {}
    for word in text.split():
        name, value = _word(word)
        if name in values:
            raise PlanError(f"the plan says {name!r} twice", at="plan", got=text, fix="say it once")
        values[name] = value
    return Plan(**values)  # type: ignore[arg-type]


def _word(word: str) -> tuple[str, float | str]:
    if match := re.fullmatch(r"([a-z_]+?)(\d{1,7})", word.casefold()):
        name, count = match[1], int(match[2])
        if name in DEGREES and count >= 1:
            return name, float(count)
        if name in DEGREES:
            raise PlanError("a degree is at least 1", at=f"plan word {word!r}", got=count, fix=f"{name}1 is no cut")
    elif (match := re.fullmatch(r"([a-z]+)=(\S+)", word)) and match[1] in FORMATS:
        return FORMATS[match[1]], dtypes.dtype(match[2], at=f"plan word {word!r}").name
    forms = [f"{name}8" for name in DEGREES] + [f"{key}=fp8" for key in FORMATS]
    raise PlanError(
        f"cannot read {word!r} in a plan",
        at="plan",
        fix=f"{did_you_mean(word, forms)} words look like {' '.join(forms)}",
    )
