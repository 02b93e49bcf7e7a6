"""TPI-LLM: 70 billion parameters on eight laptops, each of which reads its share of the weights from its drive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads import Batch, forward, parameters
from ridgeline.workloads.catalogue import model

FP32 = 4.0
SECONDS = "s per token of {}, eight devices"
LATENCY = "time per token, over Accelerate on one device, Llama-2-7B"
MEMORY = "memory per device of Llama-2-70B, GB"
SIZES = {"Llama-2-7B": "llama-2-7b", "Llama-3.1-8B": "llama-3.1-8b", "Llama-2-13B": "llama-2-13b", "Yi-34B": "yi-34b"}


def _weights_bytes(name: str) -> float:
    return float(np.asarray(parameters(model(name)).total)) * FP32


def _star_s(name: str, devices: float, assumed: Mapping[str, float]) -> float:
    """Two all-reduces a layer through one device: a hop in and a hop out, whose latency counts more than bytes."""
    of = model(name)
    vector = float(np.asarray(of.hidden)) * FP32
    once = 2.0 * assumed["latency"] + 2.0 * vector * (devices - 1.0) / assumed["network"]
    return 2.0 * float(np.asarray(of.layers)) * once


def _token_s(name: str, devices: float, assumed: Mapping[str, float]) -> float:
    """Weights stream from the drive while the layers before compute and communicate."""
    graph = forward(model(name), Batch(decode_seqs=1.0, decode_context=256.0))
    compute = float(np.asarray(graph.flops())) / devices / assumed["compute"]
    stream = _weights_bytes(name) / devices / assumed["drive"]
    memory = _weights_bytes(name) / devices / assumed["memory bandwidth"]
    return max(stream, max(compute, memory) + (_star_s(name, devices, assumed) if devices > 1 else 0.0))


def _memory_gb(name: str, devices: float, assumed: Mapping[str, float]) -> float:
    """A window of layers, and on the first device the whole embedding and head."""
    of = model(name)
    ends = 2.0 * float(np.asarray(of.vocab * of.hidden)) * FP32
    layers = (_weights_bytes(name) - ends) / float(np.asarray(of.layers)) / devices
    return (ends + assumed["window"] * layers) / 1e9


def run(assumed: Mapping[str, float]) -> Outcome:
    """Eight devices with a sliding window, against one that offloads to its drive."""
    ours = {name: _token_s(card, 8.0, assumed) for name, card in SIZES.items()}
    alone = _token_s("llama-2-7b", 1.0, assumed)
    counts = [1.0, 2.0, 4.0, 8.0]
    return Outcome(
        results={
            LATENCY: ours["Llama-2-7B"] / alone,
            MEMORY: _memory_gb("llama-2-70b", 8.0, assumed),
            **{SECONDS.format(name): seconds for name, seconds in ours.items()},
        },
        figure=Figure(
            title="Time per token over devices",
            x=counts,
            lines={name: [_token_s(card, n, assumed) for n in counts] for name, card in SIZES.items()},
            x_label="devices",
            y_label="s",
            y_log=True,
        ),
    )


README = "README of Lizonghang/TPI-LLM"
STUDY = Study(
    name="tpi-llm",
    n=267,
    area="edge-device",
    paper="Li et al., TPI-LLM: Serving 70B-scale LLMs Efficiently on Low-resource Edge Devices (arXiv 2410.00531)",
    idea="Tensor parallelism divides what each laptop reads from its drive per token; a star all-reduce has two hops "
    "where a ring has fourteen. A window of layers in memory is read ahead of the computation.",
    claims=(
        Claim(
            metric=LATENCY,
            value=3.0 / 26.0,
            baseline="Accelerate on an M1 with 8 GB; abstract: more than 80 % less",
            source=README,
        ),
        Claim(metric=MEMORY, value=3.1, kind="absolute"),
        Claim(metric=SECONDS.format("Llama-2-7B"), value=3.0, kind="absolute", source=README),
        Claim(metric=SECONDS.format("Llama-3.1-8B"), value=4.0, kind="absolute", source=README),
        Claim(
            metric=SECONDS.format("Llama-2-13B"),
            value=3.0,
            kind="absolute",
            source=README,
            why="52 GB over eight drives are 6 s. The README has 3 s, less than for its 8B model, which no bound of "
            "bytes explains.",
        ),
        Claim(metric=SECONDS.format("Yi-34B"), value=14.0, kind="absolute", source=README),
    ),
    assumptions=(
        Assumption(
            name="drive",
            value=1.04e9,
            unit="bytes/s",
            source=f"27 GB of Llama-2-7B in 26 s per token by Accelerate on an M1 with 8 GB, {README}",
            uncertain=True,
        ),
        Assumption(
            name="latency",
            value=1e-3,
            unit="s",
            source="a hop over a home network; not in the abstract",
            uncertain=True,
        ),
        Assumption(name="network", value=37.5e6, unit="bytes/s", source="300 Mb/s, a wireless home network"),
        Assumption(name="compute", value=50e9, unit="FLOP/s", source="a few cores of a laptop in fp32"),
        Assumption(name="memory bandwidth", value=20e9, unit="bytes/s", source="two channels of laptop memory"),
        Assumption(
            name="window", value=2, unit="layers", source="the layer that computes and the one being read", whole=True
        ),
    ),
    run=run,
)
