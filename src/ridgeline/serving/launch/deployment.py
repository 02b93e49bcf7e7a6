"""What is deployed, apart from any engine's words: a model on chips in pools of equal workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ridgeline.core.cases import Problems
from ridgeline.core.dtypes import SCHEME_NAMES
from ridgeline.core.errors import DomainError, PlanError
from ridgeline.hardware import catalogue
from ridgeline.hardware.machine import machine_of
from ridgeline.plans import Plan, check_plan
from ridgeline.serving.launch.facts import hosts_of
from ridgeline.serving.runtime import Runtime, runtime
from ridgeline.workloads import catalogue as models
from ridgeline.workloads.model import MixtureOfExperts, Model

Value = float | str

HUB = "hub:"
_DEGREES = ("tp", "pp", "dp", "ep", "moe_tp")
_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a file cannot say, or what a reader should know: the column that it is about ("" if none), and the words."""

    column: str
    text: str

    def line(self) -> str:
        """As one line without control characters, fit for a comment."""
        named = f"{self.column}: {self.text}" if self.column else self.text
        return one_line(named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Equal workers of one plan.

    Attributes:
        role: prefill, decode, or "" where one pool does both.
        workers: how many there are.
        tp, pp, dp, cp: degrees; dp is attention data parallelism inside a worker.
        ep, moe_tp: how experts are spread (0 in models without).
        weights, moe_weights, activations, kv: formats; "" as published.
        max_batch, max_batched_tokens, memory_frac: limits; 0 is the engine's default.
        draft_tokens: speculated tokens per step.
        half_batches: whether two half batches overlap.
        finds_prefixes: whether the load counts on cached prefixes.
    """

    role: str
    workers: int
    tp: int
    pp: int
    dp: int
    cp: int
    ep: int
    moe_tp: int
    weights: str
    moe_weights: str
    activations: str
    kv: str
    max_batch: int
    max_batched_tokens: int
    memory_frac: float
    draft_tokens: int
    half_batches: bool
    finds_prefixes: bool

    @property
    def stage_chips(self) -> int:
        """Chips that share a layer."""
        return self.tp * self.dp * self.cp

    @property
    def chips(self) -> int:
        """Chips of one worker."""
        return self.stage_chips * self.pp


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A deployment: the model by the name that engines load it with, its chips, and its pools.

    Attributes:
        model: name on the hub, or a folder.
        published: the model as it is published, for its formats and its draft heads.
        chip, vendor: of the catalogue.
        host_chips: chips that one operating system sees.
        runtime, version: whose rules the case was predicted with.
        context_tokens: longest prompt and output together; 0 leaves it to the model.
        pools: prefill before decode.
    """

    model: str
    published: Model
    chip: str
    vendor: str
    host_chips: int
    runtime: str
    version: str
    context_tokens: int
    pools: tuple[Pool, ...]

    @property
    def split(self) -> bool:
        """Whether prompts and tokens have pools of their own."""
        return len(self.pools) > 1

    def hosts(self, pool: Pool) -> int:
        """Hosts that one worker of the pool spans: as few as hold it in equal parts."""
        fewest = -(-pool.chips // self.host_chips)
        return next(hosts for hosts in range(fewest, pool.chips + 1) if pool.chips % hosts == 0)


def launch_of(case: Mapping[str, Value], *, context_tokens: int = 0, host_chips: int = 0) -> Launch:
    """The deployment of a complete case of `predict serving`.

    Args:
        case: every column of the task, by name.
        context_tokens: longest request; 0 leaves it to the model.
        host_chips: chips per host; 0 asks the catalogue.
    Raises:
        UnknownNameError: model, chip or runtime. PlanError: a plan that the model cannot follow.
        DomainError: a number that no deployment has.
    """
    spelling = str(case["model"])
    model = models.model(spelling)
    chip = catalogue.chip(str(case["chip"]))
    node = catalogue.node(str(case["node"])) if case.get("node") else catalogue.default_node(chip)
    machine_of(chip, node=node)  # refuses a node that holds other chips
    rules = runtime(str(case["runtime"]))
    roles = ("prefill", "decode") if case["mode"] == "disagg" else ("",)
    return Launch(
        model=engine_name(spelling),
        published=model,
        chip=chip.name,
        vendor=chip.vendor,
        host_chips=_whole("host_chips", host_chips) or hosts_of(node),
        runtime=rules.name,
        version=str(case["runtime_version"]),
        context_tokens=_whole("context_tokens", context_tokens),
        pools=tuple(_pool(role, case, model, rules) for role in roles),
    )


def engine_name(spelling: str) -> str:
    """The name under which an engine loads the model: on the hub, or the folder of its config.json."""
    if spelling in models.model_names():
        return models.model_names().resolve(spelling)
    if spelling.startswith(HUB):
        return spelling.removeprefix(HUB)
    path = Path(spelling)
    return str(path.parent) if path.suffix == ".json" else str(path)


def one_line(text: str) -> str:
    """The text without control characters, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))


def has_experts(model: Model) -> bool:
    """Whether some layer is a mixture of experts."""
    return any(isinstance(block.ffn, MixtureOfExperts) for block in model.blocks)


def expert_sizes(model: Model) -> tuple[int, int]:
    """Experts of a layer and their inner width; zeros in models without."""
    for block in model.blocks:
        if isinstance(block.ffn, MixtureOfExperts):
            return int(np.asarray(block.ffn.experts)), int(np.asarray(block.ffn.inter))
    return 0, 0


def _pool(role: str, case: Mapping[str, Value], model: Model, rules: Runtime) -> Pool:
    prefix = f"{role}_" if role else ""
    degrees = {name: float(case[f"{prefix}{name}"]) for name in _DEGREES}
    cp = 1.0 if role else float(case["cp"])
    plan = Plan(**degrees, cp=cp)  # type: ignore[arg-type]
    _check(model, plan, role)
    ep, moe_tp = (int(degree) for degree in plan.expert_degrees()) if has_experts(model) else (0, 0)
    batch = float(case[f"{prefix}batch" if role else "max_batch"])
    return Pool(
        role=role,
        workers=_whole("workers", float(case[f"{prefix}workers" if role else "replicas"])),
        tp=int(degrees["tp"]),
        pp=int(degrees["pp"]),
        dp=int(degrees["dp"]),
        cp=int(cp),
        ep=ep,
        moe_tp=moe_tp,
        weights=_format(case["weights"]),
        moe_weights=_format(case["moe_weights"]),
        activations=str(case["activations"]),
        kv=str(case["kv"]),
        max_batch=int(_limit(batch, rules, "max_batch")),
        max_batched_tokens=int(_limit(float(case["max_batched_tokens"]), rules, "max_batched_tokens")),
        memory_frac=_limit(float(case["memory_frac"]), rules, "memory_frac"),
        draft_tokens=0 if role == "prefill" else int(float(case["draft_tokens"])),
        half_batches=float(case["nano_batches"]) > 1,
        finds_prefixes=float(case["prefix_hit_frac"]) > 0,
    )


def _format(value: Value) -> str:
    """The canonical name of a matmul format; storage formats keep theirs."""
    text = str(value)
    return SCHEME_NAMES.resolve(text) if text and text in SCHEME_NAMES else text


def _limit(asked: float, rules: Runtime, name: str) -> float:
    """What the case asks, else what its prediction went by, unless that was a guess: so releases cannot change it."""
    if asked > 0 or rules.facts[name].get("kind") == "assumed" or rules.name == "ideal":
        return asked
    return float(getattr(rules, name))


def _check(model: Model, plan: Plan, role: str) -> None:
    problems = Problems(1)
    check_plan(model, plan, problems, np.zeros(1, dtype=np.intp))
    (message,) = problems.column()
    if message:
        raise PlanError(message, at=f"{role} plan".strip(), got=str(plan))


def _whole(name: str, value: float) -> int:
    if not 0 <= value <= _MOST or value != int(value):
        raise DomainError(f"{name} is a whole number up to {_MOST:,}", at=name, got=value, fix="give a smaller number")
    return int(value)
