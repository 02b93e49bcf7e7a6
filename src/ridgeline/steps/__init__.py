"""Steps: a planned graph on a machine's resources: its time, what bounds it, and the memory it needs.

Read `step.py` (a graph priced op by op), `nano_batches.py` (two half batches at once), `away.py` (decode attention on
chips of its own), `shared.py` (only its time, with ops that rows share priced once), `eager.py` (code that a host runs
operator by operator) and `memory.py` (weights, cache, reserve; does it fit?).
"""

from ridgeline.steps.away import Away
from ridgeline.steps.eager import Eager, eager_kernels, eager_time_s
from ridgeline.steps.memory import Memory, Store, memory_of
from ridgeline.steps.priced import OpCost
from ridgeline.steps.shared import alike, step_time_s
from ridgeline.steps.step import Step, largest_name, price_step

__all__ = [
    "Away",
    "Eager",
    "Memory",
    "OpCost",
    "Step",
    "Store",
    "alike",
    "eager_kernels",
    "eager_time_s",
    "largest_name",
    "memory_of",
    "price_step",
    "step_time_s",
]
