"""Agents: functions that spend a ledger's budget. All know a problem only through its space and its evaluations.

`moves.py` holds steps from point to point; `evolution.py` NSGA-II and a genetic algorithm, `local.py` annealing and a
random walk, `ants.py` an ant colony, `model.py` Bayesian search, `learned.py` reinforcement learning.
"""
