"""GPUs, and CPUs, through torch: what a model's layers call, captured in a CUDA graph where the device has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ridgeline.bench import torch_kernels
from ridgeline.bench.backends import Buffers, Device, Kernel, Lap, Unsupported
from ridgeline.bench.chips import cpu_name
from ridgeline.bench.grid import COLLECTIVES, COPIES, ELEMENTWISE, Case
from ridgeline.bench.numpy_backend import free_memory_bytes
from ridgeline.bench.nvml import NvmlMeter, open_meter
from ridgeline.core.errors import SpecError

LONGEST_GRAPH = 64
"""Calls that one graph holds at most; enough to hide its launch."""


class TorchBackend:
    """torch on one GPU, on the CPU, or, for collectives, on all GPUs of this machine."""

    name = "torch"

    def __init__(self, torch: Any, where: str) -> None:
        """Measure on `where`: "cuda" or "cpu"."""
        self._torch, self._where = torch, where
        self.version = str(torch.__version__)
        if where == "cpu":
            self.device = Device(name=cpu_name(), kind="cpu", count=1, free_bytes=free_memory_bytes())
        else:
            name, free = torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)[0]
            self.device = Device(name=name, kind="gpu", count=torch.cuda.device_count(), free_bytes=float(free))

    @classmethod
    def open(cls, kind: str) -> TorchBackend:
        """On a "gpu", the "cpu", or "" for a GPU if one is there. Raises SpecError if a GPU is asked for and absent."""
        import torch

        has_gpu = bool(torch.cuda.is_available())
        if kind == "gpu" and not has_gpu:
            why = "torch sees no GPU here, and the chip is an accelerator"
            fix = "run on the machine that holds it, with a build of torch for its driver; or --chip of a CPU"
            raise SpecError(why, at="--chip", got=f"torch {torch.__version__}", fix=fix)
        return cls(torch, "cuda" if has_gpu and kind != "cpu" else "cpu")

    def offers(self, table: str) -> tuple[tuple[str, str], ...]:
        """Operations and formats of a table; collectives and copies from and to the host need GPUs."""
        on_gpu = self._where == "cuda"
        if table == "gemm":
            return tuple(("", dtype) for dtype in (("bf16", "fp8", "fp16", "tf32") if on_gpu else ("bf16", "fp32")))
        if table.startswith("attention"):
            return (("attention", "bf16"), ("attention", "fp16")) if on_gpu else (("attention", "bf16"),)
        if table == "elementwise":
            return tuple((op, dtype) for op in ELEMENTWISE for dtype in (("bf16", "fp16") if on_gpu else ("bf16",)))
        if table == "copy":
            return tuple((op, "int8") for op in (COPIES if on_gpu else ("device",)))
        return tuple((op, "fp16") for op in COLLECTIVES) if self.device.count > 1 else ()

    def meter(self) -> NvmlMeter | None:
        """The board's meter through NVML."""
        if self._where == "cpu":
            return None
        uuid = getattr(self._torch.cuda.get_device_properties(0), "uuid", None)
        return open_meter(str(uuid)) if uuid is not None else None

    def prepare(self, case: Case, buffers: Buffers) -> Kernel:
        """Allocate, run once, compare, and capture. Raises Unsupported with torch's own reason."""
        torch = self._torch
        try:
            with torch.inference_mode(), torch_kernels.fused_attention(torch):
                made = torch_kernels.BUILDERS[case.table](torch, self._where, case, buffers)
                made.call(0)
                error = made.error()
                graph = self._capture(made) if self._where == "cuda" and made.capturable else None
            if graph is not None:
                return self._kernel(made, error, graph.replay, _graph_calls(made))
            return self._kernel(made, error, None, 1)
        except (RuntimeError, NotImplementedError, TypeError, AttributeError) as fault:
            # torch says with any of these that a build, a device or a format lacks a kernel, or that memory ran out.
            raise Unsupported(_reason(fault)) from fault
        finally:
            if self._where == "cuda":
                torch.cuda.empty_cache()

    def _capture(self, made: torch_kernels.Made) -> Any:
        """A graph of one turn through the buffers."""
        torch = self._torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for turn in range(min(3, made.turns)):
                made.call(turn)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for turn in range(_graph_calls(made)):
                made.call(turn)
        return graph

    def _kernel(self, made: torch_kernels.Made, error: float, replay: Callable[[], None] | None, calls: int) -> Kernel:
        torch, turn = self._torch, 0

        def submit(count: int) -> None:
            nonlocal turn
            if replay is not None:
                for _ in range(count):
                    replay()
                return
            with torch.inference_mode(), torch_kernels.fused_attention(torch):
                for place in range(turn, turn + count):
                    made.call(place)
            turn += count

        on_one_gpu = self._where == "cuda" and made.devices == 1
        timed = _events(torch, submit) if on_one_gpu else _clock(torch, submit, made)

        def laps(count: int) -> Lap:
            try:
                return timed(count)
            except RuntimeError as fault:
                raise Unsupported(_reason(fault)) from fault

        return Kernel(name=made.name, error=error, calls_per_lap=calls, captured=replay is not None, laps=laps)


def _reason(fault: Exception) -> str:
    """The first line of what torch says, without what varies from case to case."""
    first = str(fault).strip().partition("\n")[0]
    return first.partition(". Tried to allocate")[0] or type(fault).__name__


def _graph_calls(made: torch_kernels.Made) -> int:
    """Calls in a graph: whole turns through the buffers, as many as LONGEST_GRAPH allows, at least one turn."""
    return made.turns * max(1, LONGEST_GRAPH // made.turns) if made.short else made.turns


def _events(torch: Any, submit: Callable[[int], None]) -> Callable[[int], Lap]:
    """Laps between two events on the device."""

    def laps(count: int) -> Lap:
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        first.record()
        start = time.perf_counter()
        submit(count)
        submit_s = time.perf_counter() - start
        last.record()
        torch.cuda.synchronize()
        return Lap(elapsed_s=first.elapsed_time(last) * 1e-3, submit_s=submit_s)

    return laps


def _clock(torch: Any, submit: Callable[[int], None], made: torch_kernels.Made) -> Callable[[int], Lap]:
    """Laps by the host's clock, every device waited for."""

    def wait() -> None:
        for place in range(made.devices if made.on_gpu else 0):
            torch.cuda.synchronize(place)

    def laps(count: int) -> Lap:
        wait()
        start = time.perf_counter()
        submit(count)
        submitted = time.perf_counter()
        wait()
        end = time.perf_counter()
        # On a CPU the call is the work: nothing tells apart what the host adds.
        return Lap(elapsed_s=end - start, submit_s=submitted - start if made.on_gpu else 0.0)

    return laps
