"""Sweeps: many points of one question, evaluated once each, whatever dies meanwhile.

A file (`spec.py`, of the form in `form.py`) names axes; `points.py` numbers their points; `run.py` hands parts of them
to a pool of workers (`pools.py`: this process or others here; `ray_pool.py`: a Ray cluster) and writes what comes back
into a journal (`journal.py`), from which `results.py` makes one table. Workers know one function from columns of points
to columns of results (`work.py`), which the layer above hands down; nothing here knows what it computes. Parts are cut
the same way whoever evaluates them, so that results are the same to the byte. Read `run.py` first.
"""
