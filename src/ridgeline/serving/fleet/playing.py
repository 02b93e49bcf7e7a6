"""The ways to play a fleet, all with the same results: event by event, lane after lane, or compiled."""

from __future__ import annotations

import math

from ridgeline.serving.compiled import play as compiled
from ridgeline.serving.fleet import apart
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.record.played import Played


def play(fleet: Fleet, until_s: float = math.inf, *, engine: str = "auto") -> Played:
    """Serve until nothing is left to do, or that time. Ctrl-C ends with what is known so far.

    Args:
        fleet: not played before.
        until_s: end of the run.
        engine: python, compiled (extra `jit`), or auto: compiled where that is possible and worth it.
    """
    try:
        if compiled.chosen(fleet, engine):
            compiled.play(fleet, until_s)
        elif apart.applies(fleet):
            apart.play(fleet, until_s)
        else:
            return fleet.play(until_s)
    except KeyboardInterrupt:
        fleet.interrupted = True
    return fleet.played()
