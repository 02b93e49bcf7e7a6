"""Searches: spaces of designs, what is evaluated in them, and which of it nothing beats.

`space.py` and `problem.py` say what is searched; `optimise.py` spends a budget on it with an agent of `agents/`, and on
points at random beside it; `compare.py` ranks agents on equal terms. `allocate/` solves exactly what whole numbers and
sums can say. `chips.py` is a design space of chips, `gym/` makes environments of problems. `pareto.py` is the front of
any table of objectives, `hypervolume.py` its size; `sweeps` evaluates many points, whatever dies meanwhile. This
package asks the layers below for numbers and holds no model of its own, but for the areas and prices that compare chips
(`chip_costs.py`).
"""

from ridgeline.search.compare import Comparison, compare_agents
from ridgeline.search.hypervolume import hypervolume
from ridgeline.search.optimise import AGENTS, Found, search
from ridgeline.search.pareto import front, ranks
from ridgeline.search.problem import Limit, Objective, Problem
from ridgeline.search.space import Choice, Ordered, Range, Space

__all__ = [
    "AGENTS",
    "Choice",
    "Comparison",
    "Found",
    "Limit",
    "Objective",
    "Ordered",
    "Problem",
    "Range",
    "Space",
    "compare_agents",
    "front",
    "hypervolume",
    "ranks",
    "search",
]
