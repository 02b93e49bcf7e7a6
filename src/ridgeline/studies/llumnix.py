"""Llumnix: requests that move between instances while they decode, so that no instance drowns beside idle ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.serving.record.answer_values import ClassAnswer
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, play, sweep, tail

LOADS = (0.4, 0.5, 0.6)
ROUND, SPREAD, MOVED = (
    {"router": "round-robin"},
    {"router": "freest"},
    {"router": "freest", "rebalance": "freeness(interval=0.5s)"},
)
TTFT = "99th percentile of the time to first token, dispatch alone over migration, best load"
ROBIN = "the same over round robin"
LOSS = "preemptions, migration over dispatch alone"
CASE = {"model": "llama-7b", "chip": "a10", "replicas": 16, "runtime": "vllm", "memory_frac": 1.0}


def _played(rate: float, assumed: Mapping[str, float], policy: Mapping[str, str]) -> ClassAnswer:
    """Requests with long tails, in bursts, on sixteen instances."""
    mean, sigma = assumed["mean length"], assumed["sigma"]
    words = f"lognormal(mean={mean}, sigma={sigma})"
    return play(
        prompt=words,
        output=words,
        arrivals=f"gamma({rate}/s, cv={assumed['burstiness']})",
        requests=2000,
        longest=8192,
        **CASE,
        **policy,
    )


def run(assumed: Mapping[str, float]) -> Outcome:
    """Loads, as shares of what sixteen instances could serve, under three policies."""
    mean = round(assumed["mean length"])
    full = float(sweep("serving", isl=mean, osl=mean, load="saturated", **CASE)["request_per_s"][0])
    played = {
        name: [_played(full * load, assumed, policy) for load in LOADS]
        for name, policy in (("round robin", ROUND), ("dispatch", SPREAD), ("migration", MOVED))
    }
    tails = {name: np.array([tail(one.ttft_s) for one in runs]) for name, runs in played.items()}
    lost = {name: sum(one.preemptions for one in runs) for name, runs in played.items()}
    return Outcome(
        results={
            TTFT: float((tails["dispatch"] / tails["migration"]).max()),
            ROBIN: float((tails["round robin"] / tails["migration"]).max()),
            LOSS: lost["migration"] / max(lost["dispatch"], 1),
        },
        figure=Figure(
            title="99th percentile of the time to first token, Llama-7B on sixteen A10",
            x=LOADS,
            lines={name: times.tolist() for name, times in tails.items()},
            x_label="share of the saturated rate",
            y_label="s",
            y_log=True,
        ),
    )


STUDY = Study(
    name="llumnix",
    n=133,
    area="llm-serving",
    paper="Sun et al., Llumnix: Dynamic Scheduling for Large Language Model Serving, OSDI 2024 (arXiv 2406.03243)",
    idea="Lengths are not known when a request is dispatched, so some instances fill up and preempt while others "
    "have room. Moving requests mends that. Here `rebalance=freeness` over routers that only dispatch.",
    claims=(
        Claim(
            metric=TTFT,
            value=14.8,
            baseline="INFaaS++, dispatch by load; up to",
            why="The tail is that of requests that wait for a full instance. Dispatch by freeness, on both sides "
            "here, takes most of it already; our rule then moves one decoding request per pair of instances and "
            "interval, while Llumnix clears room for the head of a queue at once.",
        ),
        Claim(
            metric=ROBIN,
            value=34.3,
            baseline="round robin; up to",
            source="section 6.3, recalled",
            why="The same. Round robin over lengths with a long tail is worst where nothing else waits; the gain "
            "over it grows with the tail, for which a lognormal law stands here.",
        ),
        Claim(
            metric=LOSS,
            value=0.296,
            baseline="INFaaS++",
            source="osdi24ae artifact: 70.4 % less on average",
            why="The same: preempted sequences are those of instances that fill faster than one move per interval "
            "empties them.",
        ),
    ),
    assumptions=(
        Assumption(
            name="mean length",
            value=256,
            unit="tokens",
            source="medium power-law lengths of the artifact",
            whole=True,
        ),
        Assumption(name="sigma", value=1.2, source="a long tail in place of the artifact's power law", uncertain=True),
        Assumption(
            name="burstiness",
            value=2.0,
            source="gamma arrivals of the artifact with coefficients of variation of 2 to 8; the lowest",
        ),
    ),
    run=run,
)
