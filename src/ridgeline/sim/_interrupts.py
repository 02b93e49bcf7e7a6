"""Ctrl-C waits for the end of the event under way, so that no event is half done or lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class HeldInterrupts:
    """Within this context Ctrl-C calls `stop` and is raised on leaving; a second Ctrl-C is raised at once.

    It steps in only for Python's own handler and in the main thread: who installed a handler (asyncio, a command line)
    keeps it, and other threads never see Ctrl-C.
    """

    __slots__ = ("_held", "_pending", "_stop")

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._pending = self._held = False

    def __enter__(self) -> None:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._held = True
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            signal.default_int_handler(number, frame)
        self._pending = True
        self._stop()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._held:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._pending and not (kind and issubclass(kind, KeyboardInterrupt)):
            raise KeyboardInterrupt from error
