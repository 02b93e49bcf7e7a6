"""Fuyou: a model of a hundred billion parameters on one consumer board, its drives as busy as the board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ridgeline.hardware import machine
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, setup_on
from ridgeline.training.layout import Layout
from ridgeline.training.offload import NVME, Moves, best, chain_of, laid_out
from ridgeline.training.setup import Host
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model

RATE, GAIN = "rate with 13 billion parameters, TFLOP/s", "rate with 13 billion parameters over ZeRO-Infinity's"
BATCHES = (4, 8, 16)
DRIVES = (1, 2, 4, 6, 8, 12)


def _rates(name: str, batch: int, drives: int, assumed: Mapping[str, float]) -> tuple[float, float]:
    """TFLOP/s of the best moves with weights and state on drives; of ZeRO-Infinity's, which updates at the end."""
    on, sequence = "1x rtx-4090", assumed["sequence"]
    host = Host(
        host_bytes_per_s=assumed["link to the host"],
        nvme_bytes_per_s=assumed["rate of a drive"] * drives,
        capacity_bytes=assumed["host memory"],
    )
    setup = setup_on(on, framework="deepspeed", precision="fp16", host=host)
    work = work_of(model(name), sequence)
    layout = Layout(chips=1.0, seq=sequence, global_batch=float(batch), micro_batch=float(batch), dp=1.0, zero=3.0)
    chain = chain_of(work, layout, setup, device_bytes=machine(on).chip.dram.capacity_bytes)
    # One board has the host to itself.
    chain = replace(chain, host_update_s=chain.host_update_s / assumed["boards per measured host"])
    done = float(np.max(work.flops)) * 3.0 * batch / 1e12
    theirs = Moves(weights=NVME, state=NVME, redone_frac=1.0, overlapped=False)
    return done / best(chain, places=(NVME,)).schedule.makespan_s, done / laid_out(chain, theirs).makespan_s


def run(assumed: Mapping[str, float]) -> Outcome:
    """Thirteen billion parameters at the best batch of each, over drives; 175 billion at the largest that fits."""
    drives = int(assumed["drives"])
    fuyou, infinity = (
        max(rates) for rates in zip(*(_rates("opt-13b", b, drives, assumed) for b in BATCHES), strict=True)
    )
    large = _rates("gpt3-175b", 2, drives, assumed)[0]
    lines = [_rates("opt-13b", BATCHES[-1], count, assumed) for count in DRIVES]
    return Outcome(
        results={RATE: fuyou, GAIN: fuyou / infinity},
        figure=Figure(
            title="13 billion parameters on one RTX 4090",
            x=DRIVES,
            lines={"Fuyou": [one for one, _ in lines], "ZeRO-Infinity": [other for _, other in lines]},
            x_label="drives",
            y_label="TFLOP/s",
        ),
        notes=(f"175 billion parameters fit, as claimed, with two sequences, at {large:.0f} TFLOP/s.",),
    )


STUDY = Study(
    name="fuyou",
    n=16,
    area="offload-memory",
    paper="Liao et al., Adding NVMe SSDs to Enable and Accelerate 100B Model Fine-tuning on a Single GPU (arXiv "
    "2403.06504)",
    idea="State is updated on the host while the backward pass runs, activations go to the host or to drives as far as "
    "links have time, and drives are read ahead. Here `training.offload` chooses; ZeRO-Infinity computes all "
    "activations again and updates when the backward pass is done.",
    claims=(
        Claim(
            metric=RATE,
            value=156.0,
            kind="absolute",
            why="156 is 95 % of the board's peak with 32-bit sums, and 47 % of that with 16-bit ones. The step model "
            "takes a sustained share of the former, fitted to data-centre boards, and at most a batch of 16, "
            "whose activations and logits fit.",
        ),
        Claim(
            metric=GAIN,
            value=156.0 / 45.0,
            baseline="ZeRO-Infinity",
            why="An ideal schedule without overlap of updates loses little at this batch. That ZeRO-Infinity has 45 "
            "on a workstation is how it reads drives and waits, which have no price here.",
        ),
    ),
    assumptions=(
        Assumption(name="drives", value=12, source="the largest workstation of a summary of the paper", whole=True),
        Assumption(
            name="rate of a drive",
            value=3.4e9,
            unit="B/s",
            source="reads and writes mixed, PCIe 4.0 x4 drives",
            uncertain=True,
        ),
        Assumption(name="link to the host", value=25e9, unit="B/s", source="PCIe 4.0 x16, pinned, as measured usually"),
        Assumption(name="host memory", value=768 * 2**30, unit="byte", source="a summary of the paper: up to 768 GB"),
        Assumption(
            name="sequence",
            value=1024,
            unit="tokens",
            source="not given in what could be read",
            uncertain=True,
            whole=True,
        ),
        Assumption(
            name="boards per measured host",
            value=8,
            source="training/coefficients.yaml has an update on a host that eight boards share",
        ),
    ),
    run=run,
)
