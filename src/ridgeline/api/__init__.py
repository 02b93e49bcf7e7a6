"""The public verbs and nouns, composed from the layers below; no modelling of its own. A room per kind of question.

`tables` declares every column of every task once (defaults, flags, documentation and validation come from it) and maps
a task to the function that evaluates its table. `predictions`, `simulations`, `planning`, `training`, `impacts` and
`sweeps` hold the verbs, their results, and how these look on a screen and as a page; `accuracy` sets predictions beside
measurements. `names` lists what `import ridgeline` shows.
"""
