"""PyTorch files: `torch.export` archives hold pickled values beside their graph, so they are refused with a way out.

An archive is looked at as a zip file, never loaded: reading its tensors or its sample inputs would run code that the
file carries (`pickle`), which this project does not do.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NoReturn

from ridgeline.core.errors import FileFormatError, did_you_mean

FIX = "export it to ONNX instead: torch.onnx.export(model, inputs, 'model.onnx')"


def read_exported(path: str) -> NoReturn:
    """Refuse a PyTorch file. Raises FileFormatError that says what the file is and what to do instead."""
    file = Path(path)
    if not file.is_file():
        beside = [entry.name for entry in file.parent.glob("*")] if file.parent.is_dir() else []
        raise FileFormatError("no such file", at=path, fix=did_you_mean(file.name, beside))
    what = (
        "a PyTorch file holds pickled code" if not _is_archive(file) else "a torch.export archive holds pickled values"
    )
    raise FileFormatError(f"{what}, which is never loaded", at=path, fix=FIX)


def _is_archive(file: Path) -> bool:
    """Whether it is a zip file with the entries of torch.export."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
    return any(name.endswith(("serialized_exported_program.json", "models/model.json")) for name in names)
