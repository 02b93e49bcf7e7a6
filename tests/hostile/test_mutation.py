"""Mutations of valid files (quality B3): each is read, or refused by a RidgelineError; nothing else, nothing hangs."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.pace import PACE

from ridgeline.core.errors import RidgelineError
from ridgeline.core.files import parse_json, parse_yaml
from ridgeline.core.tables import read_table

# 2,000 per format in every run; `RIDGELINE_MUTATIONS=1000000` is the number of a release.
MUTATIONS = int(os.environ.get("RIDGELINE_MUTATIONS", "2000"))
# The slow ones: the YAML parser in Python, and Parquet.
FEWER = max(MUTATIONS // 5, 1)
LONGEST_S = 5.0 * PACE

JSON = b"""{
  "architectures": ["LlamaForCausalLM"], "hidden_size": 8192, "rope_theta": 5e5, "tie": false, "pad": null,
  "rope_scaling": {"factor": 8.0, "type": "llama3", "nested": [[1, [2.5, -3e-7]], {"deep": {"er": "\\u00e9\\n"}}]}
}"""
YAML = b"""# a chip
name: h100_sxm
aliases: [H100-SXM, "NVIDIA H100 80GB HBM3", 'h100: 80GB']
memory:
  - {capacity: {value: 80 GiB, kind: datasheet, source: "page 1"}, bandwidth: 3.35 TB/s}
  - capacity: 50 MB
    latency: 2.1e-7
text: |
  two
  lines
folded: >-
  one
  line
flags: {tensor: true, sparse: ~, count: 0o17}
"""
CSV = b'kind,chip,m,note\ngemm,h100_sxm,128,"a, b"\nmoe,a100,256,\n"q""q",b,1e3,x\n'
SPLICES = (
    *(bytes([byte]) for byte in b"\0\t\n\r \"'#%&*+,-.:;<=>?@[]\\^_`{|}~!0e"),
    *(
        b"\xff",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"NaN",
        b"1e999",
        b"&a ",
        b"*a",
        b"!!x ",
        b"---\n",
        b"...\n",
        b"? ",
        b": ",
        b"- ",
    ),
    *(
        b"[" * 70,
        b"{" * 70,
        b"9" * 400,
        b'"\\ud800"',
        b"\\u",
        b"/*",
        b"<<: ",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"|2-\n",
        b">\n",
    ),
)


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """One to four cuts, repeats, flips, swaps and splices at random places."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        start, end = sorted(random.integers(0, len(changed) + 1, 2).tolist())
        kind = random.integers(0, 6)
        if kind == 0:
            del changed[start : min(end, start + 40)]
        elif kind == 1:
            changed[start:start] = changed[start : min(end, start + 60)]
        elif kind == 2 and start < len(changed):
            changed[start] ^= 1 << int(random.integers(0, 8))
        elif kind == 3:
            changed[start:start] = SPLICES[random.integers(0, len(SPLICES))]
        elif kind == 4:
            changed = changed[:end]
        else:
            changed[start:end] = bytes(reversed(changed[start:end]))
    return bytes(changed)


def check(read: Callable[[bytes], object], content: bytes, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    refused = 0
    for i in range(count):
        mutated = mutate(content, random)
        started = time.process_time()
        try:
            read(mutated)
        except RidgelineError as error:
            refused += 1
            assert error.what, f"mutation {i} of seed {seed}: {mutated!r}"
            assert error.at, f"mutation {i} of seed {seed}: {mutated!r}"
            assert error.fix, f"mutation {i} of seed {seed}: {mutated!r}"
        except Exception as error:
            raise AssertionError(f"mutation {i} of seed {seed} raised {error!r}: {mutated!r}") from error
        assert time.process_time() - started < LONGEST_S, f"mutation {i} of seed {seed} is slow: {mutated!r}"
    # The mutations reach both outcomes: a reader that refused or accepted all would make this test idle.
    assert 0 < refused < count or count < 50


def read_as(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_table(path, columns={"m": "number", "kind": "text", "note": "text"})

    return read


def test_mutated_json() -> None:
    check(lambda content: parse_json(content).positions, JSON, MUTATIONS, seed=1)


@pytest.mark.parametrize("libyaml", [True, False])
def test_mutated_yaml(libyaml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not libyaml:
        monkeypatch.setattr("yaml.__with_libyaml__", False)
    check(lambda content: parse_yaml(content).positions, YAML, MUTATIONS if libyaml else FEWER, seed=2)


@pytest.fixture
def one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the 20 ms that a new duckdb takes: every table gets a connection of its own to one database."""
    monkeypatch.setattr("ridgeline.core._duck.connect", duckdb.connect().cursor)


@pytest.mark.usefixtures("one_database")
def test_mutated_csv(tmp_path: Path) -> None:
    check(read_as(tmp_path / "a.csv"), CSV, MUTATIONS, seed=3)


@pytest.mark.usefixtures("one_database")
def test_mutated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "good.parquet"
    duckdb.execute(f"COPY (SELECT i AS m, 'k' || i % 3 AS kind, 'x' AS note FROM range(100) t(i)) TO '{path}'")
    check(read_as(tmp_path / "a.parquet"), path.read_bytes(), FEWER, seed=4)
