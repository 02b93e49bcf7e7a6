"""LoRA adapters of one engine: which of them are in the batch, which are on the device, and what they cost.

As in S-LoRA (arXiv 2311.03285) and vLLM (`max_loras`): requests of different adapters share a batch, kernels gather the
matrices of each (Punica's SGMV, arXiv 2310.18547), all adapters are in host memory and come to the device when a
request that needs one is admitted. An iteration pays the launches of these kernels once, and reads each distinct
adapter in it once; what the few more multiplications of a prompt cost is left out. Unlike vLLM, which passes over a
waiting request whose adapter finds no slot, the engine keeps to the order of its queue.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ridgeline.core.errors import DomainError


class Adapters:
    """What an engine counts of its adapters.

    Attributes:
        using, decoding: adapter -> sequences in the batch, and those of them that decode.
        loads: how often an adapter was brought to the device.
    """

    __slots__ = (
        "_each_s",
        "_first_s",
        "_kept",
        "_load_s",
        "_missing",
        "_of",
        "_resident",
        "_slots",
        "decoding",
        "loads",
        "using",
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
    ) -> None:
        """No adapter is on the device yet.

        Args:
            of: request -> its adapter, -1 for none.
            slots: most distinct adapters in a batch.
            kept: most adapters on the device, at least `slots` (0: as many).
            load_s: time to bring one to the device; the iteration that first needs it waits for it.
            each_s: time per iteration and distinct adapter in it.
            first_s: time per iteration with any adapter.
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
        self._resident: OrderedDict[int, None] = OrderedDict()  # those that nobody uses: longest idle first
        self._missing: dict[int, None] = {}  # in use, and not on the device yet
        self.loads = 0

    def admits(self, request: int) -> bool:
        """Whether the batch has a slot for the request's adapter."""
        adapter = self._of[request]
        return adapter < 0 or adapter in self.using or len(self.using) < self._slots

    def enter(self, request: int) -> None:
        """The request joins the batch."""
        adapter = self._of[request]
        if adapter >= 0:
            self.using[adapter] = self.using.get(adapter, 0) + 1
            if adapter not in self._resident:
                self._missing[adapter] = None

    def leave(self, request: int) -> None:
        """It leaves; an adapter that nobody uses any more stays until its room is needed."""
        adapter = self._of[request]
        if adapter >= 0:
            self.using[adapter] -= 1
            if not self.using[adapter]:
                del self.using[adapter]
                if adapter in self._missing:
                    del self._missing[adapter]
                else:
                    self._resident.move_to_end(adapter)

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
        """Bring what the batch lacks to the device, in the place of what was idle longest: seconds."""
        missing, resident = self._missing, self._resident
        if not missing:
            return 0.0
        for adapter in missing:
            if len(resident) >= self._kept:
                del resident[next(each for each in resident if each not in self.using)]
            resident[adapter] = None
        count = len(missing)
        self.loads += count
        missing.clear()
        return count * self._load_s

    def iteration_s(self, prompts: Iterable[int], moving: int) -> float:
        """What the adapters of these prompts, and of the sequences that decode if any `moving`, add to an iteration."""
        decoding = self.decoding if moving else {}
        fresh = {self._of[request] for request in prompts}
        distinct = len(decoding) + sum(adapter >= 0 and adapter not in decoding for adapter in fresh)
        return self._first_s + distinct * self._each_s if distinct else 0.0

    def clear(self) -> None:
        """Everything on the device is lost."""
        for state in (self.using, self.decoding, self._resident, self._missing):
            state.clear()
