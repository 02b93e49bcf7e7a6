"""From what others publish to a `Model`: Hugging Face configurations, and plain numbers.

Promises that every wrong field is one error with file, line and field, and that nothing in a file is executed.
"""

from ridgeline.workloads.importers.huggingface import from_config
from ridgeline.workloads.importers.shapes import from_shape

__all__ = ["from_config", "from_shape"]
