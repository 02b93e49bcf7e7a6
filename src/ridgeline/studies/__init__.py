"""Studies: published systems, each its claim beside our number.

One module per system holds `STUDY`: the paper, what it claims, what was assumed where it is silent, and a function that
builds both sides from public parts. `frame/study.py` says what a study is and how a verdict comes about; read it first,
then any study. `frame/shelf.py` finds them, `frame/coverage.py` runs them and writes docs/coverage.md.
"""
