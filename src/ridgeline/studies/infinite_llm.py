"""Infinite-LLM: caches of all instances are one pool, so that instances need not be as large as the longest context."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

LONGER = "longest context of 2 to 32 instances, pooled over one instance"
FASTER = "tokens/s of 32 A100, instances of one chip and a pool over instances that hold the longest context"
CHIPS = 32
DEGREES = (2, 4, 8, 16, 32)
CASE = {"model": "llama-2-7b", "chip": "a100-80gb-sxm", "runtime": "vllm", "load": "saturated"}


def _cached_tokens(degree: int) -> float:
    """Tokens that the memory of an instance holds, from the batch of small requests that fits."""
    small = 128
    found = sweep("serving", tp=degree, isl=small, osl=1, **CASE)
    return float(found["max_batch_that_fits"][0]) * small


def run(assumed: Mapping[str, float]) -> Outcome:
    """A pool adds memories up. Static instances of k chips hold 1/k of the cluster's contexts, at their rates."""
    one = _cached_tokens(1)
    pooled = one * np.array(DEGREES)
    load = {"isl": int(assumed["prompt"]), "osl": int(assumed["answer"])}
    found = sweep("serving", tp=[1, *DEGREES], **load, **CASE)["output_tokens_per_s"]
    cluster = found * CHIPS / np.array([1, *DEGREES])
    # A long context takes its part of the pool from the others, and the same from a static instance.
    gains = (cluster[0] / cluster[1:]).tolist()
    return Outcome(
        results={LONGER: (pooled / one).tolist(), FASTER: gains},
        figure=Figure(
            title="32 A100 with Llama-2-7B: one chip per instance and a pool, over static instances",
            x=[_cached_tokens(degree) for degree in DEGREES],
            lines={"tokens/s": gains},
            x_label="longest context of a static instance, tokens",
            y_label="ratio",
            x_log=True,
        ),
        notes=(
            f"An instance of one chip holds {one:,.0f} tokens, 32 of them {32 * one:,.0f}; the paper ran 1,900,000.",
            "Partial results of remote attention are small, and are left out.",
        ),
    )


STUDY = Study(
    name="infinite-llm",
    n=119,
    area="long-context",
    paper="Lin et al., Infinite-LLM: Efficient LLM Service for Long Context with DistAttention and Distributed KVCache "
    "(arXiv 2401.02669; its system is called DistKV-LLM in v1)",
    idea="An instance must hold its longest request, so a service for long contexts has few large instances, which are "
    "slow per chip for the short requests that are most. With attention on borrowed memory instances stay small.",
    claims=(
        Claim(
            metric=FASTER,
            value=(1.35, 3.4),
            baseline="static instances; v2",
            why="Inside the range at instances of a whole node. Two or four chips lose little to tensor parallelism, "
            "32 more than in the paper: it then crosses nodes.",
        ),
        Claim(
            metric=LONGER,
            value=(2.0, 19.0),
            baseline="one instance; v1",
            why="Memories add up to 32 times; the longest request that was run took about half of the pool.",
        ),
    ),
    assumptions=(
        Assumption(
            name="prompt",
            value=1000,
            unit="tokens",
            source="not given; most requests are short",
            uncertain=True,
            whole=True,
        ),
        Assumption(name="answer", value=200, unit="tokens", source="not given", uncertain=True, whole=True),
    ),
    run=run,
)
