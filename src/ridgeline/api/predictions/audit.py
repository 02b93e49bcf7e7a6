"""`rl.audit`: could a published number be? Which bound of the hardware a claim breaks, or how close it comes.

A claim is a rate, or tokens and the time they took, on so many chips; perhaps energy. Each bound compares what the
claim needs with what the machine has: arithmetic with peak rates, bytes with memory bandwidth, weights with capacity,
energy with what boards draw. A claim beyond a bound is impossible; one beyond what the best kernels of the chip reach
by our prices (a large matmul, a long stream) is implausible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.core.dtypes import DTYPES, scheme
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware.machine import machine
from ridgeline.hardware.topology import Machine
from ridgeline.workloads.catalogue import model as find_model
from ridgeline.workloads.families import forward, parameters
from ridgeline.workloads.model import Batch, Model
from ridgeline.workloads.ops import Copy, Matmul

if TYPE_CHECKING:
    from rich.console import RenderableType

TRAINING, INFERENCE = "training", "inference"
PASSES = {TRAINING: 3.0, INFERENCE: 1.0}
"""Forward passes that a token's arithmetic amounts to; a backward pass is two (Kaplan et al., arXiv 2001.08361)."""
LARGE = 16384.0
"""Rows, columns and depth of the matmul that shows what kernels of a chip reach."""
LONG_BYTES = 8.0 * 2**30
"""The stream that shows it for memory."""
IMPOSSIBLE, IMPLAUSIBLE, PLAUSIBLE = "impossible", "implausible", "plausible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One bound beside what the claim needs.

    Attributes:
        name: of the bound. unit: of `needs` and `has`, which are per chip.
        share: needs over has. reach: the share that the best kernels reach.
        verdict: impossible, implausible or plausible.
    """

    name: str
    unit: str
    needs: float
    has: float
    reach: float
    verdict: str

    @property
    def share(self) -> float:
        """What the claim needs of what there is."""
        return self.needs / self.has


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Every bound that the claim says enough for. `verdict` is the worst."""

    machine: str
    bounds: tuple[Bound, ...]

    @property
    def verdict(self) -> str:
        """The worst of the bounds."""
        order = (PLAUSIBLE, IMPLAUSIBLE, IMPOSSIBLE)
        return max((bound.verdict for bound in self.bounds), key=order.index)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        bounds = [{**asdict(bound), "share": bound.share} for bound in self.bounds]
        return {"verb": "audit", "machine": self.machine, "verdict": self.verdict, "bounds": bounds}

    def __rich__(self) -> RenderableType:
        """The table that a terminal shows."""
        from ridgeline.api.predictions.audit_view import audit_view

        return audit_view(self)


def audit(
    *,
    on: str,
    model: str = "",
    parameters: float = 0.0,
    what: str = TRAINING,
    precision: str = "bf16",
    tokens: float = 0.0,
    time_s: float = 0.0,
    tokens_per_s: float = 0.0,
    sequences: float = 0.0,
    context: float = 0.0,
    energy_j: float = 0.0,
) -> Audit:
    """Hold a claim against the bounds of its machine.

    Args:
        on: machines, as "4x a100-sxm".
        model: bundled name or path.
        parameters: that each token meets, instead of a model.
        what: training, or inference (of prompts and outputs alike; with `sequences`, of outputs).
        precision: in which matmuls run and weights are held.
        tokens: of the run.
        time_s: that they took.
        tokens_per_s: of the whole machine, instead of both.
        sequences: in flight over the machine: then tokens are outputs, one a sequence and step, and each step reads
            weights and caches once.
        context: their mean length.
        energy_j: of the boards over `time_s`.
    Raises:
        SpecError: neither a model nor parameters, or nothing to compare. DomainError: numbers that cannot be.
    """
    given = (parameters, tokens, time_s, tokens_per_s, sequences, context, energy_j)
    if not all(math.isfinite(v) and v >= 0 for v in given):
        raise DomainError("numbers of a claim are finite and not negative", at="audit", got=given, fix="leave it out")
    if what not in PASSES:
        raise SpecError("unknown kind of run", at="what", got=what, fix=" or ".join(PASSES))
    if not model and not parameters:
        raise SpecError("nothing says how large the model is", at="audit", fix="give model or parameters")
    place, of = machine(on, at="on"), find_model(model) if model else None
    rate = tokens_per_s or (tokens / time_s if time_s else 0.0)
    found = []
    if rate:
        found.append(_arithmetic(place, of, parameters, what, precision, rate))
    if rate and sequences:
        found.append(_stream(place, of, parameters, precision, rate, sequences, context))
    found += _held(place, of, parameters, precision)
    if energy_j and time_s:
        found.append(_power(place, energy_j / time_s))
    if len(found) < 2:
        fix = "give tokens and time, or tokens_per_s, or energy and time"
        raise SpecError("the claim says nothing that has a bound", at="audit", fix=fix)
    return Audit(machine=place.name, bounds=tuple(found))


def _judged(name: str, unit: str, needs: float, has: float, reach: float) -> Bound:
    share = needs / has
    verdict = IMPOSSIBLE if share > 1.0 else IMPLAUSIBLE if share > reach else PLAUSIBLE
    return Bound(name=name, unit=unit, needs=needs, has=has, reach=reach, verdict=verdict)


def _columns(place: Machine) -> MachineColumns:
    return MachineColumns((place,))


def _active(of: Model | None, given: float) -> float:
    """Parameters that a token multiplies: of a model without the table that is only looked up."""
    if of is None or given:
        return given
    counts = parameters(of)
    looked_up = 0.0 if of.tied else float(np.asarray(counts.embedding))
    return float(np.asarray(counts.active)) - looked_up


def _arithmetic(place: Machine, of: Model | None, given: float, what: str, precision: str, rate: float) -> Bound:
    """Two operations per parameter, token and pass; attention and recomputation would only add."""
    needs = 2.0 * _active(of, given) * PASSES[what] * rate / place.count
    large = Matmul(name="large", part="audit", m=LARGE, n=LARGE, k=LARGE, scheme=scheme(precision, at="precision"))
    priced = price(large, _columns(place), Setting(weights_cache="hot"))
    reach = float(np.asarray(priced.floor_s) / np.asarray(priced.time_s))
    peak = place.chip.peak_flops_per_s(large.compute)
    return _judged("arithmetic", "FLOP/s", needs, peak, reach)


def _stream(
    place: Machine, of: Model | None, given: float, precision: str, rate: float, sequences: float, context: float
) -> Bound:
    """Each step reads what its sequences meet of the weights, and their caches, spread over all chips."""
    element = scheme(precision, at="precision").weight.element_bytes
    if of is None or given:
        moved = given * element
    else:
        graph = forward(of, Batch(decode_seqs=sequences, decode_context=max(context, 1.0)))
        weights = float(np.asarray(graph.moved_bytes("weights"))) * element / of.precision.ffn.weight.element_bytes
        moved = weights + float(np.asarray(graph.moved_bytes("kv")))
    needs = moved * rate / sequences / place.count
    copy = price(Copy(name="stream", part="audit", size_bytes=LONG_BYTES), _columns(place), Setting())
    reach = float(np.asarray(copy.floor_s) / np.asarray(copy.time_s))
    return _judged("memory bandwidth", "bytes/s", needs, place.chip.dram.bandwidth_bytes_per_s, reach)


def _held(place: Machine, of: Model | None, given: float, precision: str) -> Iterator[Bound]:
    """Weights beside nothing else."""
    element = scheme(precision, at="precision").weight.element_bytes if precision else DTYPES["bf16"].element_bytes
    total = given if of is None or given else float(np.asarray(parameters(of).total))
    yield _judged("memory capacity", "bytes", total * element / place.count, place.chip.dram.capacity_bytes, 1.0)


def _power(place: Machine, watts: float) -> Bound:
    """Boards draw between their idle power and their limit; energy of hosts is not in the claim."""
    chip, each = place.chip, watts / place.count
    if each < chip.idle_w:
        return Bound(name="power", unit="W", needs=each, has=chip.tdp_w, reach=1.0, verdict=IMPOSSIBLE)
    return _judged("power", "W", each, chip.tdp_w, 1.0)
