"""What fails in a training cluster, how often, and what it takes to go on: facts, and a job's own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.core.files import parse_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A kind of failure: mean chip seconds between two, and whether the node must be replaced."""

    name: str
    mtbf_chip_s: float
    needs_node: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Failures, slow chips and recovery.

    Attributes:
        parts: kinds of failure.
        detect_s, restart_s: until a failure is noticed, and until steps run again (loading a checkpoint not included).
        swap_s, repair_s: until a spare node has joined, and until a failed one is back.
        slow_chip_s: mean chip seconds between chips that turn slow (infinity: never), by `slow_frac` of the speed of
            the whole job, taken out after `slow_detect_s`.
    """

    parts: tuple[Part, ...]
    detect_s: float
    restart_s: float
    swap_s: float
    repair_s: float
    slow_chip_s: float = math.inf
    slow_frac: float = 0.0
    slow_detect_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse times and rates that cannot be."""
        times = (self.detect_s, self.restart_s, self.swap_s, self.repair_s, self.slow_detect_s)
        if not all(0 <= time < math.inf for time in times) or not 0 <= self.slow_frac < 1:
            raise DomainError("times of recovery are from 0, a slow-down is a share", at="reliability", got=self)
        if not all(part.mtbf_chip_s > 0 for part in self.parts) or not self.slow_chip_s > 0:
            raise DomainError("times between failures are above 0", at="reliability", got=self.parts)

    def rate_per_s(self, chips: int) -> float:
        """Failures per second of a job."""
        return chips * sum(1.0 / part.mtbf_chip_s for part in self.parts)

    def mtbf_s(self, chips: int) -> float:
        """Mean time between failures of a job."""
        rate = self.rate_per_s(chips)
        return 1.0 / rate if rate > 0 else math.inf


@cache
def _data() -> Mapping[str, Any]:
    source = resources.files("ridgeline.training") / "reliability.yaml"
    if not source.is_file():
        raise SpecError("reliability.yaml is missing", at="ridgeline/training", fix="reinstall ridgeline")
    data: Mapping[str, Any] = parse_yaml(source.read_text("utf-8"), name=source.name).data
    return data


def published_reliability() -> Reliability:
    """The rates of a published large run; recovery times are assumed (reliability.yaml says from what)."""
    data = _data()
    total = float(data["chip_seconds"]["value"])
    parts = tuple(
        Part(name=name, mtbf_chip_s=total / entry["interruptions"], needs_node=bool(entry["needs_node"]))
        for name, entry in data["parts"].items()
    )
    recovery = {name: float(entry["value"]) for name, entry in data["recovery"].items()}
    slow = {name: float(entry["value"]) for name, entry in data["straggler"].items()}
    return Reliability(
        parts=parts,
        **recovery,
        slow_chip_s=slow["chip_seconds"],
        slow_frac=slow["slow_frac"],
        slow_detect_s=slow["detect_s"],
    )


def checkpoint_facts() -> tuple[float, float]:
    """Bytes of a checkpoint per parameter, and bytes/s of a published training store."""
    facts = _data()["checkpoint"]
    return float(facts["bytes_per_parameter"]["value"]), float(facts["storage_bytes_per_s"]["value"])
