"""Dovetail: the GPU drafts, and the CPU checks many tokens of the large model for one read of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware import machine
from ridgeline.plans import Plan
from ridgeline.steps import price_step
from ridgeline.steps.memory import weight_bytes
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.workloads import Batch, Model, forward
from ridgeline.workloads.catalogue import model

CPU, GPU, TARGET = "core-i7-10700", "rtx-2080-ti", "llama-2-7b"
ALONE = "tokens/s of the CPU alone"
SMALL = "tokens/s with 3 GB of GPU memory"
GAIN = "gain with 3 GB of GPU memory"
LARGE = "tokens/s with 7 GB of GPU memory"


def _verify_s(chip: str, tokens: float, context: float) -> float:
    """One pass of the whole model over some new tokens."""
    case = {"model": TARGET, "chip": chip, "runtime": "vllm", "context": context}
    return float(sweep("step", phase="prefill", tokens=tokens, **case)["device_s"][0])


def _draft(of: Model) -> Model:
    """One layer between the large model's own embedding and head, as EAGLE has it (arXiv 2401.15077)."""
    return replace(of, blocks=(replace(of.blocks[0], count=1.0),))


def _tokens_per_s(assumed: Mapping[str, float], gpu_bytes: float) -> float:
    """Draft level by level, then verify; layers that fit beside the draft run on the GPU."""
    of, context, tree = model(TARGET), assumed["context"], assumed["tree"]
    on = MachineColumns((machine(GPU),))
    level = forward(_draft(of), Batch(decode_seqs=tree / assumed["depth"], decode_context=context))
    draft_s = assumed["depth"] * float(
        np.asarray(price_step(level, on, Setting(runtime="torch", captured=False)).time_s)
    )
    whole = float(np.asarray(weight_bytes(of, Plan())))
    drafts = float(np.asarray(weight_bytes(_draft(of), Plan())))
    moved = min(max(gpu_bytes - drafts - assumed["buffers"], 0.0) / whole, 1.0)
    verify_s = (1.0 - moved) * _verify_s(CPU, tree, context) + moved * _verify_s(GPU, tree, context)
    return assumed["accepted"] / (draft_s + verify_s)


def run(assumed: Mapping[str, float]) -> Outcome:
    """The CPU token by token, and Dovetail with two sizes of GPU memory."""
    alone = 1.0 / _verify_s(CPU, 1.0, assumed["context"])
    memory = [3e9, 4e9, 5e9, 6e9, 7e9]
    speeds = [_tokens_per_s(assumed, size) for size in memory]
    return Outcome(
        results={GAIN: speeds[0] / alone, SMALL: speeds[0], LARGE: speeds[-1], ALONE: alone},
        figure=Figure(
            title="Llama-2-7B on a desktop",
            x=[size / 1e9 for size in memory],
            lines={"Dovetail": speeds, "CPU alone": [alone] * len(memory)},
            x_label="GB of GPU memory",
            y_label="tokens/s",
        ),
    )


STUDY = Study(
    name="dovetail",
    n=131,
    area="edge-device",
    paper="Zhang et al., Dovetail: A CPU/GPU Heterogeneous Speculative Decoding for LLM Inference (arXiv 2412.18934)",
    idea="A CPU reads 13 GB of weights for every token. If a small GPU drafts, the CPU reads them once for several: "
    "the pass over the tree costs more arithmetic and no more bytes.",
    claims=(
        Claim(metric=GAIN, value=2.77, baseline="CPU alone, HumanEval"),
        Claim(
            metric=SMALL,
            value=5.86,
            kind="absolute",
            why="The CPU of the paper is not known; ours is a third faster alone, which carries over.",
        ),
        Claim(
            metric=LARGE,
            value=8.0,
            kind="absolute",
            why="The same; and layers on the GPU wait for nothing here, while activations cross between the devices.",
        ),
        Claim(
            metric=ALONE,
            value=2.12,
            kind="absolute",
            source="abstract: 5.86 tokens/s are 2.77 times it",
            why="The CPU of the paper is not known; a desktop with two channels of DDR4 reads the weights faster.",
        ),
    ),
    assumptions=(
        Assumption(
            name="accepted",
            value=4.5,
            unit="tokens per pass",
            source="EAGLE on HumanEval with trees accepts 4 to 5 (arXiv 2401.15077)",
            uncertain=True,
        ),
        Assumption(
            name="tree",
            value=16,
            unit="tokens",
            source="smaller than EAGLE's 26, as the CPU's arithmetic is short; not in the abstract",
            uncertain=True,
            whole=True,
        ),
        Assumption(name="depth", value=5, unit="levels", source="EAGLE's tree (arXiv 2401.15077)", whole=True),
        Assumption(name="context", value=256, unit="tokens", source="HumanEval prompts and answers", whole=True),
        Assumption(
            name="buffers", value=1e9, unit="bytes", source="context of the driver, cache and activations on the GPU"
        ),
    ),
    run=run,
)
