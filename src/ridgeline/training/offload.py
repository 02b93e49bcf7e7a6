"""Training beyond the memory of the chip: who computes and moves what when, as a graph on GPU, CPU, links, drives.

Layers go forward and backward in turn. Weights are fetched before they are needed, activations leave and come back or
are computed again, gradients go to the host, which updates the state it holds, or fetches from drives, while the
backward pass goes on. `best` chooses what to move: ZeRO-Infinity (arXiv 2104.07857), Fuyou (arXiv 2403.06504), Deep
Optimizer States (arXiv 2410.21316) are points of its space.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.training.graph import Schedule, Task, play
from ridgeline.training.layout import Layout
from ridgeline.training.setup import Setup
from ridgeline.training.step import train_step
from ridgeline.training.work import Work

GPU, CPU, UP, DOWN, DRIVE, EXPANDER = "gpu", "cpu", "host to gpu", "gpu to host", "drive", "cxl"

DEVICE, HOST, NVME, CXL = "device", "host", "nvme", "cxl"
"""Where parameters or optimizer state live. CXL memory is the host's too, behind a link of its own."""

FAR = {NVME: DRIVE, CXL: EXPANDER}
"""Places beyond the host's own memory, and the resource that leads there."""

AHEAD = 2
"""Layers whose weights are fetched before they are needed: as many are on the device at once, and one in use."""

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares that `best` tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A model on one chip as a chain of equal layers, and the rates around it.

    Attributes:
        layers: of the model. forward_s, backward_s: of one layer.
        weight_bytes: of a layer in 16 bits, as its gradients. state_bytes: optimizer state of a layer.
        activation_bytes: what its backward pass needs; input_bytes: its input alone, enough to compute the rest again.
        device_update_s, host_update_s: optimizer on one layer, here or there.
        link_bytes_per_s: to the host, each direction; drive_bytes_per_s of all drives, and
            cxl_bytes_per_s of CXL memory, reads and writes together (0: there is none).
        device_bytes, host_bytes, cxl_bytes: memory, without what else needs it.
    """

    layers: int
    forward_s: float
    backward_s: float
    weight_bytes: float
    state_bytes: float
    activation_bytes: float
    input_bytes: float
    device_update_s: float
    host_update_s: float
    link_bytes_per_s: float
    drive_bytes_per_s: float
    device_bytes: float
    host_bytes: float
    cxl_bytes_per_s: float = 0.0
    cxl_bytes: float = 0.0

    def far_bytes_per_s(self, place: str) -> float:
        """Rate to a place beyond the host's own memory."""
        return self.cxl_bytes_per_s if place == CXL else self.drive_bytes_per_s

    def __post_init__(self) -> None:
        """Refuse chains that cannot be."""
        times = (self.forward_s, self.backward_s, self.device_update_s, self.host_update_s)
        if self.layers < 1 or min(times) < 0 or not self.link_bytes_per_s > 0:
            fix = "give layers from 1, times from 0 and the rate of the host's link"
            raise DomainError("a chain has layers, times and a link", at="chain", got=self.layers, fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What leaves the chip.

    Attributes:
        weights, state: DEVICE, HOST, NVME or CXL.
        swapped_frac: share of the layers whose activations go to the host, or beyond it (`swap_to`), and come back.
        redone_frac: share whose activations are computed again.
        device_updates_frac: share of the layers whose state is fetched and updated on the chip while the host updates
            others (Deep Optimizer States).
        overlapped: whether updates begin during the backward pass.
    """

    weights: str = DEVICE
    state: str = DEVICE
    swapped_frac: float = 0.0
    redone_frac: float = 0.0
    device_updates_frac: float = 0.0
    swap_to: str = HOST
    overlapped: bool = True

    def __post_init__(self) -> None:
        """Refuse places and shares that cannot be."""
        shares = (self.swapped_frac, self.redone_frac, self.device_updates_frac)
        if not {self.weights, self.state} <= {DEVICE, HOST, *FAR} or self.swap_to not in (HOST, *FAR):
            raise DomainError("places are device, host, nvme and cxl", at="moves", got=(self.weights, self.state))
        if not all(0.0 <= share <= 1.0 for share in shares) or self.swapped_frac + self.redone_frac > 1.0 + 1e-9:
            raise DomainError("shares of layers lie in 0 to 1, together too", at="moves", got=shares)


def device_need_bytes(chain: Chain, moves: Moves) -> float:
    """Most bytes on the chip: what stays, what is in flight, the working set of one layer."""
    resident = chain.layers if moves.weights == DEVICE else min(AHEAD + 1, chain.layers)
    state = chain.layers * chain.state_bytes if moves.state == DEVICE else 0.0
    fetched = chain.state_bytes if moves.device_updates_frac > 0 and moves.state != DEVICE else 0.0
    gradients = chain.layers if moves.state == DEVICE else min(AHEAD, chain.layers)
    swapped, redone = _counts(chain, moves)
    kept = chain.layers - swapped - redone
    saved = kept * chain.activation_bytes + redone * chain.input_bytes
    moving = chain.activation_bytes * min(2, swapped) + (chain.activation_bytes if redone else 0.0)
    return (resident + gradients) * chain.weight_bytes + state + fetched + saved + moving


def host_need_bytes(chain: Chain, moves: Moves) -> float:
    """Most bytes in host memory; what is on its way to or from drives needs two layers' room."""
    return _need_bytes(chain, moves, HOST) + _need_bytes(chain, moves, NVME, most=2)


def cxl_need_bytes(chain: Chain, moves: Moves) -> float:
    """Most bytes in CXL memory."""
    return _need_bytes(chain, moves, CXL)


def _need_bytes(chain: Chain, moves: Moves, place: str, *, most: int | None = None) -> float:
    """What of the layers, or of `most` at a time, is in one place."""
    swapped, _ = _counts(chain, moves)
    held = (
        (moves.swap_to, swapped, chain.activation_bytes),
        (moves.weights, chain.layers, chain.weight_bytes),
        (moves.state, chain.layers, chain.state_bytes + chain.weight_bytes),
    )
    return sum((min(count, most or count) * size for where, count, size in held if where == place), start=0.0)


def _counts(chain: Chain, moves: Moves) -> tuple[int, int]:
    """Layers whose activations are swapped, and computed again."""
    swapped = round(moves.swapped_frac * chain.layers)
    return swapped, min(round(moves.redone_frac * chain.layers), chain.layers - swapped)


class _Graph:
    """Tasks with names to refer to them by."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.index: dict[str, int] = {}

    def add(self, name: str, resource: str, time_s: float, after: Sequence[str] = (), kind: str = "") -> None:
        known = tuple(self.index[other] for other in after if other in self.index)
        self.index[name] = len(self.tasks)
        self.tasks.append(Task(name, resource, time_s, known, kind))


def laid_out(chain: Chain, moves: Moves) -> Schedule:
    """One step in time. Raises DomainError: drives or CXL memory are used but their rate is not known."""
    for place, what in ((NVME, "drives have"), (CXL, "CXL memory has")):
        used = place in (moves.weights, moves.state, moves.swap_to if moves.swapped_frac else "")
        if used and not chain.far_bytes_per_s(place) > 0:
            raise DomainError(f"{what} no known rate", at=place, fix="name a node that has it, or give its rate")
    graph = _Graph()
    _forward(graph, chain, moves)
    _backward(graph, chain, moves)
    return play(graph.tasks)


def _fetch(graph: _Graph, chain: Chain, moves: Moves, turn: str, layer: int, free_after: str) -> list[str]:
    """Weights of a layer come in; what they replace must be done with first."""
    if moves.weights == DEVICE:
        return []
    source = []
    if moves.weights in FAR:
        read_s = chain.weight_bytes / chain.far_bytes_per_s(moves.weights)
        graph.add(f"{turn} read {layer}", FAR[moves.weights], read_s, kind="read")
        source = [f"{turn} read {layer}"]
    time_s = chain.weight_bytes / chain.link_bytes_per_s
    graph.add(f"{turn} fetch {layer}", UP, time_s, [*source, free_after], "weights")
    return [f"{turn} fetch {layer}"]


def _forward(graph: _Graph, chain: Chain, moves: Moves) -> None:
    swapped, _ = _counts(chain, moves)
    for layer in range(chain.layers):
        ready = _fetch(graph, chain, moves, "forward", layer, f"forward {layer - AHEAD - 1}")
        graph.add(f"forward {layer}", GPU, chain.forward_s, ready, "forward")
        if layer < swapped:
            time_s = chain.activation_bytes / chain.link_bytes_per_s
            graph.add(f"leave {layer}", DOWN, time_s, [f"forward {layer}"], "activations")
            if moves.swap_to in FAR:
                store_s = chain.activation_bytes / chain.far_bytes_per_s(moves.swap_to)
                graph.add(f"store {layer}", FAR[moves.swap_to], store_s, [f"leave {layer}"], "write")


def _backward(graph: _Graph, chain: Chain, moves: Moves) -> None:
    """Layers in reverse. Hosts update what arrives; the chip, and what comes back to it, wait for the last layer, so
    that nothing stands in the way of the backward pass. Without overlap, hosts wait too.
    """
    swapped, redone = _counts(chain, moves)
    on_device = _device_updates(chain, moves)
    last = chain.layers - 1
    order = list(reversed(range(chain.layers)))
    for layer in order:
        ready = [f"forward {last}", *_fetch(graph, chain, moves, "backward", layer, f"backward {layer + AHEAD + 1}")]
        if layer < swapped:
            ready += _back_in(graph, chain, moves, layer)
        elif layer < swapped + redone:
            graph.add(f"again {layer}", GPU, chain.forward_s, ready, "redo")
        graph.add(f"backward {layer}", GPU, chain.backward_s, ready, "backward")
        if moves.overlapped and layer not in on_device:
            _host_update(graph, chain, moves, layer, f"backward {layer}")
        if moves.overlapped and layer + AHEAD <= last and layer + AHEAD not in on_device:
            _host_writes(graph, chain, moves, layer + AHEAD)
    for layer in order:
        if layer in on_device:
            _device_update(graph, chain, moves, layer)
        elif not moves.overlapped:
            _host_update(graph, chain, moves, layer, "backward 0")
            _host_writes(graph, chain, moves, layer)
        elif layer < AHEAD:
            _host_writes(graph, chain, moves, layer)
    if moves.weights == DEVICE and moves.state != DEVICE:
        for layer in order:
            if layer not in on_device:
                link_s = chain.weight_bytes / chain.link_bytes_per_s
                graph.add(f"weights up {layer}", UP, link_s, [f"update {layer}", "backward 0"], "weights")


def _back_in(graph: _Graph, chain: Chain, moves: Moves, layer: int) -> list[str]:
    """Activations return; no earlier than two layers before they are needed."""
    source = [f"leave {layer}"]
    free = f"backward {layer + AHEAD}" if layer + AHEAD < chain.layers else f"forward {chain.layers - 1}"
    if moves.swap_to in FAR:
        time_s = chain.activation_bytes / chain.far_bytes_per_s(moves.swap_to)
        graph.add(f"load {layer}", FAR[moves.swap_to], time_s, [f"store {layer}", free], "read")
        source = [f"load {layer}"]
    graph.add(f"return {layer}", UP, chain.activation_bytes / chain.link_bytes_per_s, [*source, free], "activations")
    return [f"return {layer}"]


def _device_updates(chain: Chain, moves: Moves) -> frozenset[int]:
    """Layers that the chip updates, spread evenly among those of the host."""
    if moves.state == DEVICE:
        return frozenset(range(chain.layers))
    count = round(moves.device_updates_frac * chain.layers)
    return frozenset(int(i * chain.layers / count) for i in range(count)) if count else frozenset()


def _host_update(graph: _Graph, chain: Chain, moves: Moves, layer: int, after: str) -> None:
    link_s = chain.weight_bytes / chain.link_bytes_per_s
    graph.add(f"gradients {layer}", DOWN, link_s, [after], "gradients")
    state = []
    if moves.state in FAR:
        _state_in(graph, chain, moves, layer, after)
        state = [f"state in {layer}"]
    graph.add(f"update {layer}", CPU, chain.host_update_s, [f"gradients {layer}", *state], "update")


def _host_writes(graph: _Graph, chain: Chain, moves: Moves, layer: int) -> None:
    """State, and weights that live there, go back to drives or CXL memory."""
    for place, resource in FAR.items():
        written = chain.state_bytes if moves.state == place else 0.0
        written += chain.weight_bytes if moves.weights == place else 0.0
        if written > 0:
            time_s = written / chain.far_bytes_per_s(place)
            graph.add(f"state out {layer}", resource, time_s, [f"update {layer}"], "write")


def _state_in(graph: _Graph, chain: Chain, moves: Moves, layer: int, after: str) -> None:
    time_s = chain.state_bytes / chain.far_bytes_per_s(moves.state)
    graph.add(f"state in {layer}", FAR[moves.state], time_s, [after], "read")


def _device_update(graph: _Graph, chain: Chain, moves: Moves, layer: int) -> None:
    """The chip updates a layer; state that lives elsewhere comes and goes."""
    if moves.state == DEVICE:
        graph.add(f"update {layer}", GPU, chain.device_update_s, [f"backward {layer}"], "update")
        return
    state = []
    if moves.state in FAR:
        _state_in(graph, chain, moves, layer, "backward 0")
        state = [f"state in {layer}"]
    state_s = chain.state_bytes / chain.link_bytes_per_s
    graph.add(f"state up {layer}", UP, state_s, ["backward 0", *state], "state")
    graph.add(f"update {layer}", GPU, chain.device_update_s, [f"state up {layer}"], "update")
    weights_s = 0.0 if moves.weights == DEVICE else chain.weight_bytes / chain.link_bytes_per_s
    graph.add(f"state down {layer}", DOWN, state_s + weights_s, [f"update {layer}"], "state")
    if moves.state in FAR:
        out_s = chain.state_bytes / chain.far_bytes_per_s(moves.state)
        graph.add(f"state out {layer}", FAR[moves.state], out_s, [f"state down {layer}"], "write")


def least_s(chain: Chain, moves: Moves) -> float:
    """A bound from below: each resource does its own work without waiting."""
    plan = laid_out(chain, moves)
    return max(plan.busy_s(resource) for resource in plan.resources)


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest moves that fit, their step, and how many were tried."""

    moves: Moves
    schedule: Schedule
    tried: int


def best(chain: Chain, *, places: Sequence[str] = (DEVICE, HOST, NVME, CXL), grid: Sequence[float] = GRID) -> Best:
    """Choose what to move: the shortest step among those that fit on the chip and in the host.

    Raises DomainError: nothing fits; says what the leanest needs.
    """
    known = [place for place in places if place not in FAR or chain.far_bytes_per_s(place) > 0]
    options = list(_options(known, grid))
    fitting = [
        moves
        for moves in options
        if device_need_bytes(chain, moves) <= chain.device_bytes
        and host_need_bytes(chain, moves) <= chain.host_bytes
        and cxl_need_bytes(chain, moves) <= chain.cxl_bytes
    ]
    if not fitting:
        leanest = min(options, key=lambda moves: device_need_bytes(chain, moves))
        need, host = device_need_bytes(chain, leanest), host_need_bytes(chain, leanest)
        fix = f"the leanest needs {need:.3g} bytes on the chip and {host:.3g} in the host"
        raise DomainError("no way of offloading fits", at="chain", got=(chain.device_bytes, chain.host_bytes), fix=fix)
    plans = [(laid_out(chain, moves), moves) for moves in fitting]
    schedule, moves = min(plans, key=lambda plan: plan[0].makespan_s)
    return Best(moves, schedule, len(options))


def _options(places: Sequence[str], grid: Sequence[float]) -> Iterator[Moves]:
    for weights, state in itertools.product(places, places):
        for swapped, redone in itertools.product(grid, grid):
            if swapped + redone > 1.0:
                continue
            for swap_to in [HOST, *(place for place in places if place in FAR)] if swapped > 0 else [HOST]:
                for updates in grid[:-1] if state != DEVICE else (0.0,):
                    yield Moves(
                        weights=weights,
                        state=state,
                        swapped_frac=swapped,
                        redone_frac=redone,
                        device_updates_frac=updates,
                        swap_to=swap_to,
                    )


def chain_of(work: Work, layout: Layout, setup: Setup, *, device_bytes: float) -> Chain:
    """One chip's share of a model as a chain, priced as `train_step` prices it without offloading.

    `work` is of one model and `layout` of one row; the host and what is behind it are those of `setup`.
    """
    step = train_step(work, layout, setup)
    layers = int(np.max(work.layers))
    each = 1.0 / (float(np.max(layout.micro_batches)) * layers)
    busy = sum(float(np.max(step.terms[name])) for name in COMPUTE) * each
    passes = float(np.max(layout.matmul_passes))
    parameters = float(np.max(work.weights / (layout.tp * layout.pp * layout.ep) / layout.sharding_ranks)) / layers
    memory = setup.memory(work, replace(layout, redone_matmul=0.0, redone_attention=0.0, redone_vector=0.0))
    kept = setup.memory(work, replace(layout, redone_matmul=1.0, redone_attention=1.0, redone_vector=1.0))
    activation = float(memory.activations_bytes.max()) / layers
    inputs = max(float(kept.activations_bytes.max()) - activation, 0.0) / layers
    reserve = float((memory.reserve_bytes + memory.logits_bytes).max())
    bandwidth = setup.chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    c = setup.coefficients
    return Chain(
        layers=layers,
        forward_s=busy / passes,
        backward_s=busy * (passes - 1.0) / passes,
        weight_bytes=2.0 * parameters,
        state_bytes=setup.profile.optimizer_bytes * parameters,
        activation_bytes=activation,
        input_bytes=inputs,
        device_update_s=c.of("optimizer_bytes") * parameters / float(np.max(bandwidth)),
        host_update_s=c.of("host_adam_s") * parameters,
        link_bytes_per_s=float(np.max(setup.host.host_bytes_per_s)),
        drive_bytes_per_s=float(np.max(setup.host.nvme_bytes_per_s)),
        device_bytes=device_bytes - reserve,
        host_bytes=float(np.max(setup.host.capacity_bytes)),
        cxl_bytes_per_s=float(np.max(setup.host.cxl_bytes_per_s)),
        cxl_bytes=float(np.max(setup.host.cxl_bytes)),
    )


COMPUTE = ("matmul", "experts", "attention", "vector", "launch", "expert_overhead")
"""Terms of a step that a chip spends on its layers."""
