"""ridgeline: predict, simulate and optimise what AI workloads cost on computing hardware.

`rl.predict(...)` answers for one case, `rl.predict_table(...)` for many, `rl.simulate(...)` plays a load over time,
`rl.sweep(...)` evaluates a file of axes.
Start with docs/index.md.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ridgeline.api.impacts.impact import Impact, impact
    from ridgeline.api.impacts.power_row import PlayedRow, power_row
    from ridgeline.api.impacts.shift import Shifted, shift
    from ridgeline.api.planning.launch import LaunchFiles, Reading, launch_files, read_launch
    from ridgeline.api.planning.plan import Planned, plan
    from ridgeline.api.planning.size import Sized, size
    from ridgeline.api.predictions.audit import Audit, audit
    from ridgeline.api.predictions.compare import Compared, compare
    from ridgeline.api.predictions.predict import Prediction, predict
    from ridgeline.api.simulations.capacity import Capacity, capacity
    from ridgeline.api.simulations.simulate import Simulated, simulate
    from ridgeline.api.simulations.simulate_table import simulate_table
    from ridgeline.api.sweeps.sweep import Swept, sweep
    from ridgeline.api.tables.query import query
    from ridgeline.api.tables.tasks import predict_table
    from ridgeline.api.training.budget_training import Budgeted, budget_training
    from ridgeline.api.training.calibrate_training import StackShare, calibrate_training
    from ridgeline.api.training.plan_offload import OffloadPlan, plan_offload
    from ridgeline.api.training.plan_training import TrainingPlan, plan_training
    from ridgeline.api.training.plan_update import UpdatePlan, plan_update
    from ridgeline.api.training.simulate_training import SimulatedTraining, simulate_training
    from ridgeline.core.errors import RidgelineError
    from ridgeline.hardware.catalogue import chip, node
    from ridgeline.hardware.machine import machine
    from ridgeline.plans import Plan, parse_plan
    from ridgeline.serving.policies.checking import check_policy
    from ridgeline.workloads.catalogue import model
    from ridgeline.workloads.traffic import Traffic, load_traffic, make_traffic

__all__ = [
    "Audit",
    "Budgeted",
    "Capacity",
    "Compared",
    "Impact",
    "LaunchFiles",
    "OffloadPlan",
    "Plan",
    "Planned",
    "PlayedRow",
    "Prediction",
    "Reading",
    "RidgelineError",
    "Shifted",
    "Simulated",
    "SimulatedTraining",
    "Sized",
    "StackShare",
    "Swept",
    "Traffic",
    "TrainingPlan",
    "UpdatePlan",
    "audit",
    "budget_training",
    "calibrate_training",
    "capacity",
    "check_policy",
    "chip",
    "compare",
    "impact",
    "launch_files",
    "load_traffic",
    "machine",
    "make_traffic",
    "model",
    "node",
    "parse_plan",
    "plan",
    "plan_offload",
    "plan_training",
    "plan_update",
    "power_row",
    "predict",
    "predict_table",
    "query",
    "read_launch",
    "shift",
    "simulate",
    "simulate_table",
    "simulate_training",
    "size",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Public names load their module on first use, so that `import ridgeline` stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'ridgeline' has no attribute {name!r}")
    from ridgeline.api import names

    return getattr(names, name)


class _Verb(ModuleType):
    """A package that is also a verb."""

    def __call__(self, *sources: Any, **asked: Any) -> Any:
        """As `ridgeline.api.impact.impact`."""
        from ridgeline.api.impacts.impact import impact

        return impact(*sources, **asked)


class _Package(ModuleType):
    """This module: `rl.impact(...)` is a verb although `ridgeline.impact` is a package, which an import puts here."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep the attribute; the package learns to be called."""
        if name == "impact" and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
