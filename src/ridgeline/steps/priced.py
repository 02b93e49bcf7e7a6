"""One op of a step with its price."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline.costs.price import Price
from ridgeline.hardware.chip import Value
from ridgeline.workloads.ops import Op


@dataclass(frozen=True, slots=True)
class OpCost:
    """One op of a step: its block, how often it runs, and the price of one run."""

    block: str
    op: Op
    times: Value
    price: Price

    @property
    def time_s(self) -> Value:
        """Seconds of all its runs in the step."""
        return self.times * self.price.time_s
