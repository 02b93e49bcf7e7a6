"""What an op costs on a chip: seconds, and which bound was the largest.

One room per op kind (`gemm`, `attention`, ...): a pure function of (op, chips, setting) that returns a `price.Price`,
for one case or for a million at once. Fitted numbers live in `coefficients/*.yaml` and `residuals/*.npz`, written by
the fits of `fits/` from measured tables; `validate` scores the rooms against tables, `interval` says how far a price
may be off. A chip that was never measured is priced from its datasheet with its generation's numbers.

Start with `price.py` (what a price is), then `gemm.py`.
"""
