"""Every name that `import ridgeline as rl` shows, in one place to be loaded when the first of them is used."""

from ridgeline.api.predict import Prediction, predict
from ridgeline.api.tasks import predict_table
from ridgeline.core.errors import RidgelineError
from ridgeline.hardware.catalogue import chip, node
from ridgeline.hardware.machine import machine
from ridgeline.plans import Plan, parse_plan
from ridgeline.serving.policies.checking import check_policy
from ridgeline.workloads.catalogue import model

__all__ = [
    "Plan",
    "Prediction",
    "RidgelineError",
    "check_policy",
    "chip",
    "machine",
    "model",
    "node",
    "parse_plan",
    "predict",
    "predict_table",
]
