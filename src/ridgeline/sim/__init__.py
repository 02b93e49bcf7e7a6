"""Simulated time: events, queues, random streams, and statistics of what a run recorded. Knows nothing of AI.

Promises: events run in the order of (time, priority, sequence), and the same seed and callbacks give the same run; what
one component draws does not depend on the others; a mean or a percentile comes with its interval, and a percentile of
too small a sample is marked; there is no clock and no randomness that was not passed in.

Read `engine.py` first (the loop), then `statistics.py`. `queues.py` has servers and links, `timeline.py` integrals over
windows and Little's law, `histogram.py` percentiles of a stream in bounded memory, `search.py` when to stop replicating
and the highest load that still holds; `realtime.py` plays a simulation against a clock that it is given.
"""

from ridgeline.sim.engine import Event, Simulation
from ridgeline.sim.errors import LagError, SimulationError
from ridgeline.sim.histogram import LogHistogram
from ridgeline.sim.queues import SharedLink, Station, fifo_waits_s
from ridgeline.sim.realtime import Lateness, RealTime
from ridgeline.sim.search import Bracket, Replications, highest, replicate
from ridgeline.sim.statistics import (
    Estimate,
    Percentile,
    WarmUp,
    mean_interval,
    percentiles,
    sample_size,
    warm_up_fraction,
    warm_up_mser,
)
from ridgeline.sim.timeline import Little, littles_law, population, window_integrals, window_means

__all__ = [
    "Bracket",
    "Estimate",
    "Event",
    "LagError",
    "Lateness",
    "Little",
    "LogHistogram",
    "Percentile",
    "RealTime",
    "Replications",
    "SharedLink",
    "Simulation",
    "SimulationError",
    "Station",
    "WarmUp",
    "fifo_waits_s",
    "highest",
    "littles_law",
    "mean_interval",
    "percentiles",
    "population",
    "replicate",
    "sample_size",
    "warm_up_fraction",
    "warm_up_mser",
    "window_integrals",
    "window_means",
]
