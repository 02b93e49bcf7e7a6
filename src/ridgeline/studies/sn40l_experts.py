"""SN40L: a composition of 150 experts out of the memory beside the chips, where others load them over PCIe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ridgeline as rl
from ridgeline.hardware import machine
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.families.size import parameters

NODES = {"SN40L": "8x sn40l", "H100": "8x h100-sxm", "A100": "8x a100-80gb-sxm"}
SWITCH = "time to bring in an expert, DGX {} over SN40L"
TOTAL = "time of a request to the composition, DGX {} over SN40L"
FOOTPRINT = "DGX A100 that hold the experts of one SN40L node in the memory of their chips"
EXPERT = "llama-2-7b"
COUNTS = (2.0, 20.0, 150.0)


def _times(name: str, experts: float, rate: float, assumed: Mapping[str, float]) -> float:
    """Mean time of requests that meet an idle node, s: the router reads the prompt, then the drawn expert answers."""
    case: dict[str, Any] = {"model": EXPERT, "runtime": "vllm", "tp": 8, "isl": int(assumed["prompt"])}
    routed = sweep("serving", chip=machine(NODES[name]).chip.name, osl=1, concurrency=1, **case)["ttft_s"][0]
    found = rl.simulate(
        on=NODES[name],
        models=f"uniform(1, {experts:.0f})",
        models_cache=int(assumed["experts that stay"]),
        load_from=f"{rate / machine(NODES[name]).count} B/s",
        osl=int(assumed["answer"]),
        rate="0.2/s",
        requests=60,
        keep_runs=False,
        **case,
    )
    answered = found.answers.whole.overall.e2e_s
    assert answered is not None, "requests are answered"
    return float(routed) + answered.mean.value


def run(assumed: Mapping[str, float]) -> Outcome:
    """Loading at the rate of a node's own memory, or of one host link, in front of the same 20 tokens."""
    size = 2.0 * float(parameters(model(EXPERT)).total)
    rates = {"SN40L": assumed["memory of a node"]}
    for name in ("H100", "A100"):
        tier = machine(NODES[name]).host_tier()
        assert tier is not None, f"the catalogue knows the host of {name}"
        rates[name] = tier.bandwidth_bytes_per_s * assumed["links that load at once"]
    times = {name: _times(name, assumed["experts"], rate, assumed) for name, rate in rates.items()}
    host = machine(NODES["SN40L"]).host_tier()
    boards = machine(NODES["A100"])
    assert host is not None, "the catalogue knows the memory beside the SN40L"
    held = machine(NODES["SN40L"]).count * host.capacity_bytes // size
    return Outcome(
        results={
            SWITCH.format("H100"): rates["SN40L"] / rates["H100"],
            SWITCH.format("A100"): rates["SN40L"] / rates["A100"],
            TOTAL.format("H100"): times["H100"] / times["SN40L"],
            TOTAL.format("A100"): times["A100"] / times["SN40L"],
            FOOTPRINT: held / (boards.count * boards.chip.dram.capacity_bytes // size),
        },
        figure=Figure(
            title="A request of 20 tokens to a composition of experts",
            x=COUNTS,
            lines={name: [_times(name, n, rate, assumed) for n in COUNTS] for name, rate in rates.items()},
            x_label="experts",
            y_label="s",
            x_log=True,
        ),
        notes=("Experts that stay are few on purpose: with as many as fit, a DGX H100 keeps about forty of the 150.",),
    )


STUDY = Study(
    name="sn40l-experts",
    n=13,
    area="accelerators-gpu-npu",
    paper="Prabhakar et al., SambaNova SN40L: Scaling the AI Memory Wall with Dataflow and Composition of Experts, "
    "MICRO 2024 (arXiv 2405.07518)",
    idea="Every request goes to one of 150 experts of 7 billion parameters. Memory beside the chip brings it in at a "
    "terabyte a second and node, a host's link at 32 or 64 GB/s; then 20 tokens are written. Here models take turns "
    "in the simulator (`--models`), at those rates.",
    claims=(
        Claim(metric=TOTAL.format("H100"), value=3.7, baseline="DGX H100"),
        Claim(metric=TOTAL.format("A100"), value=6.6, baseline="DGX A100"),
        Claim(metric=SWITCH.format("H100"), value=15.0, baseline="DGX H100"),
        Claim(metric=SWITCH.format("A100"), value=31.0, baseline="DGX A100"),
        Claim(metric=FOOTPRINT, value=19.0, baseline="one node; up to"),
    ),
    assumptions=(
        Assumption(name="experts", value=150, source="section on Samba-CoE"),
        Assumption(name="answer", value=20, unit="tokens", source="section on Samba-CoE"),
        Assumption(name="prompt", value=256, unit="tokens", source="not given; a question", uncertain=True, whole=True),
        Assumption(name="memory of a node", value=1e12, unit="B/s", source="more than 1 TB/s, section on the node"),
        Assumption(
            name="links that load at once",
            value=1,
            source="15 and 31 times are what one PCIe link of 64 and 32 GB/s gives; all eight would give 2 and 4",
        ),
        Assumption(
            name="experts that stay",
            value=1,
            source="the published times are of requests that switch; the prompt's expert is then never there",
        ),
    ),
    run=run,
)
