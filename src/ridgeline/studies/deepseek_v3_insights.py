"""Insights into DeepSeek-V3: cache per token, training work per token, and how fast experts can talk."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline.core.dtypes import DTYPES
from ridgeline.hardware import chip, machine
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads import Batch, Model, forward, kv_bytes_per_token
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.model import MixtureOfExperts

KV = "KV cache of {}, kB per token"
WORK = "training work of {}, GFLOP per token"
BOUND = "least time per output token with experts on {}, ms"
FORWARD_AND_BACKWARD = 3.0


def _gflops_per_token(name: str, tokens: float) -> float:
    """Forward and backward of one sequence; attention is causal, the embedding is a lookup."""
    graph = forward(model(name), Batch(prefill_seqs=1, prefill_tokens=tokens, logits=tokens))
    return float(graph.flops()) * FORWARD_AND_BACKWARD / tokens / 1e9


def _exchange_ms(of: Model, link_bytes_per_s: float, tokens: float, micro_batches: float) -> float:
    """Every layer sends its tokens to the experts in fp8 and takes them back in bf16, with nothing to hide behind."""
    experts = next(block.ffn for block in of.blocks if isinstance(block.ffn, MixtureOfExperts))
    sent = tokens * (float(experts.topk) + 1.0) * float(of.hidden)
    both_ways = sent * (DTYPES["fp8"].bits + DTYPES["bf16"].bits) / 8
    return both_ways / link_bytes_per_s * micro_batches * sum(float(block.count) for block in of.blocks) * 1e3


def run(assumed: Mapping[str, float]) -> Outcome:
    """Every number from the shapes of the models and the links of the catalogue."""
    of, tokens = model("deepseek-v3"), assumed["tokens per device"]
    links = {
        "400G InfiniBand": float(machine("2x hgx-h800").levels[-1].bandwidth_bytes_per_s),
        "GB200 NVL72": float(chip("gb200").ports[0].bandwidth_bytes_per_s),
    }
    both = assumed["micro-batches"]
    bounds = {name: _exchange_ms(of, link, tokens, both) for name, link in links.items()}
    sweep = [8.0, 16.0, 32.0, 64.0, 128.0]
    return Outcome(
        results={
            BOUND.format("400G InfiniBand"): bounds["400G InfiniBand"],
            BOUND.format("GB200 NVL72"): bounds["GB200 NVL72"],
            **{KV.format(n): float(kv_bytes_per_token(model(m))) / 1e3 for n, m in MODELS.items()},
            **{WORK.format(n): _gflops_per_token(m, assumed["sequence"]) for n, m in MODELS.items()},
        },
        figure=Figure(
            title="Least time per output token while experts exchange tokens",
            x=sweep,
            lines={name: [_exchange_ms(of, link, t, both) for t in sweep] for name, link in links.items()},
            x_label="tokens per device and micro-batch",
            y_label="ms",
            x_log=True,
            y_log=True,
        ),
        notes=("The paper rounds the width of 7168 to 7K, which makes its bounds 2.3 % lower than ours.",),
    )


MODELS = {"DeepSeek-V3": "deepseek-v3", "Qwen2.5-72B": "qwen2.5-72b", "Llama-3.1-405B": "llama-3.1-405b"}
STUDY = Study(
    name="deepseek-v3-insights",
    n=39,
    area="serving",
    paper="Zhao et al., Insights into DeepSeek-V3, ISCA 2025 (arXiv 2505.09343)",
    idea="Latent attention shrinks the cache, sparse experts shrink the work, and the all-to-all of the experts "
    "bounds the speed of decoding. All three follow from shapes and links.",
    claims=(
        Claim(metric=BOUND.format("400G InfiniBand"), value=14.76, kind="absolute", source="section 2.3.2"),
        Claim(metric=BOUND.format("GB200 NVL72"), value=0.82, kind="absolute", source="section 2.3.2"),
        Claim(metric=KV.format("DeepSeek-V3"), value=70.272, kind="exact", source="table 1"),
        Claim(metric=KV.format("Qwen2.5-72B"), value=327.680, kind="exact", source="table 1"),
        Claim(metric=KV.format("Llama-3.1-405B"), value=516.096, kind="exact", source="table 1"),
        Claim(metric=WORK.format("DeepSeek-V3"), value=250.0, kind="absolute", source="table 2"),
        Claim(metric=WORK.format("Qwen2.5-72B"), value=394.0, kind="absolute", source="table 2"),
        Claim(metric=WORK.format("Llama-3.1-405B"), value=2448.0, kind="absolute", source="table 2"),
    ),
    assumptions=(
        Assumption(name="tokens per device", value=32, source="section 2.3.2", uncertain=True, whole=True),
        Assumption(name="micro-batches", value=2, source="two overlapped micro-batches per layer, section 2.3.2"),
        Assumption(
            name="sequence", value=4096, unit="tokens", source="DeepSeek-V3 report, arXiv 2412.19437, section 4.2"
        ),
    ),
    run=run,
)
