"""How long a replica takes to load its weights, from where they are."""

from __future__ import annotations

from ridgeline.core import units
from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.hardware.topology import Machine

SOURCES = ("host", "nvme", "network")


def load_bytes_per_s(machine: Machine, source: str) -> float:
    """Bytes per second that each chip of a machine loads while all of them do.

    Args:
        machine: whose ports and node say it.
        source: host (memory of the host, over the chip's port, or the chip's own), nvme (drives of the node, shared by
            its chips), network (the chip's own port, or its share of the node's), or a rate.
    Raises:
        UnknownNameError, UnitError: neither a source nor a rate. DomainError: the catalogue does not know.
    """
    if source[:1].isdigit():
        given = units.parse(source, "byte/s", at="load_from")
        if not given > 0:
            raise DomainError("a rate is above 0", at="load_from", got=source, fix='give for example "10 GB/s"')
        return given
    if source not in SOURCES:
        fix = did_you_mean(source, SOURCES, listing=f'{", ".join(SOURCES)}, or a rate such as "10 GB/s"')
        raise UnknownNameError(f"unknown source of weights {source!r}", at="load_from", fix=fix)
    port, node = machine.chip.port("host"), machine.node
    rate: float | None = None
    near = machine.chip.tier("host")
    if source == "host" and near is not None:
        return near.bandwidth_bytes_per_s  # memory of the chip's own, beside its device memory
    if source == "host" and port is not None:
        rate = port.bandwidth_bytes_per_s
    elif source == "nvme":
        tier = machine.nvme_tier()
        rate = None if tier is None else tier.bandwidth_bytes_per_s
    elif source == "network":
        own = machine.chip.port("scale_out")
        if own is not None:
            rate = own.bandwidth_bytes_per_s
        elif node is not None and node.nic_count and node.nic_bandwidth_bytes_per_s:
            rate = node.nic_count * node.nic_bandwidth_bytes_per_s / node.chips
    if rate is None:
        what = f"the catalogue does not know how fast {machine.chip.name} loads from {source}"
        fix = 'give the time, for example --cold-start 60s, or a rate per chip: --load-from "10 GB/s"'
        raise DomainError(what, at="load_from", got=source, fix=fix)
    return min(rate, port.bandwidth_bytes_per_s) if port is not None and source != "network" else rate
