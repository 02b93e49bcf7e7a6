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

GAIN = "time of a step, all updates on the host over interleaved ones, best of models"
MODELS = ("llama-7b", "llama-13b", "gpt-neox-20b")
SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)


def _steps(name: str, assumed: Mapping[str, float]) -> list[float]:
    """Seconds of a step by the share of layers that the chip updates; weights stay on the chips, state in the host."""
    host = Host(host_bytes_per_s=assumed["link to the host"])
    setup, batch = setup_on("4x h100-sxm", framework="deepspeed", host=host), assumed["sequences per chip"]
    layout = Layout(chips=4.0, seq=2048.0, global_batch=4.0 * batch, micro_batch=batch, dp=4.0, zero=3.0)
    chain = chain_of(work_of(model(name), 2048.0), layout, setup, device_bytes=math.inf)
    chain = replace(chain, host_update_s=chain.host_update_s * assumed["time of host updates"])
    moved = Moves(state=HOST, redone_frac=1.0, overlapped=False)
    return [laid_out(chain, replace(moved, device_updates_frac=share)).makespan_s for share in SHARES]


def run(assumed: Mapping[str, float]) -> Outcome:
    """DeepSpeed updates on the host when the backward pass is done; then every k-th layer goes to the chip instead."""
    steps = {name: _steps(name, assumed) for name in MODELS}
    return Outcome(
        results={GAIN: max(times[0] / min(times) for times in steps.values())},
        figure=Figure(
            title="Updates shared by host and chip, four H100",
            x=SHARES,
            lines=steps,
            x_label="share of layers updated on the chip",
            y_label="step, s",
        ),
    )


STUDY = Study(
    name="deep-optimizer-states",
    n=44,
    area="offload-memory",
    paper="Maurya et al., Deep Optimizer States: Towards Scalable Training of Transformer Models Using Interleaved "
    "Offloading, Middleware 2024 (arXiv 2410.21316)",
    idea="Updating on the host leaves chip and link idle. Every k-th part of the state is fetched, updated on the chip "
    "and sent back meanwhile; k balances host, link and chip. Here `Moves` of the offloading schedule.",
    claims=(
        Claim(
            metric=GAIN,
            value=2.5,
            baseline="DeepSpeed with the optimizer on the host; up to",
            why="The schedule gives more where a step does little else: host memory that updates and copies share, "
            "and conversions of gradients, have no price in it.",
        ),
    ),
    assumptions=(
        Assumption(name="sequences per chip", value=1, source="not given; state of the art at its worst", whole=True),
        Assumption(
            name="link to the host",
            value=50e9,
            unit="B/s",
            uncertain=True,
            source="PCIe 5.0 x16, pinned memory, each direction, per chip",
        ),
        Assumption(
            name="time of host updates",
            value=1.0,
            uncertain=True,
            source="of what a chip's share takes where eight share a host (training/coefficients.yaml, host_adam_s)",
        ),
    ),
    run=run,
)
