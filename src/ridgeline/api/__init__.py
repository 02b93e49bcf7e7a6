"""The public verbs and nouns, composed from the layers below; no modelling of its own.

`columns.py` declares every column of every task once: defaults, flags of the command line, documentation and validation
come from it. `tasks.py` maps a task to the function that evaluates its table; `predict.py` holds the verbs.
"""
