"""Many deployments in one call: throughput against speed for each stream, on four chips."""

import numpy as np

import ridgeline as rl

CHIPS = ("l40s", "a100-80gb-sxm", "h100-sxm", "h200-sxm")
CONCURRENCY = (1, 4, 16, 64)


def main() -> None:
    chip, concurrency = (axis.ravel() for axis in np.meshgrid(CHIPS, CONCURRENCY, indexing="ij"))
    rows = chip.size
    table = {
        "model": np.full(rows, "meta-llama/Llama-3.1-8B"),
        "chip": chip,
        "concurrency": concurrency,
        "isl": np.full(rows, 2048),
        "osl": np.full(rows, 256),
    }
    result = rl.predict_table("serving", table)
    print(f"{'chip':<16}{'requests':>9}{'tokens/s':>10}{'per stream':>12}{'J/token':>9}")
    for row in range(rows):
        tokens_per_s, tpot_s = result["output_tokens_per_s"][row], result["tpot_s"][row]
        energy_j = result["energy_j_per_output_token"][row]
        print(f"{chip[row]:<16}{concurrency[row]:>9}{tokens_per_s:>10.0f}{1 / tpot_s:>12.0f}{energy_j:>9.2f}")


if __name__ == "__main__":
    main()
