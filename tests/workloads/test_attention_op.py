"""What attention sees and reads, against counting pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.workloads.families.compressed import compressed_latent
from ridgeline.workloads.model import Batch, CompressedLatent, Precision
from ridgeline.workloads.ops import Attention

lengths = st.integers(0, 40)


def _attention(q_len: float, kv_len: float, **more: object) -> Attention:
    return Attention(
        name="a", part="attention", phase="prefill", batch=1.0, q_len=q_len, kv_len=kv_len,
        heads=2.0, kv_heads=1.0, head_dim=8.0, v_head_dim=8.0, **more,
    )  # type: ignore[arg-type]  # fmt: skip


@given(new=lengths, past=lengths, window=lengths)
def test_visible_pairs_are_those_of_a_mask(new: int, past: int, window: int) -> None:
    total = past + new
    pairs = sum(
        1
        for query in range(past, total)
        for key in range(total)
        if key <= query and (not window or query - key < window)
    )
    assert _attention(new, total, window=float(window)).visible_pairs() == pairs


@given(new=lengths, past=lengths)
def test_without_a_mask_every_pair_is_visible(new: int, past: int) -> None:
    assert _attention(new, past + new, causal=False).visible_pairs() == new * (past + new)


@given(new=st.integers(1, 40), past=lengths, window=st.integers(1, 40))
def test_keys_read_are_those_that_some_query_sees(new: int, past: int, window: int) -> None:
    total = past + new
    seen = {k for q in range(past, total) for k in range(total) if k <= q and q - k < window}
    assert _attention(new, total, window=float(window)).cached_tokens_read() == len(seen)


def test_rows_with_and_without_work_share_an_op() -> None:
    op = _attention(np.array([0.0, 3.0]), np.array([10.0, 5.0]), selected=4.0)  # type: ignore[arg-type]
    assert op.visible_pairs() == pytest.approx([0.0, 12.0])
    assert np.all(np.isfinite(op.flops()))


@given(new=st.integers(1, 40), past=lengths, ratio=st.sampled_from([0, 2, 4]), chosen=st.integers(0, 5))
def test_compressed_attention_reads_its_window_and_the_pooled_rest(
    new: int, past: int, ratio: int, chosen: int
) -> None:
    mixer = CompressedLatent(
        heads=4.0, head_dim=16.0, rope_dim=4.0, q_rank=8.0, window=6.0, out_groups=2.0, out_rank=8.0,
        ratio=float(ratio), selected=float(chosen if ratio else 0),
    )  # fmt: skip
    batch = Batch(prefill_seqs=1.0, prefill_tokens=float(new), prefill_prefix=float(past))
    ops = {op.name: op for op in compressed_latent(mixer, 32.0, batch, Precision())}
    read = 0.0
    for position in range(past + 1, past + new + 1):
        read += min(position, 6)
        if ratio:
            read += min(position, chosen * ratio if chosen else position) / ratio
    assert ops["attention_prefill"].visible_pairs() == pytest.approx(read)  # type: ignore[attr-defined]
