"""One deployment: what it does, what bounds it, and the whole table."""

import ridgeline as rl


def main() -> None:
    prediction = rl.predict(
        model="meta-llama/Llama-3.1-70B", on="8x h100-sxm", tp=8, isl=1024, osl=1024, concurrency=64
    )
    print(f"first token after {prediction.ttft_s:.3f} s, then one every {prediction.tpot_s:.4f} s")
    print(f"bound by {prediction.bound}\n")
    print(prediction)


if __name__ == "__main__":
    main()
