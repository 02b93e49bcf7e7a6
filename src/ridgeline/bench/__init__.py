"""Measures kernels on the machine at hand and writes the tables that calibration reads.

Promises: each kernel's result is checked against a reference before it is timed; a run ends within its time; when it
is interrupted, what was measured so far is written whole. Rows say how they were measured: hot or cold weights,
captured or submitted one by one, spread of the repeats, whether the host held the device up.

Does not know: cost models, and what the numbers should be. Peaks and cache sizes come from the chip's catalogue file.
Read `grid.py` (what is measured), then `timing.py` (how), `backends.py` (with what), `session.py` (in which order).
"""

from ridgeline.bench.backends import Backend, Device, Kernel, Lap, Unsupported, WrongResult, open_backend
from ridgeline.bench.chips import chip_of
from ridgeline.bench.grid import KINDS, Case, cases, kinds_of
from ridgeline.bench.session import Outcome, Plan, offered, run
from ridgeline.bench.table import Line, Row, paths_for, summary, write
from ridgeline.bench.timing import FULL, QUICK, Effort, Timing, time_kernel

__all__ = [
    "FULL",
    "KINDS",
    "QUICK",
    "Backend",
    "Case",
    "Device",
    "Effort",
    "Kernel",
    "Lap",
    "Line",
    "Outcome",
    "Plan",
    "Row",
    "Timing",
    "Unsupported",
    "WrongResult",
    "cases",
    "chip_of",
    "kinds_of",
    "offered",
    "open_backend",
    "paths_for",
    "run",
    "summary",
    "time_kernel",
    "write",
]
