"""How many replicas of which machine serve a mix of chat and long documents for the least rent, exactly.

Rates come from `predict` (each kind alone, saturated with one class of requests), the counts from an integer program.
"""

import numpy as np

import ridgeline as rl
from ridgeline.search.allocate import replicas

CHIPS_EACH = {"h100-sxm": 2, "h200-sxm": 1, "a100-80gb-sxm": 2, "l40s": 4}
THERE_ARE = (4, 8, 16, 32)
TOKENS = {"chat": (800, 250), "documents": (12_000, 400)}
PER_S = (20.0, 1.5)


def rates_of(kinds: dict[str, int]) -> np.ndarray:
    """Requests/s of each class that one replica of each kind serves if it does nothing else."""
    rows = [(chip, tp, *lengths) for chip, tp in kinds.items() for lengths in TOKENS.values()]
    table = dict(zip(("chip", "tp", "isl", "osl"), map(list, zip(*rows, strict=True)), strict=True))
    same = {"model": "Qwen/Qwen3-32B", "weights": "fp8", "load": "saturated"}
    found = rl.predict_table("serving", {**table, **{name: [value] * len(rows) for name, value in same.items()}})
    return np.nan_to_num(np.asarray(found["request_per_s"], dtype=float)).reshape(len(kinds), len(TOKENS))


def main() -> None:
    kinds, rates = list(CHIPS_EACH), rates_of(CHIPS_EACH)
    chips = np.array(list(CHIPS_EACH.values()), dtype=float)
    rent = chips * [rl.chip(name).rent_usd_per_s * 3600 for name in kinds]
    mix = replicas(rates, PER_S, rent, uses=np.diag(chips), limits=THERE_ARE, classes=list(TOKENS), resources=kinds)
    print(f"{mix.status}: {mix.cost:.2f} USD/h")
    for name, count, shares, speeds in zip(kinds, mix.counts, mix.shares, rates, strict=True):
        served = [f"{s * r:.2f}/s {c}" for c, s, r in zip(TOKENS, shares, speeds, strict=True) if s * r > 0.005]
        print(f"{count:4.0f} x {CHIPS_EACH[name]} {name:<16}{', '.join(served) or 'nothing'}")
    for place, name in enumerate(kinds):
        one = replicas(
            rates[[place]], PER_S, rent[[place]], uses=[[chips[place]]], limits=[THERE_ARE[place]], resources=["chips"]
        )
        print(f"{name} alone: {f'{one.cost:.2f} USD/h' if one.status == 'optimal' else one.reason}")


if __name__ == "__main__":
    main()
