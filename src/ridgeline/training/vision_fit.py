"""Fit the factors of `vision.yaml`: `python -m ridgeline.training.vision_fit DATA/published/vision.csv`.

Rows are image classifiers timed by one benchmark script under several frameworks, layouts and chips, at a large batch
on boards (at one image those wait for their host) and at any on processors.
Each row's time is the sum over kinds of op of the rooms' price times a factor of the software times one of the chip,
and the factors are fitted to the logarithm of that sum over the measured time (soft-L1), each pulled to its start.
Networks are held out by a hash of their names, so that the errors written beside the factors are of networks not seen.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import groups
from ridgeline.core.errors import FileFormatError, MissingExtraError, RidgelineError
from ridgeline.core.files import load_yaml, sha256_of, write_atomic
from ridgeline.core.tables import Labels, Table, read_table
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.software import Software, scheme_of, software_of
from ridgeline.training.vision import ENGINES, KINDS, parts_of
from ridgeline.workloads.vision import network

Column = NDArray[np.float64]

TEXTS = ("model", "precision", "layout", "compiled", "framework", "gpu", "mode", "metric", "notes")
NUMBERS = ("resolution", "batch", "n_gpus", "value")

NOISE, SOFTWARE_SPREAD, CHIP_SPREAD = 0.1, 0.1, 0.1
"""Log errors up to which the loss is quadratic; how far factors of software and of chips may stray from their start."""

SOFTWARE_SPREADS = np.array([1e-3 if kind == "long_attention" else SOFTWARE_SPREAD for kind in KINDS])
"""By kind: a fused kernel over thousands of keys is all arithmetic, and leaves software nothing to stretch."""

MOST_FASTER = np.log(2.0)
"""No kind of op may end up more than twice as fast as it starts: where two kinds always occur together (attention and
norms in transformers), the data alone would trade one against the other beyond what kernels can do."""

HELD_OUT = 5
"""One network in so many is held out to write honest errors."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Benchmark rows with their priced parts: seconds by kind [kinds, rows], measured seconds per batch."""

    seconds: Column
    measured_s: Column
    software: tuple[Software, ...]
    chips: tuple[str, ...]
    names: tuple[str, ...]

    def held_out(self) -> NDArray[np.bool_]:
        """Rows of networks kept from the fit that is scored."""
        marks = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT == 0 for name in self.names]
        return np.array(marks, dtype=bool)


@dataclass(frozen=True, slots=True)
class Fit:
    """Factors as arrays: by software [software, kinds] and by chip [chips, engines], with their names."""

    software: Mapping[str, Column]
    chips: Mapping[str, Column]

    def log_error(self, rows: Rows) -> Column:
        """log(predicted / measured speed) of each row."""
        stretch = np.stack([self.software[how.keys[0]] for how in rows.software], axis=1)
        by_chip = np.stack([np.append(self.chips[chip], 1.0)[[*ENGINES]] for chip in rows.chips], axis=1)
        return np.asarray(-np.log((rows.seconds * stretch * by_chip).sum(axis=0) / rows.measured_s))


def read_rows(path: Path) -> Rows:
    """Priced benchmark rows of networks and chips that are bundled. Raises FileFormatError for another table."""
    kinds: dict[str, Literal["number", "text"]] = {**dict.fromkeys(TEXTS, "text"), **dict.fromkeys(NUMBERS, "number")}
    table = read_table(path, columns=kinds)
    if not all(table.has(name) for name in (*TEXTS, *NUMBERS)):
        raise FileFormatError("not a table of vision benchmarks", at=str(path), fix="give published/vision.csv")
    texts = {name: table.labels(name) for name in TEXTS}
    rows = np.flatnonzero(_is(texts["metric"], "img_s") & _is(texts["framework"], "timm benchmark.py"))
    codes = tuple(texts[name].codes for name in ("model", "gpu", "precision", "compiled", "layout", "mode"))
    resolution = np.unique(table.number("resolution"), return_inverse=True)[1].astype(np.int32)
    parts = [_priced(table, texts, members) for _, members in groups((*codes, resolution), rows)]
    known = [part for part in parts if part is not None]
    return Rows(
        np.concatenate([part.seconds for part in known], axis=1),
        np.concatenate([part.measured_s for part in known]),
        tuple(how for part in known for how in part.software),
        tuple(chip for part in known for chip in part.chips),
        tuple(name for part in known for name in part.names),
    )


def _is(labels: Labels, text: str) -> NDArray[np.bool_]:
    wanted = [code for code, value in enumerate(labels.values) if value == text]
    return np.isin(labels.codes, wanted)


def _priced(table: Table, texts: Mapping[str, Labels], rows: NDArray[np.intp]) -> Rows | None:
    """Rows that share everything but batch and release; None where the network or the chip is not bundled."""

    def text(name: str) -> str:
        labels = texts[name]
        code = int(labels.codes[rows[0]])
        return labels.values[code] if code >= 0 else ""

    try:
        drawn, chip = network(text("model")), catalogue.chip(text("gpu"))
        how = software_of("torch", text("compiled"), text("layout"), text("mode"))
        scheme = scheme_of(text("precision"))
    except RidgelineError:
        return None
    how = replace(how, on_cpu=chip.kind == "cpu")
    rows = rows if how.on_cpu else rows[table.number("batch")[rows] > 1]
    if not rows.size:
        return None
    batch = table.number("batch")[rows]
    side = table.number("resolution")[rows]
    parts = parts_of(drawn, batch, side, scheme, ChipColumns((chip,), np.zeros(rows.size, dtype=np.intp)))
    count = rows.size
    return Rows(
        parts.seconds, batch / table.number("value")[rows], (how,) * count, (chip.name,) * count, (drawn.name,) * count
    )


def fitted(rows: Rows, start: Mapping[str, Mapping[str, float]]) -> Fit:
    """Factors fitted to the rows. Raises MissingExtraError: scipy is not installed."""
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise MissingExtraError(
            "fitting needs scipy", at="training.vision_fit", fix="pip install ridgeline[fit]"
        ) from error
    software = sorted({how.keys[0] for how in rows.software})
    chips = sorted(set(rows.chips))
    log_time = np.log(rows.seconds + 1e-30)
    of_software = np.array([software.index(how.keys[0]) for how in rows.software])
    of_chip = np.array([chips.index(chip) for chip in rows.chips])
    engine = np.array(ENGINES)
    first = np.log(np.array([[_start(start, key)[kind] for kind in KINDS] for key in software]))
    target = np.log(rows.measured_s)
    split, spreads = first.size, np.tile(SOFTWARE_SPREADS, len(software))

    def unpacked(moves: Column) -> tuple[Column, Column]:
        by_chip = np.pad(moves[split:].reshape(len(chips), 2), ((0, 0), (0, 1)))
        return first + moves[:split].reshape(first.shape), by_chip

    def residuals(moves: Column) -> Column:
        by_software, by_chip = unpacked(moves)
        total = np.exp(log_time + by_software[of_software].T + by_chip[of_chip][:, engine].T).sum(axis=0)
        pulls = (moves[:split] / spreads, moves[split:] / CHIP_SPREAD)
        return np.concatenate([(np.log(total) - target) / NOISE, *pulls])

    def jacobian(moves: Column) -> Column:
        by_software, by_chip = unpacked(moves)
        each = np.exp(log_time + by_software[of_software].T + by_chip[of_chip][:, engine].T)
        share = each / each.sum(axis=0) / NOISE
        wide = np.zeros((target.size + moves.size, moves.size))
        for k in range(len(KINDS)):
            places = np.arange(target.size)
            wide[places, of_software * len(KINDS) + k] += share[k]
            if engine[k] < 2:
                wide[places, split + of_chip * 2 + engine[k]] += share[k]
        spread = np.concatenate([spreads, np.full(moves.size - split, CHIP_SPREAD)])
        wide[target.size :] = np.diag(1.0 / spread)
        return wide

    bounds = (-MOST_FASTER, np.inf)
    begin = np.zeros(split + 2 * len(chips))
    found = least_squares(residuals, begin, jac=jacobian, bounds=bounds, loss="soft_l1", max_nfev=60)
    by_software, by_chip = unpacked(found.x)
    return Fit(
        {key: np.exp(by_software[i]) for i, key in enumerate(software)},
        {chip: np.exp(by_chip[i, :2]) for i, chip in enumerate(chips)},
    )


def _start(start: Mapping[str, Mapping[str, float]], key: str) -> Mapping[str, float]:
    """Where a software's factors start: those of its style in inference, three times those in training."""
    base = start[key.split(".")[0]]
    return {kind: 3.0 * value for kind, value in base.items()} if key.endswith("training") else base


def summary(fit: Fit, rows: Rows) -> dict[str, dict[str, float]]:
    """n, median and p90 of the error and its bias, in percent of predicted speed, by software and chip, and for all."""
    percent = 100.0 * np.expm1(fit.log_error(rows))
    label = np.array([f"{how.keys[0]} {chip}" for how, chip in zip(rows.software, rows.chips, strict=True)])
    chosen = {"all": np.ones(label.size, dtype=bool)} | {name: label == name for name in sorted(set(label.tolist()))}
    return {name: _errors(percent[where]) for name, where in chosen.items() if where.any()}


def _errors(percent: Column) -> dict[str, float]:
    size = np.abs(percent)
    median, p90, bias = float(np.median(size)), float(np.quantile(size, 0.9)), float(np.median(percent))
    return {"n": len(percent), "median": round(median, 1), "p90": round(p90, 1), "bias": round(bias, 1)}


def _taken(rows: Rows, where: NDArray[np.bool_]) -> Rows:
    def pick(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(value for value, kept in zip(values, where.tolist(), strict=True) if kept)

    return replace(
        rows,
        seconds=rows.seconds[:, where],
        measured_s=rows.measured_s[where],
        software=pick(rows.software),
        chips=pick(rows.chips),
        names=pick(rows.names),
    )


def _written(
    text: str, fit: Fit, rows: Rows, path: Path, errors: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> str:
    """The document with new factors; everything above `provenance` stays as it is, and engines keep theirs."""
    head, old = text[: text.index("provenance:")], text[text.index("software:") :]
    engine = [line for line in old.splitlines() if line.startswith("  engine.")]
    lines = [
        "provenance:",
        "  command: python -m ridgeline.training.vision_fit",
        f"  data: [{{file: {path.name}, sha256: {sha256_of(path)}, rows: {rows.measured_s.size}}}]",
        "  errors:  # percent of predicted speed: median and p90 of the size, median with its sign",
    ]
    for title, table in errors.items():
        lines.append(f"    {title}:")
        lines += [f'      "{name}": {{{_cells(row)}}}' for name, row in table.items()]
    lines.append("software:")
    lines += [f"  {key}: {{{_cells(dict(zip(KINDS, value, strict=True)))}}}" for key, value in fit.software.items()]
    lines += [*engine, "chips:"]
    lines += [f"  {chip}: {{{_cells(_engines(value))}}}" for chip, value in fit.chips.items()]
    generations: dict[str, list[Column]] = {}
    for chip, value in fit.chips.items():
        generations.setdefault(catalogue.chip(chip).generation, []).append(value)
    lines.append("generations:")
    lines += [f"  {name}: {{{_cells(_engines(_mean(values)))}}}" for name, values in sorted(generations.items())]
    lines.append("default:")
    for kind in ("cpu", "other"):
        mine = [value for chip, value in fit.chips.items() if (catalogue.chip(chip).kind == "cpu") == (kind == "cpu")]
        lines.append(f"  {kind}: {{{_cells(_engines(_mean(mine)))}}}")
    lines.append("measured:")
    pairs = sorted({(how.keys[0].split(".")[0], chip) for how, chip in zip(rows.software, rows.chips, strict=True)})
    lines += [f"  - [{style}, {chip}]" for style, chip in pairs]
    return head + "\n".join(lines) + "\n"


def _mean(values: Sequence[Column]) -> Column:
    return np.asarray(np.exp(np.mean(np.log(np.stack(values)), axis=0)))


def _engines(value: Column) -> dict[str, float]:
    return {"matrix": float(value[0]), "memory": float(value[1])}


def _cells(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {value:.4g}" for name, value in values.items())


def main(arguments: Sequence[str]) -> None:
    """Fit and write `vision.yaml`."""
    parser = argparse.ArgumentParser(prog="python -m ridgeline.training.vision_fit", description=__doc__)
    parser.add_argument("data", type=Path, help="published/vision.csv")
    parser.add_argument("--dry-run", action="store_true", help="print the errors, write nothing")
    options = parser.parse_args(arguments)
    target = Path(str(resources.files("ridgeline.training") / "vision.yaml"))
    start = load_yaml(target).data["start"]
    rows = read_rows(options.data)
    held = rows.held_out()
    seen = fitted(_taken(rows, ~held), start)
    final = fitted(rows, start)
    errors = {"held_out_networks": summary(seen, _taken(rows, held)), "fitted": summary(final, rows)}
    for title, table in errors.items():
        sys.stdout.write(f"{title}\n" + "".join(f"  {name:48s} {row}\n" for name, row in table.items()))
    if not options.dry_run:
        write_atomic(target, _written(target.read_text("utf-8"), final, rows, options.data, errors))


if __name__ == "__main__":
    main(sys.argv[1:])
