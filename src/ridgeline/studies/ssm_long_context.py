"""State spaces against transformers: a state of constant size, and what its kernels cost where prompts are short."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware import machine
from ridgeline.plans import Plan
from ridgeline.steps import Step, price_step
from ridgeline.steps.memory import weight_bytes
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads import Batch, cache_bytes, forward
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.ops import Convolution, Matmul, Scan

TRANSFORMER, STATES = "llama-3.2-3b", "mamba2-2.7b"
LENGTHS = np.array([1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 57344.0, 114688.0])
LONGEST = "longest prompt of a state space model on 24 GB, tokens"
LONGER = "longest prompt of a state space model over a transformer's, 24 GB"
SHORT = "speed of the transformer over the state space model, best below 8K tokens"
LONG = "speed of the state space model over the transformer at 57K tokens"
SHARE = "share of the step in the kernels of the state space, embedded GPU"


def _prefill(name: str, on: str, lengths: np.ndarray) -> Step:
    """Eager model code, as the paper runs it, with fused attention and scan kernels."""
    graph = forward(model(name), Batch(prefill_seqs=1.0, prefill_tokens=lengths))
    return price_step(graph, MachineColumns((machine(on),)), Setting(runtime="torch", captured=False))


def _longest(name: str, assumed: Mapping[str, float]) -> float:
    """Tokens whose cache and widest activations fit beside the weights."""
    of = model(name)
    lengths = np.geomspace(1e3, 1e7, 4001)
    graph = forward(of, Batch(prefill_seqs=1.0, prefill_tokens=lengths, logits=1.0))
    widest = np.zeros_like(lengths)
    for op, _ in graph.walk():
        if isinstance(op, Matmul):
            moved = (o.read_bytes + o.write_bytes for o in op.operands() if o.role == "activations")
            widest = np.maximum(widest, sum(moved, start=np.float64(0.0)))
    free = machine("rtx-4090").chip.dram.capacity_bytes * assumed["usable memory"] - weight_bytes(of, Plan())
    fits = cache_bytes(of, lengths) + assumed["live activations"] * widest <= free
    return float(lengths[np.flatnonzero(fits)[-1]])


def run(assumed: Mapping[str, float]) -> Outcome:
    """Memory first, then time to first token over lengths, then where that time goes on a small board."""
    times = {name: np.asarray(_prefill(name, "rtx-4090", LENGTHS).time_s) for name in (TRANSFORMER, STATES)}
    ahead = times[STATES] / times[TRANSFORMER]
    edge = _prefill(STATES, "jetson-orin-nano", np.array([assumed["prompt on the edge"]]))
    special = sum(
        float(np.sum(c.time_s)) for c in edge.ops if isinstance(c.op, Scan | Convolution) or c.op.name == "gated_norm"
    )
    reach = {name: _longest(name, assumed) for name in (TRANSFORMER, STATES)}
    at = int(np.flatnonzero(LENGTHS == 57344.0)[0])
    return Outcome(
        results={
            LONGEST: reach[STATES],
            LONGER: reach[STATES] / reach[TRANSFORMER],
            SHORT: float(ahead[LENGTHS <= 8192.0].max()),
            LONG: float(1.0 / ahead[at]),
            SHARE: special / float(np.sum(edge.time_s)),
        },
        figure=Figure(
            title="Time to first token on an RTX 4090",
            x=LENGTHS.tolist(),
            lines={name: seconds.tolist() for name, seconds in times.items()},
            x_label="tokens of the prompt",
            y_label="s",
            x_log=True,
            y_log=True,
        ),
    )


STUDY = Study(
    name="ssm-long-context",
    n=19,
    area="long-context",
    paper="Mitra et al., Characterizing State Space Model (SSM) and SSM-Transformer Hybrid Language Model "
    "Performance with Long Context Length (arXiv 2507.12442)",
    idea="A transformer's cache grows with the prompt and its prefill with the square; a state stays as it is. "
    "Models of about three billion parameters, on the bundled cards: Llama 3.2 against Mamba 2.",
    claims=(
        Claim(metric=LONGEST, value=220_000.0, kind="absolute"),
        Claim(metric=LONGER, value=4.0, baseline="transformer"),
        Claim(
            metric=SHORT,
            value=1.8,
            baseline="state space model; up to",
            why="No scan was measured on a consumer board: shares of peak of other kernels stand for it, and make it "
            "nearly as fast as the transformer at short prompts.",
        ),
        Claim(
            metric=LONG,
            value=4.0,
            baseline="transformer; up to",
            why="The transformer is priced with FlashAttention at 57K; eager code may run slower kernels, and the "
            "abstract does not say which.",
        ),
        Claim(
            metric=SHARE,
            value=0.55,
            kind="absolute",
            baseline="the whole step; more than",
            why="The same; and elementwise ops around the scan, which eager code runs one by one, are part of the "
            "published share and fused here.",
        ),
    ),
    assumptions=(
        Assumption(name="usable memory", value=0.92, source="context of the driver, allocator and fragments; typical"),
        Assumption(
            name="live activations",
            value=3,
            source="widest operands that eager code holds at once: in, out, and one copy; not in the abstract",
            uncertain=True,
        ),
        Assumption(
            name="prompt on the edge",
            value=1024,
            unit="tokens",
            source="the abstract does not say",
            uncertain=True,
            whole=True,
        ),
    ),
    run=run,
)
