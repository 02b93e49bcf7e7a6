"""DataStates: state does not change until the optimizer runs, so that it can be copied while the chips compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.training.checkpoint import checkpoint_of
from ridgeline.training.reliability import checkpoint_facts
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.families.size import parameters

FASTER, SHORTER = (
    "checkpoint as training sees it, written at once over lazy",
    "time of training, written at once over lazy",
)
MODELS = {"llama-7b": (4, 2), "llama-13b": (4, 4), "llama-30b": (4, 8), "llama-65b": (4, 20)}
"""Tensor degree (a node of four A100), and pipeline stages, one node each, of one replica; at most 80 GPUs here."""
EVERY = (1, 2, 5, 10)


def _gains(name: str, assumed: Mapping[str, float]) -> tuple[float, list[float]]:
    """Stall of a checkpoint in the job's way over the stall of a lazy one; time of training by steps in between."""
    tp, pp = MODELS[name]
    chips = tp * pp
    step_s = float(
        sweep(
            "training",
            model=name,
            chip="a100-40gb-sxm",
            chips=chips,
            tp=tp,
            pp=pp,
            seq=2048,
            global_batch=assumed["sequences of a step"],
            micro_batch=1,
            framework="deepspeed",
            zero=1,
            recompute="full",
        )["step_s"][0]
    )
    per_parameter, _ = checkpoint_facts()
    state = per_parameter * float(parameters(model(name)).total)
    common: dict[str, Any] = {
        "state_bytes": state,
        "chips": chips,
        "storage_bytes_per_s": assumed["storage of a node"] * pp,
        "host_bytes_per_s": assumed["link to the host"],
        "window_s": step_s,
        "mtbf_s": 1e9,
        "interval_s": step_s,
    }
    sync, lazy = (checkpoint_of(policy, **common) for policy in ("sync", "async"))
    # A lazy copy is never free: it is started and joined once.
    least = assumed["calls of a checkpoint"]
    totals = [
        (every * step_s + sync.stall_s) / max(every * step_s + lazy.stall_s + least, lazy.flush_s) for every in EVERY
    ]
    return sync.stall_s / (lazy.stall_s + least), totals


def run(assumed: Mapping[str, float]) -> Outcome:
    """Four models, a checkpoint every step up to every tenth: the best case of both."""
    gains = {name: _gains(name, assumed) for name in MODELS}
    return Outcome(
        results={
            FASTER: max(faster for faster, _ in gains.values()),
            SHORTER: max(max(shorter) for _, shorter in gains.values()),
        },
        figure=Figure(
            title="Time of training with checkpoints in its way, over lazy ones",
            x=EVERY,
            lines={name: shorter for name, (_, shorter) in gains.items()},
            x_label="steps between checkpoints",
            y_label="ratio",
            x_log=True,
        ),
    )


STUDY = Study(
    name="datastates",
    n=144,
    area="training",
    paper="Maurya et al., DataStates-LLM: Lazy Asynchronous Checkpointing for Large Language Models, HPDC 2024 (arXiv "
    "2406.10707)",
    idea="Weights and optimizer state stay as they are during forward and backward pass, which hide their copy to the "
    "host; a flush to storage follows, and the next copy waits for it. Here the policies `sync` and `async`.",
    claims=(
        Claim(
            metric=FASTER,
            value=48.0,
            baseline="state of the art; up to",
            why="Forward and backward pass hide the whole copy, only the call is left. What else a real one waits "
            "for (copies that slow each other, buffers still being flushed) has no price here.",
        ),
        Claim(metric=SHORTER, value=2.2, baseline="state of the art; up to"),
    ),
    assumptions=(
        Assumption(
            name="sequences of a step", value=16, source="not given; its shortest steps are seconds", whole=True
        ),
        Assumption(
            name="storage of a node",
            value=2.0e9,
            unit="B/s",
            uncertain=True,
            source="Polaris: a store of 650 GB/s over 560 nodes is 1.2 GB/s each, more for a few of them (ALCF docs)",
        ),
        Assumption(name="link to the host", value=25e9, unit="B/s", source="PCIe 4.0 x16, pinned, as measured usually"),
        Assumption(
            name="calls of a checkpoint",
            value=0.1,
            unit="s",
            uncertain=True,
            source="not given: starting copies and agreeing on them, per checkpoint",
        ),
    ),
    run=run,
)
