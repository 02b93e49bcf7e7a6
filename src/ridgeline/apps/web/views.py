"""The views of the page: what can be asked, and what answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline.apps.web.accuracy_view import accuracy
from ridgeline.apps.web.blocks import Answer
from ridgeline.apps.web.catalogue_view import CATALOGUE, catalogue
from ridgeline.apps.web.chip_view import CHIP, chip
from ridgeline.apps.web.fields import Field
from ridgeline.apps.web.impact_view import IMPACT, impact
from ridgeline.apps.web.jobs import Told
from ridgeline.apps.web.layouts_view import LAYOUTS, layouts
from ridgeline.apps.web.plan_view import PLAN, plan
from ridgeline.apps.web.predict_view import PREDICT, TRAIN, predict, train
from ridgeline.apps.web.simulate_view import SIMULATE, simulate
from ridgeline.apps.web.studies_view import STUDIES, studies


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One page.

    Attributes:
        answer: from the values of its fields; a quick view answers at once, while its sliders move.
        job: answers after a while instead, told how far it is.
        opens: the job runs when the page opens, and not only when that is asked.
    """

    name: str
    title: str
    about: str
    fields: Sequence[Field] = ()
    answer: Callable[[Mapping[str, Any]], Answer] | None = None
    job: Callable[[Mapping[str, Any], Told], Answer] | None = None
    opens: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Its form, as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "about": self.about,
            "fields": [field.to_dict() for field in self.fields],
            "job": self.job is not None,
            "opens": self.opens,
        }


VIEWS: Mapping[str, View] = {
    view.name: view
    for view in (
        View(
            name="predict",
            title="Predict",
            about="What a deployment does under a steady load: latency, throughput, memory, power, and what bounds it.",
            fields=PREDICT,
            answer=predict,
        ),
        View(
            name="plan",
            title="Plan",
            about="From a load and its limits to deployments: all legal ones ranked, why the best wins, launch files.",
            fields=PLAN,
            job=plan,
        ),
        View(
            name="simulate",
            title="Simulate",
            about="A fleet serves requests one by one: latencies with intervals, queues, cache, what they waited for.",
            fields=SIMULATE,
            job=simulate,
        ),
        View(
            name="train",
            title="Train",
            about="A training step: time, tokens per second, utilisation, memory.",
            fields=TRAIN,
            answer=train,
        ),
        View(
            name="layouts",
            title="Layouts",
            about="Ways to lay a training run on machines: the fastest that fit, and what more chips buy.",
            fields=LAYOUTS,
            job=layouts,
        ),
        View(
            name="impact",
            title="Impact",
            about="A served request from the chip to the meter: energy, carbon, water, money, materials, with ranges.",
            fields=IMPACT,
            answer=impact,
        ),
        View(
            name="catalogue",
            title="Catalogue",
            about="Chips, nodes, models, runtimes and sites: every fact with its source.",
            fields=CATALOGUE,
            answer=catalogue,
        ),
        View(
            name="chip",
            title="Own chip",
            about="A chip of your own as a catalogue file: like another, but for what you say; checked, not kept.",
            fields=CHIP,
            answer=chip,
        ),
        View(
            name="studies",
            title="Studies",
            about="Published systems, each its claim beside our number; a click runs one.",
            fields=STUDIES,
            job=studies,
            opens=True,
        ),
        View(
            name="accuracy",
            title="Accuracy",
            about="Errors against measured silicon and published results, by kind, chip and regime.",
            answer=accuracy,
        ),
    )
}
