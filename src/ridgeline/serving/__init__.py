"""Serving systems: what a deployment does under a load, at steady state, in closed form over columns.

`runtime.py` and `load.py` hold engines and measurement procedures as facts; `stepper.py` prices one iteration;
`steady.py` solves continuous batching, `disaggregated.py` separate pools; `deployment.py` turns both into result
columns and `predict.py` a table of cases into groups of equal structure. Knows no screen and no file of the user's.
"""
