"""A row of servers under one power limit: caps by priority, delays, the brake, a battery, and the breaker.

The manager reads the row's power some seconds late. Beyond a first threshold low priority is capped, beyond a second
one harder, and high priority lightly; a cap holds only after its delay. Beyond the limit the brake caps all. A battery
carries what is above the limit while it lasts; what is left heats the breaker. Numbers: `facts/row.yaml` (POLCA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.impact.sheets import fact

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPolicy:
    """Thresholds and caps as shares of the row's limit and of a server's largest power; delays in seconds."""

    first_threshold: float
    second_threshold: float
    release: float
    low_cap: float
    low_hard_cap: float
    high_cap: float
    brake_cap: float
    telemetry_delay: float
    actuation_delay: float
    brake_delay: float

    def __post_init__(self) -> None:
        """Thresholds rise, caps are shares, delays are not negative."""
        if not 0 < self.first_threshold <= self.second_threshold <= 1 or not 0 <= self.release < self.first_threshold:
            raise DomainError(
                "thresholds rise to 1 at most", at="thresholds", got=(self.first_threshold, self.second_threshold)
            )
        caps = (self.low_cap, self.low_hard_cap, self.high_cap, self.brake_cap)
        if not all(0 < cap <= 1 for cap in caps):
            raise DomainError("a cap is a share above 0", at="caps", got=caps, fix="give shares of the largest power")
        if min(self.telemetry_delay, self.actuation_delay, self.brake_delay) < 0:
            raise DomainError("a delay is >= 0", at="delays", fix="give seconds")


def default_policy() -> RowPolicy:
    """The policy of the facts."""
    plain = ("first_threshold", "second_threshold", "release", "low_cap", "low_hard_cap", "high_cap", "brake_cap")
    times = ("telemetry_delay", "actuation_delay", "brake_delay")
    return RowPolicy(
        **{name: fact("row", name).value for name in plain}, **{name: fact("row", name, "s").value for name in times}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """Stored energy beside a row, J, and the most that it gives or takes, W."""

    capacity_j: float = 0.0
    power_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun:
    """What a row did; arrays have one value per step.

    Attributes:
        power_w: drawn by its servers. grid_w: at the breaker, battery counted.
        stored_j: in the battery after each step.
        capped_frac: share of time in which a priority was held below its demand, (low, high).
        hard_frac: the part of it in which low priority was held by the harder cap, or by the brake.
        lost_frac: share of the demanded energy above idle that caps withheld, (low, high).
        brakes: how often the brake was pulled. opened_s: when the breaker opened; NaN: never.
    """

    power_w: Array
    grid_w: Array
    stored_j: Array
    capped_frac: tuple[float, float]
    hard_frac: float
    lost_frac: tuple[float, float]
    brakes: int
    opened_s: float

    @property
    def peak_w(self) -> float:
        """Largest power at the breaker."""
        return float(self.grid_w.max(initial=0.0))


def play_row(
    demand_w: ArrayLike,
    high_priority: ArrayLike,
    *,
    limit_w: float,
    idle_w: float,
    most_w: float,
    step_s: float = 1.0,
    policy: RowPolicy | None = None,
    battery: Battery | None = None,
) -> RowRun:
    """Play a row over the demands of its servers.

    Args:
        demand_w: shape (servers, steps): what each would draw without caps.
        high_priority: shape (servers,).
        limit_w: of the row.
        idle_w: of a server; a cap never goes below it.
        most_w: largest power of a server.
        step_s: of the demands.
        policy: None: no caps at all.
        battery: None: none.
    Raises: DomainError: demands or limits that cannot be; a limit below the row's idle power.
    """
    demand, high = np.asarray(demand_w, np.float64), np.asarray(high_priority, dtype=bool)
    _check(demand, high, limit_w, idle_w, most_w, step_s)
    state = _Row(demand.shape[1], high, limit_w, idle_w, most_w, step_s, policy, battery or Battery())
    drawn = np.empty_like(demand)
    for step in range(demand.shape[1]):
        drawn[:, step] = state.advance(step, demand[:, step])
    return state.run(demand, drawn)


class _Row:
    """The state of a row between steps."""

    def __init__(
        self, steps: int, high: Flags, limit_w: float, idle_w: float, most_w: float, step_s: float,
        policy: RowPolicy | None, battery: Battery,
    ) -> None:  # fmt: skip
        self.high, self.limit_w, self.idle_w, self.most_w, self.step_s = high, limit_w, idle_w, most_w, step_s
        self.policy, self.battery, self.stored_j = policy, battery, battery.capacity_j
        self.grid_w, self.stored, self.row_w = np.zeros(steps), np.zeros(steps), np.zeros(steps)
        self.hard, self.hard_at = False, np.zeros(steps, dtype=bool)
        self.level, self.braked, self.brakes, self.heat, self.opened_s = 0, False, 0, 0.0, float("nan")
        self.caps = np.full(high.size, np.inf)
        self.orders: list[tuple[float, Array, bool]] = []

    def advance(self, step: int, demand: Array) -> Array:
        """Decide on old news, let orders take hold, draw."""
        now = step * self.step_s
        if self.policy is not None:
            self._decide(step, now, self.policy)
        for since, caps, hard in self.orders:
            if since <= now:
                self.caps, self.hard = caps, hard
        self.hard_at[step] = self.hard
        self.orders = [order for order in self.orders if order[0] > now]
        drawn: Array = np.minimum(demand, np.maximum(self.caps, self.idle_w))
        self._settle(step, now, float(drawn.sum()))
        return drawn

    def _decide(self, step: int, now: float, policy: RowPolicy) -> None:
        late = round(policy.telemetry_delay / self.step_s)
        if step - 1 - late < 0:
            return
        share = self.row_w[step - 1 - late] / self.limit_w
        if share > 1.0 and not self.braked:
            self.braked, self.brakes = True, self.brakes + 1
            self.orders = [(now + policy.brake_delay, np.full(self.high.size, policy.brake_cap * self.most_w), True)]
            return
        edges = (policy.first_threshold, policy.second_threshold)
        rising = int(np.searchsorted(edges, share, side="left"))
        falling = int(np.searchsorted([edge - policy.release for edge in edges], share, side="left"))
        level = max(rising, min(self.level, falling))
        if self.braked and share > edges[0] - policy.release:
            return
        if level != self.level or self.braked:
            self.level, self.braked = level, False
            self.orders.append((now + policy.actuation_delay, self._caps_of(level, policy), level == len(edges)))

    def _caps_of(self, level: int, policy: RowPolicy) -> Array:
        low = (np.inf, policy.low_cap, policy.low_hard_cap)[level] * self.most_w
        high = (np.inf, np.inf, policy.high_cap)[level] * self.most_w
        caps: Array = np.where(self.high, high, low)
        return caps

    def _settle(self, step: int, now: float, power: float) -> None:
        over = power - self.limit_w
        given = min(max(over, 0.0), self.battery.power_w, self.stored_j / self.step_s)
        room = (self.battery.capacity_j - self.stored_j) / self.step_s
        taken = min(max(-over, 0.0), self.battery.power_w, room)
        self.stored_j += (taken - given) * self.step_s
        self.row_w[step], self.grid_w[step], self.stored[step] = power, power - given + taken, self.stored_j
        ratio = self.grid_w[step] / self.limit_w
        self.heat = max(self.heat + (ratio * ratio - 1.0) * self.step_s, 0.0)
        if self.heat >= fact("row", "breaker_heat", "s").value and np.isnan(self.opened_s):
            self.opened_s = now

    def run(self, demand: Array, drawn: Array) -> RowRun:
        """The record."""
        held, withheld = drawn < demand * (1 - 1e-12), demand - drawn
        wanted = np.maximum(demand - self.idle_w, 0.0)
        kinds = (~self.high, self.high)
        capped = [float(held[mine].mean()) if mine.any() else 0.0 for mine in kinds]
        lost = [float(withheld[mine].sum() / max(wanted[mine].sum(), 1e-300)) for mine in kinds]
        return RowRun(
            power_w=self.row_w,
            grid_w=self.grid_w,
            stored_j=self.stored,
            capped_frac=(capped[0], capped[1]),
            hard_frac=float((held & self.hard_at)[~self.high].mean()) if not self.high.all() else 0.0,
            lost_frac=(lost[0], lost[1]),
            brakes=self.brakes,
            opened_s=self.opened_s,
        )


def _check(demand: Array, high: Flags, limit_w: float, idle_w: float, most_w: float, step_s: float) -> None:
    if demand.ndim != 2 or demand.shape[0] != high.size or not np.all(np.isfinite(demand) & (demand >= 0)):
        raise DomainError("demands are finite watts, (servers, steps)", at="demand_w", got=demand.shape, fix="check")
    if not (0 <= idle_w < most_w and step_s > 0):
        raise DomainError("idle power is below the largest, and a step above 0", at="idle_w", got=(idle_w, most_w))
    if limit_w < idle_w * high.size:
        raise DomainError(
            "the row's limit is below the idle power of its servers",
            at="limit_w",
            got=limit_w,
            fix=f"give {idle_w * high.size:g} W at least, or fewer servers",
        )
