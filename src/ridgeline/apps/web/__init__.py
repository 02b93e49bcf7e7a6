"""The web page: forms, and answers as blocks that a small script draws; works offline, on this machine alone.

A view (`views.py`) has fields and a function from their values to an answer of blocks (`blocks.py`): numbers, tables,
pictures, bars, text. `server.py` serves views as JSON, `guard.py` keeps others out, `jobs.py` runs what takes long.
Static files draw; no view has code of its own in the browser unless people act on it there.
"""
