"""Switches of a training case as people write them: yes or no, ZeRO stages, what is recomputed, what is offloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.core.names import Names
from ridgeline.core.tables import Labels
from ridgeline.training.layout import CONTEXTS, OFFLOADS
from ridgeline.training.profile import Profile, Redone, modules
from ridgeline.training.schedules import SCHEDULE_NAMES, SCHEDULES

Column = NDArray[np.float64]

YES_NO = Names("switch", {"true": ("1", "1.0", "yes", "on", "y"), "false": ("0", "0.0", "no", "off", "n")})
LORA_NAMES = Names(
    "switch",
    {
        "true": ("1", "1.0", "yes", "on", "y", "lora"),
        "false": ("0", "0.0", "no", "off", "n", "none"),
        "qlora": ("nf4",),
    },
    listing="true, false or qlora",
)
ZERO_NAMES = Names(
    "ZeRO stage",
    {"0": ("0.0", "none", "ddp"), "1": ("1.0",), "2": ("2.0",), "3": ("3.0", "fsdp", "fsdp2", "hsdp")},
    listing="0, 1, 2, 3 or fsdp",
)
OFFLOAD_NAMES = Names(
    "offload",
    {
        "none": ("no", "false"),
        "optimizer": ("cpu", "optimizer state", "adam"),
        "params": ("parameters",),
        "nvme": (),
        "cxl": (),
    },
    listing="none, optimizer, params, nvme or cxl",
)
CONTEXT_NAMES = Names(
    "context parallelism",
    {"ring": ("p2p", "ring attention"), "all-to-all": ("a2a", "ulysses", "alltoall"), "both": ("a2a+p2p", "usp")},
    listing=", ".join(CONTEXTS),
)
ZERO_PARTS = Names(
    "option of ZeRO",
    {"hpz": ("secondary shards",), "qwz": ("quantized weights",), "qgz": ("quantized gradients",), "none": ("no",)},
    listing="hpz, qwz, qgz",
)
RECOMPUTE_NAMES = Names(
    "recompute",
    {
        "none": ("no", "false", "off"),
        "selective": ("selective per-op", "selective_op", "core_attn", "attention", "sac"),
        "full": ("block", "uniform", "yes", "true"),
    },
    listing="none, selective, full, or module names (norm, act, moe, ...)",
)


def flags(labels: Labels, problems: Problems, name: str) -> Column:
    """1, 0, or NaN where the case does not say. Unknown words are problems."""
    return _coded(labels, YES_NO, {"true": 1.0, "false": 0.0}, np.nan, problems, name)


def adapters(labels: Labels, problems: Problems) -> tuple[Column, Column]:
    """Whether only adapters are trained, and bytes per frozen weight: 4 bits and 0.127 of constants under QLoRA with
    double quantisation (arXiv 2305.14314, section 3).
    """
    values = {"true": 1.0, "false": 0.0, "qlora": 2.0}
    coded = _coded(labels, LORA_NAMES, values, 0.0, problems, "lora")
    return np.minimum(coded, 1.0), np.where(coded > 1.0, (4.0 + 0.127) / 8.0, 2.0)


def zeros(labels: Labels, problems: Problems) -> Column:
    """ZeRO stage, NaN where the case does not say."""
    return _coded(labels, ZERO_NAMES, {str(stage): float(stage) for stage in range(4)}, np.nan, problems, "zero")


def offloads(labels: Labels, problems: Problems) -> Column:
    """Index into OFFLOADS."""
    values = {name: float(index) for index, name in enumerate(OFFLOADS)}
    return _coded(labels, OFFLOAD_NAMES, values, 0.0, problems, "offload")


def schedules(labels: Labels, problems: Problems) -> Column:
    """Index into SCHEDULES; 1f1b where the case does not say."""
    values = {name: float(index) for index, name in enumerate(SCHEDULES)}
    return _coded(labels, SCHEDULE_NAMES, values, 0.0, problems, "schedule")


def contexts(labels: Labels, problems: Problems) -> Column:
    """Index into CONTEXTS; ring where the case does not say."""
    values = {name: float(index) for index, name in enumerate(CONTEXTS)}
    return _coded(labels, CONTEXT_NAMES, values, 0.0, problems, "context")


def wires(labels: Labels, problems: Problems) -> tuple[Column, Column, Column]:
    """Secondary shards (0 or 1), bytes per weight and per gradient on the wire (0: as the framework does).

    Source: ZeRO++, arXiv 2306.10209: weights in 8 bits (qwZ), gradients in 4 (qgZ), secondary shards (hpZ).
    """
    lookup = np.tile([0.0, 2.0, 0.0], (len(labels.values) + 1, 1))
    for code, text in enumerate(labels.values):
        for part in filter(None, (part.strip() for part in text.replace(";", ",").replace("+", ",").split(","))):
            try:
                name = ZERO_PARTS.resolve(part, at="zero_options")
            except UnknownNameError as error:
                problems.flag(labels.codes == code, error)
                continue
            column, value = {"hpz": (0, 1.0), "qwz": (1, 1.0), "qgz": (2, 0.5), "none": (0, 0.0)}[name]
            lookup[code, column] = value
    secondary, weights, gradients = lookup[labels.codes].T
    return secondary, weights, gradients


def redone(
    labels: Labels, profiles: Sequence[Profile], profile_of: NDArray[np.intp], problems: Problems
) -> tuple[Column, Column, Column]:
    """Shares of matmul, attention and memory-bound work that are computed again; "selective" is the framework's own."""
    shares = np.zeros((len(labels.values) + 1, max(len(profiles), 1), 3))
    for code, text in enumerate(labels.values):
        for index, profile in enumerate(profiles):
            try:
                what = _redone(text, profile)
            except UnknownNameError as error:
                problems.flag(labels.codes == code, error)
                break
            shares[code, index] = (what.matmul, what.attention, what.vector)
    # Code -1, a missing cell, is the last row: nothing is recomputed.
    matmul, attention, vector = shares[labels.codes, profile_of].T
    return matmul, attention, vector


def _redone(text: str, profile: Profile) -> Redone:
    if not text:
        return Redone()
    if text in RECOMPUTE_NAMES:
        kind = RECOMPUTE_NAMES.resolve(text)
        full = Redone(matmul=1.0, attention=1.0, vector=1.0)
        return {"none": Redone(), "full": full, "selective": profile.selective}[kind]
    parts = [part.strip().lower() for part in text.replace(";", ",").split(",")]
    known = modules()
    for part in parts:
        if part not in known:
            listing = "or none, selective, full"
            fix = did_you_mean(part, [*known, "none", "selective", "full"], listing=listing)
            raise UnknownNameError(f"unknown recompute {part!r}", at="recompute", got=text, fix=fix)
    chosen = [known[part] for part in parts]
    sums = (sum(getattr(module, name) for module in chosen) for name in ("matmul", "attention", "vector"))
    matmul, attention, vector = (min(1.0, total) for total in sums)
    return Redone(matmul=matmul, attention=attention, vector=vector)


def _coded(
    labels: Labels, names: Names, values: Mapping[str, float], missing: float, problems: Problems, at: str
) -> Column:
    lookup = np.full(len(labels.values) + 1, missing)
    for code, text in enumerate(labels.values):
        if not text:
            continue
        try:
            lookup[code] = values[names.resolve(text, at=at)]
        except UnknownNameError as error:
            problems.flag(labels.codes == code, error)
    return lookup[labels.codes]
