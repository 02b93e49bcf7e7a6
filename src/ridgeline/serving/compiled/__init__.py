"""The compiled core: what `engine/` and `fleet/` do, on plain arrays, to the last bit, many times faster (extra `jit`).

`play.py` says which fleets it can play, lays one out as arrays and writes back what came of it; read it first. The
others are compiled by numba and imported late: `state.py` holds the arrays and the step table, `batch.py` and `lane.py`
are one engine, `driver.py` is arrivals, routers and the order of events. Whoever changes a rule in `engine/` changes it
here; tests/serving/test_compiled.py finds where the two part.
"""
