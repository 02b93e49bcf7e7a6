"""Energy of data between a user and a site, by path: fixed line, Wi-Fi, 4G, 5G, edge."""

from __future__ import annotations

from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.impact.quantity import Quantity
from ridgeline.impact.sheets import evidence, sheet

PATHS: tuple[str, ...] = tuple(sheet("transport").need("paths", kind=dict))


def transport_j(size_bytes: float, path: str) -> Quantity:
    """Energy of moving so many bytes. Raises UnknownNameError: no such path; DomainError: a negative size."""
    if path not in PATHS:
        fix = did_you_mean(path, PATHS, listing=f"paths: {', '.join(PATHS)}")
        raise UnknownNameError(f"unknown path {path!r}", at="path", fix=fix)
    if not size_bytes >= 0:
        raise DomainError("a size is >= 0", at="size_bytes", got=size_bytes, fix="give bytes")
    document = sheet("transport")
    written = document.need("paths", path, "energy", kind=dict)
    return evidence(document, written, "j/byte", document.where("paths", path)).quantity * size_bytes
