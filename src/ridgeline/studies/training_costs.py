"""The rising costs of training frontier models: what of a cluster a run uses up, and the electricity."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ridgeline.hardware import chip, node
from ridgeline.impact.scopes import server_power
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study

RUNS: Mapping[str, tuple[float, str, float, float, float]] = {
    "RoBERTa Large": (2019.6, "dgx-1v", 1024, 122_880, 0.0887),
    "GPT-3 175B": (2020.4, "dgx-1v", 10_000, 3_552_000, 2.198),
    "OPT-175B": (2022.3, "dgx-a100", 992, 786_000, 0.7336),
    "BLOOM-176B": (2022.5, "dgx-a100", 384, 1_082_990, 0.9958),
    "LLaMA-65B": (2023.2, "dgx-a100", 2048, 1_022_362, 0.5780),
    "GPT-4": (2023.2, "dgx-a100", 25_000, 57_000_000, 40.70),
    "Llama 2-70B": (2023.5, "dgx-a100", 2000, 1_720_320, 1.1026),
    "Falcon-180B": (2023.7, "dgx-a100", 4096, 7_000_000, 10.37),
    "Llama 3.1-405B": (2024.6, "dgx-h100", 16_384, 30_840_000, 51.04),
}
"""Publication, machine, chips, chip hours as the developers report them (GPT-4: press; RoBERTa: a day
per 100,000 of its 500,000 steps), and theirs, million USD."""
COST = "hardware used up and electricity, {}, million USD"
BOUGHT, RENTED = "buying the cluster of GPT-4, million USD", "renting it, million USD"
SHARES = "share of {} in the cost of GPT-4 with staff, %"
GROWTH = "growth of the cost per year, models above"
HOURS_PER_YEAR = 8766.0
SOLD = {"dgx-1v": 2018.5, "dgx-a100": 2020.6, "dgx-h100": 2022.9}
"""When each was to be had: release of the chip (V100 of 32 GB: March 2018) and 90 days, as the paper has it."""


def _parts(name: str, assumed: Mapping[str, float]) -> dict[str, float]:
    """Million USD that a run uses up of chips, the rest of servers and interconnect, and of electricity."""
    published, machine, chips, hours, _ = RUNS[name]
    server = node(machine)
    board = chip(server.chip)
    years = hours / chips / HOURS_PER_YEAR
    age = max(published - assumed["until published"] - years - SOLD[machine], 0.0)
    # Value falls as the price of the same performance does, before the run and in it.
    before, after = (10.0 ** (-assumed["progress"] * at) for at in (age, age + years))
    used = _price(machine, assumed) * chips / 1e6 * (before - after)
    wall_w = float(server_power(assumed["share of TDP"] * board.tdp_w, board, server).wall_w) / server.chips
    energy = wall_w * hours / 1e3 * assumed["PUE"] * assumed["electricity"] / 1e6
    of_server = 1.0 - assumed["interconnect"]
    boards = of_server / assumed["server over chips"]
    return {
        "chips": used * boards,
        "servers": used * (of_server - boards),
        "interconnect": used * assumed["interconnect"],
        "energy": energy,
    }


def _price(machine: str, assumed: Mapping[str, float]) -> float:
    """USD per chip of a cluster: a server's list price and interconnect."""
    server = node(machine)
    assert server.price_usd is not None, f"the catalogue knows the price of {machine}"
    return server.price_usd / server.chips / (1.0 - assumed["interconnect"])


def run(assumed: Mapping[str, float]) -> Outcome:
    """Every run from its chip hours; shares with staff at both ends of the published range."""
    parts = {name: _parts(name, assumed) for name in RUNS}
    costs = {name: sum(each.values()) for name, each in parts.items()}
    when = np.array([row[0] for row in RUNS.values()])
    slope = float(np.polyfit(when, np.log(list(costs.values())), 1)[0])
    _, machine, chips, hours, _ = RUNS["GPT-4"]
    without_staff = [1.0 - assumed["staff, least"], 1.0 - assumed["staff, most"]]
    whole = costs["GPT-4"]
    return Outcome(
        results={
            COST.format("GPT-4"): whole,
            **{COST.format(name): cost for name, cost in costs.items()},
            BOUGHT: _price(machine, assumed) * chips / 1e6,
            RENTED: assumed["rent"] * hours / 1e6,
            **{
                SHARES.format(part): [100.0 * parts["GPT-4"][part] / whole * rest for rest in without_staff]
                for part in ("servers", "interconnect", "energy")
            },
            GROWTH: math.exp(slope),
        },
        figure=Figure(
            title="Cost of training runs",
            x=when.tolist(),
            lines={"ours": list(costs.values()), "theirs": [row[-1] for row in RUNS.values()]},
            x_label="year",
            y_label="million USD",
            y_log=True,
        ),
    )


ORDER = ("GPT-4", *(name for name in RUNS if name != "GPT-4"))
WHY = {
    "Falcon-180B": "Its developers report 7 million chip hours; the cloud cost beside theirs, 25.9 million USD at 1.45 "
    "an hour, means 18 million.",
    "servers": "Inside their range but for the second digit after the point.",
    "interconnect": "At the largest share of staff ours is 8.8: electricity is a larger part of the rest here.",
    "energy": "Ours is 6.3 at the smallest share of staff: hosts, fans and supplies draw more here than by the "
    "factor of the paper, that of rated powers.",
}
REPOSITORY = "epoch-research/training-cost-trends, model_costs.csv"
STUDY = Study(
    name="training-costs",
    n=189,
    area="carbon-water-cost",
    paper="Cottier et al., The rising costs of training frontier AI models (arXiv 2405.21015)",
    idea="A run costs the value that its cluster loses meanwhile, and electricity. Chip hours are the developers'; "
    "prices and boards are of the catalogue here, and power at the wall of `impact.scopes`.",
    claims=(
        *(
            Claim(metric=COST.format(n), value=RUNS[n][-1], kind="absolute", source=REPOSITORY, why=WHY.get(n, ""))
            for n in ORDER
        ),
        Claim(metric=BOUGHT, value=778.1, kind="absolute", source=REPOSITORY),
        Claim(metric=RENTED, value=78.6, kind="absolute", source=REPOSITORY),
        Claim(metric=SHARES.format("servers"), why=WHY["servers"], value=(15.0, 22.0), kind="absolute"),
        Claim(metric=SHARES.format("interconnect"), why=WHY["interconnect"], value=(9.0, 13.0), kind="absolute"),
        Claim(metric=SHARES.format("energy"), why=WHY["energy"], value=(2.0, 6.0), kind="absolute"),
        Claim(metric=GROWTH, value=2.4, baseline="the year before"),
    ),
    assumptions=(
        Assumption(
            name="progress",
            value=0.14,
            unit="orders/year",
            source="the paper's, of price per performance",
            uncertain=True,
        ),
        Assumption(name="interconnect", value=0.19, source="of a cluster's price, the paper's", uncertain=True),
        Assumption(name="until published", value=1 / 6, unit="years", source="two months, their cost.py"),
        Assumption(name="server over chips", value=1.66, source="the paper's, A100"),
        Assumption(name="share of TDP", value=0.75, source="the paper's, GPUs in training"),
        Assumption(name="PUE", value=1.1, source="the paper's, hyperscale"),
        Assumption(name="electricity", value=0.08, unit="USD/kWh", source="US EIA, industrial mean of 2022 and 2023"),
        Assumption(
            name="rent", value=1.44, unit="USD/h", source="Azure, A100, three years committed, 2021-04, in their data"
        ),
        Assumption(name="staff, least", value=0.29, source="share of the cost, epoch.ai blog on the paper"),
        Assumption(name="staff, most", value=0.49, source="the same"),
    ),
    run=run,
)
