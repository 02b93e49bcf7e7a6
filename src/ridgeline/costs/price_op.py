"""The one door to all rooms: any op on any machine, priced by the room of its kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.costs.attention import price_attention
from ridgeline.costs.collective import price_collective
from ridgeline.costs.convolution import price_convolution
from ridgeline.costs.experts import price_experts
from ridgeline.costs.gemm import price_matmul
from ridgeline.costs.machine_columns import MachineColumns, alone
from ridgeline.costs.own_kernels import scored, streamed, widened
from ridgeline.costs.power import kernel_power
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.scan import price_scan
from ridgeline.costs.transfer import price_copy
from ridgeline.costs.vector import price_embedding, price_fft, price_vector
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import (
    Attention,
    Collective,
    Convolution,
    Copy,
    Embedding,
    Experts,
    Fft,
    Matmul,
    Op,
    Scan,
    Vector,
)

MACHINE_OPS = (Collective, Copy)
"""Ops that leave the chip, and therefore need to know what surrounds it."""


def price(op: Op, on: MachineColumns | ChipColumns, setting: Setting) -> Price:
    """Price an op for each row.

    Args:
        op: what runs; its dimensions broadcast with the rows of `on`.
        on: machines, or chips alone for ops that stay on one chip. All chips are of one kin.
        setting: under which software and conditions.
    Raises: DomainError: an op that no room prices.
    """
    machines = on if isinstance(on, MachineColumns) else alone(on)
    chips = machines.chips
    match op:
        case Matmul():
            matmul = streamed(op, price_matmul(op, chips, setting), chips, setting)
            return widened(op, matmul, chips, setting)
        case Attention():
            return scored(op, price_attention(op, chips, setting), chips, setting)
        case Experts():
            return streamed(op, price_experts(op, chips, setting), chips, setting)
        case Vector():
            return price_vector(op, chips, setting)
        case Embedding():
            return price_embedding(op, chips, setting)
        case Convolution():
            return price_convolution(op, chips, setting)
        case Scan():
            return price_scan(op, chips, setting)
        case Fft():
            return price_fft(op, chips, setting)
        case Collective():
            return price_collective(op, machines, setting)
        case Copy():
            return price_copy(op, machines, setting)
    raise DomainError("no room prices this op", at=op.name, got=type(op).__name__, fix="use the ops of workloads.ops")


def throttled(op: Op, priced: Price, chips: ChipColumns, setting: Setting) -> Price:
    """The price under a lasting load: the power limit stretches it where the chip would draw more than its cap."""
    if not setting.sustained:
        return priced
    factor = np.asarray(kernel_power(priced, op, chips, setting).throttle)
    return replace(priced, time_s=priced.time_s * factor, detail={**priced.detail, "throttle": factor})


def interval_kind(op: Op) -> str:
    """The kind of measurement whose validation says how far the op's price may be off (`costs.interval`)."""
    match op:
        case Matmul() | Convolution():
            return "gemm"
        case Attention():
            return "mla" if op.is_latent else f"attention_{op.phase}"
        case Experts():
            return "experts"
        case Collective():
            return "collective"
        case Copy():
            return "transfer"
        case Scan():
            return "scan"
    return "vector"
