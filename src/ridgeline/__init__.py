"""ridgeline: what AI workloads cost on computing hardware, in time, memory, power and money."""

__version__ = "0.1.0"
