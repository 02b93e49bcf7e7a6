"""Which deployment serves a load at the least cost, how that changes with the limit on TPOT, and how much it takes."""

import ridgeline as rl

LOAD = {"model": "meta-llama/Llama-3.1-8B", "isl": 1000, "osl": 200, "rate": "30/s", "ttft": "500ms", "runtime": "vllm"}
MACHINES = "8x h100-sxm, 8x a100-80gb-sxm"


def main() -> None:
    for tpot in ("50ms", "8ms", "1ms"):
        try:
            planned = rl.plan(**LOAD, on=MACHINES, tpot=tpot)
        except rl.RidgelineError as error:
            print(f"TPOT {tpot}: {error.what}")
            continue
        winner = planned.winner
        cost = winner.values["cost_usd_per_1m_output_tokens"]
        print(f"TPOT {tpot}: {winner.name}, {cost:.2f} USD per million tokens, of {planned.seen:,} candidates")
    sized = rl.size(**LOAD, on="h100-sxm", tpot="20ms", mode="agg")
    print(f"{sized.needs['chips']:g} H100 are enough, {sized.needs['power_w']:,.0f} W")


if __name__ == "__main__":
    main()
