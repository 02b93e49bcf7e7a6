"""Names of columns as people say them; the column's own name stands beside it, as it is what the commands take."""

from __future__ import annotations

from collections.abc import Mapping

FIELDS: Mapping[str, str] = {
    "on": "Machine",
    "tp": "Tensor parallelism",
    "pp": "Pipeline stages",
    "dp": "Data parallelism",
    "ep": "Expert parallelism",
    "cp": "Context parallelism",
    "vp": "Virtual stages",
    "moe_tp": "Tensor parallelism of experts",
    "isl": "Prompt tokens",
    "osl": "Output tokens",
    "seq": "Sequence length",
    "topk": "Experts per token",
    "kv": "KV cache format",
    "weights": "Weight format",
    "activations": "Activation format",
    "moe_weights": "Expert weight format",
    "zero": "ZeRO stage",
    "prompt": "Law of prompt tokens",
    "output": "Law of output tokens",
    "ttft_slo_s": "TTFT objective",
    "tpot_slo_s": "TPOT objective",
    "e2e_slo_s": "E2E objective",
    "ttft": "TTFT limit",
    "tpot": "TPOT limit",
    "e2e": "E2E limit",
    "rate": "Arrival rate",
    "power": "Power limit",
    "request_rate_per_s": "Arrival rate",
    "kept": "What stays of the cache",
    "longest": "Longest sequence",
}
RESULTS: Mapping[str, str] = {
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "e2e_s": "End to end",
    "request_per_s": "Requests per second",
    "output_tokens_per_s": "Output tokens per second",
    "output_tokens_per_s_per_chip": "Output per chip",
    "total_tokens_per_s": "All tokens per second",
    "max_batch_that_fits": "Most sequences that fit",
    "power_w_per_chip": "Power per chip",
    "energy_j_per_output_token": "Energy per output token",
    "energy_j_per_token": "Energy per token",
    "cost_usd_per_1m_output_tokens": "Cost of 1M output tokens",
    "usd_per_h": "Rent per hour",
    "step_s": "Step time",
    "tokens_per_s_per_chip": "Tokens per second and chip",
    "model_flops_per_s_per_chip": "Model FLOP/s per chip",
    "hardware_flops_per_s_per_chip": "Hardware FLOP/s per chip",
    "mfu": "Model FLOPs utilisation",
    "hfu": "Hardware FLOPs utilisation",
    "fits": "Fits in memory",
    "exposed_comm_frac": "Exposed communication",
    "bubble_frac": "Pipeline bubble",
}
_SUFFIXES = (("_per_s", " per second"), ("_frac", " share"), ("_bytes_per_chip", " per chip"), ("_usd", ""))
_UNITS = ("_s", "_w", "_j", "_bytes")


def label(name: str) -> str:
    """A field's name as words: those listed, else the name without its unit."""
    return FIELDS.get(name) or _plain(name)


def result_label(name: str) -> str:
    """A result's name as words."""
    return RESULTS.get(name) or _plain(name)


def _plain(name: str) -> str:
    for ending, words in _SUFFIXES:
        if name.endswith(ending):
            return _words(name.removesuffix(ending)) + words
    for ending in _UNITS:
        if name.endswith(ending):
            return _words(name.removesuffix(ending))
    return _words(name)


def _words(name: str) -> str:
    plain = name.replace("_", " ").strip()
    return plain[:1].upper() + plain[1:]
