"""Networks over images in training jobs: the forward pass as `vision` prices it, the backward pass of what learns.

Data parallelism only. `update` says what is kept in memory and how much work the backward pass is; a chip with flash
reads frozen weights from there. Integer graphs run as compiled engines with their backward pass in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Resolved, Rows, groups
from ridgeline.core.dtypes import Scheme
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.hardware.topology import Node
from ridgeline.training.links import links_of
from ridgeline.training.power import NARROW, steady_power_w
from ridgeline.training.profile import coefficients
from ridgeline.training.software import Software, factors, scheme_of, software_of
from ridgeline.training.switches import RECOMPUTE_NAMES
from ridgeline.training.update import Kept, Update, kept_by, update_of
from ridgeline.training.vision import KINDS, STATE_BYTES, Drawn, drawn_by, known, learner_by, parts_of, stretches

Column = NDArray[np.float64]

DEGREES = ("tp", "pp", "cp", "ep", "vp", "shard")
"""Ways of parallelism that these networks are not cut by."""

SWITCHES = (
    *("network", "offload", "lora", "captured", "schedule", "context", "zero_options", "zero"),
    *("sequence_parallel", "flash", "lengths", "batches", "islands", "between"),
)
"""Columns that say nothing about these networks."""

RESULTS = (
    "step_s",
    "tokens_per_s",
    "tokens_per_s_per_chip",
    "model_flops_per_s_per_chip",
    "hardware_flops_per_s_per_chip",
    "mfu",
    "hfu",
    "memory_bytes_per_chip",
    "fits",
    "bubble_frac",
    "exposed_comm_frac",
    "power_w_per_chip",
    "energy_j_per_token",
)
"""As of `training.predict`; a token is an image."""

BOUNDS = (*KINDS, "host", "data_parallel")


def is_network(name: str) -> bool:
    """Whether a name or a file is a network over images."""
    try:
        drawn_by(name)
    except RidgelineError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Rows of one network, one number format and chips of one kin."""

    rows: Rows
    drawn: Drawn
    scheme: Scheme
    software: tuple[tuple[Software, ...], Rows]
    updates: tuple[tuple[Update, ...], Rows]
    chips: ChipColumns
    nodes: tuple[tuple[Node, ...], Rows]
    resolution: Column
    micro_batch: Column
    count: Column
    batch: Column
    again: NDArray[np.bool_]


def predict_images(cases: Cases, problems: Problems) -> dict[str, Column | Labels]:
    """Result columns of rows whose models are networks over images; rows with a problem are NaN or missing there."""
    found = {name: np.full(cases.rows, np.nan) for name in RESULTS}
    bound, regime = (np.full(cases.rows, -1, dtype=np.int32) for _ in range(2))
    _flag_others(cases, problems)
    count = np.maximum(cases.number("chips"), 1.0)
    batch, micro = cases.number("global_batch"), cases.number("micro_batch")
    micro = np.where(micro > 0, micro, np.where(batch > 0, batch / count, 1.0))
    batch = np.where(batch > 0, batch, micro * count)
    uneven = (batch % (micro * count) > 0) | (micro != np.floor(micro))
    problems.flag(uneven, "global_batch must be a multiple of chips x micro_batch, in whole images")
    drawn = Resolved(problems, cases, ("model",), learner_by)
    chips = Resolved(problems, cases, ("chip",), catalogue.chip)
    nodes = Resolved(problems, cases, ("chip", "node"), lambda chip, node: catalogue.home(catalogue.chip(chip), node))
    schemes = Resolved(problems, cases, ("precision",), scheme_of)
    software = Resolved(problems, cases, ("framework", "precision"), _software)
    updates = Resolved(problems, cases, ("trained",), update_of)
    again = Resolved(problems, cases, ("recompute",), _again)
    sides = np.unique(cases.number("resolution"), return_inverse=True)[1].astype(np.int32)
    codes = (sides, drawn.codes(repr), schemes.codes(lambda one: one.name), chips.codes(lambda one: one.kin))
    for _, rows in groups(codes, np.flatnonzero(problems.ok)):
        group = _Group(
            rows=rows,
            drawn=drawn.used(rows)[0][0],
            scheme=schemes.used(rows)[0][0],
            software=software.used(rows),
            updates=updates.used(rows),
            chips=ChipColumns(*chips.used(rows)),
            nodes=nodes.used(rows),
            resolution=cases.number("resolution")[rows],
            micro_batch=micro[rows],
            count=count[rows],
            batch=batch[rows],
            again=np.array([bool(value) for value in again.values])[again.of[rows]],
        )
        try:
            numbers, bound[rows], regime[rows] = _evaluate(group)
        except RidgelineError as error:
            problems.flag(rows, error)
            continue
        for name, value in numbers.items():
            found[name][rows] = value
    return {**found, "bound": Labels(bound, BOUNDS), "regime": Labels(regime, ("datasheet", "calibrated"))}


def _flag_others(cases: Cases, problems: Problems) -> None:
    for name in DEGREES:
        where = cases.number(name) > 1
        problems.flag(where, f"networks over images are trained with data parallelism only; leave {name} out")
    dp = cases.number("dp")
    problems.flag((dp > 0) & (dp != cases.number("chips")), "dp is the number of chips of a network over images")
    for name in SWITCHES:
        labels = cases.labels(name)
        given = np.array([bool(text) for text in labels.values])[labels.codes]
        problems.flag(given, f"{name} says nothing about networks over images; leave it out")
    problems.flag(cases.number("seq") > 0, "networks over images have no seq; resolution says their size")


def _software(framework: str, precision: str) -> Software:
    compiled = "engine" if scheme_of(precision).compute.startswith("int") else ""
    return software_of(framework, compiled, "nchw", "training")


def _again(text: str) -> bool:
    """Whether stretches of the network are computed again."""
    return RECOMPUTE_NAMES.resolve(text or "none", at="recompute") != "none"


def _evaluate(group: _Group) -> tuple[dict[str, Column], NDArray[np.int32], NDArray[np.int32]]:
    chips, fitted, micro = group.chips, factors(), group.micro_batch
    parts = parts_of(group.drawn, micro, group.resolution, group.scheme, chips)
    graph = group.drawn.graph(micro, group.resolution, group.scheme)
    kept = kept_by(graph, *group.updates, again=group.again)
    integer = group.scheme.compute.startswith("int")
    peak = np.asarray(chips.gather(lambda chip: chip.peak_flops_per_s(group.scheme.compute)))
    wide = np.asarray(chips.gather(lambda chip: chip.peak_flops_per_s("fp32")))
    # The stretches are of full steps; what learns less does less, and integer graphs do it at the pace of fp32.
    slower = peak / wide if integer else 1.0
    share = (1.0 + kept.redone + slower * kept.backward) / (1.0 + kept.full_backward)
    seconds = parts.seconds * stretches(group.software, chips, fitted) * share
    kinds, index = group.software
    host = parts.launches * np.array([fitted.host_s(how) for how in kinds])[index] * share
    busy = np.maximum(seconds.sum(axis=0), host)
    operations = 2.0 * parts.macs * micro
    busy = np.maximum(busy, operations * (1.0 + kept.redone + slower * kept.backward) / peak)
    turns = group.batch / (micro * group.count)
    exchanged = _gradients_s(kept, group)
    step = busy * turns + exchanged
    model, done = operations * (1.0 + kept.backward), operations * (1.0 + kept.redone + kept.backward)
    bandwidth = np.asarray(chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s))
    work = 1.0 + kept.redone + kept.backward
    streaming = np.minimum(work * parts.moved_bytes * turns / step / bandwidth, 1.0)
    computing = np.minimum(done * turns / step / peak, 1.0)
    power = steady_power_w(streaming, computing, chips, narrow=group.scheme.compute in NARROW)
    memory, fits = _memory(kept, group)
    per_chip = step * group.count
    numbers = {
        "step_s": step,
        "tokens_per_s": group.batch / step,
        "tokens_per_s_per_chip": group.batch / per_chip,
        "model_flops_per_s_per_chip": model * turns / step,
        "hardware_flops_per_s_per_chip": done * turns / step,
        "mfu": model * turns / step / peak,
        "hfu": done * turns / step / peak,
        "memory_bytes_per_chip": memory,
        "fits": fits,
        "bubble_frac": np.zeros_like(step),
        "exposed_comm_frac": exchanged / step,
        "power_w_per_chip": power,
        "energy_j_per_token": power * per_chip / group.batch,
    }
    terms = np.concatenate([seconds * turns, [np.where(host > seconds.sum(axis=0), np.inf, 0.0)], [exchanged]])
    largest = np.argmax(terms, axis=0).astype(np.int32)
    return numbers, largest, known(group.software, chips, fitted)


def _gradients_s(kept: Kept, group: _Group) -> Column:
    """Once per step: gradients of what learns, in 32 bits, reduced and spread; the part that compute does not hide."""
    rate = links_of(*group.nodes).gather_bytes_per_s(group.count, 1.0)
    exposed = coefficients().of("data_exposed")
    return np.asarray(np.where(group.count > 1, exposed * 2.0 * 4.0 * kept.learning / rate, 0.0))


def _memory(kept: Kept, group: _Group) -> tuple[Column, Column]:
    """Bytes in main memory, and whether they and what lies in flash fit.

    Frameworks hold master weights, gradients and momentum beside the weights, and reserve memory for themselves;
    integer graphs and microcontrollers do neither.
    """
    chips = group.chips

    def column(value: Column | float) -> Column:
        return np.broadcast_to(np.asarray(value, float), group.rows.shape)

    flash = column(chips.gather(lambda chip: tier.capacity_bytes if (tier := chip.tier("flash")) else 0.0))
    bare = column(chips.gather(lambda chip: float(chip.kind == "mcu")))
    integer = group.scheme.compute.startswith("int")
    state = 0.0 if integer else STATE_BYTES * kept.learning
    here = kept.learning_bytes + np.where(flash > 0, 0.0, kept.frozen_bytes)
    reserve = np.where(bare > 0, 0.0, factors().reserve_bytes)
    memory = here + state + kept.peak_bytes + reserve
    capacity = column(chips.gather(lambda chip: chip.dram.capacity_bytes))
    # Flash holds what learns too: that is where the network comes from.
    stored = np.where(flash > 0, kept.frozen_bytes + kept.learning_bytes, 0.0)
    return memory, ((memory <= capacity) & (stored <= flash)).astype(np.float64)
