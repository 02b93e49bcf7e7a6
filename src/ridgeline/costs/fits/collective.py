"""Fits `coefficients/collective.yaml` to measured collectives.

Run `python -m ridgeline.costs.fits.collective SILICON_FOLDER`; the folder holds `collectives.parquet` (columns in its
README). The library comes first, direct links and host buses apart, then the all-reduce kernels of serving frameworks
on top of it. Each is fitted for a generation, then for its chips, which are pulled to the generation's values; chips
never seen start from the newest generation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import dtype
from ridgeline.costs.collective import collective_s
from ridgeline.costs.fits.common import Document, even, intervals_of, is_fit_half, sets_interval, source, write
from ridgeline.costs.fits.robust import Knob, Sample, errors, fit, rounded
from ridgeline.costs.machine_columns import BUS_KINDS, MachineColumns
from ridgeline.costs.measurements import Measurements, read
from ridgeline.hardware import catalogue
from ridgeline.hardware.machine import machine
from ridgeline.workloads.ops import Collective

Array = NDArray[np.float64]
Values = Mapping[str, float]

SOURCES: Mapping[str, tuple[str, bool]] = {
    "NCCL": ("nccl", False),
    "TRTLLM": ("trtllm", False),
    "vLLM_custom_graph": ("vllm", False),
    "vLLM_custom_eager": ("vllm", True),
}
"""Kernel column of the measurements -> (kernel family, whether called eagerly)."""

LIBRARIES = ("nccl", "nccl_bus")
"""Families that need no other below them."""

NEWEST = "hopper"
"""The newest generation that the bundled tables hold: what a chip never seen starts from."""

LIBRARY_HABITS: Values = {"tree_hop": 2.5, "switch_hop": 0.5, "exposed": 0.2}
HABITS: Mapping[str, Values] = {
    "nccl": {**LIBRARY_HABITS, "bus_exponent": 1.0},
    "nccl_bus": LIBRARY_HABITS,
    "vllm": {"limit_pair_bytes": 6.5e7, "limit_bytes": 6.5e7, "own_copy": 0.5},
    "trtllm": {"limit_pair_bytes": 8e6, "limit_bytes": 1e6, "own_copy": 0.5, "copies": 0.0, "host_s": 1e-5},
}
"""Numbers that the tables do not identify. Trees win beyond about eight ranks (NCCL tuner). vLLM's symmetric-memory
buffers hold 64 MB (32 at four ranks). TensorRT-LLM turns to NCCL between 4 and 16 MB with two ranks and below 2 MB with
more; serving steps of 64 sequences (1 MB) show it already. Where levels work as a pipeline of chunks, a fifth of the
other levels' time stays visible (assumed; two DGX H100 reach 350-400 GB/s of bus bandwidth)."""

LIMITS: Mapping[str, Mapping[str, Values]] = {
    "vllm": {
        "ampere": {"limit_pair_bytes": 8.38e6, "limit_bytes": 8.38e6},
        "ada": {"limit_pair_bytes": 8.38e6, "limit_bytes": 8.38e6},
    },
    "trtllm": {"ampere": {"limit_pair_bytes": 2e6}},
}
"""Buffer limits of older generations: symmetric memory needs Hopper, before it vLLM stops at 8 MiB
(custom_all_reduce.py); TensorRT-LLM 1.0, as measured on A100, turns to NCCL below 2 MB with two ranks too."""

LIBRARY_KNOBS: Mapping[str, Knob] = {
    "ll_start_cycles": Knob(start=9300.0, low=2000.0, high=60000.0),
    "ll_hop": Knob(start=0.8, low=0.1, high=5.0, spread=0.5),
    "ll_efficiency": Knob(start=0.33, low=0.05, high=1.0, spread=0.5),
    "simple_start_cycles": Knob(start=46000.0, low=2000.0, high=400000.0),
    "simple_hop": Knob(start=0.7, low=0.05, high=20.0, spread=1.0),
    "simple_efficiency": Knob(start=0.8, low=0.3, high=1.0, spread=0.2),
    "ramp_s": Knob(start=1e-5, low=1e-8, high=1e-4),
    "own_copy": Knob(start=0.5, low=0.05, high=3.0, spread=0.5),
    "p2p_ll_start_cycles": Knob(start=12000.0, low=2000.0, high=60000.0),
    "p2p_ll_hop": Knob(start=0.3, low=0.02, high=5.0),
    "p2p_ll_efficiency": Knob(start=0.05, low=0.005, high=1.0),
    "p2p_simple_start_cycles": Knob(start=21000.0, low=2000.0, high=400000.0),
    "p2p_simple_hop": Knob(start=0.3, low=0.02, high=20.0),
    "p2p_simple_efficiency": Knob(start=0.75, low=0.3, high=1.0, spread=0.2),
}
SWITCH_KNOBS: Mapping[str, Knob] = {
    "switch_start_cycles": Knob(start=120000.0, low=10000.0, high=400000.0),
    "switch_efficiency": Knob(start=0.65, low=0.2, high=1.0, spread=0.2),
}
CUSTOM_KNOBS: Mapping[str, Knob] = {
    "custom_start_cycles": Knob(start=6000.0, low=1000.0, high=60000.0, spread=0.5),
    "custom_hop": Knob(start=0.25, low=0.01, high=5.0, spread=0.7),
    "custom_efficiency": Knob(start=0.7, low=0.2, high=1.0, spread=0.2),
}
KNOBS: Mapping[str, Mapping[str, Knob]] = {
    "nccl": {**LIBRARY_KNOBS, **SWITCH_KNOBS},
    "nccl_bus": {**LIBRARY_KNOBS, **SWITCH_KNOBS, "bus_exponent": Knob(start=1.0, low=0.5, high=3.0)},
    "vllm": {
        **CUSTOM_KNOBS,
        "copies": Knob(start=2.0, low=0.5, high=10.0, spread=0.5),
        "host_s": Knob(start=2e-5, low=5e-6, high=2e-4),
    },
    "trtllm": CUSTOM_KNOBS,
}
"""What is fitted. Starts are those of an H100; a fair share of a host bus means an exponent of 1."""

OF_HOSTS = ("bus_exponent",)
"""Numbers of the host that was measured, not of its chips: two, four and eight L40S reach 20, 5 and 2 GB/s of bus
bandwidth there, which the rates of eight published on another server exclude. The measured chip keeps them, others do
not inherit them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Measurements of one chip and kernel family that share a collective and a number format."""

    chip: str
    generation: str
    family: str
    op: Collective
    machines: MachineColumns
    eager: bool
    rows: Measurements
    fits: NDArray[np.bool_]

    @property
    def time_s(self) -> Array:
        """Measured seconds per row."""
        return self.rows.time_s

    @property
    def library(self) -> str:
        """The library's family on this chip's machines."""
        levels = self.machines.machines[0].levels
        return "nccl_bus" if any(level.kind in BUS_KINDS for level in levels) else "nccl"

    def half(self, *, fits: bool) -> Cell:
        """The rows that fits may see, or the others."""
        return self.part(self.fits == fits)

    def spread(self) -> Cell:
        """The rows that set intervals."""
        return self.part(sets_interval(np.asarray(self.op.ranks), np.asarray(self.op.message_bytes)))

    def part(self, rows: NDArray[np.bool_]) -> Cell:
        """Some of the rows."""
        op = replace(
            self.op, message_bytes=np.asarray(self.op.message_bytes)[rows], ranks=np.asarray(self.op.ranks)[rows]
        )
        return replace(self, op=op, rows=self.rows.rows(rows), fits=self.fits[rows])

    def priced_s(self, library: Values, own: Values | None) -> Array:
        """Predicted seconds per row."""
        return collective_s(self.op, self.machines, library, own, eager=self.eager)[0]

    def floor_s(self, library: Values) -> Array:
        """The hardware bound per row."""
        return np.asarray(collective_s(self.op, self.machines, library, None, eager=False)[1])


def cells(table: Measurements) -> list[Cell]:
    """The table as cells; rows without message size (expert dispatch) and unknown kernels are left out."""
    found = []
    for (gpu, kernel, kind, number), rows in table.groups("chip", "kernel", "op", "dtype"):
        if kernel not in SOURCES:
            continue
        family, eager = SOURCES[kernel]
        chip = catalogue.chip(gpu)
        on = machine(f"8x {chip.name}")
        over_bus = any(level.kind in BUS_KINDS for level in on.levels)
        # Beyond two ranks on a host bus the frameworks call the library, so these rows describe it too.
        alone = over_bus & (table.size("num_gpus") > 2) & (not eager)
        sized = rows & (table.size("message_bytes") > 0)
        for name, chosen in (("nccl_bus", sized & alone), (family, sized & ~alone)):
            part = table.rows(chosen)
            sizes, ranks = part.size("message_bytes"), part.size("num_gpus")
            op = Collective(name=kind, part="fit", kind=kind, message_bytes=sizes, ranks=ranks, dtype=dtype(number))
            cell = Cell(
                chip=chip.name,
                generation=chip.generation,
                family="nccl_bus" if name == "nccl" and over_bus else name,
                op=op,
                machines=MachineColumns((on,)),
                eager=eager,
                rows=part,
                fits=is_fit_half(ranks, sizes),
            )
            found += [cell] if len(part) else []
    return found


def fitted(family: str, chosen: Sequence[Cell], library: Callable[[Cell], Values], centre: Values) -> dict[str, float]:
    """The numbers of one family on the given cells, pulled to `centre`; `library` serves the frameworks' fallbacks."""
    knobs = dict(KNOBS[family])
    if not any(level.reduces_in_switch for cell in chosen for level in cell.machines.machines[0].levels):
        knobs = {name: knob for name, knob in knobs.items() if name not in SWITCH_KNOBS}
    fixed = {**HABITS[family], **centre}
    if chosen:
        fixed |= LIMITS.get(family, {}).get(chosen[0].generation, {})

    def sample(cell: Cell) -> Sample:
        if family in LIBRARIES:
            return Sample(measured_s=cell.time_s, predict=lambda values: cell.priced_s({**fixed, **values}, None))
        below = library(cell)
        return Sample(measured_s=cell.time_s, predict=lambda values: cell.priced_s(below, {**fixed, **values}))

    values = fit(knobs, [sample(cell) for cell in chosen], fixed, centre)
    return {name: rounded(value) for name, value in values.items()}


Family = dict[str, Any]
"""`shared`, `default`, by `generations` and by `chips`, as the file holds them."""


def numbers(family: Family, chip: str, generation: str) -> dict[str, float]:
    """What a chip is priced with: the most specific value of each number."""
    return {
        **family["shared"],
        **family["default"],
        **family["generations"].get(generation, {}),
        **family["chips"].get(chip, {}),
    }


def fit_families(data: Sequence[Cell]) -> dict[str, Family]:
    """All kernel families; the frameworks' kernels on top of the libraries."""
    done: dict[str, Family] = {}

    def library(cell: Cell) -> dict[str, float]:
        return numbers(done[cell.library], cell.chip, cell.generation)

    for name in KNOBS:
        mine = [cell.half(fits=True) for cell in data if cell.family == name]
        starts = {key: knob.start for key, knob in KNOBS[name].items()}
        family: Family = {"shared": dict(HABITS[name]), "default": starts, "generations": {}, "chips": {}}
        for generation in sorted({cell.generation for cell in mine}, key=lambda known: (known != NEWEST, known)):
            same = [cell for cell in mine if cell.generation == generation]
            limits = LIMITS.get(name, {}).get(generation, {})
            pooled = fitted(name, same, library, family["default"])
            if generation == NEWEST:
                family["default"] = {**starts, **pooled}
            family["generations"][generation] = {**pooled, **limits}
            for chip in sorted({cell.chip for cell in same}):
                own = [cell for cell in same if cell.chip == chip]
                family["chips"][chip] = fitted(name, own, library, {**family["default"], **pooled})
        if name == "nccl_bus" and family["generations"]:
            # One generation was measured over a host bus, and it stands for all others.
            family["default"] = {**starts, **next(iter(family["generations"].values()))}
        for values in (family["default"], *family["generations"].values()):
            values |= {key: starts[key] for key in OF_HOSTS if key in starts}
        done[name] = family
    return done


def ratios(data: Sequence[Cell], families: Mapping[str, Family]) -> list[Array]:
    """Priced over measured time of every cell."""
    found = []
    for cell in data:
        known = {name: numbers(family, cell.chip, cell.generation) for name, family in families.items()}
        own = None if cell.family in LIBRARIES else known[cell.family]
        found.append(cell.priced_s(known[cell.library], own) / cell.time_s)
    return found


def scores(data: Sequence[Cell], families: Mapping[str, Family]) -> dict[str, Array]:
    """Priced over measured time on held-out rows, by "chip family" (eager calls apart)."""
    found: dict[str, list[Array]] = {}
    held = [half for half in (cell.half(fits=False) for cell in data) if len(half.time_s)]
    for cell, ratio in zip(held, ratios(held, families), strict=True):
        found.setdefault(f"{cell.chip} {cell.family}{' eager' if cell.eager else ''}", []).append(ratio)
    return {label: np.concatenate(parts) for label, parts in sorted(found.items())}


class Spread:
    """Measured over priced time of the rows that set intervals, by family and for all, by generation."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._rows: dict[str, dict[str, list[Array]]] = {}

    def add(self, data: Sequence[Cell], families: Mapping[str, Family]) -> None:
        """Rows of cells, priced by those families."""
        some = [part for part in (cell.spread() for cell in data) if len(part.time_s)]
        for cell, ratio in zip(some, ratios(some, families), strict=True):
            for name in (cell.family, "any"):
                self._rows.setdefault(name, {}).setdefault(cell.generation, []).append(1.0 / ratio)

    def intervals(self, *, evenly: bool) -> dict[str, list[float]]:
        """[p10, p90] by family; `evenly` lets each generation weigh the same."""
        if evenly:
            return {name: even(groups) for name, groups in self._rows.items()}
        return {
            name: intervals_of(np.concatenate([part for parts in groups.values() for part in parts]))
            for name, groups in self._rows.items()
        }


def fit_all(table: Measurements, command: str) -> Document:
    """The whole coefficient file: values, errors on held-out shapes, and values with each chip left out."""
    data = cells(table)
    families = fit_families(data)
    without: dict[str, dict[str, dict[str, float]]] = {}
    left_out: dict[str, Array] = {}
    guessed, measured = Spread(), Spread()
    for chip in sorted({cell.chip for cell in data}):
        rest = fit_families([cell for cell in data if cell.chip != chip])
        generation = catalogue.chip(chip).generation
        without[chip] = {name: numbers(family, chip, generation) for name, family in rest.items()}
        mine = [cell for cell in data if cell.chip == chip]
        left_out |= scores(mine, rest)
        guessed.add(mine, rest)
    measured.add(data, families)
    known = scores(data, families)
    starts = {
        name: {**family, "generations": {}, "chips": {}, "default": {k: v.start for k, v in KNOBS[name].items()}}
        for name, family in families.items()
    }
    before = scores(data, starts)

    def summary(ratio: Array) -> dict[str, float]:
        return errors(ratio, np.ones_like(ratio))

    report = {
        label: {"before": summary(before[label]), "after": summary(ratio), "chip_left_out": summary(left_out[label])}
        for label, ratio in known.items()
    }
    by_regime = {"calibrated": measured.intervals(evenly=False), "datasheet": guessed.intervals(evenly=True)}
    return Document(
        kind="collective",
        command=command,
        data=[source(table.path, sum(len(cell.time_s) for cell in data))],
        errors=report,
        kernels=families,
        intervals={
            name: {regime: found[name] for regime, found in by_regime.items() if name in found}
            for name in (*KNOBS, "any")
        },
        without=without,
    )


def main(arguments: Sequence[str]) -> None:
    """Write the coefficient file beside the cost models."""
    target = Path(__file__).parent.parent / "coefficients" / "collective.yaml"
    table = read(Path(arguments[0]) / "collectives.parquet", "collectives")
    write(fit_all(table, "python -m ridgeline.costs.fits.collective SILICON_FOLDER"), target)


if __name__ == "__main__":
    main(sys.argv[1:])
