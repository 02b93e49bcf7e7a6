"""Holmes: gradients stay among equal network cards, only pipeline neighbours talk across clusters."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline.hardware import node
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, setup_on
from ridgeline.training.islands import Island, island_step
from ridgeline.training.layout import Layout
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model

HYBRID, ETHERNET = (
    "rate, InfiniBand and RoCE clusters over InfiniBand alone",
    "rate, Ethernet alone over InfiniBand alone",
)
ROCE = "rate, RoCE alone over InfiniBand alone"
CHIPS, STAGES = 32.0, 2.0


def _step_s(first: float, second: float, between: float, assumed: Mapping[str, float]) -> float:
    """Two clusters of two nodes with a pipeline stage each, by bytes/s of a chip in each and between them."""
    work = work_of(model("gpt3-6.7b"), 2048.0)
    layout = Layout(
        chips=CHIPS,
        tp=1.0,
        pp=STAGES,
        dp=CHIPS / STAGES,
        seq=2048.0,
        global_batch=assumed["sequences of a step"],
        micro_batch=4.0,
        zero=1.0,
    )
    card = node("dgx-a100").levels[-1].bandwidth_bytes_per_s
    setups = (setup_on("8x a100-80gb-sxm", network=rate / card) for rate in (first, second))
    islands = [Island(stages=1, setup=each, away_bytes_per_s=between) for each in setups]
    return island_step(work, layout, islands).step_s


def run(assumed: Mapping[str, float]) -> Outcome:
    """The same job on equal cards, and on both kinds with Ethernet between the clusters."""
    rdma, ethernet = assumed["RDMA"], assumed["Ethernet of a node"] / 8.0
    alone = _step_s(rdma, rdma, rdma, assumed)
    roce = _step_s(rdma * assumed["RoCE over InfiniBand"], rdma * assumed["RoCE over InfiniBand"], rdma, assumed)
    rates = [ethernet * factor for factor in (1.0, 2.0, 4.0, 8.0)]
    mixed = [_step_s(rdma, rdma * assumed["RoCE over InfiniBand"], rate, assumed) for rate in rates]
    pure = [_step_s(rate, rate, rate, assumed) for rate in rates]
    return Outcome(
        results={HYBRID: alone / mixed[0], ETHERNET: alone / pure[0], ROCE: alone / roce},
        figure=Figure(
            title="32 A100 in two clusters, over InfiniBand alone",
            x=[8.0 * rate / 1e9 for rate in rates],
            lines={"both clusters": [alone / t for t in mixed], "Ethernet alone": [alone / t for t in pure]},
            x_label="Ethernet of a node, GB/s",
            y_label="rate",
            x_log=True,
        ),
    )


TABLE = "tables of v4 as recalled, not read again: 197, 160, 122 and 149 TFLOP/s"
STUDY = Study(
    name="holmes",
    n=33,
    area="training",
    paper="Yang et al., Holmes: Towards Distributed Training Across Clusters with Heterogeneous NIC Environment, ICPP "
    "2024 (arXiv 2312.03549)",
    idea="Clusters of unlike cards share only Ethernet. Data parallelism stays inside a cluster at its full rate, and "
    "activations of the pipeline cross. Here `training.islands`.",
    claims=(
        Claim(metric=HYBRID, value=149.0 / 197.0, baseline="32 A100 on InfiniBand", source=TABLE),
        Claim(metric=ETHERNET, value=122.0 / 197.0, baseline="32 A100 on InfiniBand", source=TABLE),
        Claim(metric=ROCE, value=160.0 / 197.0, baseline="32 A100 on InfiniBand", source=TABLE),
    ),
    assumptions=(
        Assumption(name="sequences of a step", value=768, source="as recalled, for 3.6 billion parameters; 6.7 here"),
        Assumption(name="RDMA", value=25e9, unit="B/s", source="200 Gb/s per chip, node of the catalogue"),
        Assumption(
            name="RoCE over InfiniBand",
            value=0.8,
            uncertain=True,
            source="not given; congestion control of lossy networks",
        ),
        Assumption(
            name="Ethernet of a node",
            value=3.125e9,
            unit="B/s",
            uncertain=True,
            source="25 Gb/s, usual for servers; not given",
        ),
    ),
    run=run,
)
