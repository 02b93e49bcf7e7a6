"""What a library must offer to be measured, and which libraries are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from ridgeline.core.errors import MissingExtraError, SpecError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from ridgeline.bench.grid import Case
    from ridgeline.bench.timing import Meter

TOLERANCES: Mapping[str, float] = {
    "fp64": 1e-10,
    "fp32": 1e-4,
    "tf32": 1e-2,
    "fp16": 1e-2,
    "bf16": 3e-2,
    "fp8": 5e-2,
    "int8": 0.0,
}
"""Largest error against a float64 reference, as a share of its largest value: a few roundings of each format."""
BACKENDS = ("auto", "torch", "numpy")


class Unsupported(Exception):
    """This backend cannot run this case; the text says why."""


class WrongResult(Exception):
    """A kernel whose result differs from the reference: it is not timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """Seconds from start to finish, and seconds that the host spent submitting."""

    elapsed_s: float
    submit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A case ready to be timed.

    Attributes:
        name: library and function, as the table's `kernel` column says it.
        error: largest error against the reference, as a share of its largest value.
        calls_per_lap: calls that one lap makes, each on the next set of buffers.
        captured: whether laps replay a graph, so that the host does not submit each call.
        laps: runs that many laps, waits, and says how long they took.
    """

    name: str
    error: float
    calls_per_lap: int
    captured: bool
    laps: Callable[[int], Lap]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is measured: its own name, "cpu" or "gpu", how many of it there are, and memory that is free."""

    name: str
    kind: str
    count: int
    free_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Sets of buffers that the calls of a loop take in turn: of weights or whatever else is read, and of results."""

    weights: int
    outputs: int


class Backend(Protocol):
    """A library on a device."""

    @property
    def name(self) -> str:
        """As the table's `backend` column says it."""
        ...

    @property
    def version(self) -> str:
        """The library's version."""
        ...

    @property
    def device(self) -> Device:
        """What it runs on."""
        ...

    def offers(self, table: str) -> tuple[tuple[str, str], ...]:
        """Operations and number formats (op, dtype) that it measures for a table; empty if none."""
        ...

    def prepare(self, case: Case, buffers: Buffers) -> Kernel:
        """Allocate, run once and compare with a reference. Raises Unsupported."""
        ...

    def meter(self) -> Meter | None:
        """Reads power and clocks, or None."""
        ...


def checked(kernel: Kernel, dtype: str) -> Kernel:
    """The kernel, if its result is right. Raises WrongResult."""
    if not kernel.error <= TOLERANCES[dtype]:
        raise WrongResult(f"{kernel.name}: error {kernel.error:.2g}, {TOLERANCES[dtype]:.2g} allowed for {dtype}")
    return kernel


def open_backend(name: str, chip_kind: str = "") -> Backend:
    """The backend of that name on the kind of device that the chip is; "auto" takes torch where it is installed.

    Args:
        name: auto, torch or numpy.
        chip_kind: the catalogue's `kind` of the chip; "" takes whatever device is there.
    Raises:
        MissingExtraError: torch is asked for, or needed by the chip, and not installed.
        SpecError: the chip is an accelerator and none is visible.
        UnknownNameError: no such backend.
    """
    if name not in BACKENDS:
        raise UnknownNameError(f"unknown backend {name!r}", at="--backend", fix=did_you_mean(name, BACKENDS))
    has_torch = find_spec("torch") is not None
    accelerator = chip_kind not in ("", "cpu")
    if not has_torch and (name == "torch" or accelerator):
        why = "the torch backend needs torch" if name == "torch" else f"measuring a {chip_kind} needs torch"
        raise MissingExtraError(why, at="--backend", fix="pip install 'ridgeline[bench]'")
    if name == "numpy" or not has_torch:
        if accelerator:
            raise SpecError("numpy measures CPUs only", at="--backend", got=chip_kind, fix="leave --backend out")
        from ridgeline.bench.numpy_backend import NumpyBackend

        return NumpyBackend()
    from ridgeline.bench.torch_backend import TorchBackend

    return TorchBackend.open("" if not chip_kind else "gpu" if accelerator else "cpu")
