"""Power of this machine while something runs: boards by NVML, processors by RAPL, sampled in a thread of their own.

Boards report power; processors report energy counters that wrap. What cannot be read is told, never guessed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ridgeline.bench.nvml import NvmlMeter

RAPL_ROOT = Path("/sys/class/powercap")

INTERVAL_S = 0.05
"""Between readings; NVML renews its own several times in a second at most."""

MICRO = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one sensor saw over the run."""

    name: str
    energy_j: float
    mean_w: float
    peak_w: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A name and a function that gives watts now; `counts` instead if it gives joules so far, up to `wraps_j`."""

    name: str
    read: Callable[[], float]
    counts: bool = False
    wraps_j: float = math.inf


class Sampler:
    """Reads sensors until it is stopped; use as a context."""

    def __init__(self, sensors: Sequence[Sensor], interval_s: float = INTERVAL_S) -> None:
        """Keep the sensors; nothing is read yet."""
        self._sensors, self._interval_s = tuple(sensors), interval_s
        self._rows: list[tuple[float, list[float]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ridgeline-meter", daemon=True)

    def __enter__(self) -> Sampler:
        """Take the first reading and go on in the background."""
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and take the last reading."""
        self._stop.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        self._rows.append((time.perf_counter(), [sensor.read() for sensor in self._sensors]))

    @property
    def duration_s(self) -> float:
        """From the first reading to the last."""
        return self._rows[-1][0] - self._rows[0][0]

    def readings(self) -> list[Reading]:
        """What each sensor saw; those that never answered are left out."""
        times = np.array([moment for moment, _ in self._rows])
        table = np.array([values for _, values in self._rows]).reshape(times.size, len(self._sensors))
        found = []
        for place, sensor in enumerate(self._sensors):
            known = np.isfinite(table[:, place])
            if known.sum() >= 2:
                found.append(_reading(sensor, times[known], table[known, place]))
        return found


def _reading(sensor: Sensor, times: np.ndarray, values: np.ndarray) -> Reading:
    steps = np.diff(times)
    if sensor.counts:
        joules = np.diff(values)
        joules = np.where(joules < 0, joules + sensor.wraps_j, joules)
        watts = joules / np.maximum(steps, 1e-9)
    else:
        watts = (values[1:] + values[:-1]) / 2.0
        joules = watts * steps
    lasting = float(steps.sum())
    return Reading(
        name=sensor.name,
        energy_j=float(joules.sum()),
        mean_w=float(joules.sum()) / lasting if lasting > 0 else math.nan,
        peak_w=float(watts.max()),
        samples=int(values.size),
    )


def rapl_sensors(root: Path | None = None) -> tuple[list[Sensor], str]:
    """Energy counters of processor packages, and why there are none; `root` is that of powercap."""
    root = RAPL_ROOT if root is None else root
    zones = sorted(root.glob("intel-rapl:[0-9]*")) if root.is_dir() else []
    packages = [zone for zone in zones if zone.name.count(":") == 1]
    if not packages:
        return [], "no RAPL here: the kernel shows no powercap zones of a processor"
    found = []
    for zone in packages:
        counter = zone / "energy_uj"
        try:
            counter.read_text()
            wraps = float((zone / "max_energy_range_uj").read_text()) * MICRO
            name = (zone / "name").read_text().strip()
        except OSError as error:
            return [], f"RAPL cannot be read: {error.strerror or error}; run as root, or allow reading of {counter}"
        found.append(Sensor(name=name, read=_counter(counter), counts=True, wraps_j=wraps))
    return found, ""


def _counter(path: Path) -> Callable[[], float]:
    def read() -> float:
        try:
            return float(path.read_text()) * MICRO
        except (OSError, ValueError):
            return math.nan

    return read


def nvml_sensors() -> tuple[list[Sensor], str]:
    """Power of every NVIDIA board, and why there is none."""
    try:
        import pynvml
    except ImportError:
        return [], "no NVML: nvidia-ml-py is not installed; pip install ridgeline[meter]"
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return [], f"no NVIDIA board: {error}"
    meters = [NvmlMeter(pynvml, handle) for handle in handles]
    return [Sensor(name=f"gpu {place}", read=_power(meter)) for place, meter in enumerate(meters)], ""


def _power(meter: NvmlMeter) -> Callable[[], float]:
    return lambda: meter.read()[0]
