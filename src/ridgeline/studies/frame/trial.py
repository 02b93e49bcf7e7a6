"""A study run once: each claim beside our number, and how the first ratio moves with what is uncertain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ridgeline.studies.frame.study import Assumption, Claim, Outcome, Study, Verdict

MOVE = 0.20
"""Share by which an uncertain assumption is moved, each way."""
_WORST = (Verdict.REPRODUCED, Verdict.TREND, Verdict.NOT_REPRODUCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim, our lowest and highest number, and the verdict."""

    claim: Claim
    ours: tuple[float, float]

    @property
    def verdict(self) -> Verdict:
        """What came of it."""
        return self.claim.judge(self.ours)

    @property
    def ratio(self) -> float:
        """Ours over theirs; of ranges, the ratio of their geometric middles."""
        ours, theirs = (math.copysign(math.sqrt(abs(a * b)), a) for a, b in (self.ours, self.claim.ends))
        return ours / theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a run of a study says.

    Attributes:
        moved: by assumption, our first number with it 20 % lower and 20 % higher.
    """

    study: Study
    outcome: Outcome
    judged: tuple[Judged, ...]
    moved: Mapping[str, tuple[float, float]]

    @property
    def verdict(self) -> Verdict:
        """The worst of its claims."""
        return max((j.verdict for j in self.judged), key=_WORST.index)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: the first claim at the top, all of them below."""
        first, study = self.judged[0], self.study
        return {
            "name": study.name,
            "n": study.n,
            "area": study.area,
            "paper": study.paper,
            "idea": study.idea,
            "metric": first.claim.metric,
            "claim": _plain(first.claim.ends),
            "result": _plain(first.ours),
            "ratio": first.ratio,
            "verdict": str(self.verdict),
            "claims": [
                {
                    "metric": j.claim.metric,
                    "kind": j.claim.kind,
                    "tolerance": j.claim.tolerance,
                    "baseline": j.claim.baseline,
                    "source": j.claim.source,
                    "claim": _plain(j.claim.ends),
                    "result": _plain(j.ours),
                    "ratio": j.ratio,
                    "verdict": str(j.verdict),
                    "why": j.claim.why,
                }
                for j in self.judged
            ],
            "assumptions": [
                {"name": a.name, "value": a.value, "unit": a.unit, "source": a.source} for a in study.assumptions
            ],
            "sensitivity": {name: {"-20%": low, "+20%": high} for name, (low, high) in self.moved.items()},
            "notes": list(self.outcome.notes),
        }


def trial(study: Study, *, sensitivity: bool = True) -> Trial:
    """Run a study, and again with each uncertain assumption moved both ways."""
    outcome = study.run(study.assumed())
    judged = tuple(Judged(claim=claim, ours=outcome.ends(claim.metric)) for claim in study.claims)
    return Trial(study=study, outcome=outcome, judged=judged, moved=dict(movements(study)) if sensitivity else {})


def movements(study: Study) -> Iterator[tuple[str, tuple[float, float]]]:
    """(uncertain assumption, our first number with it lower and higher), one after another."""
    first = study.claims[0].metric
    for doubt in doubts(study):
        low, high = (study.run(study.assumed(**{doubt.name: _moved(doubt.value, way, doubt.whole)})) for way in (-1, 1))
        yield doubt.name, (_middle(low.ends(first)), _middle(high.ends(first)))


def doubts(study: Study) -> list[Assumption]:
    """Its uncertain assumptions."""
    return [a for a in study.assumptions if a.uncertain]


def _moved(value: float, way: int, whole: bool) -> float:
    """A whole number moves by one at least."""
    if not whole:
        return value * (1 + way * MOVE)
    return max(1.0, value + way * max(1.0, round(value * MOVE)))


def _middle(ends: tuple[float, float]) -> float:
    return ends[0] if ends[0] == ends[1] else math.copysign(math.sqrt(abs(ends[0] * ends[1])), ends[0])


def _plain(ends: tuple[float, float]) -> float | list[float]:
    return ends[0] if ends[0] == ends[1] else list(ends)
