"""The screen of a plan, letter by letter; numbers are set by hand, so that no coefficient shows here."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from ridgeline.api.planning.plan import Candidate, Planned
from ridgeline.api.planning.plan_question import asked_of
from ridgeline.api.planning.plan_view import plain
from ridgeline.search.planning import Moved

GOLDEN = Path(__file__).with_name("plan_screen.txt")
COMMON = {"model": "Qwen/Qwen3-32B-FP8", "chip": "h200-sxm", "isl": 4000.0, "osl": 1000.0}


def candidate(case: dict[str, float | str], rate: float, chips: float, tpot_s: float) -> Candidate:
    values: dict[str, float | str] = {
        "ttft_s": 0.4,
        "tpot_s": tpot_s,
        "e2e_s": 0.4 + 999 * tpot_s,
        "request_per_s": rate,
        "output_tokens_per_s": rate * 1000,
        "output_tokens_per_s_per_chip": rate * 1000 / chips,
        "chips": chips,
        "energy_j_per_output_token": 600 * chips / (rate * 1000),
        "usd_per_h": 3.59 * chips,
        "cost_usd_per_1m_output_tokens": 3.59 * chips / 3.6 / rate,
        "bound": "memory",
    }
    return Candidate({**COMMON, **case}, values)


def known_plan() -> Planned:
    """A question with three answers."""
    asked = asked_of(
        {"model": COMMON["model"], "on": "8x h200-sxm", "isl": 4000, "osl": 1000, "ttft": "p99=1s", "tpot": "40ms"}
    )
    pools = {"prefill_workers": 3.0, "decode_workers": 2.0, "decode_tp": 2.0, "prefill_batch": 1.0, "decode_batch": 0.0}
    apart = candidate({"runtime": "vllm", "mode": "disagg", **pools}, 9.5, 7.0, 0.039)
    whole = candidate({"runtime": "vllm", "mode": "agg", "tp": 2.0, "replicas": 4.0, "kv": "fp8"}, 9.0, 8.0, 0.031)
    quick = candidate(
        {"runtime": "sglang", "mode": "agg", "tp": 8.0, "replicas": 1.0, "max_batch": 32.0}, 2.0, 8.0, 0.006
    )
    moved = Moved(
        name="limit on TPOT", factor=0.9, case=whole.case, plan_changes=True, sizes_change=True, objective=1.05
    )
    lost = Moved(name="limit on TTFT", factor=0.9, case={}, plan_changes=True, sizes_change=True, objective=1.0)
    found = Planned(
        asked=asked,
        best=(apart, whole, quick),
        front=(apart, whole, quick),
        families={"disagg, vllm on h200-sxm": apart, "agg, vllm on h200-sxm": whole, "agg, sglang on h200-sxm": quick},
        seen=23_518,
        feasible=20_000,
        engines=320,
        search_s=0.5,
        notes=asked.notes,
        moved=(moved, lost),
    )
    sizes = {"weights_bytes_per_chip": 16 * 2.0**30, "kv_bytes_per_chip": 80 * 2.0**30, "power_w_per_chip": 650.0}
    found.__dict__["prediction"] = SimpleNamespace(phases=(), values=sizes)
    return found


def test_the_screen_is_the_committed_one() -> None:
    screen = plain(known_plan())
    if os.environ.get("RIDGELINE_REGOLD"):
        GOLDEN.write_text(screen, encoding="utf-8")
    assert screen == GOLDEN.read_text(encoding="utf-8")
