"""`predict vision`: a table of networks over images in; latency, throughput, memory and energy out.

A network's graph is priced op by op (`costs`), summed by kind of op, and each kind is stretched by what the software
does to it: eager frameworks run norms and activations apart, compilers fuse them, layouts cost copies, training adds a
backward pass. Those factors are fitted to published benchmarks (`vision.yaml`, by `ridgeline.training.vision_fit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Resolved, Rows, groups
from ridgeline.core.dtypes import Scheme
from ridgeline.core.tables import Labels
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.power import NARROW, steady_power_w
from ridgeline.training.software import Factors, Software, factors, scheme_of, software_of
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.importers.onnx import read_onnx
from ridgeline.workloads.importers.torch_export import read_exported
from ridgeline.workloads.ops import Attention, Convolution, Dim, Matmul, Op, Vector
from ridgeline.workloads.vision import LARGEST, SMALLEST, network

Column = NDArray[np.float64]

MATRIX = ("conv", "group_conv", "matmul", "attention", "window_attention")
STREAM = ("depthwise", "large_depthwise", "layer_norm", "elementwise")
KINDS = (*MATRIX, *STREAM)
"""Kinds of op that software treats alike: on the matrix engine, and bound by memory."""

LARGE_TAPS = 25.0
"""Taps from which on a depthwise convolution leaves the kernels made for 3x3."""

CHUNK_ROWS = 8192
"""Rows evaluated at once: their columns fit the caches of one core."""

RESULTS = (
    "latency_s",
    "images_per_s",
    "macs",
    "params",
    "activations_bytes",
    "memory_bytes",
    "power_w",
    "energy_j_per_image",
)
"""Numeric result columns; `bound` and `regime` follow them."""

BOUNDS = (*KINDS, "host")
REGIMES = ("datasheet", "calibrated")


class Drawn(Protocol):
    """Anything that draws its graph: a bundled network, or one read from a file."""

    @property
    def name(self) -> str:
        """For messages."""

    def graph(self, batch: Dim, resolution: Dim, scheme: Scheme) -> Graph:
        """The forward graph of `batch` images of that side (0: its own)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A forward pass of each row by kind of op.

    Attributes:
        seconds: device time by kind, [kinds, rows], as the cost rooms price the ops.
        launches: kernels that eager software launches.
        flops, moved_bytes: work of the pass; `macs` multiply-accumulates per image.
        params, weight_bytes: what the network holds.
        widest_bytes: largest input and output together of any op; `saved_bytes` outputs of all ops.
    """

    seconds: Column
    launches: Column
    flops: Column
    moved_bytes: Column
    macs: Column
    params: Column
    weight_bytes: Column
    widest_bytes: Column
    saved_bytes: Column


def parts_of(drawn: Drawn, batch: Column, resolution: Column, scheme: Scheme, chips: ChipColumns) -> Parts:
    """Price a forward pass of every row; all chips share a generation."""
    graph = drawn.graph(batch, resolution, scheme)
    shape = batch.shape
    seconds = np.zeros((len(KINDS), *shape))
    sums = {name: np.zeros(shape) for name in ("launches", "flops", "moved", "macs", "widest", "saved")}
    setting = Setting(runtime="torch")
    for op, times in graph.walk():
        priced = price(op, chips, setting)
        seconds[KINDS.index(kind_of(op))] += times * np.asarray(priced.time_s)
        operands = op.operands()
        activations = sum((np.add(o.read_bytes, o.write_bytes) for o in operands if o.role != "weights"), start=0.0)
        written = sum((np.asarray(o.write_bytes, float) for o in operands), start=np.zeros(1))
        sums["launches"] += times
        sums["flops"] += times * np.asarray(priced.flops)
        sums["moved"] += times * (np.asarray(priced.read_bytes) + priced.write_bytes)
        sums["macs"] += times * np.asarray(op.flops()) / 2.0 if not isinstance(op, Vector) else 0.0
        sums["saved"] += times * written
        sums["widest"] = np.maximum(sums["widest"], activations)
    return Parts(
        seconds=seconds,
        launches=sums["launches"],
        flops=sums["flops"],
        moved_bytes=sums["moved"],
        macs=sums["macs"] / batch,
        params=np.broadcast_to(np.asarray(graph.parameters(), float), shape),
        weight_bytes=np.broadcast_to(np.asarray(graph.weight_bytes(), float), shape),
        widest_bytes=sums["widest"],
        saved_bytes=sums["saved"],
    )


def kind_of(op: Op) -> str:
    """How software treats an op."""
    if isinstance(op, Convolution):
        groups_ = np.max(np.asarray(op.groups, float))
        if groups_ > 1 and np.all(np.asarray(op.groups) >= op.in_channels):
            return "large_depthwise" if float(np.max(np.asarray(op.kernel))) >= LARGE_TAPS else "depthwise"
        return "group_conv" if groups_ > 1 else "conv"
    if isinstance(op, Attention):
        return "window_attention" if op.name == "window_attention" else "attention"
    if isinstance(op, Matmul):
        return "matmul"
    return "layer_norm" if isinstance(op, Vector) and op.kind in ("layer_norm", "shift") else "elementwise"


def predict_vision(cases: Cases, problems: Problems) -> dict[str, NDArray[np.float64] | Labels]:
    """Result columns of every row; rows with a problem are NaN or missing there.

    Args:
        cases: columns model, resolution (0: the network's own), batch, precision, chip, runtime, compiled, layout,
            mode.
        problems: collects what is wrong with which row.
    """
    resolution = cases.number("resolution")
    outside = (resolution != 0) & ~((resolution >= SMALLEST) & (resolution <= LARGEST))
    problems.flag(outside, f"resolution must lie in {SMALLEST:g} .. {LARGEST:g} pixels, or be 0 for the network's own")
    drawn = Resolved(problems, cases, ("model",), _drawn)
    chips = Resolved(problems, cases, ("chip",), catalogue.chip)
    schemes = Resolved(problems, cases, ("precision",), scheme_of)
    software = Resolved(problems, cases, ("runtime", "compiled", "layout", "mode"), software_of)
    found = {name: np.full(cases.rows, np.nan) for name in RESULTS}
    bound, regime = (np.full(cases.rows, -1, dtype=np.int32) for _ in range(2))
    sides = np.unique(resolution, return_inverse=True)[1].astype(np.int32)
    codes = (
        sides,
        drawn.codes(lambda one: one.name),
        schemes.codes(lambda one: one.name),
        software.codes(lambda one: one),
        chips.codes(lambda one: one.generation),
    )
    for _, members in groups(codes, np.flatnonzero(problems.ok)):
        for start in range(0, members.size, CHUNK_ROWS):
            rows = members[start : start + CHUNK_ROWS]
            one, scheme, how = drawn.used(rows)[0][0], schemes.used(rows)[0][0], software.used(rows)[0][0]
            outcome = _evaluate(one, scheme, how, cases, rows, ChipColumns(*chips.used(rows)))
            for name, value in outcome[0].items():
                found[name][rows] = value
            bound[rows], regime[rows] = outcome[1:]
    return {**found, "bound": Labels(bound, BOUNDS), "regime": Labels(regime, REGIMES)}


def _drawn(name: str) -> Drawn:
    if name.lower().endswith(".onnx"):
        return read_onnx(name)
    if name.lower().endswith((".pt2", ".pt", ".pth")):
        return read_exported(name)
    return network(name)


def _evaluate(
    one: Drawn, scheme: Scheme, how: Software, cases: Cases, rows: Rows, chips: ChipColumns
) -> tuple[dict[str, Column], NDArray[np.int32], NDArray[np.int32]]:
    batch = cases.number("batch")[rows]
    parts = parts_of(one, batch, cases.number("resolution")[rows], scheme, chips)
    fitted = factors()
    seconds = device_s(parts, how, chips, fitted)
    host = parts.launches * fitted.host_s(how)
    device = seconds.sum(axis=0)
    latency = np.maximum(np.maximum(device, host), _floor_s(parts, batch, how, scheme, chips))
    peak = np.asarray(chips.gather(lambda chip: chip.peak_flops_per_s(scheme.compute)))
    bandwidth = np.asarray(chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s))
    work = 3.0 if how.training else 1.0
    power = steady_power_w(
        np.minimum(work * parts.moved_bytes / latency / bandwidth, 1.0),
        np.minimum(work * parts.flops / latency / peak, 1.0),
        chips,
        narrow=scheme.compute in NARROW,
    )
    state, activations = _memory(parts, how)
    numbers = {
        "latency_s": latency,
        "images_per_s": batch / latency,
        "macs": parts.macs,
        "params": parts.params,
        "activations_bytes": activations,
        "memory_bytes": state + activations + fitted.reserve_bytes,
        "power_w": power,
        "energy_j_per_image": power * latency / batch,
    }
    every = np.concatenate([seconds, host[None, :]])
    # The host is hidden behind the device unless it is slower than all of it.
    every[-1] = np.where(host > device, np.inf, 0.0)
    known = np.asarray(chips.gather(lambda chip: float(fitted.knows(how, chip)))) > 0
    return numbers, np.argmax(every, axis=0).astype(np.int32), np.broadcast_to(known, rows.shape).astype(np.int32)


def device_s(parts: Parts, how: Software, chips: ChipColumns, fitted: Factors) -> Column:
    """Seconds by kind, [kinds, rows]: the rooms' prices times what software and chip make of them."""
    stretch = np.array([fitted.of_software(how, kind) for kind in KINDS])[:, None]
    on_matrix = np.asarray(chips.gather(lambda chip: fitted.of_chip(chip, "matrix")))
    on_memory = np.asarray(chips.gather(lambda chip: fitted.of_chip(chip, "memory")))
    by_chip = np.stack(np.broadcast_arrays(*(on_matrix if kind in MATRIX else on_memory for kind in KINDS)))
    return np.asarray(parts.seconds * stretch * by_chip.reshape(len(KINDS), -1))


def _floor_s(parts: Parts, batch: Column, how: Software, scheme: Scheme, chips: ChipColumns) -> Column:
    """No software is faster than the multiply-accumulates at peak, nor than reading the weights once."""
    work = 3.0 if how.training else 1.0
    peak = chips.gather(lambda chip: chip.peak_flops_per_s(scheme.compute))
    bandwidth = chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    products = np.asarray(2.0 * parts.macs * batch / peak)
    return np.maximum(work * products, parts.weight_bytes / bandwidth)


def _memory(parts: Parts, how: Software) -> tuple[Column, Column]:
    """Weights (with gradients and optimizer state in training), and activations held at once."""
    if how.training:
        # 16-bit copies, 32-bit master weights, gradients and momentum (SGD), and every op's output.
        return parts.weight_bytes + 12.0 * parts.params, parts.saved_bytes
    return parts.weight_bytes, parts.widest_bytes
