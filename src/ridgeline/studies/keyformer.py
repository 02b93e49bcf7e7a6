"""Keyformer: keep the key tokens of the prompt and a recent window, and let the rest of the cache go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware import machine
from ridgeline.steps import Eager, eager_time_s
from ridgeline.studies.frame import HOST_PER_KERNEL, Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads import Batch, forward
from ridgeline.workloads.catalogue import model

ON = MachineColumns((machine("a100-80gb-sxm"),))
LATENCY = "latency of a request, full cache over half"
RATE = "tokens/s with half the cache and twice the batch"
LENGTHS = (1024.0, 2048.0, 4096.0)


def _seconds(length: float, seqs: float, assumed: Mapping[str, float], *, kept: float) -> float:
    """Prefill of `length` tokens, then as many generated; a kept share of the prompt is all the cache there is."""
    of = model("mpt-7b")
    eager = Eager(host_kernel_s=assumed[HOST_PER_KERNEL.name], cache_copies=assumed["cache copies"])
    beams = seqs * assumed["beams"]
    contexts = length + np.linspace(1.0, length, 33) if kept >= 1.0 else np.full(33, kept * length)
    decode = np.mean(eager_time_s(forward(of, Batch(decode_seqs=beams, decode_context=contexts)), ON, eager)) * length
    prompt = eager_time_s(forward(of, Batch(prefill_seqs=seqs, prefill_tokens=length)), ON, eager)
    return float(decode + prompt)


def run(assumed: Mapping[str, float]) -> Outcome:
    """The longest of the paper's settings gives the claimed gains; the figure has all of them."""
    half = assumed["kept share"]
    gains, rates = [], []
    for length in LENGTHS:
        full = _seconds(length, 1.0, assumed, kept=1.0)
        gains.append(full / _seconds(length, 1.0, assumed, kept=half))
        rates.append(2.0 * full / _seconds(length, 2.0, assumed, kept=half))
    return Outcome(
        results={LATENCY: gains[-1], RATE: rates[-1]},
        figure=Figure(
            title="MPT-7B on A100 with half of the cache",
            x=LENGTHS,
            lines={"latency": gains, "throughput, twice the batch": rates},
            x_label="tokens of the prompt, and as many generated",
            y_label="gain",
            x_log=True,
        ),
    )


STUDY = Study(
    name="keyformer",
    n=156,
    area="kv-cache",
    paper="Adnan et al., Keyformer: KV Cache Reduction through Key Tokens Selection, MLSys 2024 (arXiv 2403.09054)",
    idea="Most attention goes to few tokens. Keeping half of the prompt's keys halves what each step reads, and what "
    "eager code copies: the cache grows by concatenation, and beams are sorted by copying it again.",
    claims=(
        Claim(metric=LATENCY, value=2.1, baseline="full cache, MPT-7B, one A100"),
        Claim(metric=RATE, value=2.4, baseline="full cache, MPT-7B, one A100"),
    ),
    assumptions=(
        HOST_PER_KERNEL,
        Assumption(name="kept share", value=0.5, source="abstract"),
        Assumption(
            name="beams",
            value=4,
            source="beam search of the paper's summarisation runs; recalled, its repository's scripts set num_beams 4",
            uncertain=True,
            whole=True,
        ),
        Assumption(
            name="cache copies",
            value=2,
            source="torch.cat of the new token, and index_select of the beams (huggingface/transformers, "
            "_reorder_cache)",
            uncertain=True,
        ),
    ),
    run=run,
)
