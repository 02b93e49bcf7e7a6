"""From a question to deployments: every legal way to serve a model on some machines, evaluated as arrays and ranked.

A candidate is a deployment under a load. What a request meets depends on one replica, or on one lane of each pool, and
on the load of that; so only distinct engines are priced, and candidates are products of engines, numbers of replicas
and loads. Read `question.py` (what is asked), `engines.py` (which engines are legal and fit), `aggregated.py` and
`pools.py` (their products), `kept.py` (which candidates stay), `search.py` (all of it in order).
"""

from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import OBJECTIVES, Allowed, Choices, Question, Slo
from ridgeline.search.planning.rows import joined
from ridgeline.search.planning.search import Chosen, Found, find
from ridgeline.search.planning.sensitivity import Moved, sensitivity, shifts

__all__ = [
    "OBJECTIVES",
    "Allowed",
    "Choices",
    "Chosen",
    "Found",
    "Moved",
    "Predictor",
    "Question",
    "Slo",
    "find",
    "joined",
    "sensitivity",
    "shifts",
]
