"""What may be asked of `plan`, declared once: the flags of the command line and the keys of a question file.

This module is light: the command line reads it for every command.
"""

from __future__ import annotations

from ridgeline.api.tables.columns import NUMBER, TEXT, Column

SERVED = ("vllm", "sglang", "trtllm")
"""Runtimes that are tried unless the question says."""

RANKED = ("throughput", "per-chip", "cost", "chips", "ttft", "tpot", "latency", "energy", "carbon")
"""Objectives (`search.planning.OBJECTIVES`)."""


def _text(name: str, doc: str) -> Column:
    return Column(name=name, kind=TEXT, doc=doc, default="")


def _number(name: str, doc: str, unit: str = "") -> Column:
    return Column(name=name, kind=NUMBER, doc=doc, default=0.0, unit=unit)


ASKED: tuple[Column, ...] = (
    _text("model", "bundled name, path to a config.json or its folder, or hub:OWNER/NAME"),
    _text("on", 'machines that may be used, up to so many: "32x h200-sxm", "8x h100-sxm, 16x l40s"'),
    _number("isl", "mean prompt tokens per request"),
    _number("osl", "mean output tokens per request"),
    _number("rate", "random arrivals that must be served; without: as many as the limits allow", "1/s"),
    _number("concurrency", "requests in flight, instead of a rate"),
    _text("trace", "requests (a trace or a traffic file): its rate and mean lengths"),
    _text("arrivals", 'a process: "poisson(5/s)", "closed(64)", ...: its rate'),
    _text("prompt", 'law of the prompt tokens, instead of isl: "lognormal(mean=1024, sigma=0.8)", ...'),
    _text("output", "law of the output tokens, instead of osl"),
    _text("ttft", 'limit on the mean time to first token, or on a percentile: "1s", "p99=2s"'),
    _text("tpot", "limit on the time per output token"),
    _text("e2e", "limit on the time to the last token"),
    _text("objective", f"what is to be best, the most important first: {', '.join(RANKED)}"),
    _text("mode", "one pool (agg), separate prefill and decode pools (disagg); both unless said"),
    _text("runtime", f"runtimes to try; {', '.join(SERVED)} unless said"),
    _text(
        "weights", 'formats of the weights to try: "published, fp8", or any that are native; as published unless said'
    ),
    _text("kv", "formats of the KV cache to try, likewise"),
    _text("max_batch", "batch limits to try; 0: the runtime's default"),
    _text("max_batched_tokens", "token budgets of an iteration to try; 0: the runtime's default"),
    _text("prefill_batch", "prompts in a step of a prefill pool to try"),
    _text("cp", "degrees of context parallelism to try"),
    _number("prefix_hit_frac", "share of prompt tokens found in the cache"),
    _number("acceptance_frac", "chance that a drafted token is accepted: speculation is then tried"),
    _text("draft_tokens", "speculated tokens per step to try, where an acceptance is given"),
    _number("power", "rated power of all chips together, at most", "w"),
    _number("budget", "price of all chips together, at most: USD/h", "usd/s"),
    _text("price", 'of a chip, instead of the catalogue\'s rent: "h200-sxm=2.5 USD/h"; one price for all kinds'),
    _text("site", "where it stands: its PUE and the carbon of its grid"),
)
"""What may be asked, as flags of the command line and keys of a file."""
