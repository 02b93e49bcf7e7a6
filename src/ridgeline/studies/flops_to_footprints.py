"""From FLOPs to Footprints: how many boards a training run uses up, and which metals are in them."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline.hardware import chip
from ridgeline.impact.materials import elements_kg
from ridgeline.impact.money import YEAR_S
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study

MOST, FEWEST = "A100 used up by GPT-4, MFU of 20 %, one year of life", "A100 used up by GPT-4, MFU of 30 %, five years"
SHARE, LIFE = "share saved by an MFU of 60 instead of 20 %", "share saved by three years of life instead of one"
BOTH = "share saved by both, best of scenarios"
TOXIC = "toxic elements in the most boards, t"
SHARES, YEARS = (0.2, 0.3, 0.4, 0.5, 0.6), (1.0, 2.0, 3.0, 4.0, 5.0)
LISTED = frozenset({"copper", "nickel", "zinc", "barium", "chromium", "manganese", "lead", "silver", "aluminium"})
"""Elements on the substance priority list of the US Agency for Toxic Substances and Disease Registry, 2022."""


def run(assumed: Mapping[str, float]) -> Outcome:
    """Operations over what a board does in its life, and its elements."""
    peak = chip("a100-40gb-sxm").peak_flops_per_s("bf16")

    def boards(share: float, years: float) -> float:
        return assumed["operations of GPT-4"] / (peak * share * years * YEAR_S)

    most = boards(0.2, 1.0)
    toxic = sum(mass.value for name, mass in elements_kg(most).items() if name in LISTED)
    return Outcome(
        results={
            MOST: most,
            FEWEST: boards(0.3, 5.0),
            SHARE: 1.0 - boards(0.6, 1.0) / most,
            LIFE: 1.0 - boards(0.2, 3.0) / most,
            BOTH: 1.0 - min(boards(share, years) for share in SHARES for years in YEARS) / most,
            TOXIC: toxic / 1e3,
        },
        figure=Figure(
            title="A100 used up by a training run of GPT-4's size",
            x=YEARS,
            lines={f"MFU {share:.0%}": [boards(share, years) for years in YEARS] for share in SHARES},
            x_label="years of life",
            y_label="boards",
            y_log=True,
        ),
        notes=("Three years and 60 % together save 88.9 %; it takes five years to save 93 %.",),
    )


STUDY = Study(
    name="flops-to-footprints",
    n=187,
    area="carbon-water-cost",
    paper="Falk et al., From FLOPs to Footprints: The Resource Cost of Artificial Intelligence (arXiv 2512.04142)",
    idea="A run uses up operations / (peak x MFU x lifetime) boards, each with its metals. Here peaks are of the "
    "catalogue, and masses of `impact.materials`.",
    claims=(
        Claim(metric=MOST, value=8800.0, kind="absolute"),
        Claim(metric=FEWEST, value=1174.0, kind="absolute"),
        Claim(metric=SHARE, value=0.67, kind="exact"),
        Claim(metric=LIFE, value=0.67, kind="exact"),
        Claim(metric=BOTH, value=0.93, kind="exact", baseline="MFU of 20 %, one year; up to"),
        Claim(
            metric=TOXIC,
            value=7.0,
            kind="absolute",
            why="The measured table of elements could not be read: our masses follow its order, with copper at four "
            "fifths, and which elements the paper counts as toxic is not known. Boards are a fifth more than theirs.",
        ),
    ),
    assumptions=(
        Assumption(
            name="operations of GPT-4",
            value=2.1e25,
            source="Epoch AI, Notable AI Models; the paper's own number was not found",
            uncertain=True,
        ),
    ),
    run=run,
)
