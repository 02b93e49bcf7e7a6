"""Several traffics as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.workloads.traffic import prefixes
from ridgeline.workloads.traffic.requests import RequestClass, Traffic


def mix(*traffics: Traffic, name: str = "mix") -> Traffic:
    """Several traffics at once, by arrival; classes, sessions and prefixes stay apart, as their owners had them.

    Prefix blocks of two sizes become blocks of the larger, which must be a multiple of each.

    Raises:
        DomainError: nothing to mix, closed loops among several, blocks that do not fit.
    """
    if not traffics:
        raise DomainError("nothing to mix", at="mix", fix="give at least one traffic")
    if len(traffics) > 1 and any(one.clients for one in traffics):
        fix = "make one closed loop of all classes, or give each arrivals of its own"
        raise DomainError("a closed loop cannot be mixed", at="clients", fix=fix)
    size = max(one.hash_tokens for one in traffics)
    blocks = [prefixes.coarser(one.hash_start, one.hash_ids, one.hash_tokens, size) for one in traffics]
    start, ids = prefixes.joined(blocks)
    offset = np.cumsum([0, *(one.rows for one in traffics)])

    def together(column: Callable[[Traffic, int], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([column(one, i) for i, one in enumerate(traffics)])

    before = np.cumsum([0, *(len(one.classes) for one in traffics)])
    sessions = np.cumsum([0, *(int(one.session.max(initial=-1)) + 1 for one in traffics)])
    columns: dict[str, Any] = {
        column: together(lambda one, _, column=column: getattr(one, column))  # type: ignore[misc]
        for column in ("arrival_s", "prompt_tokens", "output_tokens", "think_s", "tenant", "adapter", "model")
    }
    columns["class_code"] = together(lambda one, i: one.class_code + np.int32(before[i]))
    columns["after"] = together(lambda one, i: np.where(one.after >= 0, one.after + offset[i], -1))
    columns["session"] = together(lambda one, i: np.where(one.session >= 0, one.session + sessions[i], -1))
    order = np.argsort(columns["arrival_s"], kind="stable")
    place = np.full(len(order) + 1, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    columns["after"] = place[columns["after"]]
    start, ids = prefixes.pick(start, ids, order)
    return Traffic(
        **{column: values[order] for column, values in columns.items()},
        classes=_apart([one for traffic in traffics for one in traffic.classes]),
        hash_start=start,
        hash_ids=ids,
        hash_tokens=size,
        clients=traffics[0].clients,
        skipped=tuple(line for one in traffics for line in one.skipped),
        notes=tuple(line for one in traffics for line in one.notes),
        name=name,
    )


def _apart(classes: list[RequestClass]) -> tuple[RequestClass, ...]:
    """The classes with a number behind each name that was there before."""
    taken: set[str] = set()
    found = []
    for one in classes:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name} {number}", number + 1
        taken.add(name)
        found.append(one if name == one.name else replace(one, name=name))
    return tuple(found)
