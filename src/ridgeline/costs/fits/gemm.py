"""The fit of GEMM coefficients: a chip's own numbers from 16-bit kernels, then each kernel family on top of them.

Both steps go from the pool of all chips to lineages (`gemm_kernels.lineage`) to single chips, each centred on the step
before: what a chip's rows do not identify stays at its lineage's value. The same steps without a chip give the numbers
by which `validate` prices that chip as if only its datasheet were known.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.files import load_yaml
from ridgeline.costs.fits.common import Document, intervals_of, source
from ridgeline.costs.fits.gemm_cells import (
    LOOPS,
    Cell,
    Levels,
    Numbers,
    absent,
    cells,
    for_lineage,
    numbers_for,
    of_chips,
)
from ridgeline.costs.fits.gemm_scores import Scored, scored_cells
from ridgeline.costs.fits.robust import Knob, errors, fit
from ridgeline.costs.gemm import KERNEL
from ridgeline.costs.gemm_kernels import FAMILIES, lineage, loop_of
from ridgeline.costs.interval import UNVALIDATED
from ridgeline.costs.measurements import Measurements
from ridgeline.costs.power_runs import was_sustained
from ridgeline.costs.residual import Grid, Table, smooth
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip

GRID = Grid(start=(0.0, 5.0, 5.0), step=(1.0, 1.0, 1.0), count=(16, 12, 12))
"""Knots of the residual at powers of two: m from 1 to 32768, n and k from 32 to 65536."""
DEVICE_BOUND = 0.8
"""A row tells of the device when its priced device time is at least this share of its priced time."""
ROWS = 2000
"""Rows per cell that a fit sees: more change no coefficient by more than its spread."""

MACHINE_KNOBS: Mapping[str, Knob] = {
    "launch_cycles": Knob(start=2900.0, low=500.0, high=12000.0, spread=0.3),
    "wave_cycles": Knob(start=2200.0, low=300.0, high=6000.0, spread=0.3),
    "feed_bytes_per_flop": Knob(start=0.0165, low=0.008, high=0.04, spread=0.2),
    "dram_share": Knob(start=0.84, low=0.6, high=0.98, spread=0.1),
    "write_share": Knob(start=1.0, low=0.6, high=1.3, spread=0.2),
    "hot_share": Knob(start=0.7, low=0.2, high=1.2, spread=0.4),
    "cache_bytes_per_cycle": Knob(start=14.0, low=3.0, high=60.0, spread=0.6),
    "split_s": Knob(start=2.1e-6, low=5e-7, high=6e-6, spread=0.3),
}
KERNEL_KNOBS: Mapping[str, Knob] = {
    "compute_share": Knob(start=0.78, low=0.15, high=1.0, spread=0.3),
    "small_tile": Knob(start=0.15, low=0.02, high=1.2, spread=1.0),
    "fractional_waves": Knob(start=0.6, low=0.005, high=1.0, spread=1.5),
    "step_cycles": Knob(start=350.0, low=20.0, high=1500.0, spread=0.7),
}
QUANTISE_KNOBS: Mapping[str, Knob] = {
    "quantise_cycles": Knob(start=0.45, low=0.05, high=3.0, spread=0.7),
    "quantise_launch_s": Knob(start=2e-6, low=2e-7, high=1.5e-5, spread=1.0),
}
HOST_KNOBS: Mapping[str, Knob] = {
    "host_s": Knob(start=9e-5, low=1e-5, high=1e-3),
    "host_few_rows_s": Knob(start=6e-5, low=1e-5, high=1e-3),
    "host_odd_s": Knob(start=1.8e-4, low=1e-5, high=1e-3),
}
EDGE = {"edge": Knob(start=0.15, low=0.01, high=1.0, spread=1.0)}
ROW = {"quantise_row_s": Knob(start=3e-9, low=1e-10, high=2e-8, spread=1.0)}
EPILOGUE = {"epilogue_cycles": Knob(start=0.1, low=0.001, high=5.0, spread=1.5)}
LAUNCH = {"launch_s": Knob(start=7e-6, low=1e-6, high=2e-5)}
WIDEN = {"widen_cycles": Knob(start=0.05, low=0.005, high=0.5, spread=0.7)}

FAMILY_KNOBS: Mapping[str, Mapping[str, Knob]] = {
    "cublas": {},
    "cublas-fp8": QUANTISE_KNOBS,
    "cutlass-fp8": {**QUANTISE_KNOBS, **EDGE, **ROW},
    "cutlass-fp8-ada": {**QUANTISE_KNOBS, **ROW, **EPILOGUE},
    "trtllm-fp8-block": {**QUANTISE_KNOBS, **EDGE, **EPILOGUE},
    "trtllm-fp8-block-ada": {**QUANTISE_KNOBS, **EPILOGUE},
    "deepgemm": {**QUANTISE_KNOBS, **EDGE, **HOST_KNOBS},
    "triton-fp8-block": {**QUANTISE_KNOBS, **EPILOGUE, **HOST_KNOBS},
    "trt-int8-wo": {**WIDEN, **LAUNCH},
    "trt-int4-wo": {**WIDEN, **LAUNCH},
    "smooth-quant": LAUNCH,
}
"""Which mechanisms each measured family has beside those that all have."""

BOARDS = "ada"
"""The lineage whose boards the power limit holds below what server parts issue."""
HEIRS = {"blackwell": ("hopper", "b200-sxm")}
"""Server generations that no table measures: whose numbers they inherit, and the part whose power was set for them."""
KIN: Mapping[str, str] = {BOARDS: "ampere"}
"""Boards up to Ada and since multiply as Ampere does (mma.sync from registers), at about its energy per FLOP."""
BOARD_CACHE: Numbers = {"hot_share": 1.0}
"""Their last-level cache is one partition; in A100 and H100 each of two keeps its own copy of what both sides read."""


def fit_all(table: Measurements, priors: Path, command: str) -> tuple[Document, dict[str, Table]]:
    """Fit every measured chip and family; `priors` holds the families that no table measures.

    Returns: the coefficient file, and the residual tables by key.
    """
    found = cells(table)
    chips = sorted({cell.chip.name for cell in found})
    kernels, sustained = fit_measured(found)
    _add_heirs(kernels)
    kernels.update(loops())
    without = {}
    for left_out in chips:
        fitted = _fit_chips(of_chips(found, [name for name in chips if name != left_out]), [])
        chip = next(cell.chip for cell in found if cell.chip.name == left_out)
        _limit_power(fitted, of_chips(found, [name for name in chips if name != left_out]), sustained)
        without[left_out] = {name: _of_kin(levels, lineage(chip)) for name, levels in fitted.items()}
        if lineage(chip) == BOARDS:
            without[left_out]["machine"].update(BOARD_CACHE)
    _add_priors(kernels, priors)
    residuals = residuals_of([(cell, numbers_for(kernels, cell)) for cell in found])
    scores, intervals = _summary(scored_cells(found, kernels, without, residuals))
    unmeasured = load_yaml(priors).data["kernels"]
    intervals.update({family: {"datasheet": list(UNVALIDATED)} for family in unmeasured})
    document = Document(
        kind="gemm",
        command=command,
        data=[source(table.path, len(table)), source(priors, 0)],
        errors=scores,
        kernels=kernels,
        intervals=intervals,
        without=without,
    )
    return document, residuals


def fit_measured(found: Sequence[Cell]) -> tuple[dict[str, Levels], float]:
    """The numbers of every measured chip and family, and the share of a rate that a lasting load keeps."""
    kernels = _fit_chips(found, sorted({cell.chip.name for cell in found}))
    sustained = _sustained_share(found, kernels)
    _limit_power(kernels, found, sustained)
    return kernels, sustained


def residuals_of(found: Sequence[tuple[Cell, Numbers]]) -> dict[str, Table]:
    """What the fitting half of each chip, family and format says beyond the physics.

    Rows that wait for the host say nothing of the device and are left out, as are the runs under the power limit.
    """
    gathered: dict[str, list[tuple[Any, Any]]] = {}
    for cell, numbers in found:
        if cell.sustained:
            continue
        part = cell.part(cell.fit_half)
        priced, device = np.asarray(part.price(numbers).time_s), np.asarray(part.price(numbers, captured=True).time_s)
        busy = device > DEVICE_BOUND * priced
        dims = np.stack([part.rows.size(name)[busy] for name in ("m", "n", "k")])
        gathered.setdefault(cell.residual_key, []).append((dims, np.log(part.rows.time_s / priced)[busy]))
    tables = {}
    for key, parts in gathered.items():
        dims = np.concatenate([dims for dims, _ in parts], axis=1)
        logs = np.concatenate([log for _, log in parts])
        tables[key] = Table(grid=GRID, log_factor=smooth(GRID, list(dims), logs))
    return tables


def knobs_of(family: str) -> Mapping[str, Knob]:
    """What is fitted of a kernel family: families that no bundled table measures have only what all have."""
    return {**KERNEL_KNOBS, **FAMILY_KNOBS.get(family, {})}


def _of_kin(levels: Levels, name: str) -> Numbers:
    """As `_for_lineage`; a lineage that was not measured takes the numbers of its next of kin."""
    measured = levels.get("generations") or {}
    return for_lineage(levels, name if name in measured else KIN.get(name, name))


def _limit_power(kernels: dict[str, Levels], found: Sequence[Cell], sustained: float) -> None:
    """Split the fitted rates into what the kernels issue and what the power limit leaves of it.

    A server part is taken to be just at its limit in dense 16-bit work, since its power was set for that; a board, to
    issue as large a share of its peak as the server parts do, and to be held down to what was measured. Watts per FLOP
    follow, and with them the share that boards with more or less power per FLOP keep.
    """
    dense = kernels["cublas"]
    shares = dense["generations"]
    server = float(np.mean([share["compute_share"] for name, share in shares.items() if name != BOARDS] or [0.85]))
    machine = kernels["machine"]
    machine["default"].update(dense_share=0.0, joule_per_flop=0.0, sustained_share=sustained)
    for name, levels in machine["generations"].items():
        share = shares[name]["compute_share"]
        full = server if name == BOARDS else share
        chips = {cell.chip.name: cell.chip for cell in found if lineage(cell.chip) == name}
        watts_per_flop = np.mean([chip.tdp_w / chip.peak_flops_per_s("bf16") for chip in chips.values()])
        levels.update(dense_share=full, joule_per_flop=float(watts_per_flop) / share)
        if full > share:
            _raise_shares(kernels, name, chips, full / share)


def _add_heirs(kernels: Mapping[str, Levels]) -> None:
    """Server generations that were never measured: the numbers of the one before, and their own flagship's budget."""
    for heir, (parent, flagship) in HEIRS.items():
        for levels in kernels.values():
            if parent in levels["generations"]:
                levels["generations"][heir] = dict(levels["generations"][parent])
        chip, own = catalogue.chip(flagship), kernels["machine"]["generations"].get(heir)
        if not own:
            continue
        own["joule_per_flop"] = chip.tdp_w / chip.peak_flops_per_s("bf16") / own["dense_share"]
        before = [catalogue.chip(name) for name in kernels["machine"]["chips"]]
        mean = np.mean([_dram_bytes_per_cycle(one) for one in before if lineage(one) == parent])
        own["cache_bytes_per_cycle"] *= max(1.0, _dram_bytes_per_cycle(chip) / float(mean))


def _dram_bytes_per_cycle(chip: Chip) -> float:
    """Memory bytes per cycle and unit: a cache is built to feed more than that (1.0-1.2 times on A100, H100, H200)."""
    return chip.dram.bandwidth_bytes_per_s / (chip.clock_hz * chip.compute_units)


def _raise_shares(kernels: Mapping[str, Levels], name: str, chips: Mapping[str, Any], ratio: float) -> None:
    """Undo the throttle in the compute shares of a lineage, which `gemm.throttle` will apply."""
    for family, levels in kernels.items():
        if family == "machine":
            continue
        for one in (levels["generations"].get(name), *(levels["chips"].get(chip) for chip in chips)):
            if one:
                one["compute_share"] *= ratio


def _fit_chips(found: Sequence[Cell], chips: Sequence[str]) -> dict[str, Levels]:
    """Machine and families: pool, lineages, then the named chips."""
    kernels: dict[str, Levels] = {}
    sixteen = [cell.sample(ROWS) for cell in found if cell.kernel.name == "cublas" and not cell.sustained]
    knobs = {**MACHINE_KNOBS, **KERNEL_KNOBS}
    both = _fit_levels(sixteen, knobs, lambda cell: {**absent(), **LOOPS[loop_of(cell.runtime)]}, chips)
    kernels["machine"] = _only(both, MACHINE_KNOBS)
    kernels["machine"]["default"].update(dense_share=0.0, joule_per_flop=0.0, sustained_share=1.0)
    kernels["cublas"] = _with_absent(_only(both, KERNEL_KNOBS))
    for family in FAMILY_KNOBS:
        mine = [cell.sample(ROWS) for cell in found if cell.kernel.name == family and not cell.sustained]
        if family == "cublas" or not mine:
            continue

        def fixed(cell: Cell) -> Numbers:
            return {**absent(), **numbers_for({**kernels, cell.kernel.name: {}, **loops()}, cell)}

        kernels[family] = _with_absent(_fit_levels(mine, knobs_of(family), fixed, chips))
    return kernels


def loops() -> dict[str, Levels]:
    """How the benchmark loops of the runtimes treat caches, as families of their own."""
    return {name: {"shared": numbers} for name, numbers in LOOPS.items()}


def _fit_levels(found: Sequence[Cell], knobs: Mapping[str, Knob], fixed: Any, chips: Sequence[str]) -> Levels:
    """Values by default, by lineage and by chip, each centred on the level above."""

    def one(part: Sequence[Cell], centre: Numbers) -> Numbers:
        return fit(knobs, [cell.as_sample(fixed(cell)) for cell in part], {}, centre)

    pooled = one(found, {})
    levels: Levels = {"default": pooled, "generations": {}, "chips": {}}
    for name in sorted({lineage(cell.chip) for cell in found}):
        levels["generations"][name] = one([cell for cell in found if lineage(cell.chip) == name], pooled)
    for name in chips:
        part = of_chips(found, [name])
        if part:
            levels["chips"][name] = one(part, levels["generations"][lineage(part[0].chip)])
    return levels


def _with_absent(levels: Levels) -> Levels:
    shared = {name: value for name, value in absent().items() if name in KERNEL and name not in levels["default"]}
    return {"shared": shared, **levels}


def _only(levels: Levels, names: Mapping[str, Knob]) -> Levels:
    def keep(numbers: Numbers) -> Numbers:
        return {name: value for name, value in numbers.items() if name in names}

    return {
        "default": keep(levels["default"]),
        "generations": {key: keep(value) for key, value in levels["generations"].items()},
        "chips": {key: keep(value) for key, value in levels["chips"].items()},
    }


def _sustained_share(found: Sequence[Cell], kernels: Mapping[str, Levels]) -> float:
    """What is left of the rate under the power limit, from runs that lasted for seconds."""
    long = [cell.sample(ROWS) for cell in found if cell.sustained and cell.kernel.name == "cublas"]
    if not long:
        return 1.0
    samples, shares = [], []
    for cell in long:
        numbers = numbers_for({**kernels, **loops()}, cell)
        shares.append(numbers["compute_share"])
        samples.append(cell.as_sample(numbers))
    start = float(np.mean(shares))
    found_share = fit({"compute_share": Knob(start=start, low=0.3, high=1.0)}, samples, {}, {})["compute_share"]
    return min(1.0, found_share / start)


def _add_priors(kernels: dict[str, Levels], priors: Path) -> None:
    """Families that no table measures: those of a measured one (`like`), with some values of their own."""
    for name, prior in load_yaml(priors).data["kernels"].items():
        like = kernels[prior["like"]]
        levels: Levels = {"shared": dict(like.get("shared") or {}), "default": dict(like["default"])}
        levels["generations"] = {key: dict(value) for key, value in (like.get("generations") or {}).items()}
        for level in (levels["default"], *levels["generations"].values()):
            for key, factor in (prior.get("times") or {}).items():
                level[key] = level[key] * factor
            level.update(prior.get("values") or {})
        for generation, values in (prior.get("generations") or {}).items():
            levels["generations"][generation] = {**levels["generations"].get(generation, {}), **values}
        kernels[name] = levels
    missing = sorted(set(FAMILIES) - set(kernels))
    if missing:
        raise AssertionError(f"no numbers for {missing}")


def _summary(groups: Sequence[Scored]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Errors by cell and regime, and the spread of measured over priced time by family and regime.

    The spread of the datasheet regime comes from chips without a measured sibling, where a family has such: a sibling
    left in the fit would make an unknown generation look better known than it is.
    """
    chips = {group.chip for group in groups}
    lineages = {name: lineage(catalogue.chip(name)) for name in chips}
    lonely = {name for name in chips if list(lineages.values()).count(lineages[name]) == 1}
    measured: dict[str, set[str]] = {}
    for group in groups:
        if group.regime == "datasheet":
            measured.setdefault(group.kernel, set()).add(group.chip)
    scores: dict[str, Any] = {}
    ratios: dict[str, dict[str, list[Any]]] = {}
    for group in groups:
        name = f"{group.chip} {group.runtime} {group.version} {group.dtype}"
        scores.setdefault(name, {})[group.regime] = errors(group.priced_s, group.measured_s)
        alone = group.chip in lonely or group.regime != "datasheet" or not (lonely & measured[group.kernel])
        if group.regime == "physics" or was_sustained(group.runtime, group.version) or not alone:
            continue
        for family in (group.kernel, "any"):
            by_regime = ratios.setdefault(family, {})
            some = group.rows(group.sets_interval)
            by_regime.setdefault(group.regime, []).append(some.measured_s / some.priced_s)
    intervals = {
        family: {regime: intervals_of(np.concatenate(parts)) for regime, parts in by_regime.items()}
        for family, by_regime in ratios.items()
    }
    return scores, intervals


if __name__ == "__main__":
    from ridgeline.costs.calibrate import bundle

    bundle(Path(sys.argv[1]), Path(__file__).resolve().parent.parent)
