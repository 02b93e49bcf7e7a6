"""Small problems whose best points are known, and random ones for laws."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ridgeline.search.pareto import front
from ridgeline.search.problem import Objective, Problem
from ridgeline.search.space import Choice, Ordered, Points, Range, Space


@st.composite
def problems(draw: st.DrawFn, objectives: int | None = None) -> Problem:
    """Up to three discrete axes, some points illegal, some infeasible, values of a random table with ties."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    width = objectives or draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = rng.integers(0, 9, (*sizes, width)).astype(float)
    table[rng.random(tuple(sizes)) < 0.2] = np.nan
    allowed = rng.random(tuple(sizes)) < 0.7
    allowed.flat[0] = True
    kinds = draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    axes = tuple(
        Choice(name=f"axis{i}", values=tuple(f"v{k}" for k in range(size)))
        if kind
        else Ordered(name=f"axis{i}", values=tuple(float(k) for k in range(size)))
        for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    )

    def place(columns):
        return tuple(
            np.array([int(str(v).strip("v").split(".")[0]) for v in columns[axis.name]], dtype=int) for axis in axes
        )

    return Problem(
        name="random table",
        space=Space(axes=axes, legal=lambda columns: allowed[place(columns)]),
        objectives=tuple(Objective(name=f"f{i}", maximise=i == 1) for i in range(width)),
        evaluate=lambda columns: {f"f{i}": table[place(columns)][:, i] for i in range(width)},
    )


def everything(problem: Problem) -> tuple[Points, np.ndarray]:
    """Every legal point and its values."""
    points = np.concatenate(list(problem.space.grid()))
    return points, problem.values(points)


def front_values(values: np.ndarray) -> np.ndarray:
    """Distinct values on the front, sorted; to 10 digits, as prices differ in the last with the rows beside them."""
    scale = 10.0 ** np.floor(np.log10(np.where((values != 0) & np.isfinite(values), np.abs(values), 1.0)))
    rounded = np.where(np.isfinite(values), np.round(values / scale, 9) * scale, values)
    return np.unique(rounded[front(rounded)], axis=0)


def bowl(objectives: int = 2) -> Problem:
    """Mixed axes, some of which forbid each other; smooth, with conflicting bests."""
    axes = (
        Choice(name="kind", values=("slow", "fast", "odd")),
        *(Ordered(name=f"n{i}", values=tuple(float(v) for v in range(24))) for i in range(4)),
        Range(name="share", low=0.1, high=10.0, log=True),
    )

    def evaluate(columns):
        n = np.stack([columns[f"n{i}"] for i in range(4)]) / 2.0
        bend = np.log(columns["share"])
        f = ((n - 8) ** 2).sum(axis=0) + bend**2 + 3.0 * (columns["kind"] == "slow")
        g = ((n - 3) ** 2).sum(axis=0) + (bend - 1) ** 2
        return {"f": f, "g": np.where(n[2] > 10, np.nan, g)}

    return Problem(
        name="bowl",
        space=Space(axes=axes, legal=lambda c: (c["n0"] + c["n1"]) % 2 == 0),
        objectives=(Objective(name="f"), Objective(name="g"))[:objectives],
        evaluate=evaluate,
    )
