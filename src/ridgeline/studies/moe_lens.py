"""MoE-Lens: a mixture of experts whose weights stream from host memory, and how many tokens one pass should carry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.core.dtypes import DTYPES
from ridgeline.hardware import chip
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads import kv_bytes_per_token, parameters
from ridgeline.workloads.catalogue import model

CASES = {"MTBench": (98.0, 32.0), "MTBench, long": (98.0, 256.0), "RAG": (926.0, 128.0), "AIME": (128.0, 512.0)}
CACHES = (70e9, 210e9)
"""Bytes in the host; the former is the paper's, the latter recalled from it."""
GAIN = "tokens/s over phases one after the other, mean of loads and caches"
TURN, OVERLAP = (f"share of the GPU in use, {how}, 98 tokens in and 32 out, 70 GB" for how in ("in turn", "overlapped"))
KEPT = "sequences in the same cache, 98 tokens in and 256 out"


def _compute_s(tokens: float, assumed: Mapping[str, float]) -> float:
    """Matmuls of one pass on the GPU."""
    flops = 2.0 * float(np.asarray(parameters(model("mixtral-8x7b")).active)) * tokens
    return flops / (chip("a40").peak_flops_per_s("bf16") * assumed["matmul efficiency"])


def _pass_s(tokens: float, cached_bytes: float, assumed: Mapping[str, float]) -> float:
    """One pass over all layers: weights over the link, matmuls on the GPU, attention in the host's memory, at once."""
    weights = float(np.asarray(parameters(model("mixtral-8x7b")).total)) * DTYPES["bf16"].element_bytes
    port = chip("a40").port("host")
    assert port is not None, "a card has a host port"
    stream = weights / (port.bandwidth_bytes_per_s * assumed["link efficiency"])
    attention = cached_bytes / (chip("xeon-8380").dram.bandwidth_bytes_per_s * assumed["host efficiency"])
    return max(stream, _compute_s(tokens, assumed), attention)


def _overlapped(prompt: float, output: float, cache: float, assumed: Mapping[str, float]) -> tuple[float, float]:
    """Output tokens/s when each pass decodes all residents and prefills their successors; share of the GPU in use."""
    per_token = float(np.asarray(kv_bytes_per_token(model("mixtral-8x7b"))))
    residents = cache / per_token / (prompt + output / 2.0)
    tokens = residents * (1.0 + prompt / output)
    time_s = _pass_s(tokens, cache, assumed)
    return residents / time_s, _compute_s(tokens, assumed) / time_s


def _in_turn(prompt: float, output: float, cache: float, assumed: Mapping[str, float]) -> tuple[float, float]:
    """The same when a batch is prefilled, then decoded to its end with its whole length reserved."""
    per_token = float(np.asarray(kv_bytes_per_token(model("mixtral-8x7b"))))
    residents = min(cache / per_token / (prompt + output), assumed["batch of MoE-Lightning"])
    prefill = _pass_s(residents * prompt, 0.0, assumed)
    decode = _pass_s(residents, residents * (prompt + output / 2.0) * per_token, assumed)
    time_s = prefill + decode * output
    return residents * output / time_s, _compute_s(residents * (prompt + output), assumed) / time_s


def run(assumed: Mapping[str, float]) -> Outcome:
    """The gain of overlap over loads and caches, and what a cache of given size holds."""
    gains = [
        _overlapped(*load, cache, assumed)[0] / _in_turn(*load, cache, assumed)[0]
        for load in CASES.values()
        for cache in CACHES
    ]
    prompt, output = CASES["MTBench, long"]
    sizes = [25e9 * 2**i for i in range(6)]
    rate = {name: [_overlapped(p, g, size, assumed)[0] for size in sizes] for name, (p, g) in CASES.items()}
    return Outcome(
        results={
            GAIN: float(np.exp(np.log(gains).mean())),
            KEPT: (prompt + output) / (prompt + output / 2.0),
            TURN: _in_turn(*CASES["MTBench"], CACHES[0], assumed)[1],
            OVERLAP: _overlapped(*CASES["MTBench"], CACHES[0], assumed)[1],
        },
        figure=Figure(
            title="Mixtral 8x7B from host memory: from the link's bound to the GPU's",
            x=[size / 1e9 for size in sizes],
            lines=rate,
            x_label="GB of cache in host memory",
            y_label="tokens/s",
            x_log=True,
            y_log=True,
        ),
        notes=(f"The largest gain is {max(gains):.0f}; the paper has up to 25.5.",),
    )


STUDY = Study(
    name="moe-lens",
    n=22,
    area="moe",
    paper="Yuan et al., MoE-Lens: Towards the Hardware Limit of High-Throughput MoE LLM Serving Under Resource "
    "Constraints (arXiv 2504.09345)",
    idea="Every pass streams all experts over PCIe, so a pass should carry as many tokens as the GPU can compute "
    "meanwhile. The cache in host memory limits that; prefilling successors while others decode fills it better.",
    claims=(
        Claim(metric=GAIN, value=4.6, baseline="MoE-Lightning"),
        Claim(metric=KEPT, value=1.57, baseline="whole lengths reserved", source="section 4, effective cache"),
        Claim(metric=TURN, value=0.165, kind="absolute", source="of MoE-Lightning, 70 GB of cache, 32 tokens out"),
        Claim(metric=OVERLAP, value=0.90, kind="absolute", source="70 GB of cache, 32 tokens out"),
    ),
    assumptions=(
        Assumption(
            name="batch of MoE-Lightning",
            value=504,
            unit="sequences",
            source="its own plan for this model, MTBench and 128 tokens out: 14 micro-batches of 36 (arXiv 2411.11217, "
            "table 5; a T4)",
            uncertain=True,
            whole=True,
        ),
        Assumption(
            name="link efficiency", value=0.8, source="pinned copies over PCIe reach about 80 % of the raw rate"
        ),
        Assumption(name="matmul efficiency", value=0.6, source="grouped matmuls of large batches", uncertain=True),
        Assumption(
            name="host efficiency", value=0.6, source="streams of a socket's cores reach 60 to 80 % of its memory"
        ),
    ),
    run=run,
)
