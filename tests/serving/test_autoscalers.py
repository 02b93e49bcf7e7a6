"""Autoscalers: what each wants of a pool that is idle, busy, in a burst, or late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from ridgeline.core.errors import DomainError, UnitError
from ridgeline.serving.policies import autoscalers
from ridgeline.serving.policies.autoscalers import Autoscaler
from ridgeline.serving.policies.facts import Facts

FACTS = Facts(prompt_tokens=(), output_tokens=())


@dataclass
class Pool:
    replicas: int = 4
    starting: int = 0
    waiting: int = 0
    running: int = 0
    slots: int = 32
    busy_frac: float = 0.0
    ttft_s: Sequence[float] = ()


def follow(scaler: Autoscaler, pool: Pool, times: int, start: float = 0.0) -> list[int]:
    """Decisions that are carried out at once."""
    wanted = []
    for step in range(times):
        pool.replicas = scaler.decide(start + step * scaler.interval_s, pool)
        wanted.append(pool.replicas)
    return wanted


def test_fixed_is_fixed() -> None:
    assert follow(autoscalers.Fixed(FACTS, 3), Pool(waiting=999), 3) == [3, 3, 3]


def test_queue_adds_in_proportion_and_takes_away_one_by_one_after_cooling_down() -> None:
    scaler = autoscalers.QueueLength(FACTS, target=4, cool_down_s=60.0, interval_s=15.0, maximum=20)
    pool = Pool(replicas=2, waiting=30)
    assert scaler.decide(0.0, pool) == 8
    pool = Pool(replicas=8)
    assert follow(scaler, pool, 9, start=15.0) == [8, 8, 8, 7, 7, 7, 7, 6, 6]
    assert scaler.decide(1000.0, Pool(replicas=2, waiting=5000)) == 20


def test_queue_keeps_a_replica_that_the_others_could_not_replace() -> None:
    scaler = autoscalers.QueueLength(FACTS, fill_frac=0.5)
    assert scaler.decide(0.0, Pool(replicas=3, running=33)) == 3
    assert scaler.decide(0.0, Pool(replicas=3, running=32)) == 2
    assert scaler.decide(999.0, Pool(replicas=1)) == 1


def test_concurrency_follows_the_average_and_panics_in_a_burst() -> None:
    scaler = autoscalers.Concurrency(FACTS, target=10.0, interval_s=2.0)
    pool = Pool(replicas=2, running=18)
    assert follow(scaler, pool, 30) == [2] * 30
    pool.running = 100
    first = scaler.decide(60.0, pool)
    assert first >= 4, "the short window sees it at once"
    assert scaler.decide(62.0, pool) > first
    pool.running, pool.replicas = 0, 10
    quiet = follow(scaler, pool, 29, start=64.0)
    assert quiet[:25] == [10] * 25, "nothing is taken away in panic"
    assert follow(scaler, pool, 60, start=122.0)[-1] == 1


def test_utilisation_follows_the_formula_and_remembers_the_highest_wish() -> None:
    scaler = autoscalers.Utilisation(FACTS, target=0.5, cool_down_s=60.0, interval_s=15.0)
    assert scaler.decide(0.0, Pool(replicas=4, busy_frac=1.0)) == 8
    assert scaler.decide(15.0, Pool(replicas=8, busy_frac=0.54)) == 8, "within the tolerance"
    assert scaler.decide(30.0, Pool(replicas=8, busy_frac=0.1)) == 8, "it wanted more a moment ago"
    assert scaler.decide(200.0, Pool(replicas=8, busy_frac=0.1)) == 2


def test_slo_adds_a_share_when_late_and_waits_for_what_starts() -> None:
    scaler = autoscalers.Slo(FACTS, ttft_s=1.0, cool_down_s=100.0)
    late, fine, fast = [0.1] * 80 + [3.0] * 20, [0.1] * 95 + [3.0] * 5, [0.1] * 100
    assert scaler.decide(0.0, Pool(replicas=8, ttft_s=late)) == 10
    assert scaler.decide(15.0, Pool(replicas=8, starting=2, ttft_s=late)) == 10
    assert scaler.decide(30.0, Pool(replicas=10, ttft_s=fine)) == 10, "9 of 10 are in time, and it has not cooled down"
    assert scaler.decide(120.0, Pool(replicas=10, ttft_s=fast)) == 9
    assert scaler.decide(300.0, Pool(replicas=9, waiting=5)) == 10, "requests wait and none was served"


def test_schedule_reads_its_table_anew_each_period() -> None:
    scaler = autoscalers.Schedule(FACTS, "2@0h", "8@8h", "3@20h")
    hours = [scaler.decide(h * 3600.0, Pool()) for h in (0, 7.99, 8, 19, 20, 23, 24, 32)]
    assert hours == [2, 2, 8, 8, 3, 3, 2, 8]
    late = autoscalers.Schedule(FACTS, "5@10s", "1@30s", period_s=60.0)
    assert [late.decide(t, Pool()) for t in (0.0, 10.0, 40.0, 65.0, 75.0)] == [1, 5, 1, 1, 5]


@pytest.mark.parametrize("table", [(), ("2",), ("x@1h",), ("2@30h",), ("-1@1h",), ("2.5@1h",)])
def test_schedule_refuses_what_is_no_table(table: tuple[str, ...]) -> None:
    with pytest.raises(DomainError):
        autoscalers.Schedule(FACTS, *table)
    with pytest.raises(UnitError):
        autoscalers.Schedule(FACTS, "2@soon")


@pytest.mark.parametrize(
    "settings",
    [{"target": 0.0}, {"minimum": 3, "maximum": 2}, {"minimum": -1}, {"interval_s": 0.0}, {"cool_down_s": -1.0}],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(DomainError):
        autoscalers.QueueLength(FACTS, **settings)
