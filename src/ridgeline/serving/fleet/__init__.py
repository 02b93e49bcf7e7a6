"""Many engines under one load: `fleet.py` plays them from event to event, `upkeep.py` breaks, repairs and scales them.

`build.py` makes a fleet of a case of `predict serving` and a traffic. What comes out is a `record.played.Played`.
"""
