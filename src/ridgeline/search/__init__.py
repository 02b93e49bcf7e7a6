"""Searches: spaces of designs, what is evaluated in them, and which of it nothing beats.

`pareto.py` is the front of any table of objectives; `sweeps` evaluates many points, whatever dies meanwhile. This
package asks the layers below for numbers and holds no model of its own.
"""

from ridgeline.search.pareto import front, ranks

__all__ = ["front", "ranks"]
