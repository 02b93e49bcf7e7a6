"""Assumptions that many studies share, so that they read the same everywhere."""

from __future__ import annotations

from ridgeline.studies.frame.study import Assumption

HOST_PER_LAYER = Assumption(
    name="host time per layer",
    value=1.23e-3,
    unit="s",
    source="eager PyTorch, Llama-7B on A100, one sequence: 25.5 tokens/s, bound by its host, over 32 layers "
    "(pytorch.org/blog/accelerating-generative-ai-2, 2023)",
)
"""What eager model code makes the device wait (`steps.eager`)."""
