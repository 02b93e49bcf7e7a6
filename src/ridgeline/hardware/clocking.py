"""A chip at a lower clock of its units, or warmer. Slower engines leave caches, main memory and links at their pace.

That the last-level cache keeps pace is inferred: decode keeps 94 to 97 % of its speed under power caps that take
prompts to 26 to 60 % (RTX 3090, llmgarage.ai), which no cache on the units' clock would allow.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ridgeline.core.errors import DomainError
from ridgeline.hardware.chip import Chip

ON_CLOCK = frozenset({"registers", "shared"})
"""Tiers whose bandwidth follows the clock of the units."""

LOWEST = 0.1


@lru_cache(maxsize=4096)
def leaking(chip: Chip, leakage_w: float) -> Chip:
    """The chip with that much leakage beyond its idle power in the catalogue, W.

    Raises: SpecError: idle power would reach the TDP.
    """
    return replace(chip, idle_w=chip.idle_w - chip.leakage_w + leakage_w, leakage_w=leakage_w)


@lru_cache(maxsize=4096)
def at_clock(chip: Chip, clock_frac: float) -> Chip:
    """The chip locked to a share of its full clock; it keeps its name, and so its fitted numbers.

    Raises: DomainError: a share outside 0.1 to 1.
    """
    if not LOWEST <= clock_frac <= 1.0:
        raise DomainError("a clock is 0.1 to 1 of the full one", at="clock_frac", got=clock_frac, fix="give a share")
    if clock_frac == chip.clock_frac:
        return chip
    by = clock_frac / chip.clock_frac
    tiers = tuple(
        replace(tier, bandwidth_bytes_per_s=tier.bandwidth_bytes_per_s * by) if tier.name in ON_CLOCK else tier
        for tier in chip.tiers
    )
    return replace(
        chip,
        clock_hz=chip.clock_hz * by,
        matrix_flops_per_s={name: rate * by for name, rate in chip.matrix_flops_per_s.items()},
        vector_flops_per_s={name: rate * by for name, rate in chip.vector_flops_per_s.items()},
        tiers=tiers,
        clock_frac=clock_frac,
    )
