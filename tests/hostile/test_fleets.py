"""Hostile fleet files (quality B1 to B4): each is one clear error that says where, and soon."""

import time
from pathlib import Path

import pytest
from tests.hostile.test_corpus import LONGEST_S, SCREEN_CHARACTERS, Corpus, bytes_that_are_no_text, with_flaws
from tests.hostile.test_mutation import FEWER, check

from ridgeline.api.simulations.simulate import simulate
from ridgeline.core.errors import RidgelineError
from ridgeline.serving.fleet.spec import load_fleet

FLEET = b"""model: meta-llama/Llama-3.1-8B
router: weighted
pools:
  first: {role: prefill, on: 1x h100-sxm, to: then, kv: fp8, max_batched_tokens: 4096}
  then: {role: decode, on: 2x h100-sxm, tp: 2, kv: fp8, router: least-loaded}
  cut: {role: "split(frac=0.4, reach=2)", on: a100-sxm, runtime: vllm, memory_frac: 0.8}
"""
LOAD = {"arrivals": "poisson(5/s)", "isl": 100, "osl": 10, "requests": 4}


def fleet_files() -> Corpus:
    """Files of which none describes a fleet."""
    swaps = {
        "a role that is not": (b"role: prefill", b"role: prefilll"),
        "a role of nothing": (b"role: prefill", b"role:"),
        "a role of a list": (b"role: prefill", b"role: [prefill]"),
        "a role of code": (b"role: prefill", b"role: __import__('os')"),
        "a role without end": (b"role: prefill", b'role: "' + b"x" * 100_000 + b'"'),
        "hands on to nobody": (b"to: then", b"to: than"),
        "hands on to itself": (b"to: then", b"to: first"),
        "hands on to all": (b"to: then", b"to: [then, cut]"),
        "no machine": (b"on: 1x h100-sxm, ", b""),
        "no machine that is": (b"1x h100-sxm", b"1x h10-sxm"),
        "machines below 0": (b"1x h100-sxm", b"-1x h100-sxm"),
        "machines of 0": (b"1x h100-sxm", b"0x h100-sxm"),
        "machines without end": (b"1x h100-sxm", b"9" * 5000 + b"x h100-sxm"),
        "millions of lanes": (b"1x h100-sxm", b"9999999x h100-sxm"),
        "a path as a machine": (b"1x h100-sxm", b"../../etc/passwd"),
        "a plan that needs more": (b"tp: 2", b"tp: 16"),
        "a plan that cannot be": (b"tp: 2", b"tp: 3"),
        "half a rank": (b"tp: 2", b"tp: 0.5"),
        "a rank of nan": (b"tp: 2", b"tp: .nan"),
        "a rank of text": (b"tp: 2", b"tp: many"),
        "ranks without end": (b"tp: 2", b"tp: 1e400"),
        "a key that is not": (b"tp: 2", b"tpp: 2"),
        "a key twice": (b"tp: 2", b"tp: 2, tp: 1"),
        "caches of two formats": (b"to: then, kv: fp8", b"to: then, kv: bf16"),
        "a format that is not": (b"to: then, kv: fp8", b"to: then, kv: fp9"),
        "no tokens": (b"max_batched_tokens: 4096", b"max_batched_tokens: -4096"),
        "a router that is not": (b"router: least-loaded", b"router: least-loadde"),
        "a router of a number": (b"router: weighted", b"router: 3"),
        "a router with too much": (b"router: weighted", b'router: "round-robin(1, 2, 3)"'),
        "a router among them that is not": (b"router: weighted", b"router: wieghted"),
        "all of a chip": (b"frac=0.4", b"frac=1"),
        "none of a chip": (b"frac=0.4", b"frac=0"),
        "less than a chip": (b"frac=0.4", b"frac=-0.4"),
        "a share of nan": (b"frac=0.4", b"frac=nan"),
        "a share of text": (b"frac=0.4", b"frac=half"),
        "a share twice": (b"frac=0.4", b"frac=0.4, frac=0.4"),
        "a split without end": (b"reach=2", b"reach=1e400"),
        "a split below its share": (b"reach=2", b"reach=0.1"),
        "a runtime that is not": (b"runtime: vllm", b"runtime: vlm"),
        "memory beyond all": (b"memory_frac: 0.8", b"memory_frac: 8"),
        "a model that is not": (b"Llama-3.1-8B", b"Llama-3.1-9B-that-is-not"),
        "a model of a list": (b"model: meta-llama/Llama-3.1-8B", b"model: [1]"),
        "a model too large": (b"Llama-3.1-8B", b"Llama-3.1-405B"),
        "a pool of nothing": (b"  cut:", b"  nothing:\n  cut:"),
        "a pool of spaces": (b"  cut:", b"  ' ':"),
        "a pool of escapes": (b"  cut:", b'  "\\e[2J":'),
        "an alias": (b"  cut: {", b"  cut: &x {"),
        "a tag": (b"role: prefill", b"role: !!python/name:os.system"),
        "a list of pools": (b"  first:", b"  - first:"),
    }
    files = with_flaws(FLEET, swaps)
    many = b"pools:\n" + b"".join(b"  p%d: {on: h100-sxm}\n" % i for i in range(100))
    return {
        **bytes_that_are_no_text(),
        **files,
        "no pools": b"model: meta-llama/Llama-3.1-8B\n",
        "pools of text": b"model: m\npools: h100-sxm\n",
        "pools of none": b"model: m\npools: {}\n",
        "a hundred pools": b"model: meta-llama/Llama-3.1-8B\n" + many,
        "nobody hands on": b"model: m\npools: {a: {role: decode, on: h100-sxm}}\n",
        "two that hand on": b"pools: {a: {role: prefill, on: l4, to: b}, b: {role: prefill, on: l4, to: a}}\n",
        "no model": b"pools: {a: {on: h100-sxm}}\n",
        "a traffic file": b"classes: {a: {arrivals: poisson(1/s), prompt: 1, output: 1}}\n",
        "a list": b"- a\n",
    }


def test_the_good_one_is_good(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_bytes(FLEET)
    assert simulate(fleet=path, **LOAD).answers.whole.overall.done == 4


def test_every_hostile_fleet_is_one_clear_error(tmp_path: Path) -> None:
    unclear = []
    path = tmp_path / "bad.yaml"
    for name, content in fleet_files().items():
        path.write_bytes(content)
        started = time.process_time()
        try:
            simulate(fleet=path, **LOAD)
        except RidgelineError as error:
            took = time.process_time() - started
            told = error.at and error.what
            if not told or len(error.screen()) > SCREEN_CHARACTERS or "\n" in error.line() or took > LONGEST_S:
                unclear.append(f"{name}: {took:.2f} s: {error.screen()[:300]}")
        except Exception as error:
            unclear.append(f"{name}: {type(error).__name__}: {error}")
        else:
            unclear.append(f"{name}: was played")
    assert not unclear, "\n".join(unclear)


@pytest.mark.parametrize("missing", ["no_such_file.yaml", ".", "/dev/zero"])
def test_what_is_no_file_is_told(missing: str) -> None:
    with pytest.raises(RidgelineError):
        simulate(fleet=missing, **LOAD)


def test_mutated_fleets(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"

    def read(mutated: bytes) -> object:
        path.write_bytes(mutated)
        return load_fleet(path)

    check(read, FLEET, FEWER, 17)
