"""What `/metrics` says: the names that vLLM's endpoint has, and how honest the emulator was.

Names, buckets and meaning: vLLM documentation, "Production metrics" and `vllm/v1/metrics/loggers.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter

from ridgeline.apps.emulator.clock import Clock
from ridgeline.serving.fleet.live import Live

FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
BETWEEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
WHOLE_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)

MOST_LATE_FRAC = 0.05
"""Of the time between tokens: a run whose 99th percentile of lateness is above says nothing about the deployment."""


class Histogram:
    """Counts by bucket, as Prometheus has them."""

    def __init__(self, name: str, words: str, edges: tuple[float, ...]) -> None:
        """Empty."""
        self.name, self.words, self.edges = name, words, edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """`count` equal values."""
        self.counts[bisect_left(self.edges, value)] += count
        self.total += value * count

    def lines(self, labels: str) -> list[str]:
        """In the text format."""
        found, so_far = [f"# HELP {self.name} {self.words}", f"# TYPE {self.name} histogram"], 0
        for edge, count in zip((*self.edges, math.inf), self.counts, strict=True):
            so_far += count
            text = "+Inf" if edge == math.inf else f"{edge:g}"
            found.append(f'{self.name}_bucket{{{labels},le="{text}"}} {so_far}')
        return [*found, f"{self.name}_sum{{{labels}}} {self.total!r}", f"{self.name}_count{{{labels}}} {so_far}"]


class Metrics:
    """Counters of one process."""

    def __init__(self, model: str) -> None:
        """Of the model of that name."""
        escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        self._labels = f'model_name="{escaped}",engine="0"'
        self.first = Histogram("vllm:time_to_first_token_seconds", "Time to first token in seconds.", FIRST_S)
        self.between = Histogram("vllm:inter_token_latency_seconds", "Time between tokens in seconds.", BETWEEN_S)
        self.whole = Histogram("vllm:e2e_request_latency_seconds", "End to end request latency in seconds.", WHOLE_S)
        self.prompt_tokens = self.generated_tokens = 0
        self.ended: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()

    def late_frac(self, clock: Clock) -> float:
        """99th percentile of lateness over the mean time between tokens; NaN before there are tokens."""
        tokens, between_s = sum(self.between.counts), clock.wall_s(self.between.total)
        if not between_s or not clock.lateness.count:
            return math.nan
        return float(clock.lateness.quantiles([0.99])[0]) * tokens / between_s

    def text(self, live: Live, clock: Clock, connections: int) -> str:
        """The whole page."""
        late = clock.lateness
        p50, p99 = late.quantiles([0.5, 0.99]).tolist() if late.count else (math.nan, math.nan)
        frac = self.late_frac(clock)
        gauges = (
            ("vllm:num_requests_running", "Requests in batches.", live.running),
            ("vllm:num_requests_waiting", "Requests in queues.", live.waiting),
            ("vllm:kv_cache_usage_perc", "Share of the KV cache in use. 1 means 100 percent.", live.cache_used_frac),
            ("ridgeline:connections", "Open connections.", connections),
            ("ridgeline:lateness_p50_seconds", "Median delay of tokens behind the simulation.", p50),
            ("ridgeline:lateness_p99_seconds", "99th percentile of it.", p99),
            ("ridgeline:lateness_p99_over_tpot", "That over the mean time between tokens.", frac),
            ("ridgeline:valid", "1 while that is at most 0.05.", int(not frac > MOST_LATE_FRAC)),
            ("ridgeline:speed", "Simulated seconds per second.", clock.speed),
        )
        counters = (
            ("vllm:prompt_tokens", "Prompt tokens processed.", self.prompt_tokens),
            ("vllm:generation_tokens", "Tokens generated.", self.generated_tokens),
            ("vllm:num_preemptions", "Preemptions.", sum(m.engine.preempted for m in live.fleet.members)),
            ("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", live.looked_up_tokens),
            ("vllm:prefix_cache_hits", "Prompt tokens found there.", live.found_tokens),
        )
        lines: list[str] = []
        for name, words, value in gauges:
            lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name}{{{self._labels}}} {value}"]
        for name, words, value in counters:
            lines += [f"# HELP {name}_total {words}", f"# TYPE {name}_total counter"]
            lines.append(f"{name}_total{{{self._labels}}} {value}")
        labels = self._labels
        lines += ["# HELP vllm:request_success_total Requests that ended.", "# TYPE vllm:request_success_total counter"]
        for reason in ("stop", "length", "abort"):
            lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {self.ended[reason]}')
        lines += ["# HELP ridgeline:refused_total Requests refused.", "# TYPE ridgeline:refused_total counter"]
        lines += [f'ridgeline:refused_total{{{labels},status="{s}"}} {n}' for s, n in sorted(self.refused.items())]
        for histogram in (self.first, self.between, self.whole):
            lines += histogram.lines(self._labels)
        return "\n".join(lines) + "\n"
