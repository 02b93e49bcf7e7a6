"""From a model's sizes to the graph of one forward step.

Promises that every op carries true global sizes (a plan divides them), that repetition is stored and not unrolled, and
that any size may be a column. Knows nothing of chips, plans or time. Read `transformer.forward` first, then one file
per mixer.
"""

from ridgeline.workloads.families.size import Parameters, cache_bytes, kv_bytes_per_token, parameters
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.families.vision import forward_tower

__all__ = ["Parameters", "cache_bytes", "forward", "forward_tower", "kv_bytes_per_token", "parameters"]
