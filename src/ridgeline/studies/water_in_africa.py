"""Water for a report: a data centre's cooling in its climate, and the water of the electricity that it takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.hardware import chip, node
from ridgeline.impact.carbon import grid
from ridgeline.impact.facility import overhead
from ridgeline.impact.scopes import server_power
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

REPORT, EMAIL = "water for a report of ten pages, litres", "water for an e-mail of 120 to 200 words, litres"
USERS = (1, 4, 16, 64)
CLIMATES = {"warm temperate": (20.0, 0.6), "tropical": (28.0, 0.8), "steppe": (32.0, 0.3)}
"""Outdoor air, degrees Celsius and relative humidity."""
BOARD, SERVER = "h100-sxm", "dgx-h100"


def _wall_j_per_token(tokens: float) -> np.ndarray:
    """At the wall, by users at once (rows) and four or eight chips (columns)."""
    columns = {"tp": [4, 8] * len(USERS), "concurrency": np.repeat(USERS, 2).tolist()}
    found = sweep("serving", model="llama-3-70b", chip=BOARD, isl=100, osl=round(tokens), **columns)
    watts, server = found["power_w_per_chip"], node(SERVER)
    wall = server_power(watts, chip(BOARD), server).wall_w / server.chips / watts
    return np.reshape(found["energy_j_per_output_token"] * wall, (len(USERS), 2))


def _litres_per_j(assumed: Mapping[str, float]) -> dict[str, float]:
    """On site and for generation, by climate; a country without a figure has the mean of those that have one."""
    generation = grid("KE").water_l_per_j.value * assumed["water of electricity"]
    found = {}
    for name, (temperature, humidity) in CLIMATES.items():
        site = overhead("chilled-water", temperature, humidity)
        found[name] = float(site.water_l_per_j + site.pue * generation)
    return found


def run(assumed: Mapping[str, float]) -> Outcome:
    """The paper gives what a task may take: the most of users, chips and climates."""
    litres = _litres_per_j(assumed)
    worst = max(litres.values())
    tokens = {
        REPORT: 10.0 * assumed["words per page"] * assumed["tokens per word"],
        EMAIL: 160.0 * assumed["tokens per word"],
    }
    joules = {task: _wall_j_per_token(count) * count for task, count in tokens.items()}
    return Outcome(
        results={task: float(each.max()) * worst for task, each in joules.items()},
        figure=Figure(
            title="Water for a report of ten pages, Llama-3-70B on four H100",
            x=USERS,
            lines={name: (joules[REPORT][:, 0] * each).tolist() for name, each in litres.items()},
            x_label="users at once",
            y_label="litres",
            x_log=True,
            y_log=True,
        ),
        notes=(
            f"With 64 users at once a report takes {float(joules[REPORT][-1].min()) * worst * 1e3:.0f} ml; v3 "
            "of the paper says that its figures are of 2024 and systems have become thirty times as good.",
            "GPT-4's 60 litres and the order of eleven countries are left out: its size is not public, the water of "
            "African grids is not in our tables.",
        ),
    )


STUDY = Study(
    name="water-in-africa",
    n=266,
    area="carbon-water-cost",
    paper="Shumba et al., A Water Efficiency Dataset for African Data Centers (arXiv 2412.03716)",
    idea="Water is energy times what cooling evaporates in that climate, and what generation does, over the meter. "
    "Here energy per token is of our serving model, cooling of `impact.facility`, grids of `impact.carbon`.",
    claims=(
        Claim(metric=REPORT, value=0.7, kind="absolute", baseline="Llama-3-70B; up to"),
        Claim(
            metric=EMAIL,
            value=0.13,
            kind="absolute",
            baseline="Llama-3-70B; up to",
            why="A report has thirty times as many words as an e-mail, and theirs takes five times the water: energies "
            "per token of the two differ by six, for which the parts of the paper that could be read give no reason.",
        ),
    ),
    assumptions=(
        Assumption(name="words per page", value=500, source="a page of single-spaced text", uncertain=True),
        Assumption(name="tokens per word", value=4 / 3, source="usual of English text, platform.openai.com/tokenizer"),
        Assumption(
            name="water of electricity",
            value=1.0,
            source="of the mean of `impact/facts/grids.yaml`, 3.142 L/kWh, for countries without a figure",
            uncertain=True,
        ),
    ),
    run=run,
)
