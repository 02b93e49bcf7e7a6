"""Releases whose tables were measured under the power limit; `fits/power_runs.yaml` lists them with their source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from ridgeline.core.files import parse_yaml
from ridgeline.costs.price import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRun:
    """One release: its runtime, the start of its version numbers, and the version that was measured."""

    runtime: str
    release: str
    version: str

    @property
    def suffix(self) -> str:
        """What the names of its kernel families end with."""
        return f"-v{self.release}"


@cache
def power_runs() -> tuple[PowerRun, ...]:
    """All releases that were measured so."""
    source = resources.files("ridgeline.costs") / "fits" / "power_runs.yaml"
    listed = parse_yaml(source.read_text("utf-8"), name=source.name).data["runs"]
    return tuple(PowerRun(runtime=run["runtime"], release=run["release"], version=run["version"]) for run in listed)


def suffix_of(setting: Setting) -> str:
    """The suffix of the families that a runtime's version runs; empty for ordinary releases."""
    for run in power_runs():
        if setting.runtime == run.runtime and setting.version.startswith(run.release):
            return run.suffix
    return ""


def was_sustained(runtime: str, version: str) -> bool:
    """Whether rows of a table with these labels ran under the power limit."""
    return any(runtime == run.runtime and version == run.version for run in power_runs())
