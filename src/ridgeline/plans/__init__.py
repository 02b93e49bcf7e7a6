"""Plans: how a model is cut over chips and in which formats, as rewrites of graphs and models.

A plan never prices anything: it changes the sizes of ops and inserts the collectives that the cut requires.
Read `plan.py` first (degrees and their notation), then `parallel.py` (tensor, expert, data, pipeline and context cuts),
`away.py` (attention on chips of its own) and `precision.py` (formats). `legality.py` says which plans a model and a
machine allow.
"""

from ridgeline.plans.away import AWAY, LINK, groups_of
from ridgeline.plans.legality import check_away, check_plan
from ridgeline.plans.parallel import parallelise
from ridgeline.plans.plan import Plan, parse_plan
from ridgeline.plans.precision import requantise

__all__ = ["AWAY", "LINK", "Plan", "check_away", "check_plan", "groups_of", "parallelise", "parse_plan", "requantise"]
