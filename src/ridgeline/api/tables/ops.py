"""`predict ops`: a table of kernels in, a table of times, bytes and joules out.

Rows of one kind, number format, runtime and chip generation become one op whose sizes are columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems, Resolved, Rows, alone, groups
from ridgeline.core.dtypes import DTYPES, dtype, scheme
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.core.names import fold
from ridgeline.core.tables import Labels
from ridgeline.costs.interval import interval
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.mla_module import Block, price_mla_module
from ridgeline.costs.power import kernel_power_w
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.price_op import interval_kind, price
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.machine import machine_in
from ridgeline.hardware.topology import Machine
from ridgeline.workloads.ops import (
    Attention,
    Collective,
    Convolution,
    Copy,
    Embedding,
    Experts,
    Fft,
    Matmul,
    Op,
    Scan,
    Vector,
)

Column = NDArray[np.float64]
CHUNK_ROWS = 65536
"""Rows priced at once: enough to hide the cost of a call, few enough to stay in cache."""

DEEPSEEK_LATENT = {"latent": 512.0, "rope": 64.0, "head_dim": 192.0, "v_head_dim": 128.0}
"""The MLA of DeepSeek-V2 and V3 (arXiv 2405.04434, table 1): what `op` = mla and mla_module mean."""

LARGEST_MACHINE = 1e6
"""Chips of one collective; a table that asks for more has a mistake in it."""

RESULTS = ("time_s", "time_low_s", "time_high_s", "flops", "read_bytes", "write_bytes", "energy_j", "power_w")


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of some rows that agree in every text: numbers as columns, texts as one value."""

    cases: Cases
    rows: Rows
    texts: Mapping[str, str]

    def __getitem__(self, name: str) -> Column:
        """A numeric column, one value per row."""
        return self.cases.number(name)[self.rows]


def as_it_is(chip: Chip) -> Chip:
    """The chip itself."""
    return chip


def predict_ops(
    cases: Cases, problems: Problems, seen_as: Callable[[Chip], Chip] = as_it_is
) -> dict[str, Column | Labels]:
    """Price every row that has no problem yet.

    Args:
        cases: every column of the ops table, defaults filled in.
        problems: one entry per row.
        seen_as: the twin under which validation prices a chip.
    Returns: result column -> one value per row; NaN or missing where a row has a problem.
    """
    numbers = {name: np.full(cases.rows, np.nan) for name in RESULTS}
    texts = {name: _Texts(cases.rows) for name in ("bound", "regime", "kernel_family")}
    place = np.zeros(cases.rows, dtype=np.intp)
    for cells, machines, machine_index in _groups(cases, problems, seen_as):
        rows = cells.rows
        try:
            build, needed = KINDS[fold(cells.texts["kind"])]
        except KeyError:
            fix = did_you_mean(cells.texts["kind"], KINDS, listing=f"kinds: {', '.join(sorted(KINDS))}")
            problems.flag(rows, UnknownNameError(f"unknown kind of op {cells.texts['kind']!r}", at="kind", fix=fix))
            continue
        for name in needed:
            problems.flag(rows[cells[name] <= 0], f"{name} must be given and positive for {cells.texts['kind']}")
        for where, problem in _impossible(cells, build):
            problems.flag(rows[where], problem)
        place[rows] = machine_index

        def fill(
            part: Rows,
            texts_of: Mapping[str, str] = cells.texts,
            machines: tuple[Machine, ...] = machines,
            build: Callable[[Cells], Op] = build,
        ) -> None:
            index = None if len(machines) == 1 else place[part]
            _price_rows(build, Cells(cases, part, texts_of), MachineColumns(machines, index), numbers, texts)

        good = rows[problems.ok[rows]]
        for start in range(0, good.size, CHUNK_ROWS):
            alone(good[start : start + CHUNK_ROWS], fill, problems)
    return {**numbers, **{name: column.labels() for name, column in texts.items()}}


def _impossible(cells: Cells, build: Callable[[Cells], Op]) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Rows whose sizes contradict each other, and how."""
    if build is _experts:
        yield cells["topk"] > cells["experts"], "topk must not exceed experts"
        yield cells["ep"] > cells["experts"], "ep must not exceed experts"
    if build in (_prefill, _decode):
        if not _variant(cells).startswith("mla"):
            yield cells["head_dim"] <= 0, "head_dim must be positive for attention; 0 is only for op = mla"
        yield cells["kv_heads"] > cells["heads"], "kv_heads must not exceed heads"


def _price_rows(
    build: Callable[[Cells], Op],
    cells: Cells,
    machines: MachineColumns,
    numbers: dict[str, Column],
    texts: dict[str, _Texts],
) -> None:
    op, rows = build(cells), cells.rows
    result, kind = _price(op, cells, machines)
    low, high = interval(kind, result.kernel, result.calibrated)
    power = kernel_power_w(result, op, machines.chips, setting_of(cells.texts))
    values = {
        "time_s": result.time_s,
        "time_low_s": np.maximum(result.time_s * np.asarray(low), result.floor_s),
        "time_high_s": result.time_s * np.asarray(high),
        "flops": result.flops,
        "read_bytes": result.read_bytes,
        "write_bytes": result.write_bytes,
        "energy_j": power * result.time_s,
        "power_w": power,
    }
    for name, value in values.items():
        numbers[name][rows] = value
    texts["bound"].put(rows, *bound_codes(result))
    texts["regime"].put(rows, np.asarray(result.calibrated).astype(np.int32), ("datasheet", "calibrated"))
    texts["kernel_family"].put(rows, np.zeros(1, dtype=np.int32), (result.kernel,))


def _price(op: Op, cells: Cells, machines: MachineColumns) -> tuple[Price, str]:
    """The price, and the kind whose validation its interval comes from."""
    setting = setting_of(cells.texts)
    if isinstance(op, Attention) and _variant(cells) == "mlamodule":
        block = Block(
            batch=op.batch,
            q_len=op.q_len,
            kv_len=op.kv_len,
            heads=op.heads,
            phase=op.phase,
            scheme=scheme(cells.texts["gemm_dtype"] or "bf16", at="gemm_dtype"),
            kv=op.kv,
            dtype=op.dtype,
        )
        return price_mla_module(block, machines.chips, setting), "mla"
    return price(op, machines, setting), interval_kind(op)


def bound_codes(result: Price) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The largest term per row, as codes into the names of the terms."""
    terms = np.stack(np.broadcast_arrays(*(np.asarray(term, float) for term in result.terms.values())))
    return np.argmax(terms, axis=0).astype(np.int32), tuple(result.terms)


def setting_of(texts: Mapping[str, str]) -> Setting:
    """Under which software a row runs. Measured loops (`hot`) were not captured where the runtime launches eagerly."""
    hot = texts["weights_cache"] == "hot"
    eager = "eager" in texts["kernel"].casefold()
    communicates = fold(texts["kind"]).startswith("collective")
    return Setting(
        runtime=RUNTIMES.get(fold(texts["runtime"]), texts["runtime"]),
        version=texts["runtime_version"],
        weights_cache=texts["weights_cache"],
        captured=not (eager if communicates else hot),
    )


RUNTIMES = {
    **{fold(name): name for name in ("vllm", "sglang", "trtllm", "torch", "nccl", "oneccl", "rccl", "hccl", "ideal")},
    "tensorrtllm": "trtllm",
    "tensorrt": "trtllm",
    "pytorch": "torch",
}


class _Texts:
    """A text column filled group by group as codes."""

    def __init__(self, rows: int) -> None:
        self._codes = np.full(rows, -1, dtype=np.int32)
        self._known: dict[str, int] = {}

    def put(self, rows: Rows, codes: NDArray[np.int32], values: tuple[str, ...]) -> None:
        place = np.array([self._known.setdefault(value, len(self._known)) for value in values], dtype=np.int32)
        self._codes[rows] = place[codes]

    def labels(self) -> Labels:
        return Labels(self._codes, tuple(self._known))


_BY_TEXT = (
    "kind",
    "op",
    "dtype",
    "kv_dtype",
    "gemm_dtype",
    "distribution",
    "runtime",
    "runtime_version",
    "kernel",
    "weights_cache",
)


def _groups(
    cases: Cases, problems: Problems, seen_as: Callable[[Chip], Chip] = as_it_is
) -> Iterator[tuple[Cells, tuple[Machine, ...], Rows]]:
    """Rows that become one op: equal texts, chips of one kin. Machines are resolved once per distinct name."""
    machines = Resolved(problems, cases, ("chip", "node"), _machine_finder(cases, seen_as))
    rows = np.flatnonzero(problems.ok).astype(np.intp)
    keys = [machines.codes(lambda machine: machine.chip.kin), *(cases.labels(name).codes for name in _BY_TEXT)]
    for _, members in groups(keys, rows):
        first = int(members[0])
        texts = {name: cases.text(name, first) for name in _BY_TEXT}
        used, index = machines.used(members)
        yield Cells(cases, members, texts), used, index


def _machine_finder(cases: Cases, seen_as: Callable[[Chip], Chip]) -> Callable[[str, str], Machine]:
    largest = int(np.clip(np.nanmax(cases.number("num_chips"), initial=1.0), 1.0, LARGEST_MACHINE))

    def find(chip: str, node: str) -> Machine:
        machine = machine_in(chip, node, largest)
        return replace(machine, chip=seen_as(machine.chip))

    return find


def _variant(cells: Cells) -> str:
    return fold(cells.texts["op"])


def _gemm(cells: Cells) -> Op:
    form = scheme(cells.texts["dtype"])
    return Matmul(name="gemm", part="ops", batch=cells["batch"], m=cells["m"], n=cells["n"], k=cells["k"], scheme=form)


def _attention(cells: Cells, phase: str) -> Op:
    """Heads and widths are those of one rank; an MLA op has DeepSeek's widths unless `head_dim` says otherwise."""
    compute = dtype(cells.texts["dtype"])
    kv = dtype(cells.texts["kv_dtype"], at="kv_dtype") if cells.texts["kv_dtype"] else DTYPES["bf16"]
    heads = cells["heads"]
    decode = phase == "decode"
    q_len = np.ones_like(heads) if decode else cells["isl"]
    kv_len = cells["kv_len"] if decode else cells["isl"] + cells["prefix"]
    latent = _variant(cells).startswith("mla")
    width = cells["head_dim"]
    shape: dict[str, Column | float] = {"head_dim": width, "v_head_dim": width}
    if latent:
        shape = dict(DEEPSEEK_LATENT)
    return Attention(
        name=f"attention_{phase}",
        part="attention",
        phase=phase,
        batch=cells["batch"],
        q_len=q_len,
        kv_len=kv_len,
        heads=heads,
        kv_heads=np.where(cells["kv_heads"] > 0, cells["kv_heads"], heads),
        window=cells["window"],
        kv=kv,
        dtype=compute,
        absorbed=latent and decode,
        **shape,  # type: ignore[arg-type]
    )


def _prefill(cells: Cells) -> Op:
    return _attention(cells, "prefill")


def _decode(cells: Cells) -> Op:
    return _attention(cells, "decode")


def _experts(cells: Cells) -> Op:
    return Experts(
        name="experts",
        part="experts",
        tokens=cells["tokens"],
        hidden=cells["hidden"],
        inter=cells["inter"],
        topk=cells["topk"],
        experts=cells["experts"],
        tp=np.maximum(cells["tp"], 1.0),
        ep=np.maximum(cells["ep"], 1.0),
        gated="nongated" not in fold(cells.texts["kernel"]),
        distribution=cells.texts["distribution"] or "balanced",
        scheme=scheme(cells.texts["dtype"]),
    )


COLLECTIVES = {
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "reducescatter": "reduce_scatter",
    "alltoall": "alltoall",
    "all2all": "alltoall",
    "sendrecv": "send_recv",
}


def _collective(cells: Cells) -> Op:
    kind = COLLECTIVES.get(_variant(cells))
    if kind is None:
        known = sorted(COLLECTIVES.values())
        fix = did_you_mean(cells.texts["op"], known, listing=f"known: {', '.join(known)}")
        raise UnknownNameError(f"unknown collective {cells.texts['op']!r}", at="op", fix=fix)
    return Collective(
        name=kind,
        part="network",
        kind=kind,
        message_bytes=cells["message_bytes"],
        ranks=cells["num_chips"],
        dtype=dtype(cells.texts["dtype"]),
    )


def _convolution(cells: Cells) -> Op:
    dims, stride = cells["dims"], np.maximum(cells["stride"], 1.0)
    out_size = np.where(cells["out_size"] > 0, cells["out_size"], np.ceil(cells["in_size"] / stride))
    return Convolution(
        name="conv",
        part="ops",
        batch=cells["batch"],
        in_channels=cells["in_channels"],
        out_channels=cells["out_channels"],
        in_positions=cells["in_size"] ** dims,
        out_positions=out_size**dims,
        kernel=cells["kernel_size"] ** dims,
        groups=np.maximum(cells["groups"], 1.0),
        scheme=scheme(cells.texts["dtype"]),
    )


def _vector(kind: str, flops: float, reads: float) -> Callable[[Cells], Op]:
    def build(cells: Cells) -> Op:
        return Vector(
            name=kind,
            part="ops",
            kind=kind,
            elements=cells["elements"],
            reads=reads,
            flops_per_element=flops,
            dtype=dtype(cells.texts["dtype"]),
        )

    return build


def _embedding(cells: Cells) -> Op:
    form = dtype(cells.texts["dtype"])
    return Embedding(
        name="embedding", part="ops", tokens=cells["tokens"], width=cells["hidden"], vocab=cells["vocab"], dtype=form
    )


def _scan(cells: Cells) -> Op:
    return Scan(
        name="scan",
        part="ops",
        kind=cells.texts["op"] or "mamba2",
        phase="decode" if np.all(cells["tokens"] <= 1) else "prefill",
        batch=cells["batch"],
        q_len=cells["tokens"],
        heads=cells["heads"],
        head_dim=cells["head_dim"],
        state=cells["state"],
        groups=np.maximum(cells["groups"], 1.0),
        dtype=dtype(cells.texts["dtype"]),
    )


def _fft(cells: Cells) -> Op:
    return Fft(name="fft", part="ops", batch=cells["batch"], length=cells["length"], dtype=DTYPES["fp32"])


def _copy(cells: Cells) -> Op:
    return Copy(name="copy", part="ops", size_bytes=cells["message_bytes"])


KINDS: Mapping[str, tuple[Callable[[Cells], Op], tuple[str, ...]]] = {
    "gemm": (_gemm, ("m", "n", "k", "batch")),
    "attentionprefill": (_prefill, ("batch", "isl", "heads")),
    "attentiondecode": (_decode, ("batch", "kv_len", "heads")),
    "moe": (_experts, ("tokens", "hidden", "inter", "topk", "experts")),
    "collective": (_collective, ("num_chips", "message_bytes")),
    "collectives": (_collective, ("num_chips", "message_bytes")),
    "conv": (_convolution, ("batch", "in_channels", "out_channels", "in_size", "kernel_size")),
    "elementwise": (_vector("elementwise", 1.0, 2.0), ("elements",)),
    "softmax": (_vector("softmax", 5.0, 1.0), ("elements",)),
    "norm": (_vector("norm", 4.0, 1.0), ("elements",)),
    "embedding": (_embedding, ("tokens", "hidden", "vocab")),
    "scan": (_scan, ("batch", "tokens", "heads", "head_dim", "state")),
    "fft": (_fft, ("batch", "length")),
    "copy": (_copy, ("message_bytes",)),
}
"""Kind of op -> how a row becomes one, and the columns that must be positive."""


def explain_op(cases: Cases) -> Price | None:
    """The full price of a table's first row: terms, detail, kernel family. None if the row has a problem."""
    problems = Problems(cases.rows)
    for cells, machines, index in _groups(cases, problems):
        if 0 in cells.rows:
            place = np.flatnonzero(cells.rows == 0)
            one = Cells(cases, cells.rows[place], cells.texts)
            build, _ = KINDS[fold(cells.texts["kind"])]
            chosen = MachineColumns((machines[int(index[place[0]])],))
            return _price(build(one), one, chosen)[0]
    return None
