"""Searches: spaces of designs, what is evaluated in them, and which of it nothing beats.

`space.py` and `problem.py` say what is searched; `optimise.py` spends a budget on it with an agent of `agents/`, and on
points at random beside it; `pareto.py` is the front of any table of objectives, `hypervolume.py` its size. This package
asks the layers below for numbers and holds no model of its own.
"""

from ridgeline.search.hypervolume import hypervolume
from ridgeline.search.optimise import AGENTS, Found, search
from ridgeline.search.pareto import front, ranks
from ridgeline.search.problem import Limit, Objective, Problem
from ridgeline.search.space import Choice, Ordered, Range, Space

__all__ = [
    "AGENTS",
    "Choice",
    "Found",
    "Limit",
    "Objective",
    "Ordered",
    "Problem",
    "Range",
    "Space",
    "front",
    "hypervolume",
    "ranks",
    "search",
]
