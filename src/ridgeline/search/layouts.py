"""Every layout of a training job on so many chips: enumerated as columns, filtered by memory, priced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.training.layout import ALL_TO_ALL, OFFLOADS, Layout
from ridgeline.training.memory import Memory
from ridgeline.training.schedules import DUALPIPE
from ridgeline.training.setup import Setup
from ridgeline.training.step import TrainingStep, train_step
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]
Columns = dict[str, Column]

CHUNK = 32_768
"""Layouts priced at once: columns of this length stay in the cache of a core."""

RECOMPUTE: Mapping[str, tuple[float, float, float]] = {
    "none": (0.0, 0.0, 0.0),
    "norms": (0.0, 0.0, 0.9),
    "full": (1.0, 1.0, 1.0),
}
"""What is computed again, as shares of matmul, attention and memory-bound work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a layout may choose. Empty degrees: all divisors of the number of chips.

    Attributes:
        tp, pp, cp, ep: degrees; `vp` virtual stages; `micro_batch` sequences.
        zero, schedule, context, offload: as columns of `training.Layout`.
        recompute: names of RECOMPUTE. `sequence_parallel`: 0, 1 or both.
    """

    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    cp: tuple[int, ...] = (1,)
    ep: tuple[int, ...] = ()
    vp: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    micro_batch: tuple[int, ...] = (1, 2, 4, 8, 16)
    zero: tuple[int, ...] = (1, 3)
    schedule: tuple[int, ...] = (0,)
    context: tuple[int, ...] = (0,)
    offload: tuple[int, ...] = (0,)
    recompute: tuple[str, ...] = tuple(RECOMPUTE)
    sequence_parallel: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        """Refuse what no layout can have."""
        for field in fields(self):
            values = getattr(self, field.name)
            least = 0 if field.name in ("zero", "schedule", "context", "offload", "sequence_parallel") else 1
            if field.name == "recompute":
                if not set(values) <= set(RECOMPUTE):
                    raise DomainError("unknown recompute", at="recompute", got=values, fix=f"of {', '.join(RECOMPUTE)}")
            elif any(value < least or value != int(value) for value in values):
                raise DomainError("choices are whole numbers", at=field.name, got=values, fix=f"from {least}")

    @classmethod
    def everything(cls) -> Space:
        """All that the step model knows."""
        return cls(
            cp=(),
            micro_batch=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
            zero=(0, 1, 2, 3),
            schedule=(0, 1, 2, 3),
            context=(0, 1, 2),
            offload=(0, 1, 2),
            sequence_parallel=(0, 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Layouts that fit, as columns, fastest first.

    Attributes:
        layout: the layouts; `step_s` their times; `memory_bytes` of the fullest rank.
        legal: how many layouts the space holds; `fitting` how many of them fit.
    """

    layout: Layout
    step_s: Column
    memory_bytes: Column
    legal: int
    fitting: int


def legal_layouts(work: Work, *, chips: int, seq: int, global_batch: int, space: Space) -> Layout:
    """Columns of every layout of the space that `training.layout.check` accepts.

    `work` is of one model: its sizes are numbers.
    """
    columns = _degrees(work, chips, seq, space)
    columns = _crossed(columns, {"micro_batch": space.micro_batch, "vp": space.vp})
    batches = global_batch / (columns["micro_batch"] * columns["dp"])
    stages = columns["pp"] * columns["vp"]
    good = (batches == np.floor(batches)) & (stages <= float(np.max(work.layers)) + 2.0)
    # Interleaving goes round the ranks in whole rounds of micro-batches, and needs a pipeline.
    good &= (columns["vp"] == 1) | ((columns["pp"] > 1) & (batches % columns["pp"] == 0))
    columns = _kept(columns, good)
    rest = {name: getattr(space, name) for name in ("zero", "schedule", "context", "offload", "sequence_parallel")}
    columns = _crossed(columns, {**rest, "level": tuple(range(len(space.recompute)))})
    columns = _kept(columns, _sensible(columns, work, global_batch, space))
    shares = np.array([RECOMPUTE[name] for name in space.recompute])[columns.pop("level").astype(np.intp)]
    matmul, attention, vector = shares.T
    redone = {"redone_matmul": matmul, "redone_attention": attention, "redone_vector": vector}
    size = matmul.size
    fixed = {"chips": chips, "seq": seq, "global_batch": global_batch}
    return Layout(**columns, **redone, **{name: np.full(size, float(value)) for name, value in fixed.items()})


def _degrees(work: Work, chips: int, seq: int, space: Space) -> Columns:
    """Degrees whose product divides the chips and that the model can be cut by."""
    experts = float(np.max(work.expert_count))
    axes = {
        "tp": space.tp or divisors(chips),
        "pp": space.pp or divisors(chips),
        "cp": space.cp or divisors(chips),
        "ep": (space.ep or divisors(chips)) if experts > 0 else (1,),
    }
    columns = _crossed({}, axes)
    dp = chips / (columns["tp"] * columns["pp"] * columns["cp"])
    good = (dp == np.floor(dp)) & (columns["pp"] <= float(np.max(work.layers)) + 2.0) & (seq % columns["cp"] == 0)
    for heads in work.query_heads:
        good &= float(np.max(heads)) % columns["tp"] == 0
    if experts > 0:
        good &= (experts % columns["ep"] == 0) & ((columns["tp"] * columns["cp"] * dp) % columns["ep"] == 0)
    return _kept({**columns, "dp": dp}, good)


def _sensible(columns: Columns, work: Work, global_batch: int, space: Space) -> NDArray[np.bool_]:
    """Without choices that say the same twice: those that need ranks, where there are none; shards of weights that a
    pipeline keeps whole anyway.
    """
    batches = global_batch / (columns["micro_batch"] * columns["dp"])
    good = (columns["zero"] <= 0) | (columns["dp"] * columns["cp"] > 1)
    good &= (columns["zero"] < 3) | (columns["pp"] == 1)
    good &= (columns["schedule"] == 0) | ((columns["pp"] > 1) & (columns["vp"] == 1) & (batches >= columns["pp"]))
    good &= (columns["schedule"] != DUALPIPE) | (columns["pp"] % 2 == 0)
    good &= (columns["context"] == 0) | (columns["cp"] > 1)
    for heads in work.query_heads:
        exchanged = np.where(columns["context"] == ALL_TO_ALL, columns["cp"], 1.0)
        good &= np.floor(float(np.max(heads)) / columns["tp"]) % exchanged == 0
    good &= (columns["sequence_parallel"] == 0) | (columns["tp"] > 1) | (len(space.sequence_parallel) == 1)
    return np.asarray(good)


def _crossed(columns: Columns, axes: Mapping[str, Sequence[float]]) -> Columns:
    """Every row with every combination of further values."""
    rows = len(next(iter(columns.values()))) if columns else 1
    grids = np.meshgrid(np.arange(rows), *(np.asarray(v, float) for v in axes.values()), indexing="ij")
    index = grids[0].ravel()
    crossed = {name: value[index] for name, value in columns.items()}
    return crossed | {name: grid.ravel() for name, grid in zip(axes, grids[1:], strict=True)}


def _kept(columns: Columns, good: NDArray[np.bool_]) -> Columns:
    return {name: value[good] for name, value in columns.items()}


def divisors(count: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    small = [d for d in range(1, int(count**0.5) + 1) if count % d == 0]
    return tuple(sorted({*small, *(count // d for d in small)}))


def taken(layout: Layout, rows: NDArray[np.intp] | slice) -> Layout:
    """Some rows of a layout whose fields are columns or numbers."""
    values: dict[str, Dim] = {name: getattr(layout, name) for name in Layout.__dataclass_fields__}
    return replace(layout, **{n: np.asarray(v)[rows] for n, v in values.items() if np.ndim(v)})


ROOM = 0.95
"""Share of a chip's memory that a planned layout may fill: published runs reach it, allocators need the rest."""


def search_layouts(work: Work, setup: Setup, layouts: Layout, *, most: int = 0, room: float = ROOM) -> Found:
    """Price the layouts that fit in memory.

    Args:
        work:    one sequence of one model.
        setup:   one chip, framework and precision.
        layouts: columns, all legal.
        most:    keep so many of the fastest; 0: all.
        room:    share of the memory that may be filled.
    Returns: layouts that fit, fastest first (ties: as enumerated).
    """
    count = len(np.atleast_1d(np.asarray(layouts.tp)))
    rows: list[NDArray[np.intp]] = []
    times: list[Column] = []
    sizes: list[Column] = []
    for start in range(0, count, CHUNK):
        part = taken(layouts, slice(start, start + CHUNK))
        memory = setup.memory(work, part)
        held = (memory.total_bytes <= room * memory.capacity_bytes) & _host_holds(work, setup, part, memory)
        fits = np.flatnonzero(held)
        if not fits.size:
            continue
        step = train_step(work, taken(part, fits), setup)
        priced = np.isfinite(step.step_s)
        rows.append(start + fits[priced])
        times.append(step.step_s[priced])
        sizes.append(memory.total_bytes[fits[priced]])
    if not rows:
        return Found(
            layout=taken(layouts, slice(0, 0)), step_s=np.zeros(0), memory_bytes=np.zeros(0), legal=count, fitting=0
        )
    index, step_s, size = np.concatenate(rows), np.concatenate(times), np.concatenate(sizes)
    order = np.argsort(step_s, kind="stable")[: most or None]
    return Found(
        layout=taken(layouts, index[order]),
        step_s=step_s[order],
        memory_bytes=size[order],
        legal=count,
        fitting=index.size,
    )


def _host_holds(work: Work, setup: Setup, part: Layout, memory: Memory) -> NDArray[np.bool_]:
    """Whether the host has room for what leaves the chip; what goes on to drives needs none."""
    offload = np.broadcast_to(np.asarray(part.offload), memory.total_bytes.shape)
    if not np.any(offload > 0):
        return np.ones(memory.total_bytes.shape, dtype=np.bool_)
    without = setup.memory(work, replace(part, offload=0.0))
    moved = without.total_bytes - memory.total_bytes
    room = np.where(offload == OFFLOADS.index("cxl"), setup.host.cxl_bytes, setup.host.capacity_bytes)
    return np.asarray((moved <= room) | (offload == OFFLOADS.index("nvme")))


def steps_of(work: Work, setup: Setup, found: Found, most: int) -> TrainingStep:
    """Full predictions of the fastest layouts."""
    return train_step(work, taken(found.layout, slice(0, most)), setup)
