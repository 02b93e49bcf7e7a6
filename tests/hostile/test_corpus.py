"""Hostile files (quality B1, B2): each ends in one RidgelineError that says what, where and how to mend, and soon."""

import gc
import gzip
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.pace import PACE

from ridgeline.core.errors import RidgelineError
from ridgeline.core.files import load_json, load_yaml
from ridgeline.core.tables import read_table

# Quality B2. Processor time of this process, so that a busy machine does not fail the test.
LONGEST_S = 2.0 * PACE
LARGEST_BYTES = 512 * 2**20
SCREEN_CHARACTERS = 2000

Corpus = dict[str, bytes]

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "rope_scaling": {"factor": 8.0, "type": "llama3"},
    "torch_dtype": "bfloat16",
}
GOOD_JSON = json.dumps(CONFIG, indent=2).encode()
GOOD_CSV = b'kind,chip,m,note\ngemm,h100_sxm,128,"a, b"\nmoe,a100,256,\n'


def with_flaws(content: bytes, swaps: dict[str, tuple[bytes, bytes]]) -> Corpus:
    """A good file with one piece after the other replaced; each piece is in it."""
    files = {name: content.replace(old, new, 1) for name, (old, new) in swaps.items()}
    assert all(changed != content for changed in files.values())
    return files


def bytes_that_are_no_text() -> Corpus:
    random = np.random.default_rng(20)
    return {
        "empty": b"",
        "blank": b" \n\t\n",
        "nul": b"\0",
        "nuls": bytes(4096),
        "every byte": bytes(range(256)),
        "utf-8 bom": b"\xef\xbb\xbf" + GOOD_JSON,
        "utf-16": GOOD_JSON.decode().encode("utf-16"),
        "utf-16 without bom": GOOD_JSON.decode().encode("utf-16-le"),
        "utf-32": GOOD_JSON.decode().encode("utf-32"),
        "latin-1": '{"name": "café"}'.encode("latin-1"),
        "overlong": b'{"a": "\xc0\xaf"}',
        "half a surrogate in utf-8": b'{"a": "\xed\xa0\x80"}',
        "cut inside a character": '{"a": "é'.encode()[:-1],
        "gzip": gzip.compress(GOOD_JSON),
        "zip": b"PK\x03\x04" + bytes(60),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(60),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
        "pickle": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
        "escape sequences": b"\x1b[2J\x1b]0;x\x07",
        **{f"random bytes {i}": random.bytes(600) for i in range(4)},
    }


def json_files() -> Corpus:
    cut = {f"cut at {end}": GOOD_JSON[:end] for end in range(1, len(GOOD_JSON) - 1, 7)}
    flaws = {
        "nan": b'{"a": NaN}',
        "minus nan": b"[-NaN]",
        "infinity": b"[Infinity]",
        "1e999": b"[1e999]",
        "-1e999": b"[-1e999]",
        "10^400": b"[1" + b"0" * 400 + b"]",
        "a million digits": b"[" + b"9" * 1_000_000 + b"]",
        "a million decimals and e999": b"[1." + b"1" * 1_000_000 + b"e999]",
        "equal keys": b'{"a": 1, "a": 1}',
        "equal keys deep down": b'{"x":' * 40 + b'{"a": 1, "a": 2}' + b"}" * 40,
        "equal keys, escaped": b'{"a": 1, "\\u0061": 1}',
        "65 lists": b"[" * 65 + b"]" * 65,
        "65 objects": b'{"a":' * 65 + b"1" + b"}" * 65,
        "100000 lists": b"[" * 100_000 + b"]" * 100_000,
        "100000 open lists": b"[" * 100_000,
        "100000 open objects": b'{"a":' * 100_000,
        "16 MiB of open lists": b"[" * (16 * 2**20),
        "more than 16 MiB": b'{"a": "' + b"x" * (16 * 2**20) + b'"}',
        "millions of lists": b"[" + b"[]," * 5_000_000 + b"[]]",
        "millions of numbers, then nothing": b"[" + b"1," * 1_900_000,
        "an endless key": b'{"' + b"k" * 1_000_000,
        "a million backslashes": b'["' + b"\\" * 1_000_001 + b'"]',
        "half a surrogate": b'["\\ud800"]',
        "half a surrogate as key": b'{"\\udc00": 1}',
        "bad escape": b'["\\x41"]',
        "cut escape": b'["\\u00',
        "control character": b'["a\x01b"]',
        "trailing comma": b'{"a": 1,}',
        "missing comma": b'{"a": 1 "b": 2}',
        "missing colon": b'{"a" 1}',
        "single quotes": b"{'a': 1}",
        "bare key": b"{a: 1}",
        "number as key": b"{1: 2}",
        "comment": b'{"a": 1} // no',
        "two documents": b"{}\n{}",
        "crossed brackets": b'{"a": [1, 2}',
        "leading zero": b"[01]",
        "plus sign": b"[+1]",
        "hexadecimal": b"[0x10]",
        "bare word": b"undefined",
        "python": b"{'a': None, 'b': True}",
        "html": b"<!doctype html><title>404</title>",
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "merge conflict": b'{\n<<<<<<< HEAD\n"a": 1\n=======\n"a": 2\n>>>>>>> x\n}',
    }
    return {**bytes_that_are_no_text(), **cut, **flaws}


def yaml_files() -> Corpus:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("j"))
    )
    flaws = {
        "alias bomb": bomb,
        "anchor": b"a: &x 1",
        "alias": b"a: *x",
        "alias to itself": b"&a [*a]",
        "merge of an alias": b"a: &a {b: 1}\nc: {<<: *a}",
        "python object": b"!!python/object/apply:os.system ['touch ridgeline_was_owned']",
        "python name": b"a: !!python/name:os.system",
        "binary tag": b"a: !!binary aGVsbG8=",
        "set tag": b"!!set {a, b}",
        "float tag": b"!!float 1",
        "local tag": b"a: !secret x",
        "tag directive": b"%TAG ! tag:x,2000:\n---\n!a b",
        "yaml 3": b"%YAML 3.0\n---\na: 1",
        "equal keys": b"a: 1\nb: 2\na: 1",
        "equal keys, quoted": b"a: 1\n'a': 1",
        "equal keys in flow": b"{a: 1, a: 1}",
        "equal keys deep down": b"x: {y: [{z: {a: 1, a: 2}}]}",
        ".nan": b"a: .nan",
        ".inf": b"a: .inf",
        "-.INF": b"a: [-.INF]",
        "1e999": b"a: 1e999",
        "10^400": b"a: 1" + b"0" * 400,
        "a million digits": b"a: " + b"9" * 1_000_000,
        "hexadecimal of a million digits": b"a: 0x" + b"f" * 1_000_000,
        "65 lists": b"[" * 65 + b"]" * 65,
        "65 levels of blocks": b"\n".join(b" " * i + b"a:" for i in range(70)),
        "65 levels of dashes": b"- " * 70 + b"x",
        "100000 open lists": b"[" * 100_000,
        "100000 open mappings": b"{a: " * 100_000,
        "16 MiB of open lists": b"[" * (16 * 2**20),
        "16 MiB of dashes": b"- " * (8 * 2**20),
        "16 MiB of question marks": b"? " * (8 * 2**20),
        "more than 16 MiB": b"a: " + b"x" * (16 * 2**20),
        "millions of values": b"- 1\n" * 4_000_000,
        "two documents": b"a: 1\n---\nb: 2",
        "1000 documents": b"---\n" * 1000,
        "only comments": b"# a\n# b\n",
        "list as key": b"? [a, b]\n: 1",
        "mapping as key": b"{{a: 1}: 2}",
        "no key": b"a: 1\n?\n: 2",
        "tab": b"a:\n\tb: 1",
        "open list": b"a: [1, 2",
        "open mapping": b"a: {b: 1",
        "open quote": b"a: 'x",
        "open double quote": b'a: "x',
        "bad escape": b'a: "\\q"',
        "half a surrogate": b'a: "\\ud800"',
        "beyond unicode": b'a: "\\UFFFFFFFF"',
        "control character": b"a: \x07",
        "delete character": b"a: \x7f",
        "noncharacter": "a: \ufffe".encode(),
        "two colons": b"a: b: c",
        "bad indent": b"a:\n    b: 1\n  c: 2",
        "item in a mapping": b"a: 1\n- b",
        "at sign": b"a: @b",
        "backtick": b"a: `b`",
        "percent": b"a: %b",
        "crossed brackets": b"a: [1, {b: 2]}",
        "text after a quote": b"a: 'x' y",
        "merge conflict": b"<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n",
        "html": b"<!doctype html>\n<title>404: x</title>\n<p>a: b: c",
    }
    refused = {"gzip", "zip", "png", "utf-8 bom", "utf-16", "utf-32", "latin-1", "overlong", "empty", "blank", "nul"}
    return {**{name: content for name, content in bytes_that_are_no_text().items() if name in refused}, **flaws}


def csv_files() -> Corpus:
    return {
        "empty": b"",
        "blank lines": b"\n\n\n",
        "only commas": b",,,\n1,2,3,4\n",
        "a nameless column": b"a,,b\n1,2,3\n",
        "equal names": b"a,b,a\n1,2,3\n",
        "equal names but for case": b"Kind,kind\n1,2\n",
        "no header": b"1,2,3\n4,5,6\n",
        "short row": GOOD_CSV + b"gemm\n",
        "long row": GOOD_CSV + b"gemm,h100,1,x,y,z\n",
        "rows of many lengths": b"a,b\n1\n1,2,3\n1\n",
        "open quote": b'a,b\n1,"x\n2,y\n',
        "open quote in the header": b'a,"b\n1,2\n',
        "text after a quote": b'a,b\n"x"y,1\n',
        "mixed line ends": b"a,b\n1,2\r\n3,4\r5,6\n",
        "nul in the header": b"a\0,b\n1,2\n",
        "nul in a cell": b"a,b\n\0,2\n",
        "latin-1": "a,b\ncafé,2\n".encode("latin-1"),
        "latin-1 in the header": "é,b\n1,2\n".encode("latin-1"),
        "latin-1 late": b"a,b\n" + b"1,2\n" * 100_000 + b"\xe9,2\n",
        "utf-16": GOOD_CSV.decode().encode("utf-16"),
        "utf-32": GOOD_CSV.decode().encode("utf-32"),
        "every byte": bytes(range(256)),
        "a header without end": b"x" * (2 * 2**20),
        "a header of quotes": b'"' * 100_001,
        "a row without end": b"a\n" + b"x" * (4 * 2**20),
        "5000 columns": b",".join(b"c%d" % i for i in range(5000)) + b"\n",
        "half a surrogate": b"a,b\n\xed\xa0\x80,2\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
    }


def gzip_files() -> Corpus:
    whole = gzip.compress(GOOD_CSV)
    broken = bytearray(whole)
    broken[20] ^= 0xFF
    return {
        "not gzip": GOOD_CSV,
        "cut": whole[:-9],
        "a header only": whole[:10],
        "broken": bytes(broken),
        "wrong checksum": whole[:-8] + bytes(8),
        "a bomb of one byte": gzip.compress(b"x" * 200_000_000, 1),
        "a bomb of nuls": gzip.compress(bytes(200_000_000), 1),
        "deflate": zlib.compress(GOOD_CSV),
        "not text": gzip.compress(bytes(range(256))),
    }


def parquet_files(folder: Path) -> Corpus:
    path = folder / "good.parquet"
    duckdb.execute(f"COPY (SELECT i AS m, 'k' || i % 3 AS kind, 'c' AS chip FROM range(2000) t(i)) TO '{path}'")
    good = path.read_bytes()
    length = struct.unpack("<I", good[-8:-4])[0]
    random = np.random.default_rng(5)
    footer = {}
    for i in range(12):
        spoiled = bytearray(good)
        spoiled[-8 - length : -8] = random.bytes(length)
        footer[f"random footer {i}"] = bytes(spoiled)
    return {
        "empty": b"",
        "magic only": b"PAR1",
        "magic twice": b"PAR1PAR1",
        "csv": GOOD_CSV,
        "json": GOOD_JSON,
        "zeros": b"PAR1" + bytes(4096) + b"PAR1",
        "encrypted": good[:-4] + b"PARE",
        "footer longer than the file": good[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "footer of no length": good[:-8] + struct.pack("<I", 0) + b"PAR1",
        "footer one byte short": good[:-8] + struct.pack("<I", length - 1) + b"PAR1",
        "pages of zeros": b"PAR1" + bytes(len(good) - length - 12) + good[-8 - length :],
        "pages of ones": b"PAR1" + b"\xff" * (len(good) - length - 12) + good[-8 - length :],
        "equal names": good.replace(b"chip", b"kind"),
        **{f"cut to {len(good) * part // 10}": good[: len(good) * part // 10] for part in range(1, 10)},
        **footer,
    }


READERS: dict[str, Callable[[Path], object]] = {
    ".json": load_json,
    ".yaml": load_yaml,
    ".csv": lambda path: read_table(path, columns={"m": "number", "kind": "text"}),
}
READERS[".csv.gz"] = READERS[".parquet"] = READERS[".csv"]
MAKERS: dict[str, Callable[[], Corpus]] = {
    ".json": json_files,
    ".yaml": yaml_files,
    ".csv": csv_files,
    ".csv.gz": gzip_files,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("corpus")


def corpus(suffix: str, folder: Path) -> Corpus:
    return parquet_files(folder) if suffix == ".parquet" else MAKERS[suffix]()


def test_the_corpus_is_large() -> None:
    assert sum(len(maker()) for maker in MAKERS.values()) >= 150


@pytest.fixture
def small_heap() -> Iterator[None]:
    """What earlier tests left behind is kept from the garbage collector, whose passes over it would be timed."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.no_cover  # it measures time, and tracing every line multiplies that
@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("suffix", READERS)
def test_every_hostile_file_is_one_clear_error(suffix: str, folder: Path) -> None:
    unclear = []
    for name, content in corpus(suffix, folder).items():
        path = folder / f"bad{suffix}"
        path.write_bytes(content)
        started = time.process_time()
        try:
            READERS[suffix](path)
        except RidgelineError as error:
            took = time.process_time() - started
            where = error.at.startswith(str(path)) and error.what and error.fix
            if not where or len(error.screen()) > SCREEN_CHARACTERS or "\n" in error.line() or took > LONGEST_S:
                unclear.append(f"{name}: {took:.2f} s: {error.screen()}")
        except Exception as error:
            unclear.append(f"{name}: {type(error).__name__}: {error}")
        else:
            unclear.append(f"{name}: was read")
    assert not unclear, "\n".join(unclear)


def test_no_code_from_a_file_ran() -> None:
    assert not Path("ridgeline_was_owned").exists()


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        (".json", "millions of lists"),
        (".json", "16 MiB of open lists"),
        (".json", "millions of numbers, then nothing"),
        (".yaml", "millions of values"),
        (".yaml", "16 MiB of question marks"),
        (".csv.gz", "a bomb of one byte"),
    ],
)
def test_the_heaviest_files_stay_in_bounded_memory(suffix: str, name: str, folder: Path) -> None:
    path = folder / f"heavy{suffix}"
    path.write_bytes(MAKERS[suffix]()[name])
    code = """
import resource, sys
from pathlib import Path
from ridgeline.core.errors import RidgelineError
from ridgeline.core.files import load_json, load_yaml
from ridgeline.core.tables import read_table
from tests.pace import PACE
reader = {"json": load_json, "yaml": load_yaml}.get(sys.argv[1].rpartition(".")[2], lambda p: read_table(p, columns={}))
try:
    reader(sys.argv[1])
except RidgelineError:
    # ru_maxrss starts at the size of the process that forked this one; the high-water mark of /proc starts at exec.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peak = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    print(peak[0] if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(shown.stdout) * unit < LARGEST_BYTES


def test_a_gigabyte_is_refused_at_once(folder: Path) -> None:
    for suffix in (".json", ".yaml"):
        path = folder / f"huge{suffix}"
        with path.open("wb") as file:
            file.truncate(2**30)
        started = time.process_time()
        with pytest.raises(RidgelineError, match="larger than 16 MiB"):
            READERS[suffix](path)
        assert time.process_time() - started < 0.1 * PACE
