"""ByteScale: a group of its own for every sequence, so that short ones go round no ring."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from ridgeline.core.seeding import stream
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, setup_on
from ridgeline.training.packing import SequenceCost, balanced, cost_of, static_mesh_s
from ridgeline.workloads.catalogue import model

GAIN = "time of a batch, static mesh over a group per sequence, best of models and contexts"
MODELS = ("llama-2-7b", "llama-2-70b")
CONTEXTS = (262_144, 524_288, 1_048_576, 2_097_152)
RANKS, TENSOR = 128, 8
"""Ranks that share a batch, each of eight chips: 1,024 chips; larger clusters repeat this."""


@cache
def _cost(name: str, tokens: int) -> SequenceCost:
    """Seconds of a sequence on one rank, from steps of H100."""
    return cost_of(model(name), setup_on("8x h100-sxm"), tokens=tokens, tp=TENSOR)


def _lengths(context: int, room: int, assumed: Mapping[str, float]) -> list[int]:
    """A global batch of unequal sequences, cut to the context."""
    draw = stream(1, "lengths of sequences")
    drawn = draw.lognormal(np.log(assumed["median length"]), assumed["spread of lengths"], size=40_000)
    sizes = np.clip(drawn, 16, context).astype(int)
    full = RANKS * room * int(assumed["batches of full ranks"])
    return [int(size) for size in sizes[: max(int(np.searchsorted(np.cumsum(sizes), full)), 1)]]


def run(assumed: Mapping[str, float]) -> Outcome:
    """The mesh is cut so that the longest sequence fits; groups of one sequence are as wide as it needs."""
    room = int(assumed["tokens of a rank"])
    gains: dict[str, list[float]] = {}
    for name in MODELS:
        cost = _cost(name, room)
        gains[name] = []
        for context in CONTEXTS:
            lengths = _lengths(context, room, assumed)
            mesh = static_mesh_s(lengths, RANKS, context // room, cost)
            gains[name].append(mesh / balanced(lengths, RANKS, room, cost).time_s)
    return Outcome(
        results={GAIN: max(max(each) for each in gains.values())},
        figure=Figure(
            title="A group per sequence over a static mesh, 1,024 H100",
            x=CONTEXTS,
            lines=gains,
            x_label="context, tokens",
            y_label="ratio",
            x_log=True,
        ),
    )


STUDY = Study(
    name="bytescale",
    n=117,
    area="training",
    paper="Ge et al., ByteScale: Efficient Scaling of LLM Training with a 2048K Context Length on More Than 12,000 "
    "GPUs (arXiv 2502.21231)",
    idea="A mesh that holds the longest sequence cuts the short ones as finely, whose keys and values then go round "
    "for nothing. Groups per sequence, balanced by cost, do not. Here `training.packing`.",
    claims=(
        Claim(
            metric=GAIN,
            value=7.89,
            baseline="static mesh of data and context parallelism; up to",
            why="Under this law sequences of the whole context do most of the arithmetic, on both sides. Where they "
            "are rare (median 2,000, spread 1.5) the same model gives eight; the paper's lengths are not public.",
        ),
    ),
    assumptions=(
        Assumption(
            name="spread of lengths",
            value=2.55,
            uncertain=True,
            source="sigma of the lognormal law with four fifths of the sequences below 4K and 0.05 % above 2M tokens, "
            "the paper's words on code from GitHub as recalled",
        ),
        Assumption(name="median length", value=480, unit="tokens", source="of the same law", uncertain=True),
        Assumption(name="tokens of a rank", value=32768, source="not given; a power of two that 80 GB hold at 7B"),
        Assumption(name="batches of full ranks", value=2, source="not given; accumulated before an update", whole=True),
    ),
    run=run,
)
