"""Steps: a planned graph on a machine's resources: its time, what bounds it, and the memory it needs.

Read `step.py` (a graph priced op by op) and `memory.py` (weights, cache, reserve; does it fit?).
"""

from ridgeline.steps.memory import Memory, memory_of
from ridgeline.steps.step import OpCost, Step, largest_name, price_step

__all__ = ["Memory", "OpCost", "Step", "largest_name", "memory_of", "price_step"]
