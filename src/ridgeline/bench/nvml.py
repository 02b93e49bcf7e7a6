"""Power and clocks of an NVIDIA board, through nvidia-ml-py where that is installed."""

from __future__ import annotations

import math
from typing import Any


class NvmlMeter:
    """Reads one board. What the driver does not show is NaN."""

    def __init__(self, library: Any, handle: Any) -> None:
        """Take the board's handle, and its power limit once."""
        self._library, self._handle = library, handle
        self.limit_w = self._value("nvmlDeviceGetPowerManagementLimit", 1e-3)

    def read(self) -> tuple[float, float]:
        """Power in W and clock of the multiprocessors in Hz."""
        clock = self._value("nvmlDeviceGetClockInfo", 1e6, self._library.NVML_CLOCK_SM)
        return self._value("nvmlDeviceGetPowerUsage", 1e-3), clock

    def _value(self, function: str, unit: float, *arguments: Any) -> float:
        try:
            return float(getattr(self._library, function)(self._handle, *arguments)) * unit
        except self._library.NVMLError:
            return math.nan


def open_meter(uuid: str) -> NvmlMeter | None:
    """The meter of the board with that UUID (with or without `GPU-`), or None without library, driver or board."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        return NvmlMeter(pynvml, pynvml.nvmlDeviceGetHandleByUUID(name))
    except pynvml.NVMLError:
        return None
