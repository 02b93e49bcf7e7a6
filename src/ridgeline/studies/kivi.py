"""KIVI: keys and values in two bits, except for the newest, so that more sequences fit and each reads less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ridgeline.core.dtypes import DTYPES, DType
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware import machine
from ridgeline.plans import Plan
from ridgeline.steps import Eager, eager_time_s
from ridgeline.steps.memory import weight_bytes
from ridgeline.studies.frame import HOST_PER_KERNEL, Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads import Batch, Model, cache_bytes, forward
from ridgeline.workloads.catalogue import model

PROMPT, OUTPUT = 160.0, 338.0
"""Tokens, mem_spd_test.py of the paper's repository."""
RESIDUALS = (32.0, 128.0)
ON = MachineColumns((machine("a100-80gb-sxm"),))
MEMORY = "peak memory, weights included, at the largest batch of 16-bit caches"
BATCH = "largest batch"
RATE = "throughput at the largest batch of each"


def _kept(of: Model, residual: float, context: np.ndarray | float) -> Model:
    """The model whose cache of `context` tokens has its newest `residual` in 16 bits and the rest in two.

    The mean width of a value stands for both: what counts is how many bytes are held and read.
    """
    narrow, wide = DTYPES["int2_g32"], DTYPES["fp16"]
    share = np.minimum(residual / np.asarray(context, float), 1.0)
    bits = float(np.mean(share * wide.bits + (1.0 - share) * (narrow.bits + narrow.scale_bits)))
    mixed = DType(name="kivi", bits=bits, compute="fp16")
    return replace(of, precision=replace(of.precision, kv=mixed))


def _held(of: Model, context: float) -> float:
    return float(np.asarray(cache_bytes(of, context)))


def _copied(residual: float, contexts: np.ndarray) -> np.ndarray:
    """Bytes that a step of KIVI copies, in those of its cache (models/llama_kivi.py of the repository).

    Keys in 16 bits grow up to the residual and are then packed all at once; the oldest of as many values is packed at
    each step, for which the tail is copied once to grow and once to shrink, and the packed values once to grow.
    """
    narrow, wide = DTYPES["int2_g32"], DTYPES["fp16"]
    bits, tail = narrow.bits + narrow.scale_bits, np.minimum(residual, contexts)
    keys, values = contexts - tail / 2.0, contexts - tail
    moved = wide.bits * (tail / 2.0 + 2.0 * tail) + bits * (keys / residual + values)
    return np.asarray(moved / (wide.bits * 1.5 * tail + bits * (keys + values)))


def _tokens_per_s(of: Model, seqs: float, assumed: Mapping[str, float], residual: float = 0.0) -> float:
    """Generation of a batch from start to end: one prefill, then a step per token."""
    contexts = PROMPT + np.arange(1.0, OUTPUT)
    copies = assumed["cache copies"] * (_copied(residual, contexts) if residual else 1.0)
    host = assumed[HOST_PER_KERNEL.name]
    eager = Eager(host_kernel_s=host, cache_copies=copies)
    decode = np.sum(eager_time_s(forward(of, Batch(decode_seqs=seqs, decode_context=contexts)), ON, eager))
    prompts = Batch(prefill_seqs=seqs, prefill_tokens=PROMPT)
    prefill = eager_time_s(forward(of, prompts), ON, Eager(host_kernel_s=host, cache_copies=1.0))
    return float(seqs * OUTPUT / (decode + prefill))


def run(assumed: Mapping[str, float]) -> Outcome:
    """Full caches against caches of KIVI, with both lengths of the 16-bit tail that the repository runs."""
    of, length = model("llama-2-7b"), PROMPT + OUTPUT
    weights = float(np.asarray(weight_bytes(of, Plan())))
    free = ON.machines[0].chip.dram.capacity_bytes - weights - assumed["activations"]
    most = float(np.floor(free / _held(of, length)))
    base = _tokens_per_s(of, most, assumed)
    memory, batch, rate = [], [], []
    for residual in RESIDUALS:
        small = _kept(of, residual, length)
        more = float(np.floor(free / _held(small, length)))
        memory.append((weights + most * _held(of, length)) / (weights + most * _held(small, length)))
        batch.append(more / most)
        rate.append(_tokens_per_s(small, more, assumed, residual) / base)
    seqs = [2.0**i for i in range(10)]
    small = _kept(of, RESIDUALS[1], length)
    return Outcome(
        results={RATE: rate, BATCH: max(batch), MEMORY: max(memory)},
        figure=Figure(
            title="Llama-2-7B on A100: memory of a batch",
            x=seqs,
            lines={
                name: [(weights + n * _held(one, length)) / 1e9 for n in seqs]
                for name, one in (("16 bits", of), ("KIVI, tail of 128", small))
            },
            x_label="sequences",
            y_label="GB",
            x_log=True,
            y_log=True,
        ),
    )


STUDY = Study(
    name="kivi",
    n=124,
    area="kv-cache",
    paper="Liu et al., KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache, ICML 2024 (arXiv 2402.02750)",
    idea="Keys per channel and values per token in two bits, the newest tokens in 16: memory admits a larger batch, "
    "and each step reads less. Both sides are eager model code on one A100; only the cache differs.",
    claims=(
        Claim(
            metric=RATE,
            value=(2.35, 3.47),
            baseline="16-bit caches",
            why="2.2 with the short tail, 1.5 with the long one, of which KIVI's code copies values twice a step. The "
            "rest would ask that the baseline's attention in plain PyTorch uses less of the bandwidth than KIVI's own "
            "kernels do; neither is among the measurements here, and both are priced alike.",
        ),
        Claim(metric=BATCH, value=4.0, baseline="16-bit caches; up to, best of both tails"),
        Claim(metric=MEMORY, value=2.6, baseline="16-bit caches; best of both tails"),
    ),
    assumptions=(
        HOST_PER_KERNEL,
        Assumption(
            name="cache copies",
            value=1,
            source="of the baseline, whose cache grows by torch.cat at each token; KIVI's are counted from its code",
            uncertain=True,
        ),
        Assumption(
            name="activations",
            value=4e9,
            unit="bytes",
            source="buffers of a prefill of the batch and of the framework; not in the paper",
            uncertain=True,
        ),
    ),
    run=run,
)
