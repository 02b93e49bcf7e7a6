"""Serving systems: what a deployment does under a load, in closed form over columns, or played from event to event.

`runtime.py` and `load.py` hold engines and measurement procedures as facts; `stepper.py` prices one iteration;
`steady.py` solves continuous batching, `disaggregated.py` separate pools; `deployment.py` turns both into result
columns and `predict.py` a table of cases into groups of equal structure. Over time: `engine/` is one engine, `fleet/`
many of them, `policies/` decide, `record/` says what came of it. Knows no screen.
"""
