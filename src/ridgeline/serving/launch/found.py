"""Launches that a file holds, merged into one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline.core.errors import SpecError
from ridgeline.serving.launch.commands import Launched
from ridgeline.serving.launch.deployment import Note
from ridgeline.workloads import catalogue as models

Value = float | str

_POOL_COLUMNS = ("tp", "pp", "dp", "ep", "moe_tp")
_SHARED = ("weights", "kv", "max_batched_tokens", "memory_frac", "nano_batches", "prefix_hit_frac")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPool:
    """Equal workers that a file starts.

    Attributes:
        launched: one of them.
        workers: how many, if the file says.
        role: prefill or decode, where the file says so outside the command.
        chip: that a node label names, or "".
        chips: that one worker's hosts ask for together; 0 if the file does not say.
    """

    launched: Launched
    workers: int | None
    role: str = ""
    chip: str = ""
    chips: float = 0.0

    @property
    def side(self) -> str:
        """The role, by the command or by what stands around it."""
        return self.launched.read.role or self.role


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A launch as a case of `predict serving`, without its load.

    Attributes:
        case: columns and their values; what the launch leaves to the engine is absent.
        notes: what matters and no column holds, and what the traffic has to say.
        ignored: flags without a part in performance.
        chips: that the deployment asks for, if it says (0 if not).
        source: where it was read.
    """

    case: Mapping[str, Value]
    notes: tuple[Note, ...]
    ignored: tuple[str, ...]
    chips: float
    source: str


def merged(pools: Sequence[FoundPool], name: str) -> Reading:
    """One case of all pools.

    Raises SpecError when there is none, or when they are no one deployment (two models, one role without the other).
    """
    pools = [pool for pool in pools if pool.launched.rank == 0]
    if not pools:
        fix = "it holds no `vllm serve`, `sglang.launch_server` or `trtllm-serve`, alone or in a container"
        raise SpecError("no launch of a known engine", at=name, fix=fix)
    _agree(pools, "model", [pool.launched.read.model for pool in pools])
    _agree(pools, "engine", [pool.launched.engine for pool in pools])
    by_role: dict[str, list[FoundPool]] = {}
    for pool in pools:
        by_role.setdefault(pool.side, []).append(pool)
    if set(by_role) not in ({""}, {"prefill", "decode"}):
        there = ", ".join(sorted(role or "one that does both" for role in by_role))
        fix = "a deployment has one kind of worker, or prefill and decode"
        raise SpecError("these workers are no one deployment", at=name, got=there, fix=fix)
    notes: list[Note] = []
    one = {role: _one(members) for role, members in by_role.items()}
    case = _aggregated(one[""]) if "" in one else _split(one["prefill"], one["decode"], notes)
    first = pools[0].launched
    case |= {"model": first.read.model, "runtime": first.engine}
    chips = sorted({pool.chip for pool in pools if pool.chip})
    if len(chips) > 1:
        raise SpecError("workers on several kinds of chips", at=name, got=", ".join(chips), fix="describe one kind")
    if chips:
        case["chip"] = chips[0]
    notes = [*(note for pool in one.values() for note in pool.launched.notes), *notes, *_asked(one.values())]
    notes += _unknown(first.read.model)
    total = sum(pool.chips * (pool.workers or 1) for pool in one.values())
    return Reading(
        case=case,
        notes=tuple(dict.fromkeys(notes)),
        ignored=tuple(dict.fromkeys(flag for pool in one.values() for flag in pool.launched.ignored)),
        chips=total,
        source=name,
    )


def _unknown(model: str) -> list[Note]:
    """A note on a model that the catalogue lacks."""
    if model in models.model_names():
        return []
    text = f"{model!r} is not in the catalogue: give --model hub:OWNER/NAME, or the path of its config.json"
    return [Note(column="model", text=text)]


def _agree(pools: Sequence[FoundPool], what: str, values: Sequence[str]) -> None:
    for pool, value in zip(pools, values, strict=True):
        if value != values[0]:
            fix = "describe one deployment at a time"
            raise SpecError(f"two deployments: another {what}", at=pool.launched.at, got=value, fix=fix)


def _one(members: Sequence[FoundPool]) -> FoundPool:
    """Workers of one role as one pool; they must be equal."""
    first = members[0]
    for other in members[1:]:
        mine, theirs = dict(first.launched.read.columns), dict(other.launched.read.columns)
        odd = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
        if odd:
            got = f"{theirs.get(odd[0], 'nothing')}, not {mine.get(odd[0], 'nothing')}"
            fix = f"workers of one role are equal; the first stands at {first.launched.at}"
            raise SpecError(f"another {odd[0]} than the first worker's", at=other.launched.at, got=got, fix=fix)
    said = [member.workers for member in members]
    workers = None if said == [None] else sum(count or 1 for count in said)
    chip = next((member.chip for member in members if member.chip), "")
    return FoundPool(launched=first.launched, workers=workers, role=first.role, chip=chip, chips=first.chips)


def _aggregated(pool: FoundPool) -> dict[str, Value]:
    case = dict(pool.launched.read.columns)
    inside = float(case.pop("replicas", 1.0))
    if pool.workers is not None or inside > 1:
        case["replicas"] = inside * (pool.workers or 1)
    return case


def _split(prefill: FoundPool, decode: FoundPool, notes: list[Note]) -> dict[str, Value]:
    case: dict[str, Value] = {"mode": "disagg"}
    for role, pool in (("prefill", prefill), ("decode", decode)):
        columns = pool.launched.read.columns
        case[f"{role}_workers"] = float(pool.workers or 1) * float(columns.get("replicas", 1.0))
        case |= {f"{role}_{name}": columns[name] for name in _POOL_COLUMNS if name in columns}
        if "max_batch" in columns:
            case[f"{role}_batch"] = columns["max_batch"]
        if float(columns.get("cp", 1.0)) > 1:
            text = f"context parallelism of the {role} pool: a case with two pools has no column for it"
            notes.append(Note(column="cp", text=text))
    ours, theirs = decode.launched.read.columns, prefill.launched.read.columns
    for name in _SHARED:
        if ours.get(name) != theirs.get(name):
            said = f"prefill has {theirs.get(name, 'the default')}, decode {ours.get(name, 'the default')}"
            notes.append(Note(column=name, text=f"{said}; a case holds one for both: decode's"))
        if name in ours:
            case[name] = ours[name]
    if "draft_tokens" in ours:
        case["draft_tokens"] = ours["draft_tokens"]
    return case


def _asked(pools: object) -> list[Note]:
    """Where hosts ask for other chips than the plan needs."""
    notes = []
    for pool in pools:  # type: ignore[attr-defined]
        columns = pool.launched.read.columns
        needs = 1.0
        for name in ("tp", "pp", "dp", "cp", "replicas"):
            needs *= float(columns.get(name, 1.0))
        if pool.chips and pool.chips != needs:
            text = f"a worker asks for {pool.chips:g} chips and its plan needs {needs:g}"
            notes.append(Note(column="", text=text))
    return notes
