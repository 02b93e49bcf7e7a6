"""One training step in closed form: what each mechanism adds, per micro-batch and per step, for many layouts at once.

The mechanisms and their order of size are those that ablations on published runs show: matmuls at a sustained share of
peak, attention at its own share, memory-bound vector work, experts with their exchange and overhead per layer, partial
sums of tensor parallelism, weights gathered by FSDP, the pipeline's bubble, gradients, the optimizer. Each is a term in
seconds, so that the largest names what bounds the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import Value
from ridgeline.training.attention import attention_s
from ridgeline.training.communication import (
    context_parallel_s,
    expert_parallel_s,
    gather_s,
    gradients_s,
    pipeline_transfer_s,
    tensor_parallel_s,
    waited_share,
)
from ridgeline.training.layout import OFFLOADS, Layout
from ridgeline.training.memory import Memory
from ridgeline.training.power import NARROW, steady_power_w
from ridgeline.training.schedules import bubble_of
from ridgeline.training.setup import VALUE_BYTES, Setup, peak_rate, sixteen_bit_rate, stage_share
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """One step (forward, backward, gradients, optimizer) of each layout.

    Attributes:
        step_s: from one optimizer update to the next.
        terms: seconds of the step by mechanism; they add up to `step_s`.
        model_flops, hardware_flops: operations of one step over all chips: 6 per weight that a token meets plus causal
            attention, logits in, embedding out; the second with what is computed again.
        peak_flops_per_s: dense datasheet peak of one chip in the matmuls' format: the divisor of mfu and hfu.
        memory: bytes of the fullest rank by kind.
        streaming_s: seconds of the step's memory traffic at full bandwidth, for its power.
    """

    step_s: Column
    terms: Mapping[str, Column]
    model_flops: Column
    hardware_flops: Column
    peak_flops_per_s: Column
    tokens: Column
    chips: Column
    memory: Memory
    streaming_s: Column

    def at_speed(self, share: Dim) -> TrainingStep:
        """The same step on a stack that reaches `share` of this speed (training.stack fits it)."""
        terms = {name: term / share for name, term in self.terms.items()}
        return replace(self, step_s=self.step_s / share, terms=terms)

    @property
    def tokens_per_s(self) -> Column:
        """Over all chips."""
        return self.tokens / self.step_s

    def mfu(self) -> Column:
        """Model operations over datasheet peak."""
        return self.model_flops / (self.step_s * self.chips * self.peak_flops_per_s)

    def hfu(self) -> Column:
        """Operations done, recomputation included, over datasheet peak."""
        return self.hardware_flops / (self.step_s * self.chips * self.peak_flops_per_s)

    @property
    def bubble_frac(self) -> Column:
        """Share of the step in which a pipeline rank waits for its turn."""
        return self.terms["bubble"] / self.step_s

    @property
    def exposed_comm_frac(self) -> Column:
        """Share of the step that waits for links: tensor, expert, context, data and pipeline parallelism."""
        total = sum((self.terms[name] for name in COMMUNICATION), start=np.zeros(1))
        return np.asarray(total / self.step_s)

    def bound_index(self) -> NDArray[np.int32]:
        """Which of `terms` is the largest, per layout."""
        return np.asarray(np.argmax(np.stack(list(self.terms.values())), axis=0), dtype=np.int32)


OFFLOAD_PARAMS, OFFLOAD_NVME, OFFLOAD_CXL = (OFFLOADS.index(name) for name in ("params", "nvme", "cxl"))

COMMUNICATION = ("tensor_parallel", "expert_parallel", "context_parallel", "fsdp", "data_parallel", "pipeline_transfer")
"""Terms that are waiting for links."""

ONCE = ("bubble", "data_parallel", "optimizer", "offload", "pipeline_transfer")
"""Terms that are not work of micro-batches."""


def train_step(work: Work, layout: Layout, setup: Setup) -> TrainingStep:
    """Predict one step of every layout.

    Args:
        work:   one sequence of the model (training.work), sizes may be columns.
        layout: legal and complete layouts (training.layout.check).
        setup:  chips and links by row, one framework profile and precision.
    Returns: columns of one shape, the broadcast of all inputs.
    """
    memory = setup.memory(work, layout)
    layout = _paid(layout)
    micro = _micro_batch_terms(work, layout, setup)
    stretch = 1.0 / setup.coefficients.of("stack_share", setup.profile.coefficients)
    busy = sum(micro.values(), start=np.zeros(1))
    gathered = gather_s(work, layout, setup)
    overlap = setup.coefficients.of("fsdp_overlap")
    exposed = np.maximum(gathered - busy, 0.0) + (1.0 - overlap) * np.minimum(busy, gathered)
    micro["fsdp"] = np.where(gathered > 0, exposed, 0.0)
    per_micro = busy + micro["fsdp"]
    count = np.asarray(layout.micro_batches, float)
    terms = {name: time * count for name, time in micro.items()}
    terms["bubble"] = _bubble_s(micro, per_micro, layout)
    terms |= _step_terms(work, layout, setup, busy * count)
    shaped = np.broadcast_arrays(*(np.atleast_1d(np.asarray(term, float) * stretch) for term in terms.values()))
    terms = dict(zip(terms, shaped, strict=True))
    step_s = np.asarray(sum(terms.values(), start=np.zeros(1)))
    model_flops, hardware_flops = _flops(work, layout)
    shape = step_s.shape
    return TrainingStep(
        step_s=step_s,
        terms=terms,
        model_flops=_shaped(model_flops, shape),
        hardware_flops=_shaped(hardware_flops, shape),
        peak_flops_per_s=_shaped(peak_rate(setup, setup.recipe.compute), shape),
        tokens=_shaped(layout.global_batch * layout.seq, shape),
        chips=_shaped(layout.chips, shape),
        memory=memory,
        streaming_s=terms["vector"] + terms["optimizer"] + _shaped(_operands_s(work, layout, setup) * count, shape),
    )


def _bubble_s(micro: Mapping[str, Dim], per_micro: Dim, layout: Layout) -> Column:
    """A third of the matmuls of three passes are gradients of weights, which some schedules keep for the gaps."""
    trained = layout.learning_weights
    weights = trained * (micro["matmul"] + micro["experts"]) / layout.matmul_passes
    forward = np.asarray(per_micro) / (3.0 + layout.redone_matmul)
    return bubble_of(layout.schedule, forward, per_micro - forward - weights, weights, layout.pp, layout.vp)


def _paid(layout: Layout) -> Layout:
    """All that is computed again as shares of the whole forward pass, without what the fitted share of peak holds."""
    layers, paid = np.asarray(layout.redone_layers), 1.0 - np.asarray(layout.redone_free)
    shares = (layout.redone_matmul, layout.redone_attention, layout.redone_vector)
    matmul, attention, vector = (paid * (layers + (1.0 - layers) * np.asarray(share)) for share in shares)
    return replace(layout, redone_matmul=matmul, redone_attention=attention, redone_vector=vector)


def step_power_w(step: TrainingStep, setup: Setup) -> Column:
    """Mean board power over a step, W per chip: from its operations and its memory traffic (`costs.power`)."""
    busy = np.minimum(step.streaming_s / step.step_s, 1.0)
    return steady_power_w(busy, np.minimum(step.hfu(), 1.0), setup.chips, narrow=setup.recipe.compute in NARROW)


def _shaped(value: Dim, shape: tuple[int, ...]) -> Column:
    return np.broadcast_to(np.asarray(value, float), shape)


def _micro_batch_terms(work: Work, layout: Layout, setup: Setup) -> dict[str, Dim]:
    """Seconds that the fullest rank spends on one micro-batch, forward and backward, by mechanism."""
    c, chips = setup.coefficients, setup.chips
    bandwidth = chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    share = layout.micro_batch / layout.cp * stage_share(work, layout)
    sharded = share / layout.tp
    passes = layout.matmul_passes
    vector = layout.passes(2.0 + np.asarray(layout.redone_vector))
    rate16 = sixteen_bit_rate(setup)
    narrow = c.of("precision_share", setup.recipe.share)
    rate = peak_rate(setup, setup.recipe.compute) * c.sustained_share(chips) * narrow
    head = layout.micro_batch / layout.cp / layout.tp / layout.pp
    weights = work.dense_weights / (layout.tp * layout.pp)
    narrowed = setup.recipe.convert_passes * layout.passes(2.0)
    converted = c.of("convert_traffic") * narrowed * work.matmul_values * sharded
    whole = np.where(np.asarray(layout.sequence_parallel) > 0, sharded, share)
    through = work.whole_values * whole + (work.sharded_values + work.expert_values) * sharded
    values = through * vector
    matmul_s = work.matmul_tiles * sharded * passes / rate + 3.0 * work.head_flops * head / rate16
    return {
        "matmul": matmul_s + c.of("matmul_traffic") * _operands_s(work, layout, setup) + converted / bandwidth,
        "experts": work.expert_tiles * sharded * passes / (rate * c.of("expert_share")),
        "attention": attention_s(work, layout, setup, sharded),
        "vector": c.of("vector_passes", setup.profile.coefficients) * values * VALUE_BYTES / bandwidth
        + c.of("logit_passes") * work.logit_values * head * VALUE_BYTES / bandwidth,
        "launch": c.of("launch_s") * work.ops * stage_share(work, layout) * vector,
        "expert_overhead": _expert_overhead_s(work, layout, setup),
        "tensor_parallel": tensor_parallel_s(work, layout, setup, share),
        "expert_parallel": expert_parallel_s(work, layout, setup, sharded),
        "context_parallel": context_parallel_s(work, layout, setup, sharded),
        "dequantize": _dequantize_s(work, layout, bandwidth),
        "accumulate": c.of("accumulate_bytes", setup.profile.coefficients) * weights * layout.learning / bandwidth,
    }


def _dequantize_s(work: Work, layout: Layout, bandwidth: Value) -> Dim:
    """Frozen weights of few bits become 16-bit ones for every pass of every micro-batch (QLoRA, arXiv 2305.14314)."""
    base = np.asarray(layout.base_bytes, float)
    weights = (work.dense_weights + work.expert_weights) / (layout.tp * layout.pp)
    passes = layout.passes(1.0 + np.asarray(layout.redone_matmul))
    return np.where(base < VALUE_BYTES, weights * (base + VALUE_BYTES) * passes / bandwidth, 0.0)


def _operands_s(work: Work, layout: Layout, setup: Setup) -> Dim:
    """Seconds to move the operands of one micro-batch's dense matmuls once each, forward, backward and again."""
    sharded = layout.micro_batch / (layout.cp * layout.tp) * stage_share(work, layout)
    weights = work.dense_weights / (layout.tp * layout.pp)
    moved = (work.matmul_values * sharded + weights) * VALUE_BYTES * layout.matmul_passes
    return np.asarray(moved / setup.chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s))


def _expert_overhead_s(work: Work, layout: Layout, setup: Setup) -> Dim:
    """Routing, permutation and host synchronisation of each mixture layer, which do not shrink with its tokens."""
    c = setup.coefficients
    local = work.expert_count / layout.ep
    per_layer = c.of("mixture_s", setup.profile.coefficients) + c.of("local_expert_s") * local
    captured = np.where(np.asarray(layout.captured) > 0, c.of("captured_frac"), 1.0)
    waited = waited_share(layout, setup)
    return per_layer * work.mixtures * stage_share(work, layout) * captured * waited * layout.passes(2.0) / 3.0


def _step_terms(work: Work, layout: Layout, setup: Setup, busy: Dim) -> dict[str, Dim]:
    """What happens once per step: gradients and weights of ZeRO 0-2, the optimizer, transfers between stages."""
    bandwidth = setup.chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    trained = layout.learning_weights
    dense = (work.dense_weights + work.table_weights) / (layout.tp * layout.pp) * trained
    experts = work.expert_weights / (layout.ep * layout.pp) * trained
    own = np.where(np.asarray(layout.zero) >= 1, 1.0, layout.sharding_ranks)
    updated = (dense / layout.sharding_ranks + experts / layout.expert_sharding_ranks) * own
    return {
        "data_parallel": gradients_s(work, layout, setup),
        "optimizer": _optimizer_s(updated, layout, setup, bandwidth),
        "offload": _offload_s(work, layout, setup, busy),
        "pipeline_transfer": pipeline_transfer_s(work, layout, setup),
    }


def _optimizer_s(updated: Dim, layout: Layout, setup: Setup, bandwidth: Value) -> Dim:
    """Adam reads and writes its state on the device, or the host does; drives carry state in and out besides, while CXL
    memory is read and written as the host goes: it waits for the slower of the two.
    """
    c = setup.coefficients
    on_device = c.of("optimizer_bytes") * updated / bandwidth
    on_host = c.of("host_adam_s") * updated
    drives, expander = _known(setup.host.nvme_bytes_per_s), _known(setup.host.cxl_bytes_per_s)
    offload = np.asarray(layout.offload)
    away = np.where(offload == OFFLOAD_NVME, on_host + STATE_TRAFFIC_BYTES * updated / drives, on_host)
    away = np.where(offload == OFFLOAD_CXL, np.maximum(on_host, STATE_TRAFFIC_BYTES * updated / expander), away)
    return np.where(offload > 0, away, on_device)


STATE_TRAFFIC_BYTES = 24.0
"""Per parameter and update: master weights and two moments in 32 bits, read and written."""


def _known(rate: Dim) -> Column:
    value = np.asarray(rate, float)
    return np.where(value > 0, value, np.nan)


def _offload_s(work: Work, layout: Layout, setup: Setup, busy: Dim) -> Dim:
    """Weights that live on the host, or on drives, come in for each forward and backward pass: what prefetching does
    not hide behind the compute (ZeRO-Infinity, arXiv 2104.07857, section 6.2).
    """
    host = setup.host
    port, drives, expander = (_known(r) for r in (host.host_bytes_per_s, host.nvme_bytes_per_s, host.cxl_bytes_per_s))
    held = work.weights / (layout.tp * layout.pp * layout.ep) / layout.sharding_ranks
    moved = 2.0 * VALUE_BYTES * held * layout.micro_batches
    offload = np.asarray(layout.offload)
    slowest = np.where(offload == OFFLOAD_NVME, np.minimum(port, drives), port)
    slowest = np.where(offload == OFFLOAD_CXL, np.minimum(port, expander), slowest)
    crossing = moved / slowest
    return np.where(offload >= OFFLOAD_PARAMS, np.maximum(crossing - busy, 0.0), 0.0)


def _flops(work: Work, layout: Layout) -> tuple[Dim, Dim]:
    """Operations of one step: by the model, and with what is computed again."""
    matmul = work.matmul_flops + work.head_flops + work.expert_flops
    scores = work.attention_flops + work.scan_flops
    model = matmul * layout.passes(2.0 - np.asarray(layout.lora)) + layout.passes(2.0) * scores
    again = (matmul - work.head_flops) * layout.redone_matmul + scores * layout.redone_attention
    again = again * layout.learning
    return layout.global_batch * model, layout.global_batch * (model + again)
