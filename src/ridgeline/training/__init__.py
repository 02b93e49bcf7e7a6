"""Training runs: seconds per step, tokens per second, memory and what bounds them, for many layouts at once.

`work_of` sums a model's forward graph; `train_step` prices a step of every layout in closed form; `predict_training`
does both for a table of cases. The numbers behind it are in `coefficients.yaml`, fitted to published runs by
`python -m ridgeline.training.fit`; what frameworks do is in `profiles/`. Where order matters a job is a graph of tasks
(`graph`): pipelines (`schedules`), offloading (`offload`), unlike islands (`islands`). `run` plays weeks of it.
Not known here: data loading, routing that is not balanced, and links shared with other jobs. Read `step.py` first.

`vision.py` predicts networks over images, in inference and in training, from their graphs (`vision.yaml`, fitted by
`python -m ridgeline.training.vision_fit`).
"""

from ridgeline.training.layout import OFFLOADS, Layout, check, completed
from ridgeline.training.links import Links, links_of
from ridgeline.training.memory import Memory, memory_of
from ridgeline.training.predict import RESULTS, predict_training
from ridgeline.training.prepare import NUMBERS, TEXTS, Catalogue, bundled
from ridgeline.training.profile import Coefficients, Profile, Recipe, coefficients, frameworks, profile, recipe
from ridgeline.training.setup import Host, Setup
from ridgeline.training.step import TrainingStep, train_step
from ridgeline.training.work import Work, work_of

__all__ = [
    "NUMBERS",
    "OFFLOADS",
    "RESULTS",
    "TEXTS",
    "Catalogue",
    "Coefficients",
    "Host",
    "Layout",
    "Links",
    "Memory",
    "Profile",
    "Recipe",
    "Setup",
    "TrainingStep",
    "Work",
    "bundled",
    "check",
    "coefficients",
    "completed",
    "frameworks",
    "links_of",
    "memory_of",
    "predict_training",
    "profile",
    "recipe",
    "train_step",
    "work_of",
]
