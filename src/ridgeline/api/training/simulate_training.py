"""`rl.simulate_training`: a run over weeks, with failures, checkpoints and spare nodes; its end, cost and loss."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.api.predictions.predict import Prediction, predict
from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.core.names import Names
from ridgeline.hardware.catalogue import chip as chip_of
from ridgeline.hardware.catalogue import home
from ridgeline.hardware.machine import machine_of
from ridgeline.sim import Estimate, mean_interval
from ridgeline.training import numbers
from ridgeline.training.checkpoint import Checkpoint, checkpoint_of, expected_s
from ridgeline.training.perfetto import write_spans
from ridgeline.training.reliability import Part, Reliability, checkpoint_facts, published_reliability
from ridgeline.training.run import STATES, Job, Played, play_run
from ridgeline.training.scaling import law as law_of
from ridgeline.training.work import work_of
from ridgeline.workloads.catalogue import model as model_of

if TYPE_CHECKING:
    from rich.console import RenderableType

RUNS = 200
"""Times that a run is played: its end is a distribution."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulatedTraining:
    """What became of a training run.

    Attributes:
        case: what was asked. `prediction`: of one step.
        job: work, chips, checkpoints and reliability as they were played.
        ideal_s: without anything going wrong.
        expected_s: in closed form (Daly): no waiting for nodes, no slow chips, checkpoints safe at once.
        wall_s: mean wall time with its interval; `low_s` and `high_s` the 5th and 95th percentile of the runs.
        goodput: ideal over mean wall time. `spent`: shares of the wall time by state (training.run.STATES).
        spent_j: shares of the energy: new work, work done again, and all in which chips idle.
        failures: per run, by part. `cost_usd` (NaN without a rental rate), `energy_j`: means, spare nodes included.
        loss: by the scaling law. `example`: one run, with its spans.
    """

    case: Mapping[str, Any]
    prediction: Prediction = field(repr=False)
    job: Job = field(repr=False)
    ideal_s: float
    expected_s: float
    wall_s: Estimate
    low_s: float
    high_s: float
    goodput: float
    spent: Mapping[str, float]
    spent_j: Mapping[str, float]
    failures: Mapping[str, float]
    cost_usd: float
    energy_j: float
    loss: float
    example: Played = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite becomes None."""
        made = self.job.checkpoint
        values = {
            "ideal_s": self.ideal_s,
            "wall_s": self.wall_s.value,
            "wall_low_s": self.wall_s.low,
            "wall_high_s": self.wall_s.high,
            "wall_p5_s": self.low_s,
            "wall_p95_s": self.high_s,
            "expected_s": self.expected_s,
            "goodput_frac": self.goodput,
            "step_s": float(self.prediction.values["step_s"]),
            "cost_usd": self.cost_usd,
            "energy_j": self.energy_j,
            "loss": self.loss,
            "mtbf_s": self.job.reliability.mtbf_s(self.job.chips),
            "checkpoint_interval_s": made.interval_s,
            "checkpoint_stall_s": made.stall_s,
            "checkpoint_flush_s": made.flush_s,
            "checkpoint_reshape_s": made.reshape_s,
        }
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        results = {**plain, "spent_frac": dict(self.spent), "failures": dict(self.failures)}
        return {"verb": "simulate", "task": "training", "case": dict(self.case), "results": results}

    def write_perfetto(self, path: str | os.PathLike[str]) -> str:
        """One of the runs as a trace for ui.perfetto.dev; returns what it holds. Work and stalls of many checkpoints
        between two failures are one span each.
        """
        name = f"training of {self.case['model'] or 'a model'} on {self.job.chips} chips, seed {self.case['seed']}"
        return f"{os.fspath(path)}: {write_spans(self.example.spans, path, name=name)}"

    def __rich__(self) -> RenderableType:
        """The table that a terminal shows."""
        from ridgeline.api.training.simulate_training_view import training_view

        return training_view(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.training.simulate_training_view import plain

        return plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWords:
    """What says how a run goes, beside the columns of a case; quantities may be text with a unit.

    Attributes:
        tokens: of the whole run ("15T"), or `duration` of it without anything going wrong ("30 d").
        checkpoint: sync, async (copied to the host behind the compute) or none.
        interval: work between checkpoints; 0: the optimum.
        storage: bytes/s of the store ("2 TB/s"); 0: a published one.
        spares: nodes that wait, powered and paid.
        short: what a job does without a spare: wait for the node, or shrink to those that are left.
        mtbf: of one chip with its share of everything else; 0: published rates by part.
        repair, detect, restart: until a failed node is back, a failure is noticed, steps run again; "": as assumed in
            training/reliability.yaml.
        slow_chips: whether chips also turn slow.
        law: scaling law of the loss: epoch or chinchilla.
        runs, seed: how often it is played; the seeds count up.
    """

    tokens: float | str = 0.0
    duration: float | str = 0.0
    checkpoint: str = "async"
    interval: float | str = 0.0
    storage: float | str = 0.0
    spares: int = 0
    short: str = ""
    mtbf: float | str = 0.0
    repair: float | str = ""
    detect: float | str = ""
    restart: float | str = ""
    slow_chips: bool = True
    law: str = ""
    runs: int = RUNS
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        SHORT.resolve(self.short or "wait", at="short")
        for name, least in (("runs", 1), ("spares", 0), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value) or value < least:
                raise DomainError(f"{name} is a whole number", at=name, got=value, fix=f"give a number from {least}")

    def quantity(self, name: str, dimension: str, usual: float) -> float:
        """A number with its unit, `usual` where it is left out."""
        given = getattr(self, name)
        return units.parse(given, dimension, at=name, bare_ok=True) if given not in ("", 0, 0.0) else usual

    def total_tokens(self, rate: float) -> float:
        """Tokens of the run at so many tokens/s."""
        if bool(self.tokens) == bool(self.duration):
            fix = 'give tokens="1T", or duration="30 d"'
            raise DomainError("a run has tokens or a duration", at="tokens", got=self.tokens, fix=fix)
        total = self.quantity("tokens", "count", rate * self.quantity("duration", "s", 0.0))
        if not 0 < total < math.inf:
            raise DomainError("a run has an end", at="tokens", got=total, fix="give a number above 0")
        return total

    def reliability(self) -> Reliability:
        """Published rates and assumed times, where the words do not say otherwise."""
        known = published_reliability()
        alone = Part(name="chip", mtbf_chip_s=self.quantity("mtbf", "s", math.inf), needs_node=True)
        times = {f"{name}_s": self.quantity(name, "s", getattr(known, f"{name}_s")) for name in TIMES}
        return Reliability(
            parts=(alone,) if self.mtbf else known.parts,
            swap_s=known.swap_s,
            slow_chip_s=known.slow_chip_s if self.slow_chips else math.inf,
            slow_frac=known.slow_frac if self.slow_chips else 0.0,
            slow_detect_s=known.slow_detect_s,
            **times,
        )


COUNTS = ("spares", "runs", "seed")

SHORT = Names("way to be short of a node", {"wait": ("",), "shrink": ("reshape", "elastic")}, listing="wait or shrink")

TIMES = ("detect", "restart", "repair")
"""Words of times that reliability.yaml assumes."""


def simulate_training(*, on: str = "", words: RunWords | None = None, **case: Any) -> SimulatedTraining:
    """Play a training run many times.

    Args:
        on:    machines, as "16384x h100-sxm".
        words: how the run goes; or give its fields by name among `case`.
        case:  columns of `predict training`.
    Raises: as `predict`; DomainError, UnitError: what cannot be; UnknownNameError: a policy or law that is not there.

    Example: `rl.simulate_training(model="meta-llama/Llama-3.1-405B", on="16384x h100-sxm", tp=8, pp=16, seq=8192,
    global_batch=2048, tokens="15T")`
    """
    given = {name: case.pop(name) for name in RunWords.__dataclass_fields__ if case.get(name) is not None}
    for name in COUNTS:
        if isinstance(given.get(name), str):
            given[name] = units.parse(given[name], "count", at=name, bare_ok=True)
    asked = RunWords(**given) if words is None else words
    step = predict("training", on=on, **case)
    chips, rate = int(float(step.case["chips"])), float(step.values["tokens_per_s"])
    total, reliability = asked.total_tokens(rate), asked.reliability()
    parameters = _parameters(step)
    chip = chip_of(str(step.case["chip"]))
    job = Job(
        work_s=total / rate,
        chips=chips,
        node_chips=min(home(chip, str(step.case["node"])).chips, chips),
        spares=int(asked.spares),
        checkpoint=_checkpoint(asked, step, reliability, chips, parameters),
        reliability=reliability,
        shrinks=SHORT.resolve(asked.short or "wait") == "shrink",
    )
    loss = float(law_of(asked.law).loss(parameters, total))
    played = [play_run(job, asked.seed + index, keep_spans=index == 0) for index in range(int(asked.runs))]
    told = {**step.case, "tokens": total, "parameters": parameters}
    told |= {name: getattr(asked, name) for name in ("checkpoint", "spares", "short", "runs", "seed")}
    return _answer(told, step, job, played, loss)


def _parameters(step: Prediction) -> float:
    """Stored parameters of the model, or of what its plain numbers make."""
    seq = float(step.case["seq"])
    columns = {name: np.array([float(step.case[name])]) for name in numbers.COLUMNS}
    kind = int(numbers.kinds(columns)[0])
    model = numbers.model_of(columns, kind, seq) if kind >= 0 else model_of(str(step.case["model"]))
    return float(np.max(work_of(model, seq).weights))


def _checkpoint(
    asked: RunWords, step: Prediction, reliability: Reliability, chips: int, parameters: float
) -> Checkpoint:
    per_parameter, published = checkpoint_facts()
    chip = chip_of(str(step.case["chip"]))
    host = machine_of(chip, chips, node=home(chip, str(step.case["node"]))).host_tier()
    return checkpoint_of(
        asked.checkpoint,
        state_bytes=per_parameter * parameters,
        chips=chips,
        storage_bytes_per_s=asked.quantity("storage", "byte/s", published),
        host_bytes_per_s=host.bandwidth_bytes_per_s if host else 0.0,
        window_s=float(step.values["step_s"]),
        mtbf_s=reliability.mtbf_s(chips),
        interval_s=asked.quantity("interval", "s", 0.0),
    )


def _answer(
    case: Mapping[str, Any], step: Prediction, job: Job, played: Sequence[Played], loss: float
) -> SimulatedTraining:
    walls = np.array([one.wall_s for one in played])
    mean = float(walls.mean())
    spent = {state: float(np.mean([one.spent_s[state] for one in played])) for state in STATES}
    chip, parts = chip_of(str(step.case["chip"])), job.reliability
    paid = job.chips + job.spares * job.node_chips
    watts = float(step.values["power_w_per_chip"])
    working = {state: job.chips * spent[state] * watts for state in ("compute", "redo")}
    busy = job.chips * (spent["compute"] + spent["redo"])
    energy = sum(working.values()) + (mean * paid - busy) * chip.idle_w
    shares = {state: joules / energy for state, joules in working.items()}
    return SimulatedTraining(
        case=case,
        prediction=step,
        job=job,
        ideal_s=job.work_s,
        expected_s=expected_s(
            job.work_s, job.checkpoint, parts.mtbf_s(job.chips), parts.detect_s + parts.restart_s + parts.swap_s
        ),
        wall_s=mean_interval(walls, batches=walls.size if walls.size > 1 else None),
        low_s=float(np.quantile(walls, 0.05)),
        high_s=float(np.quantile(walls, 0.95)),
        goodput=job.work_s / mean,
        spent={state: time / mean for state, time in spent.items()},
        spent_j=shares | {"idle": 1.0 - sum(shares.values())},
        failures={part.name: float(np.mean([one.failures[part.name] for one in played])) for part in parts.parts},
        cost_usd=mean * paid * chip.rent_usd_per_s if chip.rent_usd_per_s is not None else math.nan,
        energy_j=energy,
        loss=loss,
        example=played[0],
    )
