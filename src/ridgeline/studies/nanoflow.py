"""NanoFlow: nano-batches that compute, read and sum at once, on the way to what compute alone allows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.workloads import parameters
from ridgeline.workloads.catalogue import model

TRACES = {"Splitwise": (1155, 211), "LMSYS-Chat": (102, 222), "ShareGPT": (246, 322)}
"""Mean prompt and output tokens, table 3 of the paper."""
GAIN = "throughput over TensorRT-LLM, mean of three traces"
NANO = "share of the optimum that nano-batches reach, mean of three traces"
BEFORE = "share of the optimum that TensorRT-LLM reaches, each trace"
TABLE = "tokens/s per GPU of TensorRT-LLM 0.8 on four A100, 256 sequences of 128 and 128 tokens"
CASE = {"model": "llama-2-70b", "chip": "a100-80gb-sxm"}


def _tokens_per_s(nano: int, most: float | None = None) -> np.ndarray:
    """Prompt and output tokens per second of the whole machine at saturation, per trace; `most` sequences at once."""
    prompts, outputs = zip(*TRACES.values(), strict=True)
    limit = {} if most is None else {"max_batch": most}
    case = {"runtime": "trtllm", "tp": 8, "load": "saturated", "nano_batches": nano, **limit, **CASE}
    return sweep("serving", isl=prompts, osl=outputs, **case)["total_tokens_per_s"]


def _static_tokens_per_s(batch: float, prompt: float, output: float, chips: int) -> float:
    """Output tokens per second and chip of one batch from start to end, as NVIDIA's tables of that release have it."""
    contexts = np.round(prompt + np.linspace(1.0, output, 17))
    case = {"runtime": "trtllm", "tp": chips, "batch": batch, **CASE}
    decode = output * sweep("step", phase="decode", context=contexts, **case)["time_s"].mean()
    prefill = sweep("step", phase="prefill", tokens=prompt, **case)["time_s"][0]
    return float(batch * output / (prefill + decode) / chips)


def run(assumed: Mapping[str, float]) -> Outcome:
    """Both systems full of work; the optimum is the matmul rate over two operations per parameter and token."""
    optimum = assumed["matmul rate"] * 8.0 / (2.0 * float(parameters(model("llama-2-70b")).total))
    before = _tokens_per_s(1, assumed["most sequences"])
    inline, apart = _tokens_per_s(1), _tokens_per_s(2)
    # Kernels side by side slow each other: of what the closed form hides, a share stays.
    nano = inline / (1.0 - (1.0 - inline / apart) * (1.0 - assumed["interference"]))
    return Outcome(
        results={
            GAIN: float(np.mean(nano / before)),
            NANO: float(np.mean(nano / optimum)),
            BEFORE: (before / optimum).tolist(),
            TABLE: _static_tokens_per_s(256.0, 128.0, 128.0, 4),
        },
        figure=Figure(
            title="Llama-2-70B on eight A100: share of the optimum",
            x=[float(sum(lengths)) for lengths in sorted(TRACES.values(), key=sum)],
            lines={
                name: [float(column[list(TRACES.values()).index(t)]) for t in sorted(TRACES.values(), key=sum)]
                for name, column in (
                    ("TensorRT-LLM", before / optimum),
                    ("all that fit, in line", inline / optimum),
                    ("nano-batches", nano / optimum),
                )
            },
            x_label="tokens of prompt and output",
            y_label="share",
        ),
        notes=(
            f"The optimum is {optimum / 8:,.0f} tokens/s per GPU; the paper has 1,857.",
            f"Overlap alone gives {float(np.mean(nano / inline)):.2f}, larger batches the rest.",
        ),
    )


STUDY = Study(
    name="nanoflow",
    n=21,
    area="llm-serving",
    paper="Zhu et al., NanoFlow: Towards Optimal Large Language Model Serving Throughput, OSDI 2025 (arXiv 2408.12757)",
    idea="A full serving system is bound by compute, and yet computes only a part of the time: it waits for caches "
    "and links in between. Nano-batches overlap them. Here `nano_batches` of TensorRT-LLM at saturation, "
    "and the batch that its engine was built for.",
    claims=(
        Claim(metric=GAIN, value=1.91, baseline="TensorRT-LLM 0.8"),
        Claim(
            metric=NANO,
            value=0.685,
            kind="absolute",
            source="section 6, best case; 59 to 72 % over models in the abstract",
        ),
        Claim(
            metric=BEFORE,
            value=(0.22, 0.38),
            kind="absolute",
            source="section 6, baselines",
            why="An ideal queue keeps the batch full: prompts of one mean length come when there is room. Theirs run "
            "with lengths of the traces, and the batch that they gave TensorRT-LLM is not known.",
        ),
        Claim(
            metric=TABLE,
            value=565.0,
            kind="absolute",
            source="NVIDIA/TensorRT-LLM, docs/source/performance.md of 0.8.0, LLaMA 70B",
        ),
    ),
    assumptions=(
        Assumption(
            name="matmul rate",
            value=260e12,
            unit="FLOP/s per chip",
            source="the paper's measured CUTLASS rate: 1,857 tokens/s = 260e12 / 2 / 70e9",
        ),
        Assumption(
            name="most sequences",
            value=256,
            source="engines of 0.8 are built for one batch; that of NVIDIA's table of 0.8.0 for this model and board. "
            "NanoFlow takes what fits",
            uncertain=True,
            whole=True,
        ),
        Assumption(
            name="interference",
            value=0.3,
            source="section 4: kernels that share the SMs keep about 0.7 of what they would hide; read from a figure",
            uncertain=True,
        ),
    ),
    run=run,
)
