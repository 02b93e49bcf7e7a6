"""Energy of a multiply-accumulate and of a byte, for chips without measurements: by node, format and memory."""

from __future__ import annotations

import math

from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.impact.quantity import Quantity
from ridgeline.impact.sheets import fact, sheet

BITS = {"fp64": 64, "fp32": 32, "tf32": 19, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4, "int4": 4}
"""Bits of an operand; a format without a figure scales from its nearest by the power of the width that fits them."""

PICO = 1e-12
_REFERENCE = "7"


def mac_j(compute: str, node_nm: float) -> Quantity:
    """Energy of a multiply-accumulate with what feeds it, J.

    Args: compute: format, one of BITS. node_nm: feature size of the process.
    Raises: UnknownNameError: no such format. DomainError: a size that is not above 0.
    """
    if compute not in BITS:
        raise UnknownNameError(f"unknown format {compute!r}", at="compute", fix=did_you_mean(compute, BITS))
    if not 0 < node_nm < math.inf:
        raise DomainError("a feature size is above 0", at="node_nm", got=node_nm, fix="give nanometres")
    known = {k: float(v) for k, v in sheet("op_energy").need("mac", _REFERENCE, kind=dict).items() if k in BITS}
    if compute in known:
        base = known[compute]
    else:
        near = min(known, key=lambda name: abs(math.log(BITS[name] / BITS[compute])))
        wide, narrow = known["fp32"], known["int8"]
        slope = math.log(wide / narrow) / math.log(BITS["fp32"] / BITS["int8"])
        base = float(known[near] * (BITS[compute] / BITS[near]) ** slope)
    scale = (node_nm / float(_REFERENCE)) ** fact("op_energy", "node_exponent").value
    return fact("op_energy", "overhead").quantity * float(base * scale * PICO)


def byte_j(technology: str) -> float:
    """Energy of a byte from a memory of that technology (HBM3, GDDR6, LPDDR5, DDR5, SRAM), J.

    Raises: UnknownNameError: none of these.
    """
    rows = sheet("op_energy").need("memory", kind=dict)
    for name in sorted(rows, key=len, reverse=True):
        if technology.upper().startswith(name):
            return float(rows[name]["value"]) * PICO
    raise UnknownNameError(f"unknown memory {technology!r}", at="technology", fix=did_you_mean(technology, rows))
