"""Fleets of unlike pools: laws on random ones, what a fleet file says, and what is bought and paid by pool."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.serving.test_engine import TIMES
from tests.serving.test_fleet import EXACT, RULES, LeastLoaded, check, traffic_of

from ridgeline.api.simulations.simulate import Simulated, simulate
from ridgeline.core.errors import DomainError, RidgelineError, SpecError, UnknownNameError
from ridgeline.core.seeding import stream
from ridgeline.hardware import catalogue
from ridgeline.hardware.machine import machine
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.loading import load_bytes_per_s
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.fleet.moving import Link, Rebalancing
from ridgeline.serving.fleet.slices import Split, sliced
from ridgeline.serving.fleet.spec import load_fleet, parse_split
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.rebalancers import FreeCache
from ridgeline.serving.policies.routers import Weighted
from ridgeline.serving.record.played import DECODE, DONE, MIXED, PREFILL
from ridgeline.sim import Simulation
from ridgeline.workloads.traffic import Traffic

NOBODY = Facts(prompt_tokens=(), output_tokens=())
HOUR_S = 3600.0


def slower(times: StepTimes, factor: float) -> StepTimes:
    """The same lane at another pace."""
    lists = ("body_s", "decode_s", "context_s", "extra_s", "prefix_s")
    columns: dict[str, Any] = {name: [factor * x for x in getattr(times, name)] for name in lists}
    return replace(times, **columns, launch_s=factor * times.launch_s)


class Maker:
    """Pools over one traffic; `longest_run` 1 plays iteration by iteration."""

    def __init__(self, traffic: Traffic, longest_run: int = 1 << 60) -> None:
        self.traffic, self.longest_run = traffic, longest_run
        tokens = (traffic.prompt_tokens, traffic.output_tokens)
        self.requests = Requests(
            **{n: array("q", t.tolist()) for n, t in zip(("prompts", "outputs"), tokens, strict=True)}
        )
        self.log = Log(len(traffic))
        self.pools: list[Pool] = []

    def pool(self, name: str, lanes: int, factor: float, rules: Rules, to: Pool | None = None) -> Pool:
        own = replace(rules, prefill_only=to is not None)
        members = [
            Member(
                Engine(
                    slower(TIMES, factor), own, self.requests, self.log, keep_runs=True, longest_run=self.longest_run
                ),
                replica=i,
                chips=1.0,
            )
            for i in range(lanes)
        ]
        pool = Pool(name=name, members=members, router=LeastLoaded(), passes_to=to)
        if to is not None:
            pool.transfer_s = [1e-5 * tokens for tokens in self.requests.prompts]
        self.pools.append(pool)
        return pool

    def split(self, name: str, lanes: int, rules: Rules) -> Pool:
        """Lanes that share chips: each is slower while the other iterates."""
        decode = self.pool(f"{name}-decode", lanes, 1.2, rules)
        prefill = self.pool(f"{name}-prefill", lanes, 1.7, rules, decode)
        prefill.transfer_s = [0.0] * len(self.traffic)
        for a, b in zip(prefill.members, decode.members, strict=True):
            a.partner, b.partner = b, a
            a.paces = (a.engine.times, slower(TIMES, 1.9))
            b.paces = (b.engine.times, slower(TIMES, 1.5))
        return prefill

    def fleet(self, entries: list[Pool], router: Any = None, **rest: Any) -> Fleet:
        entry = Pool(name="entry", members=[m for p in entries for m in p.members], router=router or LeastLoaded())
        decodes = [pool for pool in self.pools if pool not in entries]
        return Fleet(self.traffic, self.requests, self.log, [*entries, *decodes], entry=entry, **rest)


def random_fleet(seed: int, longest_run: int = 1 << 60) -> tuple[Fleet, Simulation]:
    """Two to four pools of any roles, speeds, caches and rules."""
    draw = stream(seed, "pools")
    count, rest = 150, {}
    if seed % 3 == 1:  # a closed loop
        rest = {"clients": int(draw.integers(4, 40))}
    elif seed % 3 == 2:  # sessions of three turns
        after = np.where(np.arange(count) % 3 > 0, np.arange(count) - 1, -1)
        rest = {"after": after, "think_s": np.where(after >= 0, 0.3, 0.0)}
    traffic = traffic_of(seed, count=count, gap_s=float(draw.uniform(0.01, 0.04)), **rest)
    made = Maker(traffic, longest_run)
    entries = []
    for i in range(int(draw.integers(2, 4))):
        rules = replace(
            RULES,
            slots=int(draw.integers(2, 12)),
            cache_tokens=float(draw.integers(60, 400) * 16),
            token_budget=float(draw.integers(64, 400)),
            preemption=str(draw.choice(["recompute", "swap"])),
            copy_s=1e-4,
            lag=float(draw.choice([0.0, 1.0])),
        )
        lanes, factor = int(draw.integers(1, 4)), float(draw.uniform(0.5, 2.0))
        role = str(draw.choice([MIXED, PREFILL, "split"]))
        if role == MIXED:
            entries.append(made.pool(f"p{i}", lanes, factor, rules))
        elif role == "split":
            entries.append(made.split(f"p{i}", lanes, rules))
        else:
            decode = made.pool(f"d{i}", int(draw.integers(1, 3)), factor, rules)
            entries.append(made.pool(f"p{i}", lanes, float(draw.uniform(0.5, 2.0)), rules, decode))
    control = Simulation(seed=seed)
    return made.fleet(entries, control=control), control


@pytest.mark.parametrize("seed", range(40))
def test_every_request_of_any_fleet_ends_once_and_every_lane_is_empty(seed: int) -> None:
    fleet, _ = random_fleet(seed)
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    roles = {lane.role for lane in played.lanes}
    assert (PREFILL in roles) == (DECODE in roles)
    assert not np.isin(
        played.lane[played.output_tokens > 1], [i for i, x in enumerate(played.lanes) if x.role == PREFILL]
    ).any()


@pytest.mark.parametrize("seed", range(40))
def test_runs_of_any_fleet_are_its_iterations(seed: int) -> None:
    (fleet, _), (stepped, _) = random_fleet(seed), random_fleet(seed, longest_run=1)
    played, one_by_one = fleet.play(), stepped.play()
    for name in ("admitted_s", "first_s", "last_s"):
        np.testing.assert_allclose(getattr(played, name), getattr(one_by_one, name), rtol=EXACT)
    assert np.array_equal(played.lane, one_by_one.lane)


@pytest.mark.parametrize("seed", range(20))
def test_failures_drains_and_moves_lose_no_request_of_any_fleet(seed: int) -> None:
    fleet, control = random_fleet(seed)
    alone = [member for member in fleet.members if member.partner is None]
    draw = stream(seed, "troubles")
    for member in alone[:: int(draw.integers(1, 3))]:
        at = float(draw.uniform(0.2, 3.0))
        control.schedule_at(at, fleet.fail if draw.random() < 0.5 else fleet.drain, member, at)
        control.schedule_at(at + 0.6, fleet.start, member, at + 0.6)
    for pool in fleet.pools:
        if pool.passes_to is None and len(pool.members) > 1:
            Rebalancing(fleet, control, pool, FreeCache(NOBODY, interval_s=0.1, apart_frac=0.1), Link(token_s=1e-6))
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)


def test_shares_of_pools_are_their_weights() -> None:
    made = Maker(traffic_of(1, count=300))
    entries = [made.pool("fast", 2, 0.5, RULES), made.pool("slow", 1, 1.0, RULES)]
    played = made.fleet(entries, Weighted(NOBODY, 2.0, 2.0, 1.0)).play()
    assert np.abs(np.bincount(played.lane, minlength=3) - [120, 120, 60]).max() <= 1


def test_what_only_one_pool_can_hold_goes_there() -> None:
    made = Maker(Traffic.of([0.0, 0.1, 0.2], [100, 3000, 9000], 10))
    small = made.pool("small", 2, 1.0, RULES)
    large = made.pool("large", 1, 1.0, replace(RULES, cache_tokens=8000.0))
    played = made.fleet([small, large], Weighted(NOBODY, 1e9, 1e9, 1e-9)).play()
    assert played.end.tolist() == [DONE, DONE, 1]
    assert played.lane[1] in (0, 1)
    made = Maker(Traffic.of([0.0, 0.1], [100, 6000], 10))
    small = made.pool("small", 2, 1.0, RULES)
    large = made.pool("large", 1, 1.0, replace(RULES, cache_tokens=8000.0))
    played = made.fleet([small, large], Weighted(NOBODY, 1e9, 1e9, 1e-9)).play()
    assert played.end.tolist() == [DONE, DONE]
    assert played.lane[1] == 2


def test_lanes_that_share_a_chip_run_as_if_alone_while_the_other_has_nothing() -> None:
    made = Maker(Traffic.of([0.0], 200, 50))
    played = made.fleet([made.split("p", 1, RULES)]).play()
    times = [slower(TIMES, factor) for factor in (1.7, 1.2)]
    made = Maker(Traffic.of([0.0], 200, 50))
    decode = made.pool("d", 1, 1.2, RULES)
    prefill = made.pool("p", 1, 1.7, RULES, decode)
    prefill.transfer_s = [0.0]
    apart = made.fleet([prefill]).play()
    assert played.last_s[0] == pytest.approx(apart.last_s[0], rel=EXACT)
    assert times[0].body(64) > times[1].body(64)


def test_lanes_that_share_a_chip_slow_each_other_down() -> None:
    traffic = traffic_of(4, count=200, gap_s=0.01)
    ends = []
    for shared in (True, False):
        made = Maker(traffic)
        pool = made.split("p", 1, RULES)
        if not shared:
            for member in (*pool.members, *made.pools[0].members):
                member.paces = (member.paces[0], member.paces[0])
        ends.append(made.fleet([pool]).play().end_s)
    assert ends[0] > ends[1]


# A part of a chip --------------------------------------------------------------------------------------------------


def test_parts_of_a_chip_share_its_rates_and_its_bandwidth() -> None:
    chip, split = catalogue.chip("h100-sxm"), Split(frac=0.3)
    part = sliced(chip, 0.3, split.alone(0.3))
    assert part.peak_flops_per_s("bf16") == pytest.approx(0.3 * chip.peak_flops_per_s("bf16"))
    assert part.dram.bandwidth_bytes_per_s == pytest.approx(0.6 * chip.dram.bandwidth_bytes_per_s)
    assert part.dram.capacity_bytes == chip.dram.capacity_bytes
    assert split.alone(0.7) == 1.0
    for asked in (0.0, 0.2, 0.5, 1.0):
        low, high = split.beside(0.3, asked), split.beside(0.7, asked)
        assert low <= split.alone(0.3)
        assert high <= split.alone(0.7)
    # When both ask for all that they can stream, there is just one chip.
    assert split.beside(0.3, 1.0) + split.beside(0.7, 0.6) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "text", ["split", "split(2)", "split(0.4, 3)", "split(part=0.4)", "split(frac=0.4, reach=0.5)"]
)
def test_splits_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(RidgelineError):
        parse_split(text, at="role")


# Where weights come from -------------------------------------------------------------------------------------------


def test_weights_load_at_the_rate_of_what_they_come_over() -> None:
    h100 = machine("8x h100-sxm")
    port, node = h100.chip.port("host"), h100.node
    assert port is not None
    assert node is not None
    assert load_bytes_per_s(h100, "host") == port.bandwidth_bytes_per_s
    drives = h100.nvme_tier()
    assert drives is not None
    assert load_bytes_per_s(h100, "nvme") == drives.bandwidth_bytes_per_s < port.bandwidth_bytes_per_s
    assert load_bytes_per_s(h100, "network") == node.nic_bandwidth_bytes_per_s
    assert load_bytes_per_s(h100, "10 GB/s") == 1e10
    with pytest.raises(UnknownNameError, match="nvme"):
        load_bytes_per_s(h100, "nvm")
    with pytest.raises(DomainError, match="does not know"):
        load_bytes_per_s(machine("l4"), "nvme")


# Files -------------------------------------------------------------------------------------------------------------

CASE = {"model": "meta-llama/Llama-3.1-8B", "arrivals": "poisson(12/s)", "isl": 800, "osl": 60, "requests": 120}


def played_of(pools: Mapping[str, Any], **case: Any) -> Simulated:
    return simulate(fleet={"pools": pools}, **{**CASE, **case})


def test_chips_rent_and_power_are_those_of_each_pool() -> None:
    pools = {"new": {"on": "2x h100-sxm"}, "old": {"on": "4x a100-sxm", "tp": 2}}
    found = played_of(pools)
    whole, end_s = found.answers.whole, found.played.end_s
    assert whole.chips == pytest.approx(6)
    rents = [catalogue.chip(name).rent_usd_per_s or math.nan for name in ("h100-sxm", "a100-sxm")]
    paid = (2 * rents[0] + 4 * rents[1]) * end_s
    tokens = whole.overall.output_tokens_per_s * end_s
    assert whole.cost_usd_per_1m_output_tokens == pytest.approx(paid / tokens * 1e6)
    assert {lane.pool: lane.chips for lane in found.played.lanes} == {"new": 1.0, "old": 2.0}
    assert found.powers["old"].chip.name == "a100-80gb-sxm"
    assert set(found.to_dict()["pools"]) == {"new", "old"}
    json.dumps(found.to_dict())
    assert "h100-sxm and a100-80gb-sxm" in found.title


def test_one_pool_of_a_file_is_the_plain_case() -> None:
    plain = simulate(**CASE, on="2x h100-sxm")
    filed = played_of({"serving": {"on": "2x h100-sxm"}})
    assert np.array_equal(plain.played.last_s, filed.played.last_s)
    assert plain.answers.whole.energy_j == filed.answers.whole.energy_j


def test_two_pools_of_a_file_are_the_separate_pools_of_a_case() -> None:
    plain = simulate(**CASE, chip="h100-sxm", mode="disagg", prefill_workers=1, decode_workers=2)
    pools = {"prefill": {"role": "prefill", "chip": "h100-sxm", "to": "decode"}}
    filed = played_of({**pools, "decode": {"role": "decode", "on": "2x h100-sxm"}})
    assert np.array_equal(plain.played.last_s, filed.played.last_s)


def test_arrivals_are_shared_by_the_rates_of_the_closed_form() -> None:
    pools = {"new": {"on": "h100-sxm"}, "old": {"on": "l40s"}}
    found = played_of(pools)
    shares = np.bincount(found.played.lane, minlength=2) / len(found.traffic)
    assert shares[0] > 0.6
    even = simulate(
        fleet={"router": "round-robin", "pools": {"new": {"on": "h100-sxm"}, "old": {"on": "l40s"}}}, **CASE
    )
    assert np.bincount(even.played.lane).tolist() == [60, 60]


def test_a_chip_cut_in_two_is_one_chip() -> None:
    found = simulate(**CASE, on="h100-sxm", phase_split_frac=0.4)
    whole = found.answers.whole
    assert whole.chips == pytest.approx(1)
    assert [lane.role for lane in found.played.lanes] == [PREFILL, DECODE]
    assert np.all(found.played.end == DONE)
    chip = catalogue.chip("h100-sxm")
    assert chip.idle_w < whole.power_w < chip.tdp_w


def test_a_larger_part_for_prompts_brings_tokens_earlier_and_further_apart() -> None:
    rows = [simulate(**CASE, on="h100-sxm", phase_split_frac=frac).answers.whole.overall for frac in (0.2, 0.7)]
    assert rows[1].ttft_s.mean.value < rows[0].ttft_s.mean.value
    assert rows[1].tpot_s.mean.value > rows[0].tpot_s.mean.value


def test_a_cold_start_lasts_as_long_as_the_weights_take() -> None:
    waits = []
    for source in ("host", "0.2 GB/s"):
        # A burst that one replica cannot serve.
        found = simulate(
            **{**CASE, "arrivals": "poisson(60/s)", "requests": 300},
            on="4x l4",
            autoscaler="queue(target=2, interval=1s)",
            load_from=source,
        )
        assert np.all(found.played.end == DONE)
        waits.append(float(np.mean(found.played.first_s - found.played.arrival_s)))
    assert waits[1] > waits[0]


def test_roles_and_moves_of_a_case_serve_everyone() -> None:
    disagg = {"chip": "h100-sxm", "mode": "disagg", "prefill_workers": 1, "decode_workers": 2}
    found = simulate(**CASE, **disagg, roles="balance(interval=1s, waiting=0)", rebalance="free-cache(interval=0.2s)")
    assert np.all(found.played.end == DONE)
    assert found.answers.whole.chips == pytest.approx(3, rel=0.05)


def test_a_change_of_plan_loads_weights_anew() -> None:
    pools = {"p": {"role": "prefill", "on": "2x h100-sxm", "tp": 2, "to": "d"}}
    pools["d"] = {"role": "decode", "on": "4x h100-sxm", "pp": 2}
    ends = []
    for source in ("host", "0.5 GB/s"):
        found = played_of(pools, roles="balance(interval=0.5s, waiting=0)", load_from=source, arrivals="poisson(80/s)")
        assert np.all(found.played.end == DONE)
        assert found.answers.whole.chips == pytest.approx(6, rel=0.1)
        alive = [sum(end - start for start, end in lane.alive_s) for lane in found.played.lanes if lane.pool == "p"]
        ends.append(sorted(alive)[-2] > 0)
    assert ends[0]


def test_replicas_of_different_size_do_not_change_roles() -> None:
    pools = {
        "p": {"role": "prefill", "on": "2x h100-sxm", "tp": 2, "to": "d"},
        "d": {"role": "decode", "on": "2x h100-sxm"},
    }
    with pytest.raises(SpecError, match="different size"):
        played_of(pools, roles="balance")


def test_pages_timelines_and_traces_of_unlike_pools_are_written(tmp_path: Any) -> None:
    cut = {"on": "a100-sxm", "role": "split(0.4)"}
    pools = {
        "p": {"role": "prefill", "on": "h100-sxm", "to": "d"},
        "d": {"role": "decode", "on": "h100-sxm"},
        "cut": cut,
    }
    found = played_of(pools, rebalance="freeness(low=1e5, high=1e6)")
    for name, write in (
        ("a.html", found.write_page),
        ("a.parquet", found.write_timeline),
        ("a.json", found.write_perfetto),
    ):
        assert write(tmp_path / name)
    assert len(list(tmp_path.iterdir())) >= 3
    assert str(found)


H100 = {"on": "h100-sxm"}
BAD: tuple[tuple[Any, type[Exception], str], ...] = (
    ({}, SpecError, "pools"),
    ({"pools": {}}, SpecError, "has pools"),
    ({"pools": {"a": {}}}, SpecError, "its machines"),
    ({"pools": {"a b": H100}}, SpecError, "named by"),
    ({"pools": {"a": {**H100, "rolle": "mixed"}}}, SpecError, "role"),
    ({"pools": {"a": {**H100, "role": "prefil"}}}, UnknownNameError, "prefill"),
    ({"pools": {"a": {**H100, "role": "mixed(1)"}}}, SpecError, "no settings"),
    ({"pools": {"a": {**H100, "role": "prefill"}}}, UnknownNameError, "no decode pool"),
    ({"pools": {"a": {**H100, "role": "prefill", "to": "b"}, "b": H100}}, UnknownNameError, "no decode pool"),
    ({"pools": {"a": H100, "b": {**H100, "role": "decode"}}}, SpecError, "nobody hands on"),
    ({"pools": {"a": {**H100, "to": "b"}, "b": H100}}, SpecError, "only prefill"),
    ({"pools": {"a": {**H100, "replicas": [1]}}}, SpecError, "replicas"),
    ({"pools": {"a": {**H100, "replicas": -1}}}, RidgelineError, "replicas"),
    ({"pools": {"a": {"on": "h10-sxm"}}}, UnknownNameError, "h100-sxm"),
    ({"pools": {"a": {**H100, "tp": 3}}}, RidgelineError, "chips"),
    ({"pools": {"a": {**H100, "router": "least-loadd"}}}, UnknownNameError, "least-loaded"),
    ({"router": "weigthed", "pools": {"a": H100, "b": H100}}, UnknownNameError, "weighted"),
    ({"pools": {f"p{i}": H100 for i in range(65)}}, SpecError, "64"),
    ({"pools": {"a": {**H100, "role": "split(frac=1.5)"}}}, DomainError, "between"),
)


@pytest.mark.parametrize(("fleet", "error", "says"), BAD)
def test_fleets_that_cannot_be_say_why(fleet: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        simulate(fleet=fleet, **CASE)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"on": "h100-sxm"}, "names the machines"),
        ({"phase_split_frac": 0.4}, "names the machines"),
        ({"roles": "balance"}, "prefill pool"),
        ({"model": None}, "which model"),
    ],
)
def test_what_does_not_go_with_a_fleet_is_refused(more: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        simulate(fleet={"pools": {"a": H100}}, **{**CASE, **more})


def test_chips_that_are_cut_neither_fail_nor_scale() -> None:
    with pytest.raises(SpecError, match="share a chip"):
        simulate(**CASE, on="2x h100-sxm", phase_split_frac=0.4, autoscaler="queue")
    with pytest.raises(SpecError, match="do not split"):
        simulate(**CASE, chip="h100-sxm", mode="disagg", phase_split_frac=0.4)


def test_a_mapping_and_a_file_are_one_fleet(tmp_path: Any) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text('model: m\npools:\n  a:\n    on: "2x h100-sxm"\n    role: split(frac=0.4)\n')
    filed, mapped = (
        load_fleet(path),
        load_fleet({"model": "m", "pools": {"a": {"on": "2x h100-sxm", "role": "split(frac=0.4)"}}}),
    )
    assert [replace(pool, at="") for pool in filed.pools] == [replace(pool, at="") for pool in mapped.pools]
    assert filed.pools[0].at.startswith(f"{path}:4:5")
