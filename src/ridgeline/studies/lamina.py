"""Lamina: weights on chips that compute, caches and their attention on chips that remember."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

TRACES = {"Azure conversation": (1155, 211), "Azure code": (2048, 28), "Kimi": (12035, 343), "Kimi agents": (8560, 182)}
"""Mean prompt and output tokens of the four public traces."""
MODELS = {"llama-30b": 1, "llama-65b": 2, "llama-3-70b": 2}
"""H100 that hold the weights; twice as many H20 hold the cache, and the baseline has twice as many H100."""
GAIN = "tokens/s of decoding at similar cost"


def _decoding(model: str, assumed: Mapping[str, float], **columns: object) -> np.ndarray:
    """Tokens/s of each trace with all memory in use; prompts are somebody else's work.

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
    rates: np.ndarray = found["output_tokens_per_s"]
    return rates


def run(assumed: Mapping[str, float]) -> Outcome:
    """Three models over four traces: 2k H100 against k H100 with 2k H20 beside them."""
    gains: dict[str, list[float]] = {}
    for model, chips in MODELS.items():
        apart = {
            "attention_chip": "h20",
            "attention_chips": 2 * chips,
            "attention_link_bytes_per_s": assumed["link of a chip"],
        }
        whole = _decoding(model, assumed, tp=2 * chips)
        rotated = [_decoding(model, assumed, tp=chips, attention_batches=n, **apart) for n in (1, 2, 3)]
        gains[model] = (np.max(rotated, axis=0) / whole).tolist()
    cost = (1.0 + 2.0 * assumed["price of H20 over H100"]) / 2.0
    return Outcome(
        results={GAIN: [gain for each in gains.values() for gain in each]},
        figure=Figure(
            title="Attention on chips of its own over more chips of one kind",
            x=[prompt + output / 2 for prompt, output in TRACES.values()],
            lines=gains,
            x_label="mean context, tokens",
            y_label="ratio of tokens/s",
            x_log=True,
        ),
        notes=(f"The mixed system costs {cost:.2f} of the other.", "Up to three batches rotate, as is faster."),
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
            why="Inside the range but for two traces of short contexts on Llama-3-70B, whose queries share caches: two "
            "H100 multiply for a batch of 840 and are bound by arithmetic. The upper end is not reached: memory and "
            "arithmetic are the only limits of the baseline priced here.",
        ),
    ),
    assumptions=(
        Assumption(
            name="link of a chip",
            value=50e9,
            unit="B/s",
            source="one 400 Gb/s RoCE adapter per chip, as such nodes have (hgx-h20, dgx-h100 of the catalogue)",
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
