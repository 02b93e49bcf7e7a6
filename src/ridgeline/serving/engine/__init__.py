"""One engine: continuous batching, iteration by iteration, with runs of equal iterations taken in one step.

Read `engine.py` first: what happens at a boundary, and what a run is. `rules.py` says how a scheduler forms iterations,
`step_table.py` how long they take; `prefix.py` keeps prefixes of prompts,
`adapters.py` LoRA adapters, `queues.py` orders who waits. Exact: equal to
an eager engine (tests/serving/reference.py) that advances token by token. Knows no fleet and no policy by name.
"""
