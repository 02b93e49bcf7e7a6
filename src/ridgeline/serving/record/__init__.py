"""What a played fleet left behind, and what it answers: latencies, rates, goodput, power, energy, cost, and why.

`played.py` is the record; `answers.py` computes what `answer_values.py` names, from gaps between tokens (`gaps.py`),
runs in windows (`run_windows.py`, `run_statistics.py`, `series.py`), energy (`power_table.py`, `energy.py`) and what
requests waited for (`bound.py`). `streamed.py` sums runs up that nobody keeps; `timeline.py`
and `perfetto.py` write to files. Everything is done on columns.
"""
