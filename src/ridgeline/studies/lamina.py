"""Lamina: weights on chips that compute, caches and their attention on chips that remember."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

TRACES = {"Azure conversation": (1155, 211), "Azure code": (2048, 28), "Kimi": (12035, 343), "Kimi agents": (8560, 182)}
"""Mean prompt and output tokens of the four public traces."""
MODELS = {"llama-30b": 1, "llama-65b": 2, "llama-3-70b": 2}
"""H100 that hold the weights; twice as many H20 hold the cache, and the baseline has twice as many H100."""
GAIN, BATCH = "tokens/s of decoding at similar cost", "sequences that decode together, mean of models and traces"
LATENCY_S = 33.0e-6 / 2
"""One way of the paper's own network stack (section 6.3)."""


def _decoding(model: str, assumed: Mapping[str, float], **columns: object) -> tuple[np.ndarray, np.ndarray]:
    """Tokens/s and sequences of each trace with all memory in use; prompts are somebody else's work.

    A request of one token in and twice the mean context out holds, and reads, what a request of the trace does while it
    decodes.
    """
    contexts = np.array([prompt + output / 2 for prompt, output in TRACES.values()])
    found = sweep(
        "serving",
        model=model,
        chip="h100-sxm",
        runtime="vllm",
        load="saturated",
        isl=1,
        osl=(2.0 * contexts - 1.0).tolist(),
        max_batch=assumed["most sequences"],
        **columns,
    )
    return found["output_tokens_per_s"], found["batch"]


def run(assumed: Mapping[str, float]) -> Outcome:
    """Three models over four traces: 2k H100 against k H100 with 2k H20 beside them, one batch or two in turn."""
    gains: dict[str, list[float]] = {}
    batches: list[float] = []
    for model, chips in MODELS.items():
        apart = {
            "attention_chip": "h20",
            "attention_chips": 2 * chips,
            "attention_link_bytes_per_s": assumed["link of a chip"],
            "attention_latency_s": LATENCY_S,
        }
        whole = _decoding(model, assumed, tp=2 * chips)
        rotated = [_decoding(model, assumed, tp=chips, attention_batches=n, **apart) for n in (1, 2)]
        gains[model] = (np.max([rates for rates, _ in rotated], axis=0) / whole[0]).tolist()
        batches += (rotated[0][1] / whole[1]).tolist()
    cost = (1.0 + 2.0 * assumed["price of H20 over H100"]) / 2.0
    return Outcome(
        results={GAIN: [gain for each in gains.values() for gain in each], BATCH: float(np.mean(batches))},
        figure=Figure(
            title="Attention on chips of its own over more chips of one kind",
            x=[prompt + output / 2 for prompt, output in TRACES.values()],
            lines=gains,
            x_label="mean context, tokens",
            y_label="ratio of tokens/s",
            x_log=True,
        ),
        notes=(
            f"The mixed system costs {cost:.2f} of the other.",
            "Two batches take turns where faster; three would ask for two copies of the weights.",
        ),
    )


STUDY = Study(
    name="lamina",
    n=146,
    area="llm-serving",
    paper="Chen et al., Efficient Heterogeneous Large Language Model Decoding with Model-Attention Disaggregation "
    "(arXiv 2405.01814v2; v1: Efficient and Economic LLM Inference with Attention Offloading)",
    idea="Decoding reads weights once per batch and a cache once per sequence. Cheap chips with much memory hold the "
    "cache and run its attention, so that the batch grows and dear chips multiply matrices. Here `attention_chip` "
    "with rotating batches, against one kind of chip at similar cost.",
    claims=(
        Claim(
            metric=GAIN,
            value=(1.161, 1.901),
            baseline="vLLM on H100 alone",
            why="Batches grow as theirs do. Priced kernels fill tiles of 64 rows with one query of a model without "
            "groups, and so bind H20 by arithmetic at 40 % of its bandwidth; kernels on vector units, which would not, "
            "have no price there. With groups two H100 multiply for a batch of 840 and are bound by arithmetic.",
        ),
        Claim(metric=BATCH, value=2.39, baseline="vLLM on H100 alone", source="section 6.1"),
    ),
    assumptions=(
        Assumption(
            name="link of a chip",
            value=45.7e9,
            unit="B/s",
            source="section 6.3: what one 400 Gb/s RoCE adapter per chip reaches in a ping-pong test",
            uncertain=True,
        ),
        Assumption(name="most sequences", value=1024, source="large, so that memory is the limit of both, as there"),
        Assumption(
            name="price of H20 over H100",
            value=4.63 / 11.06,
            source="hourly prices of table 1 as recalled; only for the note on cost, the chips are the paper's pairs",
        ),
    ),
    run=run,
)
