"""The path through graphs, events and meters, on a device that keeps its own books; no GPU and no torch are needed."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from ridgeline.bench import Case, Effort, Kernel, Unsupported, cases, time_kernel, torch_kernels
from ridgeline.bench.backends import Buffers
from ridgeline.bench.nvml import NvmlMeter
from ridgeline.bench.torch_backend import LONGEST_GRAPH, TorchBackend

CALL_S = 2e-6
BUFFERS = Buffers(weights=6, outputs=2)


class Books:
    """A device's clock, and every call that was run, recorded or replayed on it."""

    def __init__(self) -> None:
        self.now_s, self.calls, self.recording = 0.0, [], False
        self.graphs: list[list[int]] = []

    def call(self, turn: int) -> None:
        if self.recording:
            self.graphs[-1].append(turn)
        else:
            self.calls.append(turn)
            self.now_s += CALL_S


def torch_on(books: Books) -> SimpleNamespace:
    """As much of torch as the backend touches on a GPU."""

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at_s = math.nan

        def record(self) -> None:
            self.at_s = books.now_s

        def elapsed_time(self, later: Event) -> float:
            return (later.at_s - self.at_s) * 1e3

    class Graph:
        def replay(self) -> None:
            for turn in books.graphs[-1]:
                books.call(turn)

    class Recording:
        def __init__(self, _: Graph) -> None:
            books.graphs.append([])

        def __enter__(self) -> None:
            books.recording = True

        def __exit__(self, *_: object) -> None:
            books.recording = False

    stream = SimpleNamespace(wait_stream=lambda other: None)
    cuda = SimpleNamespace(
        Event=Event, CUDAGraph=Graph, graph=Recording, Stream=lambda: stream, current_stream=lambda: stream,
        stream=lambda _: nullcontext(), synchronize=lambda *_: None, empty_cache=lambda: None,
        get_device_name=lambda _: "NVIDIA H200", mem_get_info=lambda _: (10**11, 10**11), device_count=lambda: 2,
    )  # fmt: skip
    return SimpleNamespace(
        __version__="2.9", cuda=cuda, inference_mode=nullcontext, nn=SimpleNamespace(), backends=SimpleNamespace()
    )


def prepared(books: Books, monkeypatch: pytest.MonkeyPatch, *, short: bool, capturable: bool = True) -> Kernel:
    """A GEMM on that device whose call only keeps books."""

    def build(torch: object, where: str, case: Case, buffers: Buffers) -> torch_kernels.Made:
        return torch_kernels.Made(
            name="kept", call=books.call, error=lambda: 0.0, turns=6, short=short, on_gpu=True, capturable=capturable
        )

    monkeypatch.setitem(torch_kernels.BUILDERS, "gemm", build)
    (case, *_) = cases([("gemm", "", "bf16")], quick=True)
    return TorchBackend(torch_on(books), "cuda").prepare(case, BUFFERS)


@pytest.mark.parametrize("short", [True, False])
def test_a_graph_holds_whole_turns_through_the_buffers(short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books()
    kernel = prepared(books, monkeypatch, short=short)
    (recorded,) = books.graphs
    assert kernel.captured
    assert kernel.calls_per_lap == len(recorded)
    assert len(recorded) % 6 == 0
    assert len(recorded) <= LONGEST_GRAPH if short else len(recorded) == 6
    assert recorded == list(range(len(recorded)))


@pytest.mark.parametrize("capturable", [True, False])
def test_time_per_call_is_the_devices_own(capturable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = prepared(Books(), monkeypatch, short=True, capturable=capturable)
    timing = time_kernel(kernel, Effort(warm_s=1e-4, lap_s=1e-4, repeats=3, sustain_s=1e-3), sustain=True)
    assert kernel.captured is capturable
    assert timing.latency_s == pytest.approx(CALL_S)
    assert timing.sustained_s == pytest.approx(CALL_S)


def test_calls_that_are_not_captured_go_on_where_the_last_lap_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books()
    kernel = prepared(books, monkeypatch, short=True, capturable=False)
    books.calls.clear()
    kernel.laps(4)
    kernel.laps(3)
    assert books.calls == list(range(7))


def test_what_torch_refuses_is_said_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> torch_kernels.Made:
        raise RuntimeError("No available kernel. Aborting execution.\nmore")

    monkeypatch.setitem(torch_kernels.BUILDERS, "gemm", build)
    (case, *_) = cases([("gemm", "", "bf16")], quick=True)
    with pytest.raises(Unsupported, match=r"^No available kernel\. Aborting execution\.$"):
        TorchBackend(torch_on(Books()), "cuda").prepare(case, BUFFERS)


def test_collectives_are_offered_on_several_gpus_only() -> None:
    several = torch_on(Books())
    assert TorchBackend(several, "cuda").offers("collectives")
    several.cuda.device_count = lambda: 1
    assert TorchBackend(several, "cuda").offers("collectives") == ()


class Nvml:
    """As much of nvidia-ml-py as the meter touches; what is not in `values` is not supported."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self, **values: int) -> None:
        self.values = values

    def __getattr__(self, name: str) -> object:
        def read(handle: object, *_: object) -> int:
            if name not in self.values:
                raise self.NVMLError(name)
            return self.values[name]

        return read


def test_meter_reads_si_units() -> None:
    library = Nvml(
        nvmlDeviceGetPowerUsage=412_000, nvmlDeviceGetClockInfo=1980, nvmlDeviceGetPowerManagementLimit=700_000
    )
    meter = NvmlMeter(library, object())
    assert meter.limit_w == pytest.approx(700.0)
    assert meter.read() == pytest.approx((412.0, 1.98e9))


def test_what_a_board_does_not_show_is_not_a_number() -> None:
    meter = NvmlMeter(Nvml(nvmlDeviceGetClockInfo=1980), object())
    assert math.isnan(meter.limit_w)
    power_w, clock_hz = meter.read()
    assert math.isnan(power_w)
    assert clock_hz == pytest.approx(1.98e9)
