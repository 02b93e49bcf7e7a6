"""Hostile traces and traffic files (quality B1 to B4): one clear error, or the usable rows with the others named."""

import gzip
import json
import math
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.hostile.test_corpus import LARGEST_BYTES, LONGEST_S, SCREEN_CHARACTERS, bytes_that_are_no_text, with_flaws
from tests.hostile.test_mutation import FEWER, MUTATIONS, check

from ridgeline.core.errors import RidgelineError
from ridgeline.workloads.traffic import load_traffic, read_trace

Corpus = dict[str, bytes]

MOONCAKE = b"".join(
    json.dumps({"timestamp": t, "input_length": n, "output_length": 5, "hash_ids": ids}).encode() + b"\n"
    for t, n, ids in ((0, 600, [0, 1]), (3000, 1100, [0, 2, 3]), (3000, 512, [0]))
)
AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.99,396,109\n"
BURST = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
VIDUR = b"arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,374,44\n1.5,396,109\n"
TABLE = b"arrival_s,prompt_tokens,output_tokens\n0,100,20\n1.5,200,30\n"
AGENTS = (
    b'{"session_id": "a", "arrival_time_ns": 4059740, "sub_requests": ['
    b'{"input_toks": 1472, "output_toks": 133, "tool_duration_ns": 127348767},'
    b' {"input_toks": 1700, "output_toks": 125, "tool_duration_ns": 0}]}\n'
    b'{"input_toks": 128, "output_toks": 512, "arrival_time_ns": 0, "input_tok_ids": [1, 2, 3]}\n'
)
SPEC = b"""seed: 3
requests: 50
classes:
  chat:
    arrivals: poisson(12/s)
    prompt: lognormal(mean=1024, sigma=0.8)
    output: uniform(10, 20)
    slo: {ttft: 1s, tpot: 40ms}
    sessions: {turns: geometric(3), think: exponential(30s), system: 100, context: 32k}
  batch: {arrivals: "ramp(1/s, 3/s, over=60s)", prompt: 100, output: 200, priority: -1, weight: 2, adapter: 3}
"""


def line(**fields: object) -> bytes:
    return json.dumps({"timestamp": 0, "input_length": 5, "output_length": 5, **fields}).encode() + b"\n"


def row(text: str) -> bytes:
    return TABLE.partition(b"\n")[0] + b"\n" + text.encode() + b"\n"


def line_files() -> Corpus:
    """JSON lines of which no line can be used."""
    return {
        "a json list": b'[{"timestamp": 0, "input_length": 5, "output_length": 5}]',
        "sharegpt": b'[{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}]',
        "a pretty document": json.dumps({"timestamp": 0, "input_length": 5}, indent=2).encode(),
        "an empty object": b"{}\n",
        "other keys": b'{"time": 0, "tokens_in": 5, "tokens_out": 5}\n',
        "keys of other case": b'{"Timestamp": 0, "Input_Length": 5}\n',
        "a misspelt key": b'{"timestamp": 0, "input_lenght": 5, "output_length": 5}\n',
        "texts": b'{"timestamp": 0, "text_input": "hi", "output_length": 5}\n',
        "messages": b'{"messages": [{"role": "user", "content": "hi"}], "output_length": 5}\n',
        "equal keys": b'{"timestamp": 0, "timestamp": 1, "input_length": 5, "output_length": 5}\n',
        "nan": b'{"timestamp": NaN, "input_length": 5, "output_length": 5}\n',
        "infinity": b'{"timestamp": 0, "input_length": Infinity, "output_length": 5}\n',
        "1e999": b'{"timestamp": 0, "input_length": 1e999, "output_length": 5}\n',
        "10^400": b'{"timestamp": 0, "input_length": 1' + b"0" * 400 + b', "output_length": 5}\n',
        "a million digits": b'{"timestamp": 0, "input_length": ' + b"9" * 1_000_000 + b', "output_length": 5}\n',
        "1e300 tokens": line(input_length=1e300),
        "2^31 tokens": line(output_length=2**31),
        "negative tokens": line(input_length=-3),
        "no tokens": line(input_length=0),
        "no output": line(output_length=0),
        "half a token": line(input_length=2.5),
        "tokens as text": line(input_length="5"),
        "tokens as truth": line(input_length=True),
        "tokens as list": line(input_length=[5]),
        "tokens as null": line(input_length=None),
        "negative time": line(timestamp=-1),
        "endless time": line(timestamp=1e300),
        "time as text": line(timestamp="2023-11-16"),
        "time as object": line(timestamp={"s": 1}),
        "negative delay": line(session_id="a", delay=-1),
        "delay as text": line(session_id="a", delay="2s"),
        "hash ids of text": line(hash_ids=["a"]),
        "hash ids that are nested": line(hash_ids=[[1]]),
        "negative hash ids": line(hash_ids=[-1]),
        "huge hash ids": line(hash_ids=[2**63]),
        "hash ids of truth": line(hash_ids=[True]),
        "hash ids as text": line(hash_ids="1 2"),
        "65 levels": b'{"timestamp": 0, "x": ' + b"[" * 65 + b"]" * 65 + b"}\n",
        "100000 levels": b'{"a":' * 100_000 + b"\n",
        "16 MiB without a line end": b'{"a": "' + b"x" * (16 * 2**20) + b'"}',
        "16 MiB of open objects": b'{"a":' * (3 * 2**20),
        "a million empty lines": b"{\n" + b"\n" * 1_000_000,
        "a million open objects": b"{\n" * 1_000_000,
        "one good line in a million": MOONCAKE.splitlines(keepends=True)[0] + b"{x\n" * 1_000_000,
        "half a surrogate": b'{"timestamp": 0, "session_id": "\\ud800", "input_length": 5, "output_length": 5}\n',
        "single quotes": b"{'timestamp': 0, 'input_length': 5}\n",
        "merge conflict": b"{\n<<<<<<< HEAD\n=======\n>>>>>>> x\n",
        "cut in the only line": MOONCAKE[:40],
        "gzip, cut": gzip.compress(MOONCAKE)[:-20],
        "gzip, broken": gzip.compress(MOONCAKE)[:15] + b"\xff" * 20 + gzip.compress(MOONCAKE)[35:],
        "gzip bomb of one line": gzip.compress(b'{"a": "' + b"x" * 100_000_000, 1),
        "gzip bomb of lines": gzip.compress(b"{}\n" * 30_000_000, 1),
        "sub requests as number": b'{"session_id": "a", "arrival_time_ns": 0, "sub_requests": 3}\n',
        "sub requests, none": b'{"session_id": "a", "arrival_time_ns": 0, "sub_requests": []}\n',
        "sub requests of text": b'{"session_id": "a", "arrival_time_ns": 0, "sub_requests": ["x"]}\n',
        "sub requests without lengths": b'{"session_id": "a", "arrival_time_ns": 0, "sub_requests": [{}]}\n',
        "sub requests after a bad one": AGENTS.replace(b"1472", b"-1").splitlines(keepends=True)[0],
        "tool time below 0": AGENTS.replace(b"127348767", b"-1").replace(b"133", b"0").splitlines(keepends=True)[0],
        "token ids of text": b'{"input_toks": 3, "output_toks": 5, "arrival_time_ns": 0, "input_tok_ids": ["x"]}\n',
        "token ids out of range": b'{"input_toks": 3, "output_toks": 5, "arrival_time_ns": 0, "input_tok_ids": [-1]}\n',
        "bailian without lengths": b'{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0, "input_length": null}\n',
        "bailian, its own parent": b'{"chat_id": 1, "parent_chat_id": 1, "timestamp": -5, "input_length": 3}\n',
    }


def table_files() -> Corpus:
    """Tables of which no row can be used."""
    return {
        "empty": b"",
        "blank": b"\n\n",
        "a header only": TABLE.partition(b"\n")[0] + b"\n",
        "no header": b"0,100,20\n1,200,30\n",
        "other columns": b"time,tokens_in,tokens_out\n0,1,2\n",
        "a misspelt column": b"arrival_s,promt_tokens,output_tokens\n0,1,2\n",
        "one column": b"prompt_tokens\n5\n",
        "equal columns": b"arrival_s,prompt_tokens,prompt_tokens,output_tokens\n0,1,1,1\n",
        "a short row": TABLE + b"1\n",
        "an open quote": TABLE + b'"1,2,3\n',
        "nan": row("nan,nan,nan"),
        "infinity": row("0,inf,5"),
        "1e999": row("0,1e999,5"),
        "10^400": row("0,1" + "0" * 400 + ",5"),
        "1e300": row("0,1e300,5"),
        "2^31": row("0,5,2147483648"),
        "negative tokens": row("0,-1,5"),
        "no tokens": row("0,0,5"),
        "no output": row("0,5,0"),
        "half a token": row("0,5,2.5"),
        "underscores": row("0,1_000,5"),
        "words": row("zero,five,six"),
        "hexadecimal": row("0,0x10,5"),
        "formula": row("0,=1+1,5"),
        "empty cells": row(",,"),
        "negative time": row("-1,5,5"),
        "endless time": row("1e300,5,5"),
        "date for seconds": row("2023-11-16 18:15:46,5,5"),
        "arabic digits": row("0,٣,5"),
        "nul": row("0,\0,5"),
        "azure without dates": AZURE.replace(b"2023-11-16 18:15:46.6805900", b"x").replace(
            b"2023-11-16 18:15:50.99", b"7"
        ),
        "azure in month 13": AZURE.replace(b"2023-11", b"2023-13"),
        "azure in infinity": AZURE.replace(b"2023-11-16 18:15:46.6805900", b"infinity").replace(
            b"2023-11-16 18:15:50.99", b"-infinity"
        ),
        "azure without output": AZURE.replace(b",44\n", b",0\n").replace(b",109\n", b",\n"),
        "burstgpt, all failed": BURST.replace(b",18,", b",0,"),
        "burstgpt, times as dates": BURST.replace(b"\n5,", b"\n2023-01-01,"),
        "vidur, negative": VIDUR.replace(b"374", b"-374").replace(b"396", b"1e10"),
        "vidur, nan times": VIDUR.replace(b"0.5", b"nan").replace(b"396", b"0"),
        "lengths of words": b"input_len,output_len\na,b\n",
        "hash ids of words": b'arrival_s,prompt_tokens,output_tokens,hash_ids\n0,5,5,"[a]"\n',
        "hash ids, negative": b'arrival_s,prompt_tokens,output_tokens,hash_ids\n0,5,5,"[-1]"\n',
        "hash ids, open": b'arrival_s,prompt_tokens,output_tokens,hash_ids\n0,5,5,"[1, 2"\n',
        "think times, negative": b"session,arrival_s,prompt_tokens,output_tokens,think_s\n1,0,5,5,-2\n",
        "think times of words": b"session,arrival_s,prompt_tokens,output_tokens,think_s\n1,0,5,5,long\n",
        "latin-1": TABLE + "é,1,1\n".encode("latin-1"),
        "utf-16": TABLE.decode().encode("utf-16"),
        **{name: content for name, content in bytes_that_are_no_text().items() if content and name != "utf-8 bom"},
    }


def parquet_files(folder: Path) -> Corpus:
    """Parquet files of which no row can be used."""
    queries = {
        "structs": "SELECT 0.0 AS arrival_s, {'a': 1} AS prompt_tokens, 5 AS output_tokens",
        "lists for numbers": "SELECT 0.0 AS arrival_s, [1, 2] AS prompt_tokens, 5 AS output_tokens",
        "blobs": "SELECT 0.0 AS arrival_s, 'x'::BLOB AS prompt_tokens, 5 AS output_tokens",
        "dates": "SELECT DATE '2023-01-01' AS arrival_s, 5 AS prompt_tokens, 5 AS output_tokens",
        "nan and infinity": "SELECT 'nan'::DOUBLE AS arrival_s, 'inf'::DOUBLE AS prompt_tokens, 5 AS output_tokens",
        "all null": "SELECT NULL::INT AS arrival_s, NULL::INT AS prompt_tokens, NULL::INT AS output_tokens",
        "no rows": "SELECT 0.0 AS arrival_s, 1 AS prompt_tokens, 5 AS output_tokens WHERE false",
        "other columns": "SELECT 0.0 AS a, 1 AS b",
        "hash ids of text": "SELECT 0 AS arrival_s, 1 AS prompt_tokens, 5 AS output_tokens, ['a'] AS hash_ids",
        "hash ids with null": "SELECT 0 AS arrival_s, 1 AS prompt_tokens, 5 AS output_tokens, [1, NULL] AS hash_ids",
        "hash ids as struct": "SELECT 0 AS arrival_s, 1 AS prompt_tokens, 5 AS output_tokens, {'a': 1} AS hash_ids",
        "hash ids below 0": "SELECT 0 AS arrival_s, 1 AS prompt_tokens, 5 AS output_tokens, [-1] AS hash_ids",
        "ids without end": "SELECT 0 AS arrival_s, 1 AS prompt_tokens, 5 AS output_tokens, "
        "list_resize([]::INT[], 9000000, 1) AS hash_ids",
        "rows without end": "SELECT 0 AS arrival_s, 1 AS prompt_tokens, 0 AS output_tokens FROM range(30000000)",
        "huge decimals": "SELECT 0 AS arrival_s, 1e37::DECIMAL(38, 0) AS prompt_tokens, 5 AS output_tokens",
    }
    files = {}
    for name, query in queries.items():
        path = folder / "made.parquet"
        duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
        files[name] = path.read_bytes()
    good = files["no rows"]
    return {**files, "cut": good[:-6], "csv": TABLE, "magic": b"PAR1" * 3}


def spec_files() -> Corpus:
    """Traffic files that say nothing sensible."""
    swaps = {
        "no classes": (b"classes:", b"clases:"),
        "unknown key": (b"prompt: log", b"promt: log"),
        "unknown key in slo": (b"ttft:", b"tftt:"),
        "unknown key in sessions": (b"think:", b"thinks:"),
        "unknown law": (b"lognormal", b"lognormale"),
        "unknown process": (b"poisson", b"poison"),
        "unknown parameter": (b"sigma=", b"sgima="),
        "rate of 0": (b"12/s", b"0/s"),
        "negative rate": (b"12/s", b"-12/s"),
        "rate without unit": (b"12/s", b"12"),
        "rate in seconds": (b"12/s", b"12 s"),
        "rate of nan": (b"12/s", b"nan/s"),
        "rate of 1e400": (b"12/s", b"1e400/s"),
        "law without end": (b"uniform(10, 20)", b"uniform(10, 20"),
        "law without values": (b"uniform(10, 20)", b"uniform()"),
        "law with too many": (b"uniform(10, 20)", b"uniform(1, 2, 3, 4, 5)"),
        "law turned around": (b"uniform(10, 20)", b"uniform(20, 10)"),
        "law in a law": (b"uniform(10, 20)", b"uniform(fixed(1), 20)"),
        "law of code": (b"uniform(10, 20)", b"__import__('os')"),
        "law of commas": (b"uniform(10, 20)", b"uniform(,,,)"),
        "law given twice": (b"uniform(10, 20)", b"uniform(low=1, low=2, high=3)"),
        "empirical of nothing": (b"uniform(10, 20)", b"empirical(no_such_file.csv)"),
        "mean of 10^400": (b"mean=1024", b"mean=1" + b"0" * 400),
        "sigma of 50": (b"sigma=0.8", b"sigma=50"),
        "slo of 0": (b"ttft: 1s", b"ttft: 0s"),
        "slo below 0": (b"ttft: 1s", b"ttft: -1s"),
        "slo without unit": (b"ttft: 1s", b"ttft: 1"),
        "requests of 0": (b"requests: 50", b"requests: 0"),
        "requests without end": (b"requests: 50", b"requests: 1e15"),
        "half a request": (b"requests: 50", b"requests: 0.5"),
        "no end": (b"requests: 50\n", b""),
        "seed below 0": (b"seed: 3", b"seed: -3"),
        "seed of text": (b"seed: 3", b"seed: x"),
        "context below system": (b"context: 32k", b"context: 50"),
        "priority of text": (b"priority: -1", b"priority: high"),
        "priority without end": (b"priority: -1", b"priority: 99999999999"),
        "weight of 0": (b"weight: 2", b"weight: 0"),
        "share without common arrivals": (b"weight: 2", b"share: 0.5"),
        "rate without trace": (b"weight: 2", b"rate: 2/s"),
        "a trace too": (b"weight: 2", b"trace: x.csv"),
        "closed among others": (b"poisson(12/s)", b"closed(4)"),
        "common arrivals too": (b"seed: 3", b"arrivals: poisson(1/s)"),
        "an alias": (b"seed: 3", b"seed: &x 3"),
        "a tag": (b"seed: 3", b"seed: !!python/name:os.system"),
        "a list of classes": (b"  chat:", b"  - chat:"),
    }
    files = with_flaws(SPEC, swaps)
    shares = b"requests: 5\narrivals: poisson(1/s)\nclasses:\n"
    shares += b"  a: {share: %s, prompt: 1, output: 1}\n  b: {share: %s, prompt: 1, output: 1}\n"
    return {
        **files,
        "shares above 1": shares % (b"0.7", b"0.7"),
        "shares below 1": shares % (b"0.3", b"0.3"),
        "share of 0": shares % (b"0", b"1"),
        "share of 2": shares % (b"2", b"0.5"),
        "no class at all": b"requests: 5\nclasses: {}\n",
        "classes of text": b"requests: 5\nclasses: chat\n",
        "a class of nothing": b"requests: 5\nclasses: {a: }\n",
        "a class without lengths": b"requests: 5\nclasses: {a: {arrivals: poisson(1/s)}}\n",
        "a missing trace": b"classes: {a: {trace: no_such_file.csv}}\n",
        "itself as a trace": b"classes: {a: {trace: bad.yaml}}\n",
        "a folder as a trace": b"classes: {a: {trace: .}}\n",
        "text only": b"poisson\n",
        "a list": b"- a\n",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("traces")


MAKERS = {".jsonl": line_files, ".csv": table_files, ".yaml": spec_files}


def test_the_corpus_is_large() -> None:
    assert sum(len(maker()) for maker in MAKERS.values()) >= 150


@pytest.mark.parametrize("suffix", [*MAKERS, ".parquet"])
def test_every_hostile_trace_is_one_clear_error(suffix: str, folder: Path) -> None:
    unclear = []
    for name, content in (parquet_files(folder) if suffix == ".parquet" else MAKERS[suffix]()).items():
        path = folder / f"bad{suffix}"
        path.write_bytes(content)
        started = time.process_time()
        try:
            load_traffic(path) if suffix == ".yaml" else read_trace(path)
        except RidgelineError as error:
            took = time.process_time() - started
            where = (error.at.startswith(str(path)) or suffix == ".yaml") and error.at and error.what and error.fix
            # Twice the time of a description: a trace may be a thousand times longer, and tests share their cores.
            if not where or len(error.screen()) > SCREEN_CHARACTERS or "\n" in error.line() or took > 2 * LONGEST_S:
                unclear.append(f"{name}: {took:.2f} s: {error.screen()}")
        except Exception as error:
            unclear.append(f"{name}: {type(error).__name__}: {error}")
        else:
            unclear.append(f"{name}: was read")
    assert not unclear, "\n".join(unclear)


def test_hostile_traces_stay_in_bounded_memory(folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    heavy = line_files()
    for name in ("gzip bomb of one line", "gzip bomb of lines", "16 MiB of open objects"):
        path = folder / "heavy.jsonl"
        path.write_bytes(heavy[name])
        with pytest.raises(RidgelineError):
            read_trace(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < LARGEST_BYTES


EDGES = [
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-308",
    "1" + "0" * 400,
    '""',
    "null",
    "x",
    "é",
    "true",
    "[1]",
    "1e999",
]


@pytest.mark.parametrize("field", ["timestamp", "input_length", "output_length", "hash_ids", "session_id", "delay"])
def test_an_edge_value_in_a_line_is_taken_or_named(field: str, folder: Path) -> None:
    lines = [b'{"timestamp": 1, "input_length": 7, "output_length": 7}']
    for edge in EDGES:
        fields = {"timestamp": "1", "input_length": "5", "output_length": "5", field: edge}
        lines.append(("{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}").encode())
    path = folder / "edges.jsonl"
    path.write_bytes(b"\n".join(lines))
    traffic = read_trace(path)
    assert len(traffic) + len(traffic.skipped) == len(lines)
    assert all(line.startswith("line ") for line in traffic.skipped)


@pytest.mark.parametrize(
    "column", ["arrival_s", "prompt_tokens", "output_tokens", "class", "tenant", "adapter", "session"]
)
def test_an_edge_value_in_a_cell_is_taken_or_named(column: str, folder: Path) -> None:
    columns = ["arrival_s", "prompt_tokens", "output_tokens", "class", "tenant", "adapter", "session"]
    rows = ["1,7,7,a,0,0,0"]
    for edge in EDGES:
        cells = dict(zip(columns, rows[0].split(","), strict=True))
        rows.append(",".join({**cells, column: edge}.values()))
    path = folder / "edges.csv"
    path.write_text("\n".join([",".join(columns), *rows]) + "\n", encoding="utf-8")
    traffic = read_trace(path)
    assert len(traffic) + len(traffic.skipped) == len(rows)
    assert math.isfinite(traffic.summary().prompt.mean)


@pytest.fixture
def one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the 20 ms that a new duckdb takes: every table gets a connection of its own to one database."""
    monkeypatch.setattr("ridgeline.core._duck.connect", duckdb.connect().cursor)


@pytest.mark.usefixtures("one_database")
@pytest.mark.parametrize(
    ("name", "content", "seed"),
    [
        ("a.jsonl", MOONCAKE, 11),
        ("b.jsonl", AGENTS, 12),
        ("a.csv", AZURE, 13),
        ("b.csv", BURST, 14),
        ("c.csv", VIDUR, 15),
        ("a.yaml", SPEC, 16),
    ],
)
def test_mutated_traces(name: str, content: bytes, seed: int, tmp_path: Path) -> None:
    path = tmp_path / name

    def read(mutated: bytes) -> object:
        path.write_bytes(mutated)
        return load_traffic(path, requests=20, arrivals=None if name.endswith(".yaml") else "poisson(1/s)")

    check(read, content, MUTATIONS if name.endswith("jsonl") else FEWER, seed)


@pytest.mark.usefixtures("one_database")
def test_mutated_parquet_traces(tmp_path: Path) -> None:
    path = tmp_path / "good.parquet"
    query = (
        "SELECT i AS arrival_s, 600 + i AS prompt_tokens, 5 AS output_tokens, [0, i] AS hash_ids FROM range(50) t(i)"
    )
    duckdb.execute(f"COPY ({query}) TO '{path}'")
    content = path.read_bytes()

    def read(mutated: bytes) -> object:
        path.write_bytes(mutated)
        return read_trace(path)

    check(read, content, FEWER // 2, seed=17)


def test_random_bytes_behind_a_good_start_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tail.jsonl"
    path.write_bytes(MOONCAKE + np.random.default_rng(3).bytes(3000) + b"\n" + MOONCAKE)
    traffic = read_trace(path)
    assert len(traffic) == 6
    assert traffic.skipped
