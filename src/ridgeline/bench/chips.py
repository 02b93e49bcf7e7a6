"""Which chip of the catalogue the device at hand is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.hardware import Chip, chip, chip_names, load_chip_file

_NOISE = re.compile(r"\((?:R|TM|C)\)|\bCPU\b|@.*$|\b\d+-Core Processor\b|\bProcessor\b", re.IGNORECASE)
ADD = "or describe it in a file as in hardware/catalogue/README.md and give --chip FILE.yaml"


def chip_of(name: str, device_name: str = "") -> Chip:
    """The chip that `--chip` names, else the one that the device's own name says.

    Args:
        name: a chip of the catalogue, the path of a chip file (.yaml), or "".
        device_name: what the driver or the system calls the device.
    Raises:
        UnknownNameError: neither is known; the nearest names, and how to add a chip.
    """
    if name.endswith((".yaml", ".yml")):
        return load_chip_file(Path(name))
    if name:
        return chip(name, at="--chip")
    wanted = plain_name(device_name)
    if wanted in chip_names():
        return chip(wanted)
    near = did_you_mean(wanted, chip_names().canonical)
    fix = f"{near}; give --chip NAME (`ridgeline catalogue chips` lists them), {ADD}"
    raise UnknownNameError("the catalogue does not know this device", at="--chip", got=device_name, fix=fix)


def plain_name(device_name: str) -> str:
    """A device's name without marks and words that every such device carries."""
    return " ".join(_NOISE.sub(" ", device_name).split())


def cpu_name() -> str:
    """What the system calls its processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()
