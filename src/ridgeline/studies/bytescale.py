"""ByteScale: a group of its own for every sequence, so that short ones go round no ring."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from ridgeline.core.seeding import stream
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, setup_on
from ridgeline.training.packing import SequenceCost, balanced, cost_of, static_mesh_s
from ridgeline.workloads.catalogue import model

GAIN = "time of batches, static mesh over a group per sequence, Llama 7B, 2M tokens, {}"
CONTEXTS = (524_288, 2_097_152)
ROOM, TENSOR, RANKS = 8192, 2, 512
"""Tokens that a rank holds (d_cp = 256 at 2M), chips of a rank, ranks: 1,024 chips (section 8.1 of the paper)."""
BATCH = 32 * 2**20
"""Tokens of a global batch."""
EDGES = 128 * 2 ** np.array([0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
"""Shortest lengths of the bins of figure 4; the first begins at 128 tokens."""
SHARES = {
    "GitHub": (34.0, 14.2, 10.4, 10.2, 7.6, 7.6, 6.4, 4.5, 2.7, 1.6, 1.0),
    "Byted": (11.4, 10.7, 9.5, 8.8, 7.6, 7.6, 7.3, 9.7, 7.6, 7.6, 12.1),
}
"""Shares of tokens in each bin, percent. GitHub's 5.3 % past 512K is one figure, spread over three bins that fall by
one ratio from the 4.5 % before them."""


@cache
def _cost() -> SequenceCost:
    """Seconds of a sequence on one rank; rings cross servers, behind attention."""
    setup = setup_on("1024x h100-sxm")
    return cost_of(model("llama-3-8b"), setup, tokens=ROOM, tp=TENSOR, reach=RANKS, hidden=True)


def _lengths(shares: tuple[float, ...], context: int, batch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A batch of unequal sequences, cut to the context: log-uniform in a bin."""
    draw = stream(1 + batch, "lengths of sequences")
    found = []
    for low, share in zip(EDGES.tolist(), shares, strict=True):
        high = EDGES[1] if low == EDGES[0] else 2 * low
        left = share / sum(shares) * BATCH
        while left > 0:
            size = min(int(np.exp(draw.uniform(np.log(low), np.log(high)))), context)
            if draw.uniform() * size > left:
                break
            found.append(size)
            left -= size
    return np.array(found)


def _times(shares: tuple[float, ...], context: int, batches: int) -> float:
    """The mesh is cut so that the longest sequence fits; sequences of one rank fill what the groups leave."""
    cost = _cost()
    mesh = groups = 0.0
    for batch in range(batches):
        sizes = _lengths(shares, context, batch)
        mesh += static_mesh_s(sizes.tolist(), RANKS, context // ROOM, cost)
        found = balanced(sizes[sizes > ROOM].tolist(), RANKS, ROOM, cost)
        short = float(cost.of(sizes[sizes <= ROOM].astype(float), 1.0).sum())
        groups += max(found.time_s, (float(found.load_s.sum()) + short) / RANKS)
    return mesh / groups


def run(assumed: Mapping[str, float]) -> Outcome:
    """Both data sets at the longest context; a shorter one for the figure."""
    batches = int(assumed["batches"])
    lines = {name: [_times(shares, context, batches) for context in CONTEXTS] for name, shares in SHARES.items()}
    return Outcome(
        results={GAIN.format(name): line[-1] for name, line in lines.items()},
        figure=Figure(
            title="A group per sequence over a static mesh, 1,024 H100",
            x=CONTEXTS,
            lines=lines,
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
        Claim(metric=GAIN.format("GitHub"), value=7.89, baseline="static mesh of data and context parallelism; up to"),
        Claim(
            metric=GAIN.format("Byted"),
            value=4.26,
            baseline="the same; up to",
            why="Half of these tokens lie in sequences past 128K, whose attention hides the ring and is the same on "
            "both sides. The mesh here deals sequences by cost; the paper's packs them as they come and waits, in each "
            "stage of a pipeline (its section 3.3): how long, it does not print.",
        ),
    ),
    assumptions=(
        Assumption(name="batches", value=4, source="not given; the mean of so many updates", whole=True),
        Assumption(
            name="chips", value=1024, unit="H100", source="the paper hides its GPU; 1,024 of them with a network"
        ),
    ),
    run=run,
)
