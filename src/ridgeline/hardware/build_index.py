"""Regenerates `catalogue/index.json` from the files beside it: `python -m ridgeline.hardware.build_index`."""

from __future__ import annotations

import sys

from ridgeline.core.files import write_atomic
from ridgeline.hardware import index


def main() -> int:
    """Write the index and say what it holds."""
    write_atomic(index.INDEX, index.render())
    held = ", ".join(f"{len(rows)} {kind}" for kind, rows in index.build().items())
    sys.stdout.write(f"{index.INDEX.name}: {held}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
