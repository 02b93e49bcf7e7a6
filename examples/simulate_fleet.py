"""One load on three ways to run the same four chips: which keeps its promises, and at what price?"""

import ridgeline as rl

MODEL, CHIP = "meta-llama/Llama-3.1-8B", "h100-sxm"
WAYS = {
    "four replicas": {"on": f"4x {CHIP}"},
    "one replica on four chips": {"on": f"4x {CHIP}", "tp": 4},
    "two prefill, two decode": {"chip": CHIP, "mode": "disagg", "prefill_workers": 2, "decode_workers": 2},
}


def main() -> None:
    traffic = rl.make_traffic(
        arrivals="gamma(20/s, cv=2)",
        prompt="lognormal(mean=1500, sigma=0.7)",
        output="lognormal(mean=200, sigma=0.6)",
        requests=1000,
    )
    print(f"{'':<28}{'TTFT p99':>10}{'TPOT p99':>12}{'in time':>10}{'$/1M':>8}")
    for name, way in WAYS.items():
        run = rl.simulate(model=MODEL, trace=traffic, ttft_slo_s="500ms", tpot_slo_s="25ms", **way)
        steady = run.answers.steady
        everyone, price = steady.overall, steady.cost_usd_per_1m_output_tokens
        ttft_ms, tpot_ms = (times.at(0.99).value * 1e3 for times in (everyone.ttft_s, everyone.tpot_s))
        print(f"{name:<28}{ttft_ms:>7.0f} ms{tpot_ms:>9.1f} ms{everyone.slo_met_frac:>10.1%}{price:>8.2f}")


if __name__ == "__main__":
    main()
