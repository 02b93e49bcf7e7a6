"""The attention room: picks the kernel that a runtime would launch for each row, and prices it.

Prompts go to tiled kernels (`attention_prefill`), single new tokens to split-KV kernels (`attention_decode`), latent
attention to `mla`. Time is never below the hardware floor: arithmetic at peak, bytes at memory rate (at cache rate
for what a benchmark loop may keep in the last-level cache).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgeline.costs.attention_decode import decode_time, split_time
from ridgeline.costs.attention_kernels import Menu, decode_menu, prefill_menu
from ridgeline.costs.attention_places import decode_places, prefill_places
from ridgeline.costs.attention_prefill import tiled_time
from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.mla import price_latent
from ridgeline.costs.price import Price, Setting, zero_where_empty
from ridgeline.costs.room import corrected, facts_of, fastest, ideal, in_chunks, price_by_kernel, priced
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Attention

WARP_FLOPS_PER_CYCLE = 2580.0
"""16-bit FLOPs per cycle and SM of matrix instructions of one warp, which FlashAttention 2 is written in: 0.63 of a
Hopper SM's peak (arXiv 2402.13499, table of `mma` throughput); no more is known to be had after Hopper."""

PREFILL, DECODE = "attention_prefill", "attention_decode"


def price_attention(op: Attention, chips: ChipColumns, setting: Setting) -> Price:
    """Price scores, softmax and values of every row.

    Args:
        op: dims are numbers or one value per row; `phase` decode, or q_len 1, runs the decode kernels.
        chips: one chip or one per row, all of one kin.
        setting: `weights_cache` hot lets the key-value cache stay in the last-level cache, as in a benchmark loop.

    Returns: seconds and terms per row; rows without batch or new tokens cost nothing.
    """
    return in_chunks(op, chips, lambda part, columns: _price(part, columns, setting))


def _price(op: Attention, chips: ChipColumns, setting: Setting) -> Price:
    if setting.runtime == "ideal":
        price = ideal(op, chips, setting)
    elif op.is_latent:
        price = price_latent(op, chips, setting)
    elif op.phase == "decode":
        price = _by_menu(op, chips, setting, DECODE)
    else:
        single = np.asarray(op.q_len) <= 1
        price = price_by_kernel(
            op,
            chips,
            single.astype(np.intp),
            lambda part, columns, code: _by_menu(part, columns, setting, DECODE if code else PREFILL),
        )
    return zero_where_empty(price, np.asarray(op.batch, float) * op.q_len)


def engine(op: Attention, kernel: str) -> str:
    """The compute dtype of the products: `fmha-kv8` converts 16-bit queries to the format of the cache."""
    return op.kv.compute if kernel == "fmha-kv8" else op.compute


def _by_menu(op: Attention, chips: ChipColumns, setting: Setting, kind: str) -> Price:
    menu: Menu = (prefill_menu if kind == PREFILL else decode_menu)(op, chips.chips[0], setting)
    one = _price_prefill if kind == PREFILL else _price_decode

    def choose(part: Attention, columns: ChipColumns, code: int) -> Price:
        return fastest(tuple(one(part, columns, setting, kernel) for kernel in menu.choices[code]))

    return price_by_kernel(op, chips, menu.codes, choose)


def _price_prefill(op: Attention, chips: ChipColumns, setting: Setting, kernel: str) -> Price:
    facts = facts_of(chips, engine(op, kernel))
    if kernel == "fa2":
        by_warps = np.asarray(facts.units) * facts.clock_hz * WARP_FLOPS_PER_CYCLE
        facts = replace(facts, peak_flops_per_s=np.minimum(facts.peak_flops_per_s, by_warps))
    c = Coefficients(PREFILL, kernel, chips)
    terms = tiled_time(op, facts, c, packed=_flag(c, "packs_group"))
    total = sum(terms.values(), start=np.float64(0.0))
    total = corrected(PREFILL, kernel, chips, total, lambda: prefill_places(op))
    return priced(op, total, facts, setting, terms, c, kernel)


def _price_decode(op: Attention, chips: ChipColumns, setting: Setting, kernel: str) -> Price:
    facts = facts_of(chips, op.compute)
    c = Coefficients(DECODE, kernel, chips)
    terms = split_time(op, facts, c, resident=setting.weights_cache == "hot")
    total = corrected(DECODE, kernel, chips, decode_time(terms), lambda: decode_places(op))
    return priced(op, total, facts, setting, terms, c, kernel)


def _flag(c: Coefficients, name: str) -> bool:
    """A habit of a family is the same for all its chips."""
    return bool(np.all(np.asarray(c[name]) > 0))
