"""Fits of one chip on a table of its own: attention, latent attention, experts and collectives.

The families are those that the rooms would run for the rows' runtime, version, formats and shapes. Each starts at, and
is pulled to, the numbers that would price the chip had it not been measured. Where a room takes the fastest of several
families, the rows do not say which one ran: the one that explains them best stands for all that compute alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ridgeline.costs import residual
from ridgeline.costs.attention import engine
from ridgeline.costs.attention_kernels import Menu, decode_menu, prefill_menu
from ridgeline.costs.attention_places import DECODE_GRID, LATENT_GRID, PREFILL_GRID, decode_places, latent_places
from ridgeline.costs.attention_places import prefill_places as prompt_places
from ridgeline.costs.coefficients import coefficient_file
from ridgeline.costs.expert_kernels import expert_menu
from ridgeline.costs.expert_places import GRID, expert_places
from ridgeline.costs.fits import attention, experts, mla
from ridgeline.costs.fits.common import is_fit_half, sampled
from ridgeline.costs.fits.families import CHIP_ROWS
from ridgeline.costs.fits.fill import table_of
from ridgeline.costs.fits.robust import Array, Knob, Sample, errors, fit
from ridgeline.costs.measurements import SIZES, Measurements, SetAside, need_rows, too_fast
from ridgeline.costs.mla import latent_form, latent_kernels
from ridgeline.costs.mla_module import Block, module_kernels, short_prompts
from ridgeline.costs.price import Setting
from ridgeline.costs.residual import Grid, Table
from ridgeline.costs.room import facts_of, floor_of
from ridgeline.hardware.chip import Chip, ChipColumns

Numbers = dict[str, float]
ROWS_PER_NUMBER = 4
"""Measurements that each fitted coefficient needs at least."""
TABLE_ROWS = 400
"""Measurements from which residual tables are worth their size."""
NEIGHBOURS: Mapping[str, int] = {"experts": 12}
"""Rows that make a knot of a residual table; 6 where not listed."""
GRIDS: Mapping[str, Grid] = {
    "attention_prefill": PREFILL_GRID,
    "attention_decode": DECODE_GRID,
    "mla": LATENT_GRID,
    "experts": GRID,
}
KNOBS: Mapping[str, Mapping[str, Knob]] = {
    "attention_prefill": attention.PREFILL_KNOBS,
    "attention_decode": {**attention.DECODE_KNOBS, **attention.FLASH2_KNOBS},
    "experts": experts.KNOBS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of one op, and the families that may have run them; `sample` makes a sample of some of the rows."""

    kind: str
    families: tuple[str, ...]
    rows: Measurements
    sample: Callable[[Measurements, str], Sample]

    def fit_half(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The rows that a fit may see."""
        return is_fit_half(*self.sizes(self.rows))

    @staticmethod
    def sizes(rows: Measurements) -> list[Array]:
        """The sizes by which rows are halved and sampled."""
        return [rows.size(name) for name in SIZES[rows.kind]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """One kind's numbers by family, residual tables by key, errors before and after by families, and rows set aside."""

    kind: str
    rows: int
    kernels: Mapping[str, Numbers]
    tables: Mapping[str, Table]
    errors: Mapping[str, Any]
    set_aside: Sequence[SetAside] = ()


def pieces_of(table: Measurements, chip: Chip) -> list[Piece]:
    """The rows of an attention or moe table, all of one chip, by op and families. Other ops are left aside."""
    return _expert_pieces(table, chip) if table.kind == "moe" else _attention_pieces(table, chip)


def fit_pieces(pieces: Sequence[Piece], chip: Chip) -> list[Fitted]:
    """Fit every family that the pieces show, by kind of coefficient file. Rows faster than the chip are set aside.

    Raises: SpecError: too few rows. DomainError: most rows faster than the chip. MissingExtraError: scipy is missing.
    """
    if not pieces:
        return []
    bounds = [np.asarray(piece.sample(piece.rows, piece.families[0]).floor_s) for piece in pieces]
    checked = too_fast([(bound, piece.rows) for bound, piece in zip(bounds, pieces, strict=True)])
    possible = [replace(p, rows=p.rows.rows(kept)) for p, (kept, _) in zip(pieces, checked, strict=True)]
    results = []
    for kind in sorted({piece.kind for piece in possible if len(piece.rows)}):
        mine = [piece for piece in possible if piece.kind == kind and len(piece.rows)]
        aside = [row for p, (_, rows) in zip(pieces, checked, strict=True) if p.kind == kind for row in rows]
        parts = [_fit_rivals(kind, families, mine, chip) for families in _rivals(mine)]
        results.append(
            Fitted(
                kind=kind,
                rows=sum(len(piece.rows) for piece in mine),
                kernels={name: values for part in parts for name, values in part.kernels.items()},
                tables={key: values for part in parts for key, values in part.tables.items()},
                errors={label: scores for part in parts for label, scores in part.errors.items()},
                set_aside=aside,
            )
        )
    return results


def unmeasured(kind: str, kernel: str, chip: Chip) -> Numbers:
    """The numbers that would price the chip had it not been measured."""
    family = coefficient_file(kind)["kernels"][kernel]
    generation = (family.get("generations") or {}).get(chip.generation) or {}
    return {**(family.get("shared") or {}), **(family.get("default") or {}), **generation}


def _rivals(pieces: Sequence[Piece]) -> list[tuple[str, ...]]:
    """Families that compete for some rows, directly or through a third, belong together."""
    groups: list[set[str]] = []
    for piece in pieces:
        joined = set(piece.families)
        apart = [group for group in groups if not group & joined]
        groups = [*apart, joined.union(*(group for group in groups if group & joined))]
    return sorted(tuple(sorted(group)) for group in groups)


def _fit_rivals(kind: str, families: tuple[str, ...], pieces: Sequence[Piece], chip: Chip) -> Fitted:
    """Fit families that compete for the same rows."""
    mine = [piece for piece in pieces if piece.families[0] in families]
    knobs = {kernel: _knobs(kind, kernel) for kernel in families}
    label, count = " / ".join(families), sum(len(piece.rows) for piece in mine)
    need_rows_of(mine, ROWS_PER_NUMBER * max(map(len, knobs.values())), f"the {label} kernels")
    starts = {kernel: unmeasured(kind, kernel, chip) for kernel in families}
    seen = [(piece, piece.rows.rows(sampled(piece.fit_half(), CHIP_ROWS, *piece.sizes(piece.rows)))) for piece in mine]
    samples = {kernel: [piece.sample(rows, kernel) for piece, rows in seen if len(rows)] for kernel in families}
    fitted = {k: {**starts[k], **fit(knobs[k], samples[k], starts[k], starts[k])} for k in families}
    best = min(families, key=lambda kernel: _loss(samples[kernel], fitted[kernel]))
    numbers = {}
    for kernel in families:
        shared = {**starts[kernel], **fitted[best]}
        alike = all(
            np.allclose(one.predict(shared), other.predict(fitted[best]))
            for one, other in zip(samples[kernel], samples[best], strict=True)
        )
        numbers[kernel] = shared if alike else fitted[kernel]
    tables = _tables(kind, families, mine, numbers) if count >= TABLE_ROWS else {}
    return Fitted(
        kind=kind,
        rows=count,
        kernels=numbers,
        tables={f"{chip.name}|{kernel}|{variant}": table for (kernel, variant), table in tables.items()},
        errors={label: _scores(mine, starts, numbers, tables)},
    )


def need_rows_of(pieces: Sequence[Piece], count: int, what: str) -> None:
    """Refuse to fit on fewer rows than `count` in all pieces together. Raises SpecError."""
    everything = np.concatenate([piece.rows.time_s for piece in pieces])
    first = pieces[0].rows
    whole = Measurements(kind=first.kind, path=first.path, sha256=first.sha256, time_s=everything, columns={})
    need_rows(whole, count, what)


def _knobs(kind: str, kernel: str) -> dict[str, Knob]:
    """What the bundled fit of a family fitted: the numbers that its source code does not fix."""
    fitted = coefficient_file(kind)["kernels"][kernel]["default"]
    known = KNOBS.get(kind) or {
        **(attention.DECODE_KNOBS if "absorbed" in kernel else attention.PREFILL_KNOBS),
        **(mla.EAGER_KNOBS if "host_us" in fitted else {}),
        **(mla.MODULE_KNOBS if kernel.startswith("module-") else {}),
    }
    return {name: knob for name, knob in known.items() if name in fitted}


def _loss(samples: Iterable[Sample], numbers: Numbers) -> float:
    off = np.concatenate([np.abs(np.log(sample.predict(numbers) / sample.measured_s)) for sample in samples])
    return float(np.mean(off))


def _tables(
    kind: str, families: Iterable[str], pieces: Iterable[Piece], numbers: Mapping[str, Numbers]
) -> dict[tuple[str, str], Table]:
    """Residual tables by family and variant, from the rows that a fit may see."""
    found: dict[tuple[str, str], list[tuple[Array, ...]]] = {}
    for piece in pieces:
        rows = piece.rows.rows(piece.fit_half())
        for kernel in piece.families if len(rows) else ():
            sample = piece.sample(rows, kernel)
            off = np.log(sample.measured_s / sample.predict(numbers[kernel]))
            for place in sample.places:
                if np.any(place.rows):
                    dims = tuple(np.asarray(dim)[place.rows] for dim in place.dims)
                    found.setdefault((kernel, place.variant), []).append((off[place.rows], *dims))
    made = {}
    for key, parts in found.items():
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        made[key] = table_of(GRIDS[kind], columns[1:], columns[0], NEIGHBOURS.get(kind, 6))
    return made


def _scores(
    pieces: Iterable[Piece],
    starts: Mapping[str, Numbers],
    numbers: Mapping[str, Numbers],
    tables: Mapping[tuple[str, str], Table],
) -> dict[str, Any]:
    """Errors on the half that the fit did not see, of the fastest family per row as rooms take it."""
    stages: dict[str, list[Array]] = {"datasheet": [], "physics": [], "calibrated": []}
    for piece in pieces:
        held = piece.rows.rows(~piece.fit_half())
        if not len(held):
            continue
        by = {kernel: piece.sample(held, kernel) for kernel in piece.families}
        for stage, values in (("datasheet", starts), ("physics", numbers)):
            times = [sample.predict(values[kernel]) for kernel, sample in by.items()]
            stages[stage].append(np.min(times, axis=0) / held.time_s)
        times = [_corrected(sample, numbers[kernel], kernel, tables) for kernel, sample in by.items()]
        stages["calibrated"].append(np.min(times, axis=0) / held.time_s)
    if not stages["calibrated"]:
        return {"rows": 0}
    ratios = {stage: np.concatenate(parts) for stage, parts in stages.items()}
    report: dict[str, Any] = {stage: errors(ratio, np.ones_like(ratio)) for stage, ratio in ratios.items()}
    return {**report, "spread_log": float(np.std(np.log(ratios["calibrated"])))}


def _corrected(sample: Sample, numbers: Numbers, kernel: str, tables: Mapping[tuple[str, str], Table]) -> Array:
    seconds = sample.predict(numbers)
    for place in sample.places:
        if (kernel, place.variant) in tables and np.any(place.rows):
            dims = [np.asarray(dim)[place.rows] for dim in place.dims]
            seconds[place.rows] *= np.exp(residual.interpolate(tables[kernel, place.variant], dims))
    return np.maximum(seconds, sample.floor_s)


def _setting(runtime: str, version: str) -> Setting:
    return Setting(runtime=runtime.casefold() or Setting().runtime, version=version, weights_cache="hot")


def _columns(rows: Measurements, names: Iterable[str]) -> dict[str, Array]:
    """Sizes by name; those that a table may lack are 0."""
    return {name: np.nan_to_num(rows.size(name)) if name in rows.columns else np.zeros(len(rows)) for name in names}


def _split(rows: Measurements, menu: Menu) -> list[tuple[tuple[str, ...], Measurements]]:
    """Rows by the families that may have run them."""
    codes = np.broadcast_to(menu.codes, len(rows))
    parts = [(families, rows.rows(codes == code)) for code, families in enumerate(menu.choices)]
    return [(families, part) for families, part in parts if len(part)]


def _attention_pieces(table: Measurements, chip: Chip) -> list[Piece]:
    phase = table.kind.removeprefix("attention_")
    whole = table.rows(_columns(table, ("prefix",))["prefix"] <= 0)
    if phase == "prefill":
        whole = whole.rows(whole.size("isl") > 1)
    found = []
    labels = ("op", "runtime", "version", "dtype", "kv_dtype", "gemm_dtype")
    for (name, runtime, version, query, kv, linears), mine in whole.groups(*labels) if len(whole) else ():
        rows, setting, cache = whole.rows(mine), _setting(runtime, version), kv or query
        if name == "mla":
            op = mla.latent_rows(_columns(rows, SIZES[table.kind]), phase, cache)
            make = partial(_latent_sample, phase=phase, kv=cache, chip=chip, host=setting.runtime == "vllm")
            found.append(Piece(kind="mla", families=latent_kernels(op, chip, setting), rows=rows, sample=make))
        elif name == "mla_module":
            found += _block_pieces(rows, phase, (cache, query, linears or query), chip, setting)
        elif name in ("", "attention"):
            op = _attention_op(rows, phase, cache, query)
            menu = (prefill_menu if phase == "prefill" else decode_menu)(op, chip, setting)
            make = partial(_attention_sample, phase=phase, kv=cache, query=query, chip=chip)
            found += [Piece(kind=table.kind, families=f, rows=part, sample=make) for f, part in _split(rows, menu)]
    return found


def _block_pieces(
    rows: Measurements, phase: str, formats: tuple[str, str, str], chip: Chip, setting: Setting
) -> list[Piece]:
    """Whole latent blocks. Short prompts that a runtime computes as decode are scored by its numbers, not fitted."""
    block = _block(rows, phase, formats)
    absorbed = phase == "decode"
    kept = rows if absorbed else rows.rows(~np.broadcast_to(short_prompts(block, chip, setting), len(rows)))
    if not len(kept):
        return []
    families = module_kernels(block, chip, setting, absorbed=absorbed)
    make = partial(_block_sample, phase=phase, formats=formats, chip=chip)
    return [Piece(kind="mla", families=families, rows=kept, sample=make)]


def _block(rows: Measurements, phase: str, formats: tuple[str, str, str]) -> Block:
    return mla.block_rows(_columns(rows, SIZES[rows.kind]), phase, *formats)


def _block_sample(rows: Measurements, kernel: str, *, phase: str, formats: tuple[str, str, str], chip: Chip) -> Sample:
    return mla.block_sample(_block(rows, phase, formats), rows.time_s, chip, kernel)


def _attention_op(rows: Measurements, phase: str, kv: str, query: str) -> Any:
    names = (*SIZES[rows.kind], "window")
    columns = _columns(rows, names)
    columns["kv_heads"] = np.where(columns["kv_heads"] > 0, columns["kv_heads"], columns["heads"])
    return attention.attention_rows(columns, phase, kv, query)


def _attention_sample(rows: Measurements, kernel: str, *, phase: str, kv: str, query: str, chip: Chip) -> Sample:
    op = _attention_op(rows, phase, kv, query)
    prompt = phase == "prefill"
    facts = facts_of(ChipColumns((chip,)), engine(op, kernel) if prompt else op.compute)
    return Sample(
        measured_s=rows.time_s,
        predict=attention.predictor(op, facts, phase),
        floor_s=floor_of(op, facts, attention.HOT),
        places=tuple((prompt_places if prompt else decode_places)(op)),
    )


def _latent_sample(rows: Measurements, kernel: str, *, phase: str, kv: str, chip: Chip, host: bool) -> Sample:
    """Rows of vLLM were launched eagerly: where host time hides the device, a residual table would learn the host."""
    op, compute = latent_form(mla.latent_rows(_columns(rows, SIZES[rows.kind]), phase, kv), kernel)
    facts = facts_of(ChipColumns((chip,)), compute)
    return Sample(
        measured_s=rows.time_s,
        predict=mla.latent_predictor(op, facts),
        floor_s=floor_of(op, facts, attention.HOT),
        places=() if host else tuple(latent_places(op)),
    )


def _expert_pieces(table: Measurements, chip: Chip) -> list[Piece]:
    found = []
    plain = np.isin(table.size("inter"), experts.PLAIN_INNER) & np.isin(table.size("topk"), (6.0, 22.0))
    for side in (table.rows(chosen) for chosen in (plain, ~plain) if np.any(chosen)):
        for (runtime, version, number, given), mine in side.groups("runtime", "version", "dtype", "distribution"):
            rows, loads = side.rows(mine), given or "balanced"
            (op,) = experts.expert_rows(_columns(rows, experts.KEY), number, loads)
            make = partial(_expert_sample, number=number, distribution=loads, chip=chip)
            menu = expert_menu(op, chip, _setting(runtime, version))
            found += [Piece(kind="experts", families=f, rows=part, sample=make) for f, part in _split(rows, menu)]
    return found


def _expert_sample(rows: Measurements, kernel: str, *, number: str, distribution: str, chip: Chip) -> Sample:
    (op,) = experts.expert_rows(_columns(rows, experts.KEY), number, distribution)
    facts = facts_of(ChipColumns((chip,)), op.compute)
    return Sample(
        measured_s=rows.time_s,
        predict=experts.predictor(op, facts),
        floor_s=floor_of(op, facts, experts.HOT),
        places=tuple(expert_places(op)),
    )
