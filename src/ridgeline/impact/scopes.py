"""Power from the chip to the wall: what a server and its rack draw around accelerators that draw so much.

Host processors follow the load of the accelerators, fans the cube of the heat, supplies their efficiency curve.
Facts and assumptions: `facts/server.yaml`; processors, memory, adapters and drives of a server are those of its node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Node
from ridgeline.impact.sheets import fact, sheet

Array = NDArray[np.float64]

_SOCKETS = re.compile(r"\s*([0-9]{1,2})\s*[x×]\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPower:
    """Power of one server by part, W, of the shape of the chip power that was asked for; parts add up to `wall_w`.

    Attributes:
        chips_w: all accelerators.
        processors_w, memory_w, adapters_w, drives_w, switches_w: the host; 0 where the node does not say what it has.
        fans_w: of the server.
        supply_loss_w: of its power supplies.
        rack_w: lost in distribution, and switches of the rack, outside of the server.
    """

    chips_w: Array
    processors_w: Array
    memory_w: Array
    adapters_w: Array
    drives_w: Array
    switches_w: Array
    fans_w: Array
    supply_loss_w: Array
    rack_w: Array

    @property
    def wall_w(self) -> Array:
        """At the sockets of the server."""
        inside = self.chips_w + self.processors_w + self.memory_w + self.adapters_w + self.drives_w
        found: Array = inside + self.switches_w + self.fans_w + self.supply_loss_w
        return found

    @property
    def rack_total_w(self) -> Array:
        """At the panel of the rack."""
        found: Array = self.wall_w + self.rack_w
        return found

    def parts(self) -> dict[str, Array]:
        """Every part by name."""
        names = ("chips", "processors", "memory", "adapters", "drives", "switches", "fans", "supply_loss", "rack")
        return {name: getattr(self, f"{name}_w") for name in names}


def server_power(chip_w: ArrayLike, chip: Chip, node: Node) -> ServerPower:
    """Power of one server whose accelerators draw `chip_w` each on average.

    Args:
        chip_w: W per accelerator, any shape; 0 to a fifth above the TDP.
        chip: the accelerator.
        node: its server. Where it states no host, parts of a host are 0: such a node is its chips.
    Raises: DomainError: a power that the chip cannot draw.
    """
    each = np.asarray(chip_w, np.float64)
    if not np.all(np.isfinite(each) & (each >= 0) & (each <= 1.2 * chip.tdp_w)):
        raise DomainError(
            f"{chip.name} draws 0 to {chip.tdp_w:g} W", at="chip_w", got=chip_w, fix="check the unit and the chip"
        )
    load = np.asarray(np.clip((each - chip.idle_w) / (chip.tdp_w - chip.idle_w), 0.0, 1.0))
    now, full = _host(load, node), _host(np.ones_like(load), node)
    heat: Array = np.asarray(node.chips * each + sum(now.values()))
    most: Array = np.asarray(node.chips * chip.tdp_w + sum(full.values()))
    fans = _fans(heat, most) if node.host_memory_bytes else np.zeros_like(each)
    total, largest = heat + fans, most + _fans(most, most)
    loss = _supply_loss(total, largest) if node.host_memory_bytes else np.zeros_like(each)
    shares = [fact("server", name, section="rack").value for name in ("distribution_loss", "switch_share")]
    return ServerPower(
        chips_w=node.chips * each,
        **{f"{name}_w": np.broadcast_to(value, each.shape) for name, value in now.items()},
        fans_w=fans,
        supply_loss_w=loss,
        rack_w=sum(shares) * (total + loss),
    )


def sockets_of(node: Node) -> int:
    """Processors of a node's host, by the number that its description starts with."""
    found = _SOCKETS.match(node.host_cpu)
    return int(found[1]) if found else int(fact("server", "sockets").value)


def _host(load: Array, node: Node) -> dict[str, Array]:
    """Watts of each part of the host at a load of the accelerators."""
    if not node.host_memory_bytes:
        names = ("processors", "memory", "adapters", "drives", "switches")
        return {name: np.zeros_like(load, dtype=np.float64) for name in names}
    idle, busy = (fact("server", f"processor_{name}", "w").value for name in ("idle", "busy"))
    drives = (node.nvme_bytes or 0.0) / fact("server", "ssd_size", "byte").value
    switched = any(level.kind == "nvswitch" for level in node.levels) * node.chips / 2.0
    even = np.ones_like(load, dtype=np.float64)
    return {
        "processors": sockets_of(node) * (idle + (busy - idle) * load),
        "memory": even * node.host_memory_bytes * fact("server", "memory_w_per_byte", "w/byte").value,
        "adapters": even * node.nic_count * fact("server", "nic", "w").value,
        "drives": even * drives * fact("server", "ssd", "w").value,
        "switches": even * switched * fact("server", "switch", "w").value,
    }


def _fans(heat: Array, most: Array) -> Array:
    full, least = fact("server", "fan_share").value, fact("server", "fan_idle_share").value
    found: Array = np.asarray(most * np.maximum(full * (heat / most) ** 3, least))
    return found


def _supply_loss(total: Array, largest: Array) -> Array:
    """Loss of the supplies between wall and boards, by the curve of their class."""
    document = sheet("server")
    at, efficiency = (document.need("psu", name, kind=list) for name in ("load", "efficiency"))
    rated = largest * fact("server", "psu_reserve").value
    found: Array = total * (1.0 / np.interp(total / rated, at, efficiency) - 1.0)
    return found
