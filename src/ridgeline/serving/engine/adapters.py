"""What is shared by requests of an engine and must be on the device for them: LoRA adapters, or whole models.

Adapters, as in S-LoRA (arXiv 2311.03285) and vLLM (`max_loras`): requests of different adapters share a batch, kernels
gather the matrices of each (Punica's SGMV, arXiv 2310.18547), all adapters are in host memory and come to the device
when a request that needs one is admitted. An iteration pays the launches of these kernels once, and reads each distinct
adapter in it once; what the few more multiplications of a prompt cost is left out. Unlike vLLM, which passes over a
waiting request whose adapter finds no slot, the engine keeps to the order of its queue.

Models that take turns are the same with one slot: a batch is of one model, so that a request of another waits until the
batch is empty, and the iteration that needs weights which are not there waits for them (a composition of experts,
SN40L, arXiv 2405.07518; serverless serving).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.prefix import Order


class HostTier:
    """The units that host memory holds, least recently loaded first; all others are fetched from below, and stay."""

    __slots__ = ("_fetch_s", "_held", "_kept", "_load_s", "fetches")

    def __init__(self, *, kept: int, load_s: float, fetch_s: float) -> None:
        """`kept` units fit; one comes to the device in `load_s` from here, in `fetch_s` from below."""
        if kept < 1 or not (0 <= load_s <= fetch_s < math.inf):
            fix = "at least one fits, and what is below is no faster"
            raise DomainError("no tier of host memory", at="host", got=(kept, load_s, fetch_s), fix=fix)
        self._kept, self._load_s, self._fetch_s = kept, load_s, fetch_s
        self._held: OrderedDict[int, None] = OrderedDict()
        self.fetches = 0

    def load(self, unit: int) -> float:
        """Seconds to bring a unit to the device."""
        if unit in self._held:
            self._held.move_to_end(unit)
            return self._load_s
        if len(self._held) >= self._kept:
            self._held.popitem(last=False)
        self._held[unit] = None
        self.fetches += 1
        return self._fetch_s


class Adapters:
    """What an engine counts of its adapters, or of the models that take turns on it.

    Attributes:
        using, decoding: adapter -> sequences in the batch, and those of them that decode.
        loads: how often an adapter was brought to the device.
        whole: whether they are models.
        switches: of models: how often the batch is of another one than the batch before, the first included.
    """

    __slots__ = (
        "_active",
        "_count",
        "_each_s",
        "_first_s",
        "_host",
        "_idle",
        "_kept",
        "_load_s",
        "_missing",
        "_of",
        "_slots",
        "_there",
        "_touched",
        "decoding",
        "loads",
        "switches",
        "using",
        "whole",
    )

    def __init__(
        self,
        of: Sequence[int],
        *,
        slots: int,
        kept: int = 0,
        load_s: float = 0.0,
        each_s: float = 0.0,
        first_s: float = 0.0,
        whole: bool = False,
        order: Order | None = None,
        host: HostTier | None = None,
    ) -> None:
        """No adapter is on the device yet.

        Args:
            of: request -> its adapter, -1 for none.
            slots: most distinct adapters in a batch.
            kept: most adapters on the device, at least `slots` (0: as many).
            load_s: time to bring one to the device; the iteration that first needs it waits for it.
            each_s: time per iteration and distinct adapter in it.
            first_s: time per iteration with any adapter.
            whole: whether they are models that take turns: `slots` is 1 then.
            order: in which idle ones leave the device; None: the one idle longest first.
            host: says the time of a load instead of `load_s`.
        """
        kept = kept or slots
        if slots < 1 or kept < slots:
            fix = "adapters on the device are at least those of a batch"
            raise DomainError("a batch needs room for its adapters", at="adapter_slots", got=(slots, kept), fix=fix)
        if not all(0 <= time < math.inf for time in (load_s, each_s, first_s)):
            raise DomainError("times of adapters are not negative", at="adapters", got=(load_s, each_s, first_s))
        self._of, self._slots, self._kept = of, slots, kept
        self._load_s, self._each_s, self._first_s = load_s, each_s, first_s
        self.using: dict[int, int] = {}
        self.decoding: dict[int, int] = {}
        self._host, self._active, self.whole = host, -1, whole
        self._there: set[int] = set()  # on the device and in use
        self._idle: Order = OrderedDict[int, None]() if order is None else order  # on the device, in order of leaving
        self._touched = getattr(self._idle, "touched", None)
        self._missing: dict[int, None] = {}  # in use, and not on the device yet
        self.loads = self.switches = self._count = 0

    def admits(self, request: int) -> bool:
        """Whether the batch has a slot for the request's adapter."""
        adapter = self._of[request]
        return adapter < 0 or adapter in self.using or len(self.using) < self._slots

    @property
    def fetches(self) -> int:
        """How often one came from below host memory."""
        return 0 if self._host is None else self._host.fetches

    def has(self, request: int) -> bool:
        """Whether the request's adapter is on the device, or comes for a request of the batch."""
        adapter = self._of[request]
        return adapter < 0 or adapter in self.using or adapter in self._idle

    def enter(self, request: int) -> None:
        """The request joins the batch."""
        adapter = self._of[request]
        if adapter < 0:
            return
        if adapter in self.using:
            self.using[adapter] += 1
            return
        self.using[adapter] = 1
        if self._touched is not None:
            self._touched(adapter)
        if adapter in self._idle:
            del self._idle[adapter]
            self._there.add(adapter)
            self._count -= 1
        else:
            self._missing[adapter] = None

    def leave(self, request: int) -> None:
        """It leaves; an adapter that nobody uses any more stays until its room is needed."""
        adapter = self._of[request]
        if adapter < 0:
            return
        self.using[adapter] -= 1
        if not self.using[adapter]:
            del self.using[adapter]
            if adapter in self._missing:
                del self._missing[adapter]
            else:
                self._there.remove(adapter)
                self._idle[adapter] = None
                self._count += 1

    def decode(self, request: int, change: int) -> None:
        """It starts (1) or ceases (-1) to decode."""
        adapter = self._of[request]
        if adapter >= 0:
            count = self.decoding.get(adapter, 0) + change
            if count:
                self.decoding[adapter] = count
            else:
                del self.decoding[adapter]

    def load(self) -> float:
        """Bring what the batch lacks to the device, in the place of what is idle: seconds."""
        missing, there = self._missing, self._there
        if self.whole and self._active not in self.using:
            self._active = next(iter(self.using))
            self.switches += 1
        if not missing:
            return 0.0
        for adapter in missing:
            if len(there) + self._count >= self._kept:
                self._idle.popitem(last=False)
                self._count -= 1
            there.add(adapter)
        count = len(missing)
        self.loads += count
        seconds = count * self._load_s if self._host is None else sum(map(self._host.load, missing))
        missing.clear()
        return seconds

    def iteration_s(self, prompts: Iterable[int], moving: int) -> float:
        """What the adapters of these prompts, and of the sequences that decode if any `moving`, add to an iteration."""
        decoding = self.decoding if moving else {}
        fresh = {self._of[request] for request in prompts}
        distinct = len(decoding) + sum(adapter >= 0 and adapter not in decoding for adapter in fresh)
        return self._first_s + distinct * self._each_s if distinct else 0.0

    def clear(self) -> None:
        """Everything on the device is lost."""
        self.using.clear()
        self.decoding.clear()
        self._there.clear()
        self._idle.clear()
        self._missing.clear()
        self._count, self._active = 0, -1
