"""What is computed: ops, graphs that store repetition, models, and the steps that they take.

Promises sizes, FLOPs, bytes and parameters that follow from published shapes alone; any size may be a numpy column.
Knows nothing of chips, plans or time. Read `ops.py` first, then `graph.py`, `model.py` and `families/transformer.py`.
"""

from ridgeline.workloads.families import (
    Parameters,
    cache_bytes,
    forward,
    forward_tower,
    kv_bytes_per_token,
    parameters,
)
from ridgeline.workloads.graph import Graph, Repeat, rewrite, scale_repeats
from ridgeline.workloads.model import Batch, Block, Model, Precision, stack

__all__ = [
    "Batch",
    "Block",
    "Graph",
    "Model",
    "Parameters",
    "Precision",
    "Repeat",
    "cache_bytes",
    "forward",
    "forward_tower",
    "kv_bytes_per_token",
    "parameters",
    "rewrite",
    "scale_repeats",
    "stack",
]
