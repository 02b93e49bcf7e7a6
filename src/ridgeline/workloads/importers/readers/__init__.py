"""One reader per family of architectures: a configuration's fields -> a `Model`.

`READERS` maps Hugging Face `model_type` values to readers. A new family is one file here and one line in its `READERS`.
"""

from ridgeline.workloads.importers.readers import (
    classic,
    deepseek,
    dense,
    encoders,
    gemma,
    hybrid,
    mixtures,
    multimodal,
)
from ridgeline.workloads.importers.readers.common import Reader

READERS: dict[str, Reader] = {
    **dense.READERS,
    **mixtures.READERS,
    **deepseek.READERS,
    **gemma.READERS,
    **classic.READERS,
    **hybrid.READERS,
    **encoders.READERS,
    **multimodal.READERS,
}

__all__ = ["READERS", "Reader"]
