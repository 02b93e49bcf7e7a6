"""Targets of launch files by name, and the files that they give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ridgeline.core.names import Names
from ridgeline.serving.launch.cluster import Dynamo, Kubernetes, Llmd
from ridgeline.serving.launch.deployment import Launch, Note
from ridgeline.serving.launch.scripts import Scripts


class Target(Protocol):
    """Something that launches a deployment."""

    def write(self, launch: Launch) -> tuple[dict[str, str], list[Note]]:
        """Texts by file name, and what they cannot say."""
        ...


TARGETS: Mapping[str, Target] = {
    "vllm": Scripts("vllm"),
    "sglang": Scripts("sglang"),
    "trtllm": Scripts("trtllm"),
    "kubernetes": Kubernetes(),
    "llm-d": Llmd(),
    "dynamo": Dynamo(),
}
_ALIASES = {"trtllm": ("tensorrt-llm", "trt-llm"), "kubernetes": ("k8s",)}


@dataclass(frozen=True, slots=True)
class LaunchFiles(Mapping[str, str]):
    """Texts by file name, and the notes on what they cannot say."""

    target: str
    texts: Mapping[str, str]
    notes: tuple[Note, ...]

    def __getitem__(self, name: str) -> str:
        """The text of one file."""
        return self.texts[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the files."""
        return iter(self.texts)

    def __len__(self) -> int:
        """Number of files."""
        return len(self.texts)


def target_names() -> tuple[str, ...]:
    """Names of the targets."""
    return tuple(TARGETS)


def write_launch(launch: Launch, target: str) -> LaunchFiles:
    """The files of a deployment for a target. Raises UnknownNameError with the nearest targets."""
    aliases = {name: _ALIASES.get(name, ()) for name in TARGETS}
    names = Names("target", aliases, listing=f"targets: {', '.join(TARGETS)}")
    name = names.resolve(target, at="target")
    texts, notes = TARGETS[name].write(launch)
    return LaunchFiles(name, texts, tuple(dict.fromkeys(notes)))
