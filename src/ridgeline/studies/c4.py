"""C4: what fails is found by how the others wait for it, and long flows get paths of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, setup_on
from ridgeline.training.checkpoint import Checkpoint
from ridgeline.training.flows import fat_tree, ring_s
from ridgeline.training.layout import Layout
from ridgeline.training.reliability import Part, Reliability
from ridgeline.training.run import Job, play_run
from ridgeline.training.step import train_step
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model

SAVED = "time lost to errors that is saved, % of the run"
FASTER = "time of a step, paths by hash over planned paths"
NODES, RAILS, LEAVES, SPINES = 64, 8, 16, 32
MONTH_S, CHIPS, RUNS = 30 * 86400.0, 2400, 20


def _lost(found_s: float, every_s: float, assumed: Mapping[str, float]) -> float:
    """Share of a month that a job of 2,400 chips loses to failures, mean of many runs."""
    parts = (Part(name="any", mtbf_chip_s=MONTH_S * CHIPS / assumed["failures a month"], needs_node=True),)
    reliability = Reliability(parts=parts, detect_s=found_s, restart_s=600.0, swap_s=120.0, repair_s=86400.0)
    job = Job(
        work_s=MONTH_S,
        chips=CHIPS,
        node_chips=8,
        spares=16,
        checkpoint=Checkpoint(interval_s=every_s),
        reliability=reliability,
    )
    return float(np.mean([1.0 - MONTH_S / play_run(job, seed).wall_s for seed in range(RUNS)]))


def _collisions() -> float:
    """How much longer rings take when flows of eight rails hash onto spines: the mean of many draws."""
    tree = fat_tree(LEAVES, NODES * RAILS // LEAVES, SPINES, 50e9)
    rings = [[node * RAILS + rail for node in range(NODES)] for rail in range(RAILS)]
    planned = ring_s(tree, rings, 1e9, spray=True)
    return float(np.mean([ring_s(tree, rings, 1e9, spray=False, seed=seed) for seed in range(RUNS)])) / planned


def _step_s(slowdown: float, sequences: float) -> float:
    """A model of 22 billion parameters on 512 H800, its network slower by so much."""
    setup = setup_on("8x h800", network=1.0 / slowdown)
    layout = Layout(chips=512.0, tp=8.0, dp=64.0, seq=2048.0, global_batch=64.0 * sequences, micro_batch=1.0, zero=1.0)
    return float(np.max(train_step(work_of(model("megatron-22b"), 2048.0), layout, setup).step_s))


def run(assumed: Mapping[str, float]) -> Outcome:
    """A month with and without C4D; a step with and without C4P."""
    before = _lost(assumed["until found"], assumed["between checkpoints"], assumed)
    after = _lost(assumed["until found, C4"], assumed["between checkpoints, C4"], assumed)
    slowdown, sequences = _collisions(), assumed["sequences per rank"]
    slowdowns = [1.0, 1.5, 2.0, 3.0, 4.0]
    return Outcome(
        results={
            SAVED: 100.0 * (before - after),
            FASTER: _step_s(slowdown, sequences) / _step_s(1.0, sequences),
        },
        figure=Figure(
            title="22 billion parameters on 512 H800 when flows collide",
            x=slowdowns,
            lines={
                "step over that without collisions": [
                    _step_s(s, sequences) / _step_s(1.0, sequences) for s in slowdowns
                ]
            },
            x_label="slowdown of rings",
            y_label="ratio",
        ),
        notes=(f"Flows by hash slow the rings {slowdown:.2f} times; errors cost {before:.0%}, then {after:.1%}.",),
    )


STUDY = Study(
    name="c4",
    n=98,
    area="training",
    paper="Dong et al., Boosting Large-scale Parallel Training Efficiency with C4: A Communication-Driven Approach "
    "(arXiv 2406.04594; HPCA 2025)",
    idea="A synchronous job waits for whoever failed, until somebody finds out which node it was. Collectives tell in "
    "seconds. A few long flows collide by hash, and planned paths do not. Here `training.run` and `training.flows`.",
    claims=(
        Claim(metric=SAVED, value=30.0, kind="absolute", baseline="the same job in an earlier month"),
        Claim(
            metric=FASTER,
            value=1.15,
            baseline="paths by hash; jobs with a moderate part of communication",
            why="Gradients of few sequences are a large part of this step, and rings wait for their slowest flow all "
            "the time, while ports of two links and retries in use soften collisions.",
        ),
    ),
    assumptions=(
        Assumption(
            name="failures a month",
            value=40,
            uncertain=True,
            source="2,400 chips; at the rates of Llama 3 it would be 34",
        ),
        Assumption(
            name="until found",
            value=4 * 3600.0,
            unit="s",
            uncertain=True,
            source="a watchdog's half hour, then hours to days of search (summary of the paper); the low end of these",
        ),
        Assumption(name="until found, C4", value=330.0, unit="s", source="tens of seconds, and minutes to isolate"),
        Assumption(name="between checkpoints", value=3 * 3600.0, unit="s", source="not given; a few a day"),
        Assumption(name="between checkpoints, C4", value=600.0, unit="s", source="not given; checkpoints in memory"),
        Assumption(name="sequences per rank", value=4, source="not given: 256 sequences a step"),
    ),
    run=run,
)
