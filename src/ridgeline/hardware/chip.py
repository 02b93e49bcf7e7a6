"""A chip as software meets it: engines with rates, memory tiers, ports; each fact with where it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError

Value = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number or label of the catalogue, with its evidence.

    `kind` is datasheet, measured, estimated or assumed; `how` says how an estimate was made.
    """

    value: float | str
    kind: str
    source: str
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTier:
    """One level of memory.

    `name` is registers, shared, l2 (last-level cache), dram (main memory, of whatever kind), flash (read in place),
    host or nvme. `inline_ecc`: codes for error correction share its data lines, and take some of the bandwidth.
    """

    name: str
    technology: str
    capacity_bytes: float
    bandwidth_bytes_per_s: float
    latency_s: float = 0.0
    inline_ecc: bool = False

    def __post_init__(self) -> None:
        """Refuse capacities and bandwidths that cannot be."""
        if not (_positive(self.bandwidth_bytes_per_s) and np.all(self.capacity_bytes > 0) and self.latency_s >= 0):
            raise SpecError(
                "a memory tier needs positive capacity and bandwidth", at=self.name, got=self, fix="give both"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A way out of the chip. Bandwidth is per direction, summed over the lanes of one chip."""

    name: str
    technology: str
    bandwidth_bytes_per_s: float
    latency_s: float

    def __post_init__(self) -> None:
        """Refuse links without bandwidth."""
        if not (_positive(self.bandwidth_bytes_per_s) and self.latency_s >= 0):
            raise SpecError("a port needs positive bandwidth and latency >= 0", at=self.name, got=self, fix="give both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator or processor package, as one rank uses it.

    `matrix_flops_per_s` and `vector_flops_per_s` map a compute dtype (core.dtypes names: fp64, fp32, tf32, fp16, bf16,
    fp8, int8, fp4, int4) to the dense peak. `generation` names the family whose coefficients stand in when the chip
    itself was never measured (for example ampere, hopper, blackwell, cdna3). `default_node` names the node of the
    catalogue that such chips usually stand in, "" where there is none. `clock_frac` is the share of its full clock to
    which it is locked (`clocking.py`); rates are those at that clock. `leakage_w` is what it leaks beyond its idle
    power in the catalogue, for the temperature of its dies; `idle_w` holds it. `facts` keeps the evidence by key
    (`tdp`, `matrix.bf16`, `memory.dram.bandwidth`, `ports.scale_up.latency`).
    """

    name: str
    title: str
    vendor: str
    kind: str
    generation: str
    aliases: tuple[str, ...]
    matrix_flops_per_s: Mapping[str, float]
    vector_flops_per_s: Mapping[str, float]
    tiers: tuple[MemoryTier, ...]
    ports: tuple[Port, ...]
    compute_units: int
    clock_hz: float
    tdp_w: float
    idle_w: float
    price_usd: float | None = None
    rent_usd_per_s: float | None = None
    default_node: str = ""
    clock_frac: float = 1.0
    leakage_w: float = 0.0
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the invariants that every price relies on."""
        rates = [*self.matrix_flops_per_s.values(), *self.vector_flops_per_s.values()]
        if not self.vector_flops_per_s or not all(_positive(rate) for rate in rates):
            raise SpecError("a chip needs positive, finite peak rates and a vector rate", at=self.name, fix="list them")
        idles = np.all((np.asarray(self.idle_w) >= 0) & (self.idle_w < np.asarray(self.tdp_w)))
        if not (np.all(np.asarray(self.compute_units) >= 1) and np.all(np.asarray(self.clock_hz) > 0) and idles):
            raise SpecError("a chip needs compute units, a clock and idle < TDP", at=self.name, fix="see the datasheet")
        if not any(tier.name == "dram" for tier in self.tiers):
            raise SpecError("a chip needs a memory tier named 'dram'", at=self.name, fix="add its main memory")

    def __hash__(self) -> int:
        """By name, so that chips can key a cache although their mappings cannot be hashed."""
        return hash(self.name)

    @property
    def fabric_hz(self) -> float:
        """Clock of the last-level cache and what joins it to the units: full, whatever these are locked to."""
        return self.clock_hz / self.clock_frac

    def tier(self, name: str) -> MemoryTier | None:
        """The tier of that name, or None."""
        return next((tier for tier in self.tiers if tier.name == name), None)

    def port(self, name: str) -> Port | None:
        """The port of that name (`scale_up`, `scale_out`, `host`), or None."""
        return next((port for port in self.ports if port.name == name), None)

    @property
    def dram(self) -> MemoryTier:
        """Main memory."""
        return next(tier for tier in self.tiers if tier.name == "dram")

    @property
    def has_hbm(self) -> bool:
        """Whether its main memory is HBM, as boards for data centres have it."""
        return "hbm" in self.dram.technology.casefold()

    @property
    def cache_bytes(self) -> float:
        """Of the last-level cache; 0 where there is none."""
        tier = self.tier("l2")
        return tier.capacity_bytes if tier is not None else 0.0

    @property
    def kin(self) -> tuple[str, str, bool, bool]:
        """What chips share that run the same kernels, and so may be priced together: generation, kind, whether they
        multiply matrices, and whether their memory is HBM (boards for data centres have kernels of their own).
        """
        return self.generation, self.kind, bool(self.matrix_flops_per_s), self.has_hbm

    def peak_flops_per_s(self, compute: str) -> float:
        """Dense peak for a compute dtype: the matrix engine's, else that of what software converts to, else vector."""
        return self.matrix_flops_per_s[compute] if compute in self.matrix_flops_per_s else self._fallback_rate(compute)

    def _fallback_rate(self, compute: str) -> float:
        for wider in WIDER.get(compute, ()):
            if wider in self.matrix_flops_per_s:
                return self.matrix_flops_per_s[wider]
        for name in (compute, *WIDER.get(compute, ()), "fp32"):
            if name in self.vector_flops_per_s:
                return self.vector_flops_per_s[name]
        return self.widest_vector_flops_per_s

    @property
    def plain_flops_per_s(self) -> float:
        """fp32 rate of the vector engines (of the widest format they have, where they lack fp32)."""
        return self.vector_flops_per_s.get("fp32", self.widest_vector_flops_per_s)

    @property
    def widest_vector_flops_per_s(self) -> float:
        """The highest rate of the vector engines."""
        highest: float = np.max(list(self.vector_flops_per_s.values()), axis=0)
        return highest


WIDER: Mapping[str, tuple[str, ...]] = {
    "fp4": ("fp8", "int8", "bf16", "fp16", "tf32", "fp32"),
    "int4": ("int8", "fp8", "bf16", "fp16", "tf32", "fp32"),
    "fp8": ("bf16", "fp16", "tf32", "fp32"),
    "int8": ("fp8", "bf16", "fp16", "tf32", "fp32"),
    "bf16": ("fp16", "tf32", "fp32"),
    "fp16": ("bf16", "tf32", "fp32"),
    "tf32": ("fp32",),
    "fp32": (),
    "fp64": (),
}
"""Where a chip lacks a compute dtype, software converts to the next one here and computes there.

Only to what holds the values: bf16 and fp16 stand in for each other, as models run in either; fp32 never turns into
tf32 by itself (whoever allows that asks for tf32).
"""


@dataclass(frozen=True, slots=True)
class ChipColumns:
    """Chips as columns of a case table: `gather` gives a scalar for one chip, an array of a value per row for many.

    `index` has one entry per row, pointing into `chips`; None means that every row uses `chips[0]`. Where the only chip
    is a column of designs (`hardware.designs`), `index` points into them.
    """

    chips: tuple[Chip, ...]
    index: NDArray[np.intp] | None = None

    def gather(self, value: Callable[[Chip], float]) -> Value:
        """`value(chip)` for each row; each chip is asked once."""
        if self.index is None:
            return float(value(self.chips[0]))
        return spread([value(chip) for chip in self.chips], self.index)


def spread(values: Sequence[Value], index: NDArray[np.intp]) -> NDArray[np.float64]:
    """A value per chip as one per row; the value of a column of designs, which stands alone, is a column itself."""
    if len(values) == 1:
        column = np.asarray(values[0], dtype=np.float64)
        return column[index] if column.ndim else np.full(index.shape, float(column))
    return np.array(values, dtype=np.float64)[index]


def _positive(value: Value) -> bool:
    return bool(np.all(np.asarray(value) > 0) and np.all(np.asarray(value) < math.inf))
