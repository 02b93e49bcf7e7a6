"""Cases whose chips are unlike: machines joined by "+", a pipeline over them whose layers are split by speed.

A pipeline in time is played for each row (`islands`), so a table of them takes longer than one of equal chips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import units
from ridgeline.core.cases import Cases, Problems
from ridgeline.core.errors import DomainError, RidgelineError
from ridgeline.core.tables import Labels, encode
from ridgeline.hardware.chip import ChipColumns
from ridgeline.hardware.machine import machine
from ridgeline.hardware.topology import Machine
from ridgeline.training.islands import Island, IslandStep, island_step
from ridgeline.training.layout import Layout
from ridgeline.training.links import links_of
from ridgeline.training.prepare import Catalogue, prepare
from ridgeline.training.setup import Setup, host_of
from ridgeline.training.step import TrainingStep, step_power_w, train_step
from ridgeline.training.work import Work

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Between:
    """The link of a chip to the next island: bytes/s (0: the slower of both networks) and seconds under way."""

    bytes_per_s: float = 0.0
    delay_s: float = 0.0


def machines_of(text: str) -> tuple[Machine, ...]:
    """The machines that "16x h100-sxm + 32x a100-80gb-sxm" names. Raises: as `machine`; DomainError: fewer than two."""
    found = tuple(machine(part.strip(), at="islands") for part in text.split("+"))
    if len(found) < 2:
        raise DomainError("islands are joined by +", at="islands", got=text, fix='"16x h100-sxm + 32x a100-80gb-sxm"')
    return found


def between_of(text: str) -> Between:
    """The link that "12.5 GB/s" or "1 GB/s, 30 ms" says. Raises UnitError, DomainError: what cannot be."""
    if not text:
        return Between()
    rate, _, delay = text.partition(",")
    speed = units.parse(rate.strip(), "byte/s", at="between")
    late = units.parse(delay.strip(), "s", at="between") if delay.strip() else 0.0
    if not speed > 0 or not late >= 0:
        raise DomainError("a link has a rate above 0 and a delay from 0", at="between", got=text, fix='"1 GB/s, 30 ms"')
    return Between(speed, late)


def predict_unlike(cases: Cases, problems: Problems, catalogue: Catalogue) -> dict[str, NDArray[np.float64] | Labels]:
    """Result columns of rows over islands; rows with a problem are NaN or missing there."""
    told: list[dict[str, float | str]] = [{} for _ in range(cases.rows)]
    for row in range(cases.rows):
        try:
            told[row] = _one(cases.part(np.array([row])), catalogue)
        except RidgelineError as error:
            problems.flag(np.array([row]), error)
    texts = ("bound", "regime")
    names = dict.fromkeys(name for one in told for name in one if name not in texts)
    numbers = {name: np.array([float(one.get(name, np.nan)) for one in told]) for name in names}
    return {**numbers, **{name: encode([str(one.get(name, "")) for one in told]) for name in texts}}


def _one(case: Cases, catalogue: Catalogue) -> dict[str, float | str]:
    """One row; what `prepare` finds wrong with it is raised."""
    machines, between = machines_of(case.text("islands", 0)), between_of(case.text("between", 0))
    for name in ("node", "network", "lengths", "offload", "trained"):
        if case.text(name, 0) not in ("", "none", "all"):
            raise DomainError(f"{name} is not known over islands", at=name, got=case.text(name, 0), fix="leave it out")
    tp, cp, dp, pp = (float(case.number(name)[0]) for name in ("tp", "cp", "dp", "pp"))
    dp, stages = stages_of([one.count for one in machines], tp or 1.0, cp or 1.0, dp, pp)
    numbers = {**case.numbers, "chips": float(sum(one.count for one in machines)), "dp": dp, "pp": float(sum(stages))}
    texts = {**case.texts, "chip": encode([machines[0].chip.name])}
    own = Problems(1)
    groups = prepare(Cases(1, numbers, texts), own, catalogue)
    if not groups:
        raise DomainError("this cannot be laid out over islands", at="islands", fix=own.column()[0])
    (group,) = groups
    return unlike_step(group.work, group.layout, group.setup, machines, stages, between)


def stages_of(counts: Sequence[int], tp: float, cp: float, dp: float, pp: float) -> tuple[float, list[int]]:
    """The data parallelism, and the pipeline stages of each island, all of tp x cp x dp chips.

    `counts` are chips of each island. `dp` 0: what `pp` stages over all islands leave; both 0: as few stages as there
    can be. Raises DomainError: an island is no whole number of stages, or `pp` is not their sum.
    """
    if not dp:
        dp = sum(counts) / (tp * cp * pp) if pp > 1 else float(np.gcd.reduce(np.asarray(counts))) / (tp * cp)
    block = tp * cp * dp
    stages = [count / block for count in counts]
    whole = all(value == np.floor(value) and value >= 1 for value in (dp, *stages))
    if not whole or (pp > 1 and sum(stages) != pp):
        held = " and ".join(f"{count}" for count in counts)
        what = f"islands of {held} chips are not {pp:g} whole stages of tp x cp x dp = {block:g} chips"
        raise DomainError(what, at="islands", got=held, fix="choose dp, or pp, so that every island is divided")
    return dp, [int(value) for value in stages]


def unlike_step(
    work: Work, layout: Layout, setup: Setup, machines: Sequence[Machine], stages: Sequence[int], between: Between
) -> dict[str, float | str]:
    """Result columns of one case over islands; `setup` says framework, precision and coefficients."""
    parts = [_setup_on(setup, one) for one in machines]
    rates = [float(np.max(part.links.rates_bytes_per_s[-1])) for part in parts]
    islands = []
    for place, (count, part) in enumerate(zip(stages, parts, strict=True)):
        following = rates[min(place + 1, len(rates) - 1)]
        rate = between.bytes_per_s or min(rates[place], following)
        islands.append(Island(stages=count, setup=part, away_bytes_per_s=rate, away_s=between.delay_s))
    found = island_step(work, layout, islands)
    steps = [train_step(work, layout, part) for part in parts]
    return _told(found, steps, parts, machines, stages, _memory(found, work, layout, parts, stages))


def _setup_on(setup: Setup, one: Machine) -> Setup:
    assert one.node is not None, "machines of the catalogue stand in nodes"
    return replace(setup, chips=ChipColumns((one.chip,)), links=links_of([one.node]), host=host_of([one]))


def _memory(
    found: IslandStep, work: Work, layout: Layout, parts: Sequence[Setup], stages: Sequence[int]
) -> tuple[float, bool]:
    """Bytes of the fullest rank for its chip, and whether all fit; a stage of few layers is one of many such."""
    layers = float(np.max(work.layers))
    fullest, fits, first = (0.0, 0.0), True, 0
    for part, count in zip(parts, stages, strict=True):
        most = max(found.layers[first : first + count])
        first += count
        memory = part.memory(work, replace(layout, pp=max(layers / most, 1.0), vp=1.0))
        need, room = float(memory.total_bytes.max()), float(memory.capacity_bytes.max())
        fullest = max(fullest, (need / room, need))
        fits = fits and need <= room
    return fullest[1], fits


def _told(
    found: IslandStep,
    steps: Sequence[TrainingStep],
    parts: Sequence[Setup],
    machines: Sequence[Machine],
    stages: Sequence[int],
    memory: tuple[float, bool],
) -> dict[str, float | str]:
    total_s, chips = found.step_s, float(sum(one.count for one in machines))
    busy = np.array([found.schedule.busy_s(f"rank {rank}") for rank in range(sum(stages))]) / total_s
    shares = [float(np.mean(part)) for part in np.split(busy, np.cumsum(stages)[:-1])]
    peak = sum(one.count * float(np.max(s.peak_flops_per_s)) for one, s in zip(machines, steps, strict=True))
    model, hardware = (float(np.max(getattr(steps[0], name))) for name in ("model_flops", "hardware_flops"))
    tokens = float(np.max(steps[0].tokens))
    power_w = 0.0
    for one, step, part, share in zip(machines, steps, parts, shares, strict=True):
        working = 1.0 - float(np.max(step.bubble_frac))
        full = float(np.max(step_power_w(step, part)))
        # Chips that wait draw what an idle board draws.
        power_w += one.count * (one.chip.idle_w + (full - one.chip.idle_w) * min(share / working, 1.0))
    slowest = steps[int(np.argmax(shares))]
    bound = max((name for name in slowest.terms if name != "bubble"), key=lambda name: float(slowest.terms[name][0]))
    idle = 1.0 - float(np.mean(busy)) - found.gradients_s / total_s
    return {
        "step_s": total_s,
        "tokens_per_s": tokens / total_s,
        "tokens_per_s_per_chip": tokens / total_s / chips,
        "model_flops_per_s_per_chip": model / total_s / chips,
        "hardware_flops_per_s_per_chip": hardware / total_s / chips,
        "mfu": model / total_s / peak,
        "hfu": hardware / total_s / peak,
        "memory_bytes_per_chip": memory[0],
        "fits": float(memory[1]),
        "bubble_frac": max(idle, 0.0),
        "exposed_comm_frac": found.gradients_s / total_s,
        "power_w_per_chip": power_w / chips,
        "energy_j_per_token": power_w * total_s / tokens,
        "bound": bound if bound in slowest.terms and np.max(busy) > idle else "bubble",
        "regime": "datasheet",
    }
