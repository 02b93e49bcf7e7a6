"""Many engines under one load: `fleet.py` plays them from event to event, `upkeep.py` breaks, repairs and scales them,
`moving.py` changes their roles and moves their requests.

`spec.py` reads a fleet file; `build.py` makes a fleet of pools (`choices.py`) and a traffic, with lanes by `lanes.py`
and parts of chips by `slices.py`. What comes out is a `record.played.Played`.
"""
