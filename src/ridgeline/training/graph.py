"""Tasks on resources: who waits for whom, laid out in time. Pipelines and offloading are such graphs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Task:
    """Work of `time_s` on one resource; it starts when the tasks of `after` (indices) and all that its resource was
    given before are done. `kind` groups tasks of one colour.
    """

    name: str
    resource: str
    time_s: float
    after: tuple[int, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Tasks with their times, s."""

    tasks: tuple[Task, ...]
    start_s: Column
    end_s: Column

    @property
    def makespan_s(self) -> float:
        """From the first start to the last end."""
        return float(self.end_s.max(initial=0.0))

    def busy_s(self, resource: str) -> float:
        """Time in which a resource works."""
        return float(sum(task.time_s for task in self.tasks if task.resource == resource))

    def idle_frac(self, resource: str) -> float:
        """Share of the makespan in which a resource waits."""
        return 1.0 - self.busy_s(resource) / self.makespan_s if self.makespan_s > 0 else 0.0

    @property
    def resources(self) -> tuple[str, ...]:
        """Names in order of first use."""
        return tuple(dict.fromkeys(task.resource for task in self.tasks if task.resource))


def play(tasks: Sequence[Task]) -> Schedule:
    """Lay tasks on their resources, each in the order of the list.

    Raises DomainError: a time is negative or no number, a dependency names no task, or tasks wait for each other.
    """
    count = len(tasks)
    before: list[list[int]] = [list(task.after) for task in tasks]
    last: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if not 0.0 <= task.time_s < np.inf:
            raise DomainError("a task takes a finite time", at=task.name, got=task.time_s, fix="give seconds >= 0")
        if any(not 0 <= other < count for other in task.after):
            raise DomainError("a task waits for no task", at=task.name, got=task.after, fix=f"name 0 to {count - 1}")
        if task.resource:
            if task.resource in last:
                before[index].append(last[task.resource])
            last[task.resource] = index
    start, end = np.zeros(count), np.zeros(count)
    for done, index in enumerate(_order(before, tasks)):
        start[index] = max((end[other] for other in before[index]), default=0.0)
        end[index] = start[index] + tasks[index].time_s
        assert done < count, "each task is laid out once"
    return Schedule(tuple(tasks), start, end)


def _order(before: Sequence[Sequence[int]], tasks: Sequence[Task]) -> list[int]:
    """Tasks so that each comes after what it waits for (Kahn 1962)."""
    after: list[list[int]] = [[] for _ in before]
    waiting = [len(others) for others in before]
    for index, others in enumerate(before):
        for other in others:
            after[other].append(index)
    ready = deque(index for index, count in enumerate(waiting) if count == 0)
    order = []
    while ready:
        index = ready.popleft()
        order.append(index)
        for other in after[index]:
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    if len(order) < len(before):
        stuck = [tasks[index].name for index, count in enumerate(waiting) if count > 0]
        raise DomainError(
            "tasks wait for each other", at=stuck[0], got=", ".join(stuck[:4]), fix="break the cycle of `after`"
        )
    return order
