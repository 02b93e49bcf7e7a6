"""Assumptions that many studies share, so that they read the same everywhere."""

from __future__ import annotations

from ridgeline.studies.frame.study import Assumption

HOST_PER_KERNEL = Assumption(
    name="host time per kernel",
    value=24e-6,
    unit="s",
    source="eager PyTorch, Llama-7B on A100, one sequence: 25.5 tokens/s, bound by its host "
    "(pytorch.org/blog/accelerating-generative-ai-2, 2023), over 1,643 kernels (`steps.eager_kernels`)",
)
"""What eager model code makes the device wait (`steps.eager`)."""
