"""Copies between memory tiers: latency and bytes over the slowest tier or port on the way (Hockney's model).

Within device memory a copy reads and writes. To and from host memory it passes the host port, to drives the host port
and the drives' own rate, to a peer the fastest link between chips. Bandwidth is one chip's share when all chips copy.
A chip without a host port (a processor, a system on chip) shares its memory with the host.
"""

from __future__ import annotations

import math

import numpy as np

from ridgeline.core.errors import DomainError, SpecError, did_you_mean
from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Price, Setting, work, zero_where_empty
from ridgeline.hardware.topology import Machine
from ridgeline.workloads.ops import Copy

TIERS = ("dram", "host", "nvme", "peer")
"""Where a copy may start and end."""

FARTHEST = ("nvme", "peer", "host", "dram")
"""The tier that decides the path, first match wins."""


def price_copy(op: Copy, machines: MachineColumns, setting: Setting) -> Price:
    """Price a copy of `op.size_bytes`; sizes broadcast with the rows of `machines`.

    Raises:
        DomainError: a tier that copies do not know.
        SpecError: a machine without that tier or the port to it.
    """
    for end in (op.source, op.target):
        if end not in TIERS:
            raise DomainError("unknown memory tier", at=op.name, got=end, fix=did_you_mean(end, TIERS))
    path = next(tier for tier in FARTHEST if tier in (op.source, op.target))
    c = Coefficients("transfer", path, machines.chips)
    size = np.asarray(op.size_bytes, dtype=np.float64)
    floor = size / machines.gather(lambda machine: path_bytes_per_s(machine, path))
    start = np.asarray(c["start_s"]) + machines.gather(lambda machine: _latency_s(machine, path))
    moving = floor / np.asarray(c["efficiency"])
    flops, reads, writes = work(op)
    ideal = setting.runtime == "ideal"
    price = Price(
        time_s=floor if ideal else start + moving,
        floor_s=floor,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms={"memory" if path == "dram" else "link": moving, "launch": start},
        calibrated=c.calibrated,
        kernel="ideal" if ideal else path,
    )
    return zero_where_empty(price, size)


def path_bytes_per_s(machine: Machine, path: str) -> float:
    """Bytes/s of one chip's copies over a path: `dram` counts the bytes copied (each is read and written).

    Raises: SpecError: the machine lacks the tier or the port.
    """
    chip = machine.chip
    if path == "dram":
        return chip.dram.bandwidth_bytes_per_s / 2.0
    if path == "peer":
        port = chip.port("scale_up")
        rates = [level.bandwidth_bytes_per_s for level in machine.levels] or (
            [port.bandwidth_bytes_per_s] if port else []
        )
        if not rates:
            raise _missing(machine, path)
        return max(rates)
    host = chip.port("host")
    tier = machine.host_tier() if path == "host" else machine.nvme_tier()
    if tier is None and path == "nvme":
        raise _missing(machine, path)
    return min(
        host.bandwidth_bytes_per_s if host is not None else math.inf,
        tier.bandwidth_bytes_per_s if tier is not None else math.inf,
        chip.dram.bandwidth_bytes_per_s / 2.0 if host is None else chip.dram.bandwidth_bytes_per_s,
    )


def _latency_s(machine: Machine, path: str) -> float:
    if path == "dram":
        return machine.chip.dram.latency_s
    if path == "peer" and machine.levels:
        return machine.levels[0].latency_s
    port = machine.chip.port("scale_up" if path == "peer" else "host")
    return port.latency_s if port is not None else 0.0


def _missing(machine: Machine, path: str) -> SpecError:
    return SpecError(
        f"{machine.name} has no way to copy to {path!r}",
        at="hardware",
        fix=f"name a node that has {path}, or give the chip a tier and a port",
    )
