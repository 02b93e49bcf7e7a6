"""`predict vision`: a table of networks over images in; latency, throughput, memory and energy out.

A network's graph is priced op by op (`costs`), summed by kind of op, and each kind is stretched by what the software
does to it: eager frameworks run norms and activations apart, compilers fuse them, layouts cost copies, training adds a
backward pass. Those factors are fitted to published benchmarks (`vision.yaml`, by `ridgeline.training.vision_fit`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Resolved, Rows, groups
from ridgeline.core.dtypes import Scheme
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels
from ridgeline.costs.bundles import bundles, labels
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.costs.serving_power import ServingLoad, serving_power_w
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.power import NARROW, steady_power_w
from ridgeline.training.software import Factors, Software, factors, scheme_of, software_of
from ridgeline.training.update import Update, kept_by
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.importers.onnx import OnnxNetwork, read_onnx
from ridgeline.workloads.importers.torch_export import ExportedNetwork, read_exported
from ridgeline.workloads.ops import Attention, Convolution, Dim, Matmul, Op, Vector
from ridgeline.workloads.vision import LARGEST, SMALLEST, Described, Network, network

Column = NDArray[np.float64]

MATRIX = ("conv", "group_conv", "matmul", "attention", "long_attention", "window_attention")
STREAM = ("depthwise", "large_depthwise", "layer_norm", "elementwise")
KINDS = (*MATRIX, *STREAM, "start")
"""Kinds of op that software treats alike: on the matrix engine, bound by memory; and what a processor takes to start
the threads of any of them, which no device hides."""

ENGINES = tuple(0 if kind in MATRIX else 1 if kind in STREAM else 2 for kind in KINDS)
"""What stretches each kind on a chip: its matrix engine, its memory, or neither."""

CPU_START_S = 10e-6
"""To dispatch one op and to start and join its threads on a processor (assumed; the fit stretches it)."""

LONG = 2048.0
"""Keys from which on attention is bound by its arithmetic, and no longer by how its small tiles are started."""

LARGE_TAPS = 25.0
"""Taps from which on a depthwise convolution leaves the kernels made for 3x3."""

CHUNK_ROWS = 2048
"""Rows evaluated at once: a hundred ops of each are priced in one call."""

STATE_BYTES = 12.0
"""Per parameter in training with momentum: master weights, gradients and momentum in 32 bits."""

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
        widest_bytes: largest input and output together of any op.
    """

    seconds: Column
    launches: Column
    flops: Column
    moved_bytes: Column
    macs: Column
    params: Column
    weight_bytes: Column
    widest_bytes: Column


def parts_of(drawn: Drawn, batch: Column, resolution: Column, scheme: Scheme, chips: ChipColumns) -> Parts:
    """Price a forward pass of every row; all chips are of one kin.

    Ops of one kind that differ in sizes only are priced in one call, as one op whose sizes are columns.
    """
    graph = drawn.graph(batch, resolution, scheme)
    shape = batch.shape
    seconds = np.zeros((len(KINDS), *shape))
    sums = {name: np.zeros(shape) for name in ("launches", "flops", "moved", "macs", "widest")}
    setting = Setting(runtime="torch")
    runs = list(graph.walk())
    index = np.zeros(batch.size, dtype=np.intp) if chips.index is None else chips.index
    for places, op in bundles([op for op, _ in runs], batch.size, _treated):
        times = np.stack([np.broadcast_to(np.asarray(runs[place][1], float), batch.size) for place in places])
        all_chips = ChipColumns(chips.chips, np.tile(index, len(places)))

        def folded(value: Dim, times: Column = times) -> Column:
            return np.asarray(np.broadcast_to(value, times.size).reshape(times.shape))

        priced = price(op, all_chips, setting)
        operands = op.operands()
        activations = sum((np.add(o.read_bytes, o.write_bytes) for o in operands if o.role != "weights"), start=0.0)
        seconds[KINDS.index(kind_of(op))] += (times * folded(priced.time_s)).sum(axis=0)
        sums["launches"] += times.sum(axis=0)
        sums["flops"] += (times * folded(priced.flops)).sum(axis=0)
        sums["moved"] += (times * folded(np.add(priced.read_bytes, priced.write_bytes))).sum(axis=0)
        sums["widest"] = np.maximum(sums["widest"], folded(activations).max(axis=0))
        if not isinstance(op, Vector):
            sums["macs"] += (times * folded(op.flops())).sum(axis=0) / 2.0
    if chips.chips[0].kind == "cpu":
        seconds[KINDS.index("start")] = sums["launches"] * CPU_START_S
    return Parts(
        seconds=seconds,
        launches=sums["launches"],
        flops=sums["flops"],
        moved_bytes=sums["moved"],
        macs=sums["macs"] / batch,
        params=np.broadcast_to(np.asarray(graph.parameters(), float), shape),
        weight_bytes=np.broadcast_to(np.asarray(graph.weight_bytes(), float), shape),
        widest_bytes=sums["widest"],
    )


def _treated(op: Op) -> Hashable:
    """What must be equal for ops to be treated together: everything but name and sizes."""
    return (kind_of(op), *(getattr(op, name) for name in labels(type(op)) if name != "name"))


def kind_of(op: Op) -> str:
    """How software treats an op."""
    if isinstance(op, Convolution):
        groups_ = np.max(np.asarray(op.groups, float))
        if groups_ > 1 and np.all(np.asarray(op.groups) >= op.in_channels):
            return "large_depthwise" if float(np.max(np.asarray(op.kernel))) >= LARGE_TAPS else "depthwise"
        return "group_conv" if groups_ > 1 else "conv"
    if isinstance(op, Attention):
        if op.name == "window_attention":
            return "window_attention"
        return "long_attention" if float(np.min(np.asarray(op.kv_len))) >= LONG else "attention"
    if isinstance(op, Matmul):
        return "matmul"
    return "layer_norm" if isinstance(op, Vector) and op.kind in ("layer_norm", "shift") else "elementwise"


def predict_vision(cases: Cases, problems: Problems) -> dict[str, NDArray[np.float64] | Labels]:
    """Result columns of every row; rows with a problem are NaN or missing there.

    Args:
        cases: columns model, resolution (0: the network's own), batch, precision, chip, runtime, compiled, layout,
            mode; gmacs, macts_m and params_m describe a network that is not bundled.
        problems: collects what is wrong with which row.
    """
    resolution = cases.number("resolution")
    outside = (resolution != 0) & ~((resolution >= SMALLEST) & (resolution <= LARGEST))
    problems.flag(outside, f"resolution must lie in {SMALLEST:g} .. {LARGEST:g} pixels, or be 0 for the network's own")
    described = _described(cases)
    named = Problems(cases.rows)
    drawn = Resolved(named, cases, ("model",), drawn_by)
    _flag_unnamed(named, described, problems)
    chips = Resolved(problems, cases, ("chip",), catalogue.chip)
    schemes = Resolved(problems, cases, ("precision",), scheme_of)
    software = Resolved(problems, cases, ("runtime", "compiled", "layout", "mode"), software_of)
    found = {name: np.full(cases.rows, np.nan) for name in RESULTS}
    bound, regime = (np.full(cases.rows, -1, dtype=np.int32) for _ in range(2))
    samples = [isinstance(one, Network) and one.samples for one in drawn.values]
    trains = [how is not None and how.training for how in software.values]
    both = np.array(samples, dtype=np.bool_)[drawn.of] & np.array(trains, dtype=np.bool_)[software.of]
    problems.flag(
        both,
        "a network that makes images in steps is predicted in inference only: leave mode out, or use predict training",
    )
    # A file fixes its shapes for one resolution at a time; bundled networks take a column of them.
    sides = np.unique(resolution, return_inverse=True)[1].astype(np.int32) + 1
    files = [isinstance(value, OnnxNetwork | ExportedNetwork) for value in drawn.values]
    is_file = np.array(files, dtype=bool)[drawn.of]
    codes = (
        np.where(is_file, sides, 0).astype(np.int32),
        drawn.codes(repr),
        schemes.codes(lambda one: one.name),
        chips.codes(lambda one: one.kin),
    )
    for _, members in groups(codes, np.flatnonzero(problems.ok)):
        for start in range(0, members.size, CHUNK_ROWS):
            rows = members[start : start + CHUNK_ROWS]
            found_here = drawn.used(rows)[0]
            group = _Group(
                rows=rows,
                drawn=found_here[0] if found_here else _by_totals(cases, rows),
                scheme=schemes.used(rows)[0][0],
                software=placed(software.used(rows), on_cpu=chips.used(rows)[0][0].kind == "cpu"),
                chips=ChipColumns(*chips.used(rows)),
            )
            try:
                numbers, bound[rows], regime[rows] = _evaluate(group, cases)
            except RidgelineError as error:
                # A file that is sound may still not allow the resolution that its cases ask for.
                problems.flag(rows, error)
                continue
            for name, value in numbers.items():
                found[name][rows] = value
    return {**found, "bound": Labels(bound, BOUNDS), "regime": Labels(regime, REGIMES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Rows of one network, one number format and chips of one kin; software by row."""

    rows: Rows
    drawn: Drawn
    scheme: Scheme
    software: tuple[tuple[Software, ...], Rows]
    chips: ChipColumns

    def by_software(self, value: Callable[[Software], float]) -> Column:
        """`value(software)` of each row."""
        kinds, index = self.software
        return np.array([value(how) for how in kinds])[index]


def placed(software: tuple[tuple[Software, ...], Rows], *, on_cpu: bool) -> tuple[tuple[Software, ...], Rows]:
    """Software and its index by row, on the kind of chip that all these rows have."""
    kinds, index = software
    return tuple(replace(how, on_cpu=on_cpu) for how in kinds), index


def _described(cases: Cases) -> NDArray[np.bool_]:
    """Rows that state the totals of their network."""
    return (cases.number("gmacs") > 0) & (cases.number("macts_m") > 0)


def _by_totals(cases: Cases, rows: Rows) -> Drawn:
    """Networks that are not bundled, as their cases describe them."""
    macs, values, params = (cases.number(name)[rows] for name in ("gmacs", "macts_m", "params_m"))
    return Described("described by its totals", macs * 1e9, values * 1e6, params * 1e6)


def _flag_unnamed(named: Problems, described: NDArray[np.bool_], problems: Problems) -> None:
    """Rows whose network is not known are problems, unless they describe it."""
    codes, messages = named.coded()
    for code, message in enumerate(messages):
        problems.flag((codes == code) & ~described, message)


def drawn_by(name: str) -> Drawn:
    """The network that a name or a file means. Raises UnknownNameError with the nearest names."""
    if name.lower().endswith(".onnx"):
        return read_onnx(name)
    if name.lower().endswith((".pt2", ".pt", ".pth")):
        return read_exported(name)
    return network(name)


def learner_by(name: str) -> Drawn:
    """What of that network is trained. Raises UnknownNameError with the nearest names."""
    found = drawn_by(name)
    return found.learner() if isinstance(found, Network) else found


def _evaluate(group: _Group, cases: Cases) -> tuple[dict[str, Column], NDArray[np.int32], NDArray[np.int32]]:
    chips, fitted = group.chips, factors()
    batch = cases.number("batch")[group.rows]
    parts = parts_of(group.drawn, batch, cases.number("resolution")[group.rows], group.scheme, chips)
    seconds = parts.seconds * stretches(group.software, chips, fitted)
    host = parts.launches * group.by_software(fitted.host_s)
    device = seconds.sum(axis=0)
    peak = np.asarray(chips.gather(lambda chip: chip.peak_flops_per_s(group.scheme.compute)))
    bandwidth = np.asarray(chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s))
    training = group.by_software(lambda how: float(how.training))
    # No software is faster than the multiply-accumulates at peak, nor than reading the weights once.
    work = 1.0 + 2.0 * training
    floor = np.maximum(work * 2.0 * parts.macs * batch / peak, parts.weight_bytes / bandwidth)
    latency = np.maximum(np.maximum(device, host), floor)
    busy = np.minimum(work * parts.moved_bytes / latency / bandwidth, 1.0)
    computing = np.minimum(work * parts.flops / latency / peak, 1.0)
    if isinstance(group.drawn, Network) and group.drawn.samples:
        # Transformers over thousands of tokens draw what serving does for their operations (docs/accuracy.md).
        load = ServingLoad(weight_bytes_per_s=0.0, kv_bytes_per_s=0.0, flops_per_s=parts.flops / latency)
        power = np.asarray(serving_power_w(load, chips, measured=False))
    else:
        power = steady_power_w(busy, computing, chips, narrow=group.scheme.compute in NARROW)
    # Training holds 32-bit master weights, gradients and momentum beside the 16-bit copy, and what `update` says.
    state = parts.weight_bytes + STATE_BYTES * training * parts.params
    activations = parts.widest_bytes
    if training.any():
        side = cases.number("resolution")[group.rows]
        everything = np.zeros(batch.size, dtype=np.intp)
        kept = kept_by(group.drawn.graph(batch, side, group.scheme), (Update(),), everything, again=everything > 0)
        activations = np.where(training > 0, kept.peak_bytes, activations)
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
    # The host is hidden behind the device unless it is slower than all of it.
    largest = np.where(host > device, len(KINDS), np.argmax(seconds, axis=0))
    return numbers, largest.astype(np.int32), known(group.software, chips, fitted)


def stretches(software: tuple[tuple[Software, ...], Rows], chips: ChipColumns, fitted: Factors) -> Column:
    """What software and chip make of the rooms' prices, [kinds, rows]."""
    kinds, index = software
    by_software = np.array([[fitted.of_software(how, kind) for kind in KINDS] for how in kinds])[index].T
    on_matrix = chips.gather(lambda chip: fitted.of_chip(chip, "matrix"))
    on_memory = chips.gather(lambda chip: fitted.of_chip(chip, "memory"))
    shape = (index.size,)
    by_engine = [np.broadcast_to(np.asarray(value, float), shape) for value in (on_matrix, on_memory, 1.0)]
    return np.asarray(by_software * np.stack([by_engine[engine] for engine in ENGINES]))


def known(software: tuple[tuple[Software, ...], Rows], chips: ChipColumns, fitted: Factors) -> NDArray[np.int32]:
    """Index into REGIMES: whether the chip was in the fit under the row's software."""
    kinds, index = software
    found = np.zeros(index.size, dtype=np.int32)
    for place, how in enumerate(kinds):
        fits = chips.gather(lambda chip, how=how: float(fitted.knows(how, chip)))  # type: ignore[misc]
        found = np.where(index == place, np.asarray(fits), found).astype(np.int32)
    return found
