"""Fleets from files: pools with a role each, and what of the case each of them changes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ridgeline.core import units
from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import Document, load_yaml, parse_json
from ridgeline.core.notation import parse_call
from ridgeline.serving.fleet.slices import REACH, Split
from ridgeline.serving.record.played import DECODE, MIXED, PREFILL

ROLES = (MIXED, PREFILL, DECODE, "split")
MOST_POOLS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_OWN = frozenset({"role", "to", "router"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """One pool of a file.

    Attributes:
        name, role, to, split, router: as in `choices.PoolPlan`.
        columns: of `predict serving` that it sets, with `on` and `plan`; text with units or numbers.
        at: where it stands.
    """

    name: str
    role: str
    to: str
    split: Split | None
    router: str
    columns: Mapping[str, str | float]
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """A fleet file: its pools, the router among those that arrivals enter, and the model ("": the case says)."""

    pools: tuple[PoolSpec, ...]
    router: str
    model: str


def load_fleet(source: str | os.PathLike[str] | Mapping[str, Any]) -> FleetSpec:
    """The fleet of a file (.yaml), or of a mapping with its keys.

    Raises:
        RidgelineError: what is wrong, with file, line and column where it stands.
    """
    document = _as_document(source) if isinstance(source, Mapping) else load_yaml(source)
    # pydantic takes longer to import than the rest of this package, so only those who read files pay for it.
    from ridgeline.serving.fleet.schema import validate

    file = validate(document)
    if not 1 <= len(file.pools) <= MOST_POOLS:
        fix = f"give 1 to {MOST_POOLS} pools"
        raise SpecError("a fleet has pools", at=document.where("pools"), got=len(file.pools), fix=fix)
    pools = tuple(_pool(document, name, pool.model_dump(exclude_none=True)) for name, pool in file.pools.items())
    _check_ways(document, pools)
    return FleetSpec(pools=pools, router=file.router or "", model=file.model or "")


def parse_split(text: str | float, *, at: str) -> Split:
    """A split as text: "split(frac=0.4, reach=2)", or the share by itself. Raises RidgelineError: what cannot be."""
    if not isinstance(text, str):
        return Split(frac=float(text))
    call = parse_call(text, at=at, example="split(frac=0.4)")
    named = dict(call.named)
    frac = call.plain[0] if len(call.plain) == 1 and "frac" not in named else named.pop("frac", "")
    reach = named.pop("reach", "")
    if len(call.plain) > 1 or named or not frac:
        raise SpecError("no split of a chip", at=at, got=text, fix="write split(frac=0.4, reach=2)")
    share = units.parse(frac, "1", at=f"{at} frac")
    return Split(frac=share, reach=units.parse(reach, "1", at=f"{at} reach") if reach else REACH)


def _as_document(source: Mapping[str, Any]) -> Document:
    try:
        return parse_json(json.dumps(source), "<fleet>")
    except (TypeError, ValueError, RecursionError) as error:
        fix = "give text, numbers, lists and mappings"
        raise SpecError("not plain data", at="<fleet>", got=str(error), fix=fix) from error


def _pool(document: Document, name: str, given: Mapping[str, Any]) -> PoolSpec:
    at = document.where("pools", name)
    if not _NAME.fullmatch(name):
        raise SpecError("pools are named by letters, digits, . _ and -", at=at, got=name, fix="write it like h100-2")
    where = document.where("pools", name, "role")
    call = parse_call(given["role"], at=where, example=MIXED)
    if call.name not in ROLES:
        fix = did_you_mean(call.name, ROLES, listing=f"one of {', '.join(ROLES)}")
        raise UnknownNameError(f"unknown role {call.name!r}", at=where, fix=fix)
    split = parse_split(given["role"], at=where) if call.name == "split" else None
    if split is None and (call.plain or call.named):
        raise SpecError(f"{call.name} has no settings", at=where, got=given["role"], fix=f"write {call.name}")
    if "on" not in given and "chip" not in given and "node" not in given:
        raise SpecError("a pool needs its machines", at=at, fix='add on: "2x h100-sxm"')
    columns = {key: value for key, value in given.items() if key not in _OWN}
    role = MIXED if split is not None else call.name
    to, router = given.get("to", ""), given.get("router", "")
    return PoolSpec(name=name, role=role, to=to, split=split, router=router, columns=columns, at=at)


def _check_ways(document: Document, pools: tuple[PoolSpec, ...]) -> None:
    """Every prefill pool hands on to a decode pool, every decode pool gets something, and arrivals enter somewhere."""
    decoding = [pool.name for pool in pools if pool.role == DECODE]
    for pool in pools:
        where = document.where("pools", pool.name, "to")
        if pool.role != PREFILL and pool.to:
            raise SpecError("only prefill pools hand on", at=where, got=pool.to, fix="leave out to, or role: prefill")
        if pool.role == PREFILL and pool.to not in decoding:
            listing = f"decode pools: {', '.join(decoding) or 'none'}"
            fix = did_you_mean(pool.to, decoding, listing=listing)
            raise UnknownNameError(f"{pool.name} hands on to no decode pool {pool.to!r}", at=where, fix=fix)
    used = {pool.to for pool in pools}
    for pool in pools:
        if pool.role == DECODE and pool.name not in used:
            fix = f"give a prefill pool with to: {pool.name}"
            raise SpecError("nobody hands on to this decode pool", at=pool.at, got=pool.name, fix=fix)
