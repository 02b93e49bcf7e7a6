"""Policies: who is served next, where, with how much memory, by how many replicas. Each decides when it is asked.

`registry.py` names them all and reads their settings from text; `facts.py` is what they may know of requests. One file
a kind: `schedulers.py`, `routers.py`, `kv.py` (caches, eviction, tiers), `autoscalers.py`, `roles.py` (prefill or
decode), `rebalancers.py` (moves between lanes). `checking.py` tries a policy of anyone's on random scenarios;
`guards.py` holds it to its contract while it runs.
"""
