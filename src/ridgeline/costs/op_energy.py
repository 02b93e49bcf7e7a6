"""Energy of one operation and of a byte by node, format and memory, and leakage by temperature; `op_energy.yaml`.

For chips whose power nobody measured: P = idle + joules of operations and bytes over time, idle with its leakage.
"""

from __future__ import annotations

import math
import re
from functools import cache
from importlib import resources

from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.core.files import Document, parse_yaml
from ridgeline.hardware.chip import Chip, ChipColumns, Value

BITS = {"fp64": 64, "fp32": 32, "tf32": 19, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4, "int4": 4}
"""Bits of an operand; a format without a figure scales from its nearest by the power of the width that fits them."""

PICO = 1e-12
REFERENCE_NM = 7

BOARDS = frozenset({"gpu", "cpu", "soc-gpu", "soc-npu"})
"""Kinds of chips with the law of measured boards, in units of TDP: processors, whose operations carry instructions with
them, and parts of a phone's chip, to which no TDP or die is their own. All others compute on arrays on large dies."""

COLDEST_C, HOTTEST_C = 0.0, 105.0


@cache
def document() -> Document:
    """The file of facts."""
    source = resources.files("ridgeline.costs") / "op_energy.yaml"
    return parse_yaml(source.read_text("utf-8"), name=source.name)


def number(name: str, bound: str = "value") -> float:
    """A fact, or its bound `low` or `high`."""
    return document().need("facts", name, bound, kind=float)


def mac_j(compute: str, node_nm: float, *, bound: str = "value") -> float:
    """Energy of a multiply-accumulate with what feeds it, J.

    Args:
        compute: format, one of BITS.
        node_nm: feature size of the process.
        bound: value, low or high: of what feeds the arithmetic.
    Raises: UnknownNameError: no such format. DomainError: a size that is not above 0.
    """
    if compute not in BITS:
        raise UnknownNameError(f"unknown format {compute!r}", at="compute", fix=did_you_mean(compute, BITS))
    if not 0 < node_nm < math.inf:
        raise DomainError("a feature size is above 0", at="node_nm", got=node_nm, fix="give nanometres")
    rows = document().need("mac", str(REFERENCE_NM), kind=dict)
    known = {name: float(value) for name, value in rows.items() if name in BITS}
    if compute in known:
        base = known[compute]
    else:
        near = min(known, key=lambda name: abs(math.log(BITS[name] / BITS[compute])))
        slope = math.log(known["fp32"] / known["int8"]) / math.log(BITS["fp32"] / BITS["int8"])
        base = float(known[near] * (BITS[compute] / BITS[near]) ** slope)
    scale = float((node_nm / REFERENCE_NM) ** number("node_exponent"))
    return number("overhead", bound) * base * scale * PICO


def byte_j(technology: str) -> float:
    """Energy of a byte from a memory of that technology (HBM3, GDDR6, LPDDR5, DDR5, SRAM), J.

    Raises: UnknownNameError: none of these.
    """
    rows = document().need("memory", kind=dict)
    for name in sorted(rows, key=len, reverse=True):
        if technology.upper().startswith(name):
            return float(rows[name]["value"]) * PICO
    raise UnknownNameError(f"unknown memory {technology!r}", at="technology", fix=did_you_mean(technology, rows))


def node_nm(process: str) -> float | None:
    """Feature size of a process by its name, as "TSMC N7"; None: the name holds no size."""
    names = document().need("nodes", "names", kind=dict)
    if process in names:
        return float(names[process])
    found = re.search(r"\d+", process)
    return float(found[0]) if found else None


def is_counted(chip: Chip) -> bool:
    """Whether power is counted by operations: no such board was measured, and the process is known."""
    return op_joules(chip) is not None


def op_joules(chip: Chip, compute: str = "bf16") -> tuple[float, float] | None:
    """Joules of a FLOP in a format, and of a byte from main memory to the units, of a chip that nobody measured.

    None: the law of measured boards holds for it, or the catalogue lacks its process or memory.
    """
    process = chip.facts.get("process")
    if chip.kind in BOARDS or process is None:
        return None
    return _joules(str(process.value), chip.dram.technology, compute)


@cache
def _joules(process: str, technology: str, compute: str) -> tuple[float, float] | None:
    size, memories = node_nm(process), document().need("memory", kind=dict)
    if size is None or not technology.upper().startswith(tuple(memories)):
        return None
    return mac_j(compute, size) / 2.0, byte_j(technology) + number("byte_path") * PICO


UNKNOWN = (math.nan, math.nan)


def counted_w(flops_per_s: Value, bytes_per_s: Value, chips: ChipColumns, compute: str = "bf16") -> Value:
    """Power of the chips whose operations are counted, W: idle, and joules over time; NaN for all others.

    Args:
        flops_per_s: operations in that format.
        bytes_per_s: of main memory.
        chips: one per row.
        compute: format.
    """
    flop_j, byte_j = (chips.gather(lambda chip, i=i: (op_joules(chip, compute) or UNKNOWN)[i]) for i in (0, 1))  # type: ignore[misc]
    return chips.gather(lambda chip: chip.idle_w) + flop_j * flops_per_s + byte_j * bytes_per_s


def leakage_w(idle_w: float, temperature_c: float) -> float:
    """What a chip leaks beyond its idle power at that temperature of its dies, W; negative below the reference.

    Raises: DomainError: a temperature at which no chip runs.
    """
    if not COLDEST_C <= temperature_c <= HOTTEST_C:
        fix = f"give {COLDEST_C:g} to {HOTTEST_C:g} degrees Celsius"
        raise DomainError("no chip runs at that temperature", at="temperature_c", got=temperature_c, fix=fix)
    doublings = (temperature_c - number("reference_c")) / number("leakage_doubling_c")
    more: float = number("leakage_share") * idle_w * (2.0**doublings - 1.0)
    return more
