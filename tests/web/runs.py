"""Runs for jobs: functions that another process finds by their names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ridgeline.apps.web.blocks import Answer
from ridgeline.apps.web.jobs import Told

ANSWER = Answer(title="done", blocks=[])


def waits(_: Mapping[str, Any], told: Told) -> Answer:
    """Ends at Ctrl-C only, with what it knows."""
    told(0.5, "waiting for ever")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        return ANSWER
    raise AssertionError


def counts(_: Mapping[str, Any], told: Told) -> Answer:
    """Busy for ever, without an answer."""
    told(0.25, "counting")
    while True:
        pass


def adds_up(_: Mapping[str, Any], told: Told) -> Answer:
    """Takes notice, and then takes long."""
    try:
        counts(_, told)
    except KeyboardInterrupt:
        time.sleep(600)
    raise AssertionError


def takes_no_notice(_: Mapping[str, Any], told: Told) -> Answer:
    """As code in a library that never comes back to the interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told(0.25, "dreaming")
    while True:
        time.sleep(600)


def breaks(_: Mapping[str, Any], __: Told) -> Answer:
    raise ZeroDivisionError("by zero")


def dies(_: Mapping[str, Any], __: Told) -> Answer:
    os._exit(11)


def hoards(values: Mapping[str, Any], _: Told) -> Answer:
    kept = np.zeros(int(values["bytes"]), dtype=np.uint8)
    return Answer(title=f"{kept.size}", blocks=[])


def keeps(_: Mapping[str, Any], told: Told) -> Answer:
    """With a file, and one that cannot be written."""

    def fails(path: str) -> None:
        raise OSError("no room")

    told.keep("Who", "who.txt", _writes)
    told.keep("None", "none.txt", fails)
    return ANSWER


def _writes(path: str) -> None:
    with open(path, "w", encoding="utf-8") as out:  # noqa: PTH123 - the path may be a pipe
        out.write(str(os.getpid()))
