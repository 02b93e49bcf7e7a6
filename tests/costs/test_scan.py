"""Recurrences: decode is bound by the state's bytes, prefill by products and their chain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.costs.price import Setting
from ridgeline.costs.scan import KERNELS, price_scan
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Scan

H100 = ChipColumns((catalogue.chip("h100-sxm"),))
kinds = st.sampled_from(sorted(KERNELS))
phases = st.sampled_from(["prefill", "decode"])


def scan(kind: str, phase: str, batch: object, q_len: object = 1.0, **more: object) -> Scan:
    sizes: dict[str, object] = {"heads": 64.0, "head_dim": 64.0, "state": 128.0, **more}
    return Scan(name="s", part="p", kind=kind, phase=phase, batch=batch, q_len=q_len, **sizes)  # type: ignore[arg-type]


@given(kind=kinds, phase=phases, batch=st.integers(0, 4096), q_len=st.integers(1, 2**17), more=st.integers(1, 4096))
def test_a_scan_never_gets_faster_when_sequences_or_tokens_are_added(
    kind: str, phase: str, batch: int, q_len: int, more: int
) -> None:
    tokens = 1.0 if phase == "decode" else float(q_len)
    wider = price_scan(scan(kind, phase, np.array([batch, batch + more], float), tokens), H100, Setting())
    longer = price_scan(scan(kind, "prefill", float(batch), np.array([q_len, q_len + more], float)), H100, Setting())
    for price in (wider, longer):
        assert np.all(np.diff(price.time_s) >= -1e-15)
        assert np.all(price.time_s >= price.floor_s)


def test_nothing_costs_nothing() -> None:
    assert price_scan(scan("mamba2", "decode", 0.0), H100, Setting()).time_s == 0


def test_decode_streams_the_state_in_and_out() -> None:
    batch = 4096.0
    state = batch * 64 * 64 * 128 * 4 * 2
    price = price_scan(scan("mamba2", "decode", batch), H100, Setting())
    assert price.bound() == "memory"
    assert price.time_s == pytest.approx(state / (0.8 * 3.35e12), rel=0.05)


def test_prefill_in_chunks_beats_the_elementwise_scan() -> None:
    chunked, elementwise = (
        float(price_scan(scan(kind, "prefill", 8.0, 8192.0), H100, Setting()).time_s) for kind in ("mamba2", "mamba1")
    )
    assert chunked < elementwise / 2


def test_a_single_long_sequence_pays_for_its_chain() -> None:
    long = price_scan(scan("delta", "prefill", 1.0, 2.0**17, heads=1.0), H100, Setting())
    assert np.asarray(long.terms["chain"]) == pytest.approx(2**17 / 64 * 5e-7)
    assert long.time_s > long.terms["chain"]


def test_an_ideal_scan_is_its_bound() -> None:
    price = price_scan(scan("linear", "prefill", 4.0, 4096.0), H100, Setting(runtime="ideal"))
    assert price.time_s == price.floor_s


def test_an_unknown_recurrence_names_the_nearest() -> None:
    with pytest.raises(DomainError, match="mamba2"):
        price_scan(scan("mamba3", "decode", 1.0), H100, Setting())
