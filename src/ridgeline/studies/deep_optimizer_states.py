"""Deep Optimizer States: the chip updates some layers whose state the host keeps, while the host updates others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, setup_on
from ridgeline.training.layout import Layout
from ridgeline.training.offload import HOST, Moves, chain_of, laid_out
from ridgeline.training.setup import Host
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model

BYTES, CHIPS, SEQUENCE = 2.0, 4.0, 2048.0
"""Of a parameter in 16 bits; chips of a node; tokens."""
GAIN = "time of a step, all updates on the host over interleaved ones, best of models and batches"
MEASURED = "the same of 13 billion parameters, four sequences per chip, every other layer on the chip"
MODELS = ("llama-7b", "llama-13b", "gpt-neox-20b")
STRIDES = (2, 3, 4, 5, 6, 8, 10)
"""Of layers that the chip updates, as the authors ran them."""
BATCHES = (1.0, 2.0, 4.0)


def _steps(name: str, batch: float, assumed: Mapping[str, float]) -> list[float]:
    """Seconds of DeepSpeed's step, then of interleaved ones by stride; weights stay on chips, state in the host."""
    host = Host(host_bytes_per_s=assumed["link to the host"])
    setup = setup_on("4x h100-sxm", framework="deepspeed", host=host)
    layout = Layout(chips=CHIPS, seq=SEQUENCE, global_batch=CHIPS * batch, micro_batch=batch, dp=CHIPS, zero=3.0)
    # Rooms are not asked for: what is moved is given.
    chain = chain_of(work_of(model(name), SEQUENCE), layout, setup, device_bytes=math.inf)
    parameters = chain.weight_bytes / BYTES
    forward_s = 2.0 * parameters * CHIPS * batch * SEQUENCE / assumed["rate of layers"]
    chain = replace(
        chain,
        forward_s=forward_s,
        backward_s=2.0 * forward_s,
        host_update_s=assumed["host update"] * parameters,
    )
    # DeepSpeed's backward pass stands still while gradients leave through pageable memory.
    waits = replace(chain, backward_s=chain.backward_s + chain.weight_bytes / assumed["gradients leave"])
    moved = Moves(state=HOST, redone_frac=1.0, overlapped=False)
    return [
        laid_out(waits, moved).makespan_s,
        *(laid_out(chain, replace(moved, device_updates_frac=1.0 / stride)).makespan_s for stride in STRIDES),
    ]


def run(assumed: Mapping[str, float]) -> Outcome:
    """DeepSpeed updates on the host when the backward pass is done; then every k-th layer goes to the chip instead."""
    steps = {name: [_steps(name, batch, assumed) for batch in BATCHES] for name in MODELS}
    return Outcome(
        results={
            GAIN: max(times[0] / min(times[1:]) for runs in steps.values() for times in runs),
            MEASURED: steps["llama-13b"][-1][0] / steps["llama-13b"][-1][1],
        },
        figure=Figure(
            title="Updates shared by host and chip, four H100, one sequence each",
            x=STRIDES,
            lines={name: [runs[0][0] / time for time in runs[0][1:]] for name, runs in steps.items()},
            x_label="the chip updates every k-th layer",
            y_label="ratio of steps",
        ),
    )


LOGS = "mauryaavinash95/deep-optimizer-states-results, 13B of four sequences on each of four chips"
STUDY = Study(
    name="deep-optimizer-states",
    n=44,
    area="offload-memory",
    paper="Maurya et al., Deep Optimizer States: Towards Scalable Training of Transformer Models Using Interleaved "
    "Offloading, Middleware 2024 (arXiv 2410.21316)",
    idea="Updating on the host leaves chip and link idle. Every k-th part of the state is fetched, updated on the chip "
    "and sent back meanwhile, and gradients leave while the backward pass goes on. Here `Moves` of the offloading "
    "schedule; rates of DeepSpeed's host are those of one of the authors' runs, other runs follow.",
    claims=(
        Claim(metric=GAIN, value=2.5, baseline="DeepSpeed with the optimizer on the host; up to"),
        Claim(metric=MEASURED, value=13.20 / 8.43, baseline="DeepSpeed with the optimizer on the host", source=LOGS),
    ),
    assumptions=(
        Assumption(
            name="link to the host",
            value=50e9,
            unit="B/s",
            source="PCIe 5.0 x16, pinned memory, each direction, per chip",
        ),
        Assumption(
            name="rate of layers",
            value=2.0 * 13e9 * 4.0 * 2048.0 / 1.106,
            unit="FLOP/s per chip",
            source=f"forward pass of 1.106 s, weights gathered by ZeRO-3, attention not fused: {LOGS}",
        ),
        Assumption(
            name="host update",
            value=5.61 / 3.25e9,
            unit="s per parameter",
            uncertain=True,
            source=f"DeepSpeed's optimizer step of 5.61 s for a fourth of the parameters: {LOGS}",
        ),
        Assumption(
            name="gradients leave",
            value=2.0 * 3.25e9 / (5.72 - 3.18),
            unit="B/s",
            uncertain=True,
            source=f"backward pass of 5.72 s, and of 3.18 s where gradients leave meanwhile: {LOGS}",
        ),
    ),
    run=run,
)
