"""Fits the law of serving power to published runs, and keeps the runs beside it.

Run `python -m ridgeline.api.accuracy.fit_serving_power PUBLISHED_FOLDER`, which holds `energy.csv` and
`inference_llm.csv`.
Timing is the measured one, so that the errors are those of power alone. `all runs` are the errors of the fit; in
`model left out` each model is predicted by a fit that saw none of its runs, and no run of it corrects the law; in `run
left out` each run is corrected by the other runs of its chip. It writes `costs/coefficients/serving_power.yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ridgeline.costs
from ridgeline.api.accuracy.energy_runs import EnergyRuns, measured_load, read_energy_runs
from ridgeline.costs.fits.common import Document, intervals_of, source, write
from ridgeline.costs.fits.robust import Knob, Sample, errors, fit, rounded
from ridgeline.costs.serving_power import KIND, ServingLoad, load_of, nearby, places, share_of
from ridgeline.hardware.chip import ChipColumns

Column = NDArray[np.float64]

COMMAND = "python -m ridgeline.api.accuracy.fit_serving_power PUBLISHED_FOLDER"

SHARED: Mapping[str, float] = {
    "static": 0.2,
    "cap": 0.985,
    "tile_rows": 128.0,
    "volt_floor": 0.78,
    "volt_slope": 1.24,
}
"""What host gaps draw and where sustained kernels settle (measured on H100, B200 and H200); the rows to which
block-scaled 8-bit kernels of experts pad each expert (DeepGEMM's alignment; left free, the fit gives 131); and voltage
over clock, fitted to four power caps of an RTX 3090 (llmgarage.ai, three numbers on four points)."""

KNOBS: Mapping[str, Knob] = {
    "byte_j": Knob(start=2e-10, low=1e-10, high=4e-10, spread=1.0),
    "kv": Knob(start=0.7, low=0.2, high=1.0, spread=1.0),
    "flops": Knob(start=10.0, low=1.0, high=40.0, spread=1.0),
    "mixture": Knob(start=0.15, low=0.01, high=1.0, spread=1.0),
}
"""`kv` not below the access energy of the memory itself (3.9 pJ/bit, O'Connor et al., MICRO 2017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Measured runs as the law sees them: shares of TDP, and loads."""

    share: Column
    load: ServingLoad
    chips: ChipColumns

    def law(self, values: Mapping[str, float]) -> Column:
        """Predicted shares of TDP, without correction."""
        return share_of(load_of(self.load, values, self.chips), values["static"], values["cap"])

    def places(self, values: Mapping[str, float]) -> Column:
        """Where the runs lie; a column tells chips so far apart that they never mix."""
        u = load_of(self.load, values, self.chips)
        index = np.zeros(u.size) if self.chips.index is None else self.chips.index
        return np.column_stack([places(self.load, u, values, self.chips), 1e3 * index])

    def rows(self, chosen: NDArray[np.bool_]) -> Scored:
        """Some of the runs."""
        index = np.zeros(self.share.size, np.intp) if self.chips.index is None else self.chips.index
        chips = ChipColumns(self.chips.chips, index[chosen])
        return Scored(share=self.share[chosen], load=self.load.rows(chosen), chips=chips)


def scored(runs: EnergyRuns) -> Scored:
    """The runs at their measured timing."""
    tdp = np.asarray(runs.chips.gather(lambda chip: chip.tdp_w))
    return Scored(share=runs.power_w / tdp, load=measured_load(runs), chips=runs.chips)


def fitted(data: Scored) -> dict[str, float]:
    """The numbers of the law."""
    found = fit(KNOBS, [Sample(measured_s=data.share, predict=data.law)], SHARED, {})
    return {**SHARED, **{name: rounded(value) for name, value in found.items()}}


def model_left_out(runs: EnergyRuns, data: Scored) -> Column:
    """Shares of TDP of each model's runs by a law, and by runs, that saw none of it."""
    predicted = np.empty_like(data.share)
    for model in np.unique(runs.model):
        mine = runs.model == model
        others = data.rows(~mine)
        values = fitted(others)
        near = nearby(data.places(values)[mine], others.places(values), np.log(others.share / others.law(values)))
        predicted[mine] = data.law(values)[mine] * np.exp(near)
    return np.minimum(predicted, SHARED["cap"])


def run_left_out(data: Scored, values: Mapping[str, float]) -> Column:
    """Shares of TDP of each run by the law and the other runs of its chip."""
    ratio, where = np.log(data.share / data.law(values)), data.places(values)
    others = ~np.eye(ratio.size, dtype=bool)
    near = [nearby(where[i : i + 1], where[others[i]], ratio[others[i]])[0] for i in range(ratio.size)]
    return np.minimum(data.law(values) * np.exp(near), SHARED["cap"])


def fit_all(folder: Path) -> Document:
    """The coefficient file."""
    paths = (folder / "energy.csv", folder / "inference_llm.csv")
    runs = read_energy_runs(*paths)
    data = scored(runs)
    values = fitted(data)
    law, beyond, near = data.law(values), model_left_out(runs, data), run_left_out(data, values)
    report = {
        "law, all runs": errors(law, data.share),
        "law and runs, model left out": errors(beyond, data.share),
        "law and runs, run left out": errors(near, data.share),
    }
    for chip in np.unique(runs.chip):
        mine = runs.chip == chip
        report[f"{chip}, model left out"] = errors(beyond[mine], data.share[mine])
    spread = {"calibrated": intervals_of(data.share / near), "datasheet": intervals_of(data.share / beyond)}
    return Document(
        kind=KIND,
        command=COMMAND,
        data=[source(path, data.share.size) for path in paths],
        errors=report,
        kernels={"serving": {"shared": values, "default": {}, "chips": {}}},
        intervals={"any": spread},
        measured=_kept(runs, data, values),
    )


def _kept(runs: EnergyRuns, data: Scored, values: Mapping[str, float]) -> dict[str, list[list[float]]]:
    """By chip, the place of each run and the logarithm of measured over law."""
    rows = np.column_stack([data.places(values)[:, :-1], np.log(data.share / data.law(values))])
    return {
        str(chip): [[round(float(x), 3) for x in row] for row in rows[runs.chip == chip]]
        for chip in np.unique(runs.chip)
    }


def main(arguments: Sequence[str]) -> None:
    """Write the coefficient file beside the cost models."""
    target = Path(ridgeline.costs.__file__).parent / "coefficients" / f"{KIND}.yaml"
    write(fit_all(Path(arguments[0])), target)


if __name__ == "__main__":
    main(sys.argv[1:])
