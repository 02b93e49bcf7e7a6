"""What can go wrong while time passes: a simulation used against its rules, a real-time run that cannot keep up."""

from __future__ import annotations

from ridgeline.core.errors import RidgelineError


class SimulationError(RidgelineError):
    """A simulation was used in a way that its rules do not allow, as `run` inside `run`."""

    code = "RL0120"


class LagError(SimulationError):
    """A strict real-time run fell further behind the wall clock than its tolerance."""

    code = "RL0121"
