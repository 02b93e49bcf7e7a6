"""Exact allocation: how many of what, which model where, which layers on which device, how many bits each.

Arrays in, arrays and a status out; where nothing is feasible, the reason names the limits that must give way and by how
much. `program.py` is the integer program that the others fill in (HiGHS through scipy, extra `search`); `replicas.py`,
`placement.py` and `layers.py` are the questions.
"""

from ridgeline.search.allocate.layers import Stages, Widths, bit_widths, stages
from ridgeline.search.allocate.placement import Placement, place_models
from ridgeline.search.allocate.program import Program, Solution
from ridgeline.search.allocate.replicas import Pools, Replicas, pool_sizes, replicas

__all__ = [
    "Placement",
    "Pools",
    "Program",
    "Replicas",
    "Solution",
    "Stages",
    "Widths",
    "bit_widths",
    "place_models",
    "pool_sizes",
    "replicas",
    "stages",
]
