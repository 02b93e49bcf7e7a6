"""Ops that are priced together cost what they cost one by one."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline.costs.bundles import price_all
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware.machine import machine
from ridgeline.plans import Plan, parallelise
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.model import Batch

CHIPS = (machine("8x h100-sxm"), machine("8x h200-sxm"))
FEW = np.array([1.0, 17.0, 256.0])
MANY = np.arange(1.0, 101.0)


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-70B", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-120b"])
@pytest.mark.parametrize("seqs", [16.0, FEW, MANY], ids=["numbers", "few rows", "many rows"])
def test_a_step_s_ops_cost_the_same_together_as_one_by_one(name: str, seqs: float | np.ndarray) -> None:
    rows = np.shape(seqs)
    index = np.arange(rows[0], dtype=np.intp) % 2 if rows else None
    on = MachineColumns(CHIPS if rows else CHIPS[:1], index)
    batch = Batch(decode_seqs=seqs, decode_context=900.0, prefill_seqs=1.0, prefill_tokens=300.0)
    tp = np.full(rows, 8.0) if rows else 8.0
    ops = [op for op, _ in parallelise(forward(model(name), batch), Plan(tp=tp)).walk()]
    for op, together in zip(ops, price_all(ops, on, Setting(sustained=True)), strict=True):
        alone = price(op, on, Setting(sustained=True))
        assert together.kernel == alone.kernel
        assert np.array_equal(np.broadcast_to(together.calibrated, rows), np.broadcast_to(alone.calibrated, rows))
        for field in ("time_s", "floor_s", "flops", "read_bytes", "write_bytes"):
            ours, theirs = getattr(together, field), getattr(alone, field)
            assert np.shape(ours) == np.shape(theirs) or np.shape(ours) == rows
            np.testing.assert_array_equal(np.broadcast_to(ours, rows), np.broadcast_to(theirs, rows))
        assert list(together.terms) == list(alone.terms)
        for term, theirs in alone.terms.items():
            np.testing.assert_array_equal(np.broadcast_to(together.terms[term], rows), np.broadcast_to(theirs, rows))
        np.testing.assert_array_equal(
            np.broadcast_to(together.bound(), rows), np.broadcast_to(alone.bound(), rows), err_msg=op.name
        )
